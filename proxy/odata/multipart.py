"""Where the parts of a `$batch` body stand in it: multipart/mixed of HTTP messages and of changesets.

By [MS-ODATA] 2.2.7.6 and RFC 2046, 5.1. Taken is what clients really send: lines that end in LF, blank lines
around a message, boundaries without quotes. Refused is what could be read in two ways: a missing closing
delimiter, a Content-Length that cuts or overruns its body, an encoding that would have to be undone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.odata.errors import ODataError
from proxy.odata.media import media_type

MAX_PARTS = 1000
MAX_BYTES = 64 * 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024
_MAX_FIELDS = 100  # of one part: each takes far more memory than it has bytes
_MAX_BOUNDARY = 70  # RFC 2046, 5.1.1

_BOUNDARY = re.compile(r';[ \t]*boundary[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.IGNORECASE)
_FOLD = re.compile(r"\r?\n[ \t]+")
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AS_THEY_ARE = frozenset({"", "binary", "7bit", "8bit"})


@dataclass(frozen=True, slots=True)
class Field:
    """A header field; `start` to `end` is its value."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part, whose content is `start` to `end`: a message, or a changeset where `parts` are given.

    `line` to `line_end` is a message's start line, `body` to `body_end` its body, `inner` its own header.
    """

    fields: list[Field]
    start: int
    end: int
    parts: list[Part] | None = None
    line: int = 0
    line_end: int = 0
    inner: list[Field] | None = None
    body: int = 0
    body_end: int = 0


def parse_parts(source: bytes, content_type: str | None) -> list[Part]:
    """The parts of a body, in time linear in its length. Raises ODataError, 413 over a limit, 400 else."""
    if len(source) > MAX_BYTES:
        raise ODataError(f"A batch may have {MAX_BYTES} bytes.", status=413)
    if media_type(content_type) != "multipart/mixed":
        raise ODataError("A batch must be multipart/mixed.")
    found: list[Part] = []
    room = MAX_PARTS
    for start, end in _sections(source, 0, len(source), _boundary(content_type or "")):
        part = _part(source, start, end)
        room -= 1 if part.parts is None else len(part.parts)
        if room < 0:
            raise _too_many()
        found.append(part)
    return found


def _part(source: bytes, start: int, end: int, *, within: bool = False) -> Part:
    fields, content = _head(source, start, end)
    end = max(content, end)
    declared = value_of(fields, "Content-Type")
    kind = media_type(declared)
    if (value_of(fields, "Content-Transfer-Encoding") or "").lower() not in _AS_THEY_ARE:
        raise ODataError("A part of a batch must not be encoded.")
    if kind == "application/http":
        return _message(source, fields, content, end)
    if kind != "multipart/mixed" or within:
        raise ODataError(f"A part of a batch cannot be '{kind}' here.")
    inner = _boundary(declared or "")
    sections = _sections(source, content, end, inner)
    return Part(fields, content, end, [_part(source, *section, within=True) for section in sections])


def _message(source: bytes, fields: list[Field], start: int, end: int) -> Part:
    line = start
    while source[line : line + 1] in (b"\r", b"\n") and line < end:
        line += 1
    stop, after = _line(source, line, end)
    inner, body = _head(source, after, end)
    if field_of(inner, "Transfer-Encoding") is not None:
        raise ODataError("A part of a batch must not be encoded.")
    length = value_of(inner, "Content-Length")
    body_end = end if length is None else _measured(source, body, end, length)
    if not source[body:body_end].strip(b"\r\n") and length is None:
        body_end = body  # blank lines that clients put behind a request without a body
    return Part(fields, start, end, None, line, stop, inner, body, body_end)


def _measured(source: bytes, body: int, end: int, length: str) -> int:
    """The end of a body with a Content-Length."""
    if not (length.isascii() and length.isdigit() and len(length) < 12):
        raise ODataError("A part's Content-Length is no number.", token=length[:20])
    body_end = body + int(length)
    if body_end > end or source[body_end:end].strip(b"\r\n"):
        raise ODataError("A part's Content-Length is not that of its body.", token=length)
    return body_end


def _sections(source: bytes, start: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
    """What stands between the delimiter lines, without the line breaks that belong to these.

    Raises ODataError where the closing delimiter is missing: a batch that was cut is no batch.
    """
    sections: list[tuple[int, int]] = []
    opened = None
    delimiter = re.compile(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*\r?$", re.MULTILINE)
    for match in delimiter.finditer(source, start, end):
        if opened is not None:
            before = match.start() - 1
            before -= source[before - 1 : before] == b"\r"
            sections.append((opened, max(opened, before)))
            if len(sections) > MAX_PARTS:
                raise _too_many()
        if match[1]:
            return sections
        opened = min(match.end() + 1, end)
    raise ODataError("The batch has no closing delimiter.")


def _head(source: bytes, start: int, end: int) -> tuple[list[Field], int]:
    """Header fields up to the blank line, and where the content behind it begins."""
    found: list[tuple[bytes, int, int]] = []
    while start < end:
        stop, after = _line(source, start, end)
        if stop == start:
            end = after
            break
        if source[start : start + 1] in (b" ", b"\t") and found:
            found[-1] = (*found[-1][:2], stop)
        else:
            name = TOKEN.match(source, start, stop)
            if name is None or source[name.end() : name.end() + 1] != b":":
                raise ODataError("A part's header is broken.", token=as_text(source[start:stop][:40]))
            found.append((name[0], name.end() + 1, stop))
            if len(found) > _MAX_FIELDS:
                raise ODataError(f"A part of a batch may have {_MAX_FIELDS} header fields.", status=413)
        start = after
    return [_field(source, *field) for field in found], end


def _line(source: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the line that begins at `start` ends, and where the next begins."""
    found = source.find(b"\n", start, min(end, start + _MAX_LINE_BYTES))
    if found < 0:
        if end - start > _MAX_LINE_BYTES:
            raise ODataError("A line in a part's header is too long.")
        return end, end
    return found - (source[found - 1 : found] == b"\r" and found > start), found + 1


def _field(source: bytes, name: bytes, start: int, end: int) -> Field:
    raw = source[start:end]
    start += len(raw) - len(raw.lstrip())
    end = start + len(raw.strip())
    return Field(as_text(name), _FOLD.sub(" ", as_text(source[start:end])), start, end)


def value_of(fields: Sequence[Field], name: str) -> str | None:
    """The value of the first field of that name, in any case."""
    found = field_of(fields, name)
    return None if found is None else found.value


def field_of(fields: Sequence[Field], name: str) -> Field | None:
    return next((field for field in fields if field.name.lower() == name.lower()), None)


def _boundary(content_type: str) -> bytes:
    """The delimiter's text. Quotes may be missing around any character but a semicolon."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise ODataError("The Content-Type of a batch names no boundary.")
    found = match[2].strip(" \t") if match[1] is None else re.sub(r"\\(.)", r"\1", match[1])
    if not 0 < len(found) <= _MAX_BOUNDARY or not found.isprintable():
        raise ODataError("The boundary of a batch must be 1 to 70 printable characters.", token=found[:100])
    return found.encode()


def as_text(raw: bytes) -> str:
    """UTF-8, and what is none kept so that it can be written again."""
    return raw.decode("utf-8", "surrogateescape")


def _too_many() -> ODataError:
    return ODataError(f"A batch may have {MAX_PARTS} parts.", status=413)
