"""Slices of verbose JSON: where the entities and their members stand in the text upstream wrote.

Entities are stored and served as upstream wrote them, so nothing here makes text anew. One pass of the
JSON scanner checks a reply and parses its entities; members are then found by patterns, which only hold
for text that is known to be valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NoReturn

from proxy.odata.errors import ODataError

Span = tuple[int, int]

BLANK = r"[ \t\n\r]*+"
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_SCALAR = r'[^ \t\n\r,{}\[\]"]++'
# What upstream nests in an entity: complex values with their metadata, deferred and expanded entities.
_NESTING = 8


def _nested(depth: int) -> str:
    """A pattern for an object or array that holds at most `depth` more levels of them."""
    inner = f"(?:{STRING}|{_nested(depth - 1)})" if depth else STRING
    plain = r'[^"{}\[\]]*+'
    return rf"[{{\[]{plain}(?:{inner}{plain})*[}}\]]"


_VALUE = rf"(?:{STRING}|{_SCALAR}|{_nested(_NESTING)})"
_MEMBER = re.compile(rf"{BLANK}({STRING}){BLANK}:{BLANK}({_VALUE}){BLANK}")
_OPENING = re.compile(rf"({BLANK}\{{{BLANK}){STRING}{BLANK}:{BLANK}{_VALUE}({BLANK},{BLANK})?")
_skip_blank = re.compile(BLANK).match


@dataclass(frozen=True, slots=True)
class Sliced:
    """Where a reply's entities stand in its text.

    `spans`: start and end of each entity's object. `next_span`: of the `__next` string, quotes included.
    `values`: the parsed entities, in the same order as `spans`. All empty for kind "other": links, a
    property, a service document, an error.
    """

    kind: Literal["entity", "collection", "other"]
    spans: tuple[Span, ...] = ()
    next_span: Span | None = None
    values: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an entity: `text[start:end]` is `"name":value`, `text[value_start:end]` the value."""

    name: str
    start: int
    end: int
    value_start: int


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_scan = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode
_BROKEN = "The document is not valid JSON."


def slice_reply(text: str) -> Sliced:
    """Find the entities of a reply: `{"d":{…}}`, `{"d":{"results":[…]}}` or `{"d":[…]}`.

    What has `__metadata` with a `uri` is an entity ([MS-ODATA] 2.2.6.3.3). Of members with one name the
    last one counts. Raises ODataError for what is no JSON, cut short, or followed by anything.
    """
    try:
        return _slice_reply(text)
    except json.JSONDecodeError as error:
        raise ODataError(f"{_BROKEN} {error.msg}", position=error.pos) from error
    except (ValueError, RecursionError) as error:
        raise ODataError(f"{_BROKEN} {error}") from error


def _slice_reply(text: str) -> Sliced:
    start = at = _after_blank(text, 1 if text.startswith("\ufeff") else 0)
    found = Sliced("other")
    if text.startswith("{", at):
        members, at = _walk_object(text, at, lambda name, at: _read_payload(text, name, at))
        found = members.get("d", found)
    else:
        _, at = _scan(text, at)
    if _after_blank(text, at) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return found if start < at else Sliced("other")


def _after_blank(text: str, at: int) -> int:
    match = _skip_blank(text, at)
    return match.end() if match else at


def _read_payload(text: str, name: str, at: int) -> tuple[Sliced, int]:
    if name == "d" and text.startswith("[", at):
        elements, end = _walk_array(text, at)
        return _collection(elements, None), end
    if name == "d" and text.startswith("{", at):
        if text.startswith('{"__metadata"', at):
            value, end = _scan(text, at)
            return _entity(value, (at, end)), end
        return _read_wrapper(text, at)
    _, end = _scan(text, at)
    return Sliced("other"), end


def _read_wrapper(text: str, start: int) -> tuple[Sliced, int]:
    """The object under `d` that may turn out to be a collection, an entity, or neither."""

    def read(name: str, at: int) -> tuple[Any, int]:
        if name == "results" and text.startswith("[", at):
            elements, end = _walk_array(text, at)
        else:
            value, end = _scan(text, at)
            elements = [(value, (at, end))]
        return elements, end

    members, end = _walk_object(text, start, read)
    if "__metadata" in members:
        value, _ = _scan(text, start)
        return _entity(value, (start, end)), end
    if "results" not in members:
        return Sliced("other"), end
    link, link_span = members.get("__next", [(None, None)])[0]
    return _collection(members["results"], link_span if isinstance(link, str) else None), end


def _walk_object(
    text: str, at: int, read: Callable[[str, int], tuple[Any, int]]
) -> tuple[dict[str, Any], int]:
    """The members of the object at `at`, each as `read` gives it, and where the object ends."""
    members: dict[str, Any] = {}
    at = _after_blank(text, at + 1)
    if text.startswith("}", at):
        return members, at + 1
    while True:
        if not text.startswith('"', at):
            raise json.JSONDecodeError("Expecting a member name", text, at)
        name, at = _scan(text, at)
        at = _after_blank(text, at)
        if not text.startswith(":", at):
            raise json.JSONDecodeError("Expecting ':'", text, at)
        members[name], at = read(name, _after_blank(text, at + 1))
        at = _after_blank(text, at)
        if text.startswith("}", at):
            return members, at + 1
        at = _after_comma(text, at)


def _walk_array(text: str, at: int) -> tuple[list[tuple[Any, Span]], int]:
    elements: list[tuple[Any, Span]] = []
    at = _after_blank(text, at + 1)
    if text.startswith("]", at):
        return elements, at + 1
    while True:
        value, end = _scan(text, at)
        elements.append((value, (at, end)))
        at = _after_blank(text, end)
        if text.startswith("]", at):
            return elements, at + 1
        at = _after_comma(text, at)


def _after_comma(text: str, at: int) -> int:
    if not text.startswith(",", at):
        raise json.JSONDecodeError("Expecting ','", text, at)
    return _after_blank(text, at + 1)


def _is_entity(value: Any) -> bool:
    metadata = value.get("__metadata") if isinstance(value, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get("uri"), str)


def _entity(value: dict[str, Any], span: Span) -> Sliced:
    return Sliced("entity", (span,), None, (value,)) if _is_entity(value) else Sliced("other")


def _collection(elements: Sequence[tuple[Any, Span]], next_span: Span | None) -> Sliced:
    if not all(_is_entity(value) for value, _ in elements):
        return Sliced("other")
    spans = tuple(span for _, span in elements)
    return Sliced("collection", spans, next_span, tuple(value for value, _ in elements))


def members(text: str) -> tuple[Member, ...]:
    """The members of one entity's object, in document order, equal names included.

    `text` is valid JSON (origins held or not). Raises ODataError where it is no object.
    """
    found = []
    at = _after_blank(text, 0)
    match = _MEMBER.match(text, at + 1)
    if text.startswith("{", at) and match is None and _after_blank(text, at + 1) == text.rfind("}"):
        return ()
    while match:
        found.append(Member(_name(match[1]), match.start(1), match.end(2), match.start(2)))
        at = match.end()
        match = _MEMBER.match(text, at + 1) if text.startswith(",", at) else None
    if not found or not text.startswith("}", at):
        raise ODataError("The entity is not a JSON object.")
    return tuple(found)


def _name(literal: str) -> str:
    return str(json.loads(literal)) if "\\" in literal else literal[1:-1]


def null_members(document: str, names: Collection[str]) -> str:
    """The entity with null as these members' values; no other byte changes. Raises ODataError."""
    return _replace_values(document, dict.fromkeys(names, "null"))


def fill_members(document: str, other: str, names: Collection[str]) -> str:
    """The entity with these members' values as `other`, the same entity, shows them. Raises ODataError."""
    shown = {m.name: other[m.value_start : m.end] for m in members(other) if m.name in names}
    return _replace_values(document, shown)


def _replace_values(document: str, values: Mapping[str, str]) -> str:
    for member in reversed(members(document)):
        if member.name in values:
            document = document[: member.value_start] + values[member.name] + document[member.end :]
    return document


def select_members(document: str, names: Sequence[str]) -> str | None:
    """The entity as `$select` shows it: `__metadata`, then the named members in the asked order.

    Members are copied with their bytes, joined by the document's own separator. None where the document
    lacks one of them. `document` is valid JSON (origins held or not).
    """
    asked = tuple(dict.fromkeys(("__metadata", *names)))
    texts = _find_members(document, asked)
    opening = _OPENING.match(document)
    if opening is None or len(texts) < len(asked):
        return None
    closing = document[len(document[: document.rindex("}")].rstrip(" \t\n\r")) :]
    return opening[1] + (opening[2] or ",").join(texts[name] for name in asked) + closing


def put_members(document: str, values: Mapping[str, str]) -> str:
    """The entity with these JSON texts as its members' values; members it does not have come at its end.

    `document` is the valid JSON of an object that is not empty.
    """
    pattern = _finder(tuple(values))
    pieces: list[str] = []
    put: set[str] = set()
    at = document.find("{") + 1
    copied = 0
    while len(put) < len(values) and (match := pattern.match(document, at)):
        name = _name(match[2])
        put.add(name)
        pieces += (document[copied : match.start(3)], values[name])
        copied = at = match.end()
    end = document.rindex("}")
    added = (f",{json.dumps(name)}:{text}" for name, text in values.items() if name not in put)
    return "".join((*pieces, document[copied:end], *added, document[end:]))


def without_members(text: str, names: Collection[str]) -> str:
    """The object without its members of these names. Raises ODataError where it is no object."""
    kept = [text[member.start : member.end] for member in members(text) if member.name not in names]
    return f"{{{','.join(kept)}}}"


def value_at(text: str, path: Sequence[str]) -> str | None:
    """The JSON text that the path leads to, through the members of objects; None where there is no such."""
    found: str | None = text
    for name in path:
        match = _finder((name,)).match(found, 1) if found and found.startswith("{") else None
        found = match[3] if match else None
    return found


def _find_members(document: str, names: tuple[str, ...]) -> Mapping[str, str]:
    pattern = _finder(names)
    found: dict[str, str] = {}
    at = document.find("{") + 1
    while len(found) < len(names) and (match := pattern.match(document, at)):
        found[_name(match[2])] = match[1]
        at = match.end()
    return found


@lru_cache(maxsize=512)
def _finder(names: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern that runs over all other members to the next of these; group 1 is it, group 2 its name,
    group 3 its value.

    One match per member found is what makes this cheap: `members` makes a Python object of each.
    """
    wanted = "|".join(re.escape(json.dumps(name)) for name in names)
    others = rf"(?:(?!(?:{wanted}){BLANK}:){STRING}{BLANK}:{BLANK}{_VALUE}{BLANK},{BLANK})*"
    return re.compile(rf"[ \t\n\r,]*+{others}(({wanted}){BLANK}:{BLANK}({_VALUE}))")
