"""The client of upstream: one request, one answer, and the port's own errors for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.reconcile.ports import (
    Reply,
    Request,
    UpstreamBroken,
    UpstreamCut,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamTooLong,
    UpstreamUnreachable,
)
from proxy.upstream.calls import UpstreamCall, record
from proxy.upstream.clock import UpstreamClock
from proxy.upstream.decode import UndecodableBody, decode_body, decode_start
from proxy.upstream.flights import Flights
from proxy.upstream.headers import accept_decodable, headers_from_wire
from proxy.upstream.wire import ConnectionLost, Departure, WireRequest, end_with_connection, target_url

# Well below what servers keep idle connections for (IIS 120 s): a connection that upstream closes just
# when a write leaves on it would make the write's outcome unknown.
KEEPALIVE_S = 15.0
READ_BUFFER_BYTES = 1 << 20
# Kerberos tokens; filters in what upstream echoes.
MAX_LINE_BYTES = 65536
MAX_HEADERS = 500
PIECE_BYTES = 65536

_LOST = (ConnectionLost, aiohttp.ClientError, OSError, RuntimeError)
# A method whose request is expected to have content says so when it has none (RFC 9110, 8.6).
_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH", "MERGE"))


class UpstreamClient:
    """All connections to one upstream: a `proxy.reconcile.ports.Upstream`, and streams for pass-through.

    Requests leave byte for byte as given, exactly once, with no header but Host added. `connections`
    bounds the requests in flight; others wait. An async context manager.
    """

    def __init__(
        self,
        origin: str,
        *,
        connections: int,
        connect_timeout_s: float,
        read_timeout_s: float,
        reply_limit_bytes: int,
        now: Callable[[], datetime],
    ) -> None:
        """`origin`: scheme, host and port. `connect_timeout_s`: for a connection to be made.

        `read_timeout_s`: for upstream to say, or to take, anything more, and for a connection to become
        free. `reply_limit_bytes`: of a whole body, on the wire and decoded. `now`: aware UTC. Raises
        ValueError for what is no http or https origin.
        """
        url = URL(origin)
        if url.scheme not in ("http", "https") or str(url).rstrip("/") != str(url.origin()):
            raise ValueError(f"not an origin: {origin!r}")
        self._url = url.origin()
        self._connections = connections
        self._read_timeout_s = read_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=connect_timeout_s + read_timeout_s,
            sock_connect=connect_timeout_s,
            sock_read=read_timeout_s,
        )
        self._limit = reply_limit_bytes
        self._now = now
        self._flights = Flights(self._exchange)
        self._clock = UpstreamClock()
        self._session: aiohttp.ClientSession | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a default port."""
        return str(self._url)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEPALIVE_S),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Content-Type",),
            request_class=WireRequest,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        """Send a request and wait for the whole answer. See the port.

        The body is decoded from gzip and deflate, the only codings that upstream is asked for; where that
        cannot be done, it is left as it came. UpstreamCut whenever a status came and the body did not, for
        whatever reason, but UpstreamTooLong where it went over the limit and a GET may be sent again. A
        joinable request without a body is answered together with equal ones (`flights`).
        """
        call = _Call(request.method, request.target)
        try:
            if joinable and not request.body:
                (reply, call.bytes), call.shared = await self._flights.join(request)
                if call.shared and "Set-Cookie" in reply.headers:
                    reply = replace(reply, headers=_without_cookies(reply.headers))
            else:
                reply, call.bytes = await self._exchange(request, _nothing)
            call.status = reply.status
            return reply
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            call.record()

    async def stream(
        self, method: str, target: str, headers: CIMultiDict[str], body: AsyncIterator[bytes] | None
    ) -> StreamedReply:
        """Send a request and stream its answer: nothing is decoded, nothing is held.

        `headers`: end-to-end ones; a Content-Length among them must be the body's, without one the body
        is sent in chunks. Where `body` raises, the connection is given up, so that upstream cannot take
        what came for the whole. The answer is an async context manager. Raises UpstreamFailure.
        """
        headers = headers.copy()
        if body is not None and "Content-Length" not in headers:
            headers["Transfer-Encoding"] = "chunked"
        call = _Call(method, target)
        try:
            departure = Departure(headers, _nothing, alone=_logs_in(headers))
            response = await self._open(method, target, departure, body)
        except BaseException as error:
            call.failed(error)
            call.record()
            raise
        return StreamedReply(response, call)

    async def _exchange(self, request: Request, leaves: Callable[[], None]) -> tuple[Reply, int]:
        """The answer, and the bytes of its body on the wire."""
        headers = CIMultiDict(request.headers)
        headers.popall("Content-Length", None)
        if request.body or request.method in _WITH_CONTENT:
            headers["Content-Length"] = str(len(request.body))
        accept_decodable(headers)
        sent_at = self._now()

        def leave() -> None:
            nonlocal sent_at
            sent_at = self._now()
            leaves()

        departure = Departure(headers, leave, alone=_logs_in(headers))
        body = _pieces(request.body) if request.body else None
        response = await self._open(request.method, request.target, departure, body)
        async with response:
            chunks: list[bytes] = []
            try:
                is_whole = await self._read(response, chunks)
            except _LOST as error:
                reply = self._reply(response, chunks, decode_start, sent_at)
                raise UpstreamCut(f"the body did not come whole: {_describe(error)}", reply) from error
            if is_whole:
                return self._reply(response, chunks, decode_body, sent_at), sum(map(len, chunks))
            told = f"the body is over {self._limit} bytes"
            if request.method == "GET":
                raise UpstreamTooLong(told)
            raise UpstreamCut(told, self._reply(response, chunks, decode_start, sent_at))

    async def _read(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> bool:
        """Read the body into `chunks`, which holds what came when this raises. False: over the limit."""
        size = 0
        while chunk := await response.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._limit:
                return False
        return True

    def _reply(
        self,
        response: aiohttp.ClientResponse,
        chunks: Sequence[bytes],
        decode: Callable[[bytes, str, int], bytes],
        sent_at: datetime,
    ) -> Reply:
        raw = b"".join(chunks)
        try:
            body, is_coded = decode(raw, _codings(response), self._limit), False
        except UndecodableBody:
            body, is_coded = raw, True
        reply = Reply(
            status=response.status,
            reason=response.reason or "",
            headers=CIMultiDictProxy(headers_from_wire(response.raw_headers)),
            body=body,
            sent_at=sent_at,
            received_at=self._now(),
            is_coded=is_coded,
        )
        self._clock.observe(reply)
        return replace(reply, upstream_sent_at=self._clock.earliest(sent_at))

    async def _open(
        self, method: str, target: str, departure: Departure, body: AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        """The response, its status and headers there, its body yet to be read. Raises UpstreamFailure."""
        try:
            if body is None:
                response = await self._ask(method, target, departure, None)
            else:
                async with asyncio.timeout(None) as progress:
                    body = self._taken_in_time(body, progress)
                    response = await self._ask(method, target, departure, body)
        except _LOST as error:
            raise _failure(error, departure) from error
        if response.status == 101:
            response.close()
            raise UpstreamBroken("upstream switched to a protocol that nobody asked for")
        end_with_connection(response)
        return response

    def _ask(
        self, method: str, target: str, departure: Departure, body: AsyncIterator[bytes] | None
    ) -> Awaitable[aiohttp.ClientResponse]:
        assert self._session is not None, "used outside its context"
        return self._session.request(
            method,
            target_url(self._url, target),
            headers=departure.framing,
            data=body,
            allow_redirects=False,
            middlewares=(departure,),
        )

    async def _taken_in_time(
        self, body: AsyncIterator[bytes], progress: asyncio.Timeout
    ) -> AsyncIterator[bytes]:
        """The pieces of `body`; upstream has the read timeout to take each, and to answer after the last.

        aiohttp has no limit for writing. While the client is the slow one, no time is counted.
        """
        now = asyncio.get_running_loop().time
        async for piece in body:
            _move(progress, now() + self._read_timeout_s)
            yield piece
            _move(progress, None)
        _move(progress, now() + self._read_timeout_s)


def _move(progress: asyncio.Timeout, to: float | None) -> None:
    with suppress(RuntimeError):  # it is over: upstream answers before it has the whole body
        progress.reschedule(to)


class StreamedReply:
    """Upstream's answer while its body still comes: an async context manager.

    `raw_headers` are all of them, as they came. Leaving the context before the end gives up the connection.
    """

    __slots__ = ("_call", "_content", "_response", "raw_headers", "reason", "status")

    def __init__(self, response: aiohttp.ClientResponse, call: _Call) -> None:
        self.status = call.status = response.status
        self.reason = response.reason or ""
        self.raw_headers = response.raw_headers
        self._call = call
        self._response = response
        self._content = response.content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_whole:
            self._response.release()
        else:
            self._response.close()
        if error is not None:
            self._call.failed(error)
        self._call.record()

    @property
    def is_waiting(self) -> bool:
        """True while nothing of the body is here that has not been read, and more must come."""
        return self._content.total_bytes == self._call.bytes and not self._content.is_eof()

    @property
    def is_whole(self) -> bool:
        """True once the last byte has been read."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """The next bytes, as many as there are; empty at the end. Raises UpstreamBroken or UpstreamTimeout
        where the body does not come whole."""
        try:
            chunk = await self._content.readany()
        except _LOST as error:
            failure = UpstreamTimeout if isinstance(error, TimeoutError) else UpstreamBroken
            raise failure(f"the body did not come whole: {_describe(error)}") from error
        self._call.bytes += len(chunk)
        return chunk


class _Call:
    """What is recorded of one request when it ends."""

    __slots__ = ("_error", "_method", "_path", "_started", "bytes", "shared", "status")

    def __init__(self, method: str, target: str) -> None:
        self._method = method
        self._path = target.partition("?")[0]
        self._started = time.perf_counter()
        self._error: str | None = None
        self.status: int | None = None
        self.bytes = 0
        self.shared = False

    def failed(self, error: BaseException) -> None:
        self._error = type(error).__name__
        if isinstance(error, UpstreamCut):
            self.status, self.bytes = error.reply.status, len(error.reply.body)

    def record(self) -> None:
        elapsed_ms = (time.perf_counter() - self._started) * 1000
        call = UpstreamCall(
            self._method, self._path, self.status, self._error, elapsed_ms, self.bytes, self.shared
        )
        record(call)


def _without_cookies(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Headers for whoever joined another's exchange: a session that upstream opens is one client's."""
    kept = CIMultiDict(headers)
    kept.popall("Set-Cookie")
    return CIMultiDictProxy(kept)


def _nothing() -> None:
    """For requests that nobody waits to join."""


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _logs_in(headers: CIMultiDict[str]) -> bool:
    """NTLM and Negotiate log in a connection, not a request: another client must never get it (rule 8)."""
    return any(
        value.partition(" ")[0].lower() in ("ntlm", "negotiate")
        for value in headers.getall("Authorization", ())
    )


def _codings(response: aiohttp.ClientResponse) -> str:
    return ",".join(response.headers.getall("Content-Encoding", ()))


def _failure(error: Exception, departure: Departure) -> UpstreamFailure:
    """What an exception before the status means."""
    if not departure.left:
        return UpstreamUnreachable(f"no connection to upstream: {_describe(error)}")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("no answer in time")
    return UpstreamBroken(f"no answer: {_describe(error)}")


def _describe(error: Exception) -> str:
    """In a few words without any URL: queries hold personal data, and aiohttp quotes them."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"no HTTP: {error.message.partition(chr(10))[0].rstrip(':')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
