"""Content codings of whole bodies (RFC 9110, 8.4.1): gzip and deflate, within a limit."""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
DECODABLE = frozenset({"gzip", "x-gzip", "deflate", "identity"})


class UndecodableBody(Exception):
    """The body is not what its Content-Encoding says, ends early, or grows past the limit."""


def decode_body(body: bytes, content_encoding: str, limit: int) -> bytes:
    """The body without its codings, which `content_encoding` names in the order they were applied.

    `limit`: bytes that the result, and each step on the way to it, may have: a few kilobytes of gzip can
    hold gigabytes. An empty body stays empty whatever the header says, as in answers to HEAD. Raises
    UndecodableBody.
    """
    for coding in reversed(_codings(content_encoding)):
        if not body:
            break
        body, whole = _inflate(body, coding, limit)
        if not whole:
            raise UndecodableBody(f"the {coding} data ends early")
    return body


def decode_start(body: bytes, content_encoding: str, limit: int) -> bytes:
    """As much as can be decoded of a body that was cut. Raises UndecodableBody."""
    for coding in reversed(_codings(content_encoding)):
        body, _ = _inflate(body, coding, limit)
    return body


def _codings(content_encoding: str) -> list[str]:
    names = (name.strip().lower() for name in content_encoding.split(","))
    return [name for name in names if name not in ("", "identity")]


def _inflate(body: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    """The decoded bytes, and whether the coding's own end mark was among them."""
    out: list[bytes] = []
    size = 0
    whole = True
    while body:
        inflater = zlib.decompressobj(_window_bits(body, coding))
        try:
            out.append(inflater.decompress(body, limit - size + 1))
        except zlib.error as error:
            raise UndecodableBody(f"not {coding} data") from error
        size += len(out[-1])
        if size > limit:
            raise UndecodableBody(f"over {limit} bytes when decoded")
        whole = inflater.eof
        # RFC 1952, 2.2: a gzip file is a series of members.
        body = inflater.unused_data if coding != "deflate" else b""
    return b"".join(out), whole


def _window_bits(body: bytes, coding: str) -> int:
    if coding in ("gzip", "x-gzip"):
        return _GZIP
    if coding == "deflate":
        # RFC 9110, 8.4.1.2 means zlib; IIS and others send bare deflate. A zlib header is two bytes that
        # name method 8 and are a multiple of 31.
        is_zlib = body[0] & 15 == 8 and len(body) > 1 and (body[0] << 8 | body[1]) % 31 == 0
        return _ZLIB if is_zlib else _RAW_DEFLATE
    raise UndecodableBody(f"content coding {coding!r} is not known here")
