"""Resource paths and key predicates (OData v2 Overview, 2.2 and 3; field manual 2.3 and 2.4).

Paths are read from the raw request target. Percent-encoded octets are UTF-8; `+` is a plus. Empty segments
(`.svc//AccountSet`) and empty brackets (`AccountSet()`) are tolerated, as the server tolerates them. Names
are matched with case.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote, unquote

from proxy.odata.edm import EntityKey, EntitySet, EntityType, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES, parse_literal

_OF_A_KEY = "'=,()-.:"  # stands raw in the URLs that servers of this kind write

Special = Literal["", "metadata", "batch", "function"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNREPRESENTABLE = re.compile("[\x00\ud800-\udfff]")
# The server takes one navigation step (field manual 2.3); the limit only bounds the work on nonsense.
_MAX_SEGMENTS = 32
_SEGMENT = re.compile(r"([^()]+)(?:\((.*)\))?", re.DOTALL)
# One value of a predicate: an optional name, then a literal, quoted ones with doubled quotes inside.
_PREDICATE_VALUE = re.compile(
    r"\s*(?:([^\W\d]\w*)\s*=\s*)?([A-Za-z]*'(?>[^']*(?:''[^']*)*)'|[^\s',=()]+)\s*(,|\Z)"
)


@dataclass(frozen=True, slots=True)
class NavigationSegment:
    """One step along a navigation property.

    `target` is None where the container binds no set; `many` says that the property leads to many entities.
    """

    name: str
    target: EntitySet | None
    key: EntityKey | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """What a path below the service root addresses.

    `entity_set` is None for the service document and for the special resources. `links` says that the last
    navigation segment stands behind `$links`; `value` and `count` that the path ends in `$value`, `$count`.
    """

    entity_set: EntitySet | None = None
    key: EntityKey | None = None
    navigation: tuple[NavigationSegment, ...] = ()
    property_path: tuple[str, ...] = ()
    value: bool = False
    count: bool = False
    links: bool = False
    special: Special = ""


def split_target(raw_target: str) -> tuple[str, str | None]:
    """The raw path and the raw query; the query is None without a `?`, and empty behind a lone one."""
    path, mark, query = raw_target.partition("?")
    return path, query if mark else None


def decode_path(text: str) -> str:
    """Percent-decode a path segment. ODataError for what is no UTF-8, or no text at all."""
    if "%" in text:
        if _BAD_ESCAPE.search(text):
            raise ODataError("Bad percent-encoding in the path.", token=text)
        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise ODataError("The path is not UTF-8.", token=text) from None
    if _UNREPRESENTABLE.search(text):
        raise ODataError("The path holds a character that no document can hold.", token=text)
    return text


def parse_resource_path(raw_path_below_root: str, model: Model) -> ResourcePath:
    """Read the part of a raw path that follows the service root.

    Raises ODataError: 404 for an unknown set or property, 400 for broken syntax or a broken key.
    """
    segments = [decode_path(segment) for segment in raw_path_below_root.split("/") if segment]
    if not segments:
        return ResourcePath()
    if len(segments) > _MAX_SEGMENTS:
        raise ODataError("The path has too many segments.")
    first, rest = segments[0], segments[1:]
    if first in ("$metadata", "$batch"):
        if rest:
            raise _not_last(first)
        return ResourcePath(special="metadata" if first == "$metadata" else "batch")
    name, predicate = _split_segment(first)
    entity_set = model.entity_sets.get(name)
    if entity_set is None:
        if name in model.function_imports:
            return ResourcePath(special="function")
        raise _not_found(name)
    if predicate is None:
        path = ResourcePath(entity_set)
        return replace(path, count=True) if rest == ["$count"] else _ended(path, rest, first)
    path = ResourcePath(entity_set, parse_key(predicate, entity_set.entity_type))
    return _below_entity(path, rest, entity_set.entity_type, model) if rest else path


def _below_entity(path: ResourcePath, rest: list[str], entity_type: EntityType, model: Model) -> ResourcePath:
    """Read `rest`, which is not empty and hangs below one entity of `entity_type`."""
    if rest[0] == "$links":
        return _links(path, rest[1:], entity_type, model)
    if rest[0] == "$value":
        return _ended(replace(path, value=True), rest[1:], "$value")
    name, predicate = _split_segment(rest[0])
    if name in entity_type.properties:
        if "(" in rest[0]:
            raise ODataError(f"The property '{name}' takes no key.", token=rest[0])
        return _property(path, rest, entity_type, model)
    segment = _navigation(path, name, predicate, entity_type, model)
    path = replace(path, navigation=(*path.navigation, segment))
    rest = rest[1:]
    if not rest:
        return path
    if segment.many and segment.key is None:
        return replace(path, count=True) if rest == ["$count"] else _ended(path, rest, name)
    target_type = model.entity_types.get(entity_type.navigation_properties[name].target)
    if target_type is None:
        raise _not_found(name)
    return _below_entity(path, rest, target_type, model)


def _navigation(
    path: ResourcePath, name: str, predicate: str | None, entity_type: EntityType, model: Model
) -> NavigationSegment:
    navigation = entity_type.navigation_properties.get(name)
    if navigation is None:
        raise _not_found(name)
    source = path.navigation[-1].target if path.navigation else path.entity_set
    target = model.navigation_target(source, name) if source else None
    many = navigation.multiplicity == "*"
    if predicate is None:
        return NavigationSegment(name, target, None, many)
    target_type = model.entity_types.get(navigation.target)
    if not many or target_type is None:
        raise ODataError(f"The navigation property '{name}' takes no key.", token=predicate)
    return NavigationSegment(name, target, parse_key(predicate, target_type), many)


def _links(path: ResourcePath, rest: list[str], entity_type: EntityType, model: Model) -> ResourcePath:
    if not rest:
        raise ODataError("A navigation property must follow '$links'.")
    name, predicate = _split_segment(rest[0])
    segment = _navigation(path, name, predicate, entity_type, model)
    path = replace(path, navigation=(*path.navigation, segment), links=True)
    if segment.many and segment.key is None and rest[1:] == ["$count"]:
        return replace(path, count=True)
    return _ended(path, rest[1:], name)


def _property(path: ResourcePath, rest: list[str], entity_type: EntityType, model: Model) -> ResourcePath:
    properties = entity_type.properties
    names: list[str] = []
    for index, name in enumerate(rest):
        if name == "$value":
            return _ended(replace(path, property_path=tuple(names), value=True), rest[index + 1 :], name)
        declared = properties.get(name)
        if declared is None:
            raise _not_found(name)
        names.append(name)
        complex_type = model.complex_type(declared.type)
        properties = complex_type.properties if complex_type else {}
    return replace(path, property_path=tuple(names))


def _split_segment(segment: str) -> tuple[str, str | None]:
    """The name, and what stands in the brackets; None for no brackets or empty ones."""
    match = _SEGMENT.fullmatch(segment)
    if match is None:
        raise ODataError(f"Syntax error in the segment '{segment}'.", token=segment)
    return match[1], match[2] or None


def _ended(path: ResourcePath, rest: list[str], last: str) -> ResourcePath:
    if rest:
        raise _not_last(last)
    return path


def _not_last(segment: str) -> ODataError:
    return ODataError(f"Nothing may follow the segment '{segment}' here.", token=segment)


def _not_found(segment: str) -> ODataError:
    return ODataError(f"Resource not found for the segment '{segment}'.", status=404, token=segment)


def parse_key(text: str, entity_type: EntityType) -> EntityKey:
    """Read a decoded key predicate without its brackets; the key comes in the entity type's own order.

    Takes `guid'…'`, `AccountId=guid'…'` and `B='x',A=1`. Raises ODataError with the position in `text`.
    """
    given = list(_predicate_values(text))
    if len(given) == 1 and not given[0][0] and entity_type.key:
        given = [(entity_type.key[0], *given[0][1:])]
    values = {name: (literal, position) for name, literal, position in given}
    if len(values) != len(given) or values.keys() != set(entity_type.key):
        expected = ", ".join(entity_type.key)
        raise ODataError(f"The key of '{entity_type.name}' is ({expected}), each given once.", token=text)
    return tuple((name, _key_value(entity_type, name, *values[name])) for name in entity_type.key)


def _predicate_values(text: str) -> Iterator[tuple[str, str, int]]:
    position = 0
    while True:
        match = _PREDICATE_VALUE.match(text, position)
        if match is None:
            raise ODataError(
                f"Syntax error at position {position}.", position=position, token=text[position:]
            )
        yield match[1] or "", match[2], match.start(2)
        if not match[3]:
            return
        position = match.end()


def _key_value(entity_type: EntityType, name: str, literal: str, position: int) -> Any:
    declared = entity_type.properties.get(name)
    primitive = PRIMITIVES.get(declared.type) if declared else None
    if primitive is None:
        raise ODataError(f"The key property '{name}' has no primitive type.", token=literal)
    try:
        return primitive.from_literal(literal)
    except ODataError as error:
        raise ODataError(error.message, position=position, token=literal) from None


def format_key(key: EntityKey, entity_type: EntityType | None = None) -> str:
    """The canonical predicate without brackets and without percent-encoding: `guid'8f2c…'`, `A=1,B='x'`.

    The literal's form follows the Python value, which says too little only for the widths of numbers: with
    `entity_type` an Int64 gets its `L` and a Single its `F`, which servers insist on.
    """
    literals = [(name, _key_literal(name, value, entity_type)) for name, value in key]
    if len(literals) == 1:
        return literals[0][1]
    return ",".join(f"{name}={literal}" for name, literal in literals)


_LITERAL_BY_CLASS: dict[type, Callable[[Any], str]] = {
    uuid.UUID: PRIMITIVES["Edm.Guid"].to_literal,
    str: PRIMITIVES["Edm.String"].to_literal,
    bool: PRIMITIVES["Edm.Boolean"].to_literal,
    Decimal: PRIMITIVES["Edm.Decimal"].to_literal,
    float: PRIMITIVES["Edm.Double"].to_literal,
    bytes: PRIMITIVES["Edm.Binary"].to_literal,
    timedelta: PRIMITIVES["Edm.Time"].to_literal,
}


def _key_literal(name: str, value: Any, entity_type: EntityType | None) -> str:
    if entity_type is not None:
        return PRIMITIVES[entity_type.properties[name].type].to_literal(value)
    if isinstance(value, datetime):
        return PRIMITIVES["Edm.DateTimeOffset" if value.tzinfo else "Edm.DateTime"].to_literal(value)
    if type(value) is int:
        return PRIMITIVES[parse_literal(str(value)).type].to_literal(value)
    return _LITERAL_BY_CLASS[type(value)](value)


def entity_path(entity_set: EntitySet, key: EntityKey) -> str:
    """`AccountSet(guid'…')`, percent-encoded where a key's text needs it: what follows a service root."""
    return f"{entity_set.name}({quote(format_key(key, entity_set.entity_type), safe=_OF_A_KEY)})"


def key_test(entity_set: EntitySet, key: EntityKey) -> str:
    """The `$filter` term that only the entity with this key passes, percent-encoded for a query."""
    tests = (
        f"{name}%20eq%20{quote(format_key(((name, value),), entity_set.entity_type), safe=_OF_A_KEY)}"
        for name, value in key
    )
    joined = "%20and%20".join(tests)
    return joined if len(key) == 1 else f"({joined})"
