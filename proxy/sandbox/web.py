"""What the organisation serves beside OData: SOAP, web resources, and paths made for tests of a proxy."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from xml.sax.saxutils import escape

from aiohttp import web

_SOAP = re.compile(r"/XRMServices/2011/Organization\.svc(?:/web)?/?", re.IGNORECASE)
_DOWNLOAD = re.compile(r"/download/(\d{1,12})")
_PATTERN_BYTES = 1 << 20
_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"


def _pattern() -> bytes:
    """A mebibyte that repeats nowhere within itself, the same on every run."""
    blocks = (hashlib.sha256(number.to_bytes(4)).digest() for number in range(_PATTERN_BYTES // 32))
    return b"".join(blocks)


_PATTERN = _pattern()


def is_soap(path: str) -> bool:
    return _SOAP.fullmatch(path) is not None


def download_size(path: str) -> int | None:
    """The number of bytes that `/download/<n>` asks for."""
    match = _DOWNLOAD.fullmatch(path)
    return int(match[1]) if match else None


async def download(size: int) -> AsyncIterator[bytes]:
    """`size` bytes in pieces; memory stays flat, since every piece is a view of one pattern."""
    pattern = memoryview(_PATTERN)
    for start in range(0, size, _PATTERN_BYTES):
        yield pattern[: min(_PATTERN_BYTES, size - start)]  # type: ignore[misc]


def soap_reply(action: str, body: bytes, length: int) -> web.Response:
    """A small envelope that says what came."""
    text = (
        f'<s:Envelope xmlns:s="{_ENVELOPE}"><s:Body><EchoResponse xmlns="urn:sandbox">'
        f"<Action>{escape(action)}</Action><Length>{length}</Length>"
        f"<Sha256>{hashlib.sha256(body).hexdigest()}</Sha256></EchoResponse></s:Body></s:Envelope>"
    )
    return web.Response(body=text.encode(), headers={"Content-Type": "text/xml; charset=utf-8"})


def echo_reply(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> web.Response:
    """What came, as JSON; bytes as Latin-1 text, header fields in their order and spelling."""
    text = json.dumps(
        {"method": method, "target": target, "headers": headers, "body": body.decode("latin-1")}
    )
    return web.Response(body=text.encode(), headers={"Content-Type": "application/json"})


def gzip_reply() -> web.Response:
    """A body that is compressed whatever the client accepts."""
    body = gzip.compress(_PATTERN[:5000] * 4, mtime=0)
    headers = {"Content-Type": "text/css", "Content-Encoding": "gzip"}
    return web.Response(body=body, headers=headers)


def web_resource(path: str) -> web.Response:
    """A script whose text tells its path, as the form scripts of an organisation are served."""
    body = f"/* web resource {path} */\nwindow.sandbox = true;\n".encode()
    headers = {"Content-Type": "text/javascript", "Last-Modified": "Thu, 01 Mar 2012 09:00:00 GMT"}
    return web.Response(body=body, headers=headers)


LOGIN_PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign In</title></head><body>"
    b'<form method="post" action="/adfs/ls/?wa=wsignin1.0">'
    b'<input type="hidden" name="__VIEWSTATE" value="/wEPDw" />'
    b'<input name="ctl00$ContentPlaceHolder1$UsernameTextBox" type="text" />'
    b'<input name="ctl00$ContentPlaceHolder1$PasswordTextBox" type="password" />'
    b'<input name="ctl00$ContentPlaceHolder1$SubmitButton" type="submit" value="Sign In" />'
    b"</form></body></html>"
)
