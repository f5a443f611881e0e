"""Requests whose bytes leave exactly as given, and exactly once.

aiohttp builds requests for programs, not for a proxy: it adds headers, keeps one of two fields that
differ in case, drops a lone `?` and everything from `#` on, and sends some methods again when a
connection breaks. What is here undoes that through the places aiohttp offers, a request class and a
client middleware. The one private name, for bytes that are no UTF-8, is in `replace_head`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict, MultiMapping
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.connector import Connection


_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class ConnectionLost(Exception):
    """The connection broke. Not one of aiohttp's errors, because it answers two of them by sending again."""


class WireRequest(ClientRequest):
    """A request that reports when its bytes leave, and can write a head that is no UTF-8."""

    departure: Departure
    _head: bytes | None = None

    async def send(self, conn: Connection) -> ClientResponse:
        self.departure.leave()
        self._head = exact_head(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        if self._head is not None:
            # aiohttp asks `write_bytes` for the head only while there is something to wait for.
            self._continue = self.loop.create_future()
            self._continue.set_result(None)
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        replace_head(writer, self._head)
        await super().write_bytes(writer, conn, content_length)


class Departure:
    """One request on its way out: a client middleware that gives the request its headers.

    `headers`: all but Host, framing included. `leaves` is called once, when a connection is there and
    before the first byte is written.
    """

    __slots__ = ("_leaves", "headers", "left")

    def __init__(self, headers: CIMultiDict[str], leaves: Callable[[], None]) -> None:
        self.headers = headers
        self._leaves = leaves
        self.left = False

    @property
    def framing(self) -> dict[str, str]:
        """The header aiohttp looks at to choose between a length and chunks."""
        length = self.headers.get("Content-Length")
        return {} if length is None else {"Content-Length": length}

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        assert isinstance(request, WireRequest)
        request.departure = self
        host = request.headers["Host"]
        request.headers.clear()
        request.headers["Host"] = host
        request.headers.extend(self.headers)  # and nothing that aiohttp thought of
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise ConnectionLost(str(error)) from error

    def leave(self) -> None:
        self.left = True
        self._leaves()


def target_url(origin: URL, target: str) -> URL:
    """A URL that aiohttp sends as `target`, to the byte.

    The whole target is put into its path: only a path is never taken apart again.
    """
    return URL.build(scheme=origin.scheme, authority=origin.raw_authority, path=target, encoded=True)


def end_with_connection(response: ClientResponse) -> None:
    """Make sure that reading the body ends when its connection does.

    aiohttp's C parser closes the connection over a chunk that is none and tells the reader nothing, who
    then waits for ever, without a timeout.
    """
    content = response.content
    protocol = None if response.connection is None else response.connection.protocol
    closed = None if protocol is None or content.is_eof() else protocol.closed
    if closed is None:
        return

    def end(closed: asyncio.Future[None]) -> None:
        closed.exception()
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection ended within the body"))

    closed.add_done_callback(end)


def replace_head(writer: AbstractStreamWriter, head: bytes | None) -> None:
    """Make `head` the head that `writer` is about to send, if there is one.

    aiohttp writes heads as UTF-8 and leaves surrogates out without a word. There is no public place for
    bytes, so this is the name of its buffer; a test fails when it moves.
    """
    if head is not None:
        writer._headers_buf = head  # type: ignore[attr-defined]


def exact_head(start_line: str, headers: MultiMapping[str]) -> bytes | None:
    """The bytes of a head that aiohttp would not write as it came; None where it would.

    Raises ValueError for a control character, which could begin another field.
    """
    if all(map(str.isascii, headers.values())) and start_line.isascii():
        return None
    lines = [start_line, *(f"{name}: {value}" for name, value in headers.items())]
    if not any(map(_SURROGATE.search, lines)):
        return None
    if any(map(_CONTROL.search, lines)):
        raise ValueError("control character in a header field")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
