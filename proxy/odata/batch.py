"""`$batch`: its requests and its responses as values, and the origins in both ([MS-ODATA] 2.2.7.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata.errors import ODataError
from proxy.odata.multipart import TOKEN, Field, Part, as_text, field_of, parse_parts, value_of

_STATUS_LINE = re.compile(r"HTTP/\d(?:\.\d)? +(\d{3})(?: (.*))?")
_VERSION = re.compile(rb"HTTP/\d(?:\.\d)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://")

Headers = CIMultiDict[str] | CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class RequestPart:
    """One request. `target`: as it stands there, absolute, rooted, or relative to the service root."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class ResponsePart:
    """One response; `content_id` repeats that of its request."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""
    content_id: str | None = None


P = TypeVar("P", RequestPart, ResponsePart)


@dataclass(frozen=True, slots=True)
class ChangeSet(Generic[P]):
    """Requests that are carried out together or not at all, or the responses to them."""

    parts: tuple[P, ...]


def read_requests(body: bytes, content_type: str | None) -> list[RequestPart | ChangeSet[RequestPart]]:
    """Read the body of a request to `$batch`. Raises ODataError, 413 over a limit and 400 for all else."""
    return [_read(body, part, _request) for part in parse_parts(body, content_type)]


def read_responses(body: bytes, content_type: str | None) -> list[ResponsePart | ChangeSet[ResponsePart]]:
    """Read the body of a reply from `$batch`. Raises ODataError."""
    return [_read(body, part, _response) for part in parse_parts(body, content_type)]


def flat(parts: Sequence[P | ChangeSet[P]]) -> Iterator[P]:
    """All messages in their order, those of changesets included."""
    for part in parts:
        if isinstance(part, ChangeSet):
            yield from part.parts
        else:
            yield part


def write_batch(parts: Sequence[P | ChangeSet[P]], boundary: str) -> bytes:
    """A body of these parts; those of a changeset get `boundary` with a number behind it.

    Raises ValueError where a line in a part begins with the boundary.
    """
    delimiter = f"--{boundary}".encode()
    written = []
    for number, part in enumerate(parts):
        if isinstance(part, ChangeSet):
            inner = f"{boundary}_{number}"
            text = f"Content-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode()
            text += write_batch(part.parts, inner)
        else:
            text = _written(part)
            if b"\n" + delimiter in text:
                raise ValueError("a part holds the boundary")
        written.append(delimiter + b"\r\n" + text + b"\r\n")
    return b"".join(written) + delimiter + b"--\r\n"


def rewrite_origins(
    body: bytes,
    content_type: str | None,
    root_path: str,
    origin: str,
    rewrite: Callable[[bytes, str | None], bytes],
) -> bytes:
    """Give all URLs of the service below `root_path` another origin; nothing else changes.

    Done for request lines with the Host beside them, Location and Content-Location, and for bodies by
    `rewrite(body, content type)`. A Content-Length that was right stays right. Raises ODataError.
    """
    editor = _Editor(body, root_path, origin, rewrite)
    for part in parse_parts(body, content_type):
        editor.edit(part)
    return editor.result()


# Between values and text


def _read(source: bytes, part: Part, read: Callable[[bytes, Part], P]) -> P | ChangeSet[P]:
    if part.parts is None:
        return read(source, part)
    return ChangeSet(tuple(read(source, inner) for inner in part.parts))


def _request(source: bytes, part: Part) -> RequestPart:
    method, start, end = _request_line(source, part)
    return RequestPart(method, as_text(source[start:end]), *_rest(source, part))


def _request_line(source: bytes, part: Part) -> tuple[str, int, int]:
    """The method, and where the target stands. Blanks in a target are the client's, and stay."""
    line = source[part.line : part.line_end].rstrip(b" \t")
    method, _, rest = line.partition(b" ")
    before, _, version = rest.rpartition(b" ")
    if _VERSION.fullmatch(version):
        rest = before
    start = part.line + len(method) + 1 + len(rest) - len(rest.lstrip(b" "))
    target = rest.strip(b" ")
    if not target or TOKEN.fullmatch(method) is None:
        raise ODataError("A part of a batch begins with no request line.", token=as_text(line[:40]))
    return as_text(method), start, start + len(target)


def _response(source: bytes, part: Part) -> ResponsePart:
    match = _STATUS_LINE.fullmatch(as_text(source[part.line : part.line_end]))
    if match is None:
        raise ODataError("A part of a batch begins with no status line.")
    return ResponsePart(int(match[1]), match[2] or "", *_rest(source, part))


def _rest(source: bytes, part: Part) -> tuple[CIMultiDictProxy[str], bytes, str | None]:
    inner = part.inner or []
    headers = CIMultiDict((field.name, field.value) for field in inner)
    content_id = value_of(part.fields, "Content-ID") or value_of(inner, "Content-ID")
    return CIMultiDictProxy(headers), source[part.body : part.body_end], content_id


def _written(part: RequestPart | ResponsePart) -> bytes:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if part.content_id is not None and "Content-ID" not in part.headers:
        lines.append(f"Content-ID: {part.content_id}")
    lines.append("")
    if isinstance(part, RequestPart):
        lines.append(f"{part.method} {part.target} HTTP/1.1")
    else:
        lines.append(f"HTTP/1.1 {part.status} {part.reason}")
    lines += (f"{name}: {value}" for name, value in part.headers.items())
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape") + part.body


# Origins


class _Editor:
    """Collects replacements in a body, from the innermost length outwards."""

    def __init__(
        self, source: bytes, root_path: str, origin: str, rewrite: Callable[[bytes, str | None], bytes]
    ) -> None:
        self._source = source
        self._origin = origin.encode()
        self._rewrite = rewrite
        self._edits: list[tuple[int, int, bytes]] = []
        root = re.escape(root_path.rstrip("/").encode())
        self._url = re.compile(rb"(?i:https?)://[^/?#\s]+(?=(?i:" + root + rb")(?:[/?#]|\Z))")

    def edit(self, part: Part) -> int:
        """Collect the replacements in a part; gives the bytes by which it grows."""
        if part.parts is None:
            growth = self._edit_message(part)
        else:
            growth = sum(self.edit(inner) for inner in part.parts)
        return growth + self._lengthen(part.fields, part.end - part.start, growth)

    def result(self) -> bytes:
        pieces: list[bytes] = []
        done = 0
        for start, end, text in sorted(self._edits):
            pieces += (self._source[done:start], text)
            done = end
        return b"".join((*pieces, self._source[done:])) if pieces else self._source

    def _edit_message(self, part: Part) -> int:
        inner = part.inner or []
        growth = 0
        if not _VERSION.match(self._source, part.line, part.line_end):
            growth += self._edit_request_line(part, inner)
        for name in ("Location", "Content-Location"):
            if (field := field_of(inner, name)) is not None:
                growth += self._edit_url(field.start, field.end)
        if field_of(inner, "Content-Encoding") is None:
            body = self._source[part.body : part.body_end]
            rewritten = self._rewrite(body, value_of(inner, "Content-Type")) if body else body
            grown = self._replace(part.body, part.body_end, rewritten)
            growth += grown + self._lengthen(inner, len(body), grown)
        return growth

    def _edit_request_line(self, part: Part, inner: Sequence[Field]) -> int:
        _, start, end = _request_line(self._source, part)
        growth = self._edit_url(start, end)
        host = field_of(inner, "Host")
        is_foreign = _ABSOLUTE.match(self._source, start, end) and not self._url.match(
            self._source, start, end
        )
        if host is not None and not is_foreign:
            growth += self._replace(host.start, host.end, self._origin.partition(b"://")[2])
        return growth

    def _edit_url(self, start: int, end: int) -> int:
        match = self._url.match(self._source, start, end)
        return 0 if match is None else self._replace(start, match.end(), self._origin)

    def _lengthen(self, fields: Sequence[Field], length: int, growth: int) -> int:
        field = field_of(fields, "Content-Length")
        if not growth or field is None or field.value != str(length):
            return 0
        return self._replace(field.start, field.end, str(length + growth).encode())

    def _replace(self, start: int, end: int, text: bytes) -> int:
        if self._source[start:end] == text:
            return 0
        self._edits.append((start, end, text))
        return len(text) - (end - start)
