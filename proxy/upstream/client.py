"""The client of upstream: one request, one answer, and the port's own errors for everything else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.odata.headers import logs_in_connection
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
from proxy.upstream.clock import UpstreamClock
from proxy.upstream.decode import UndecodableBody, decode_body, decode_start
from proxy.upstream.flights import Flights
from proxy.upstream.headers import accept_decodable, headers_from_wire
from proxy.upstream.pins import KEEPALIVE_S as PIN_KEEPALIVE_S
from proxy.upstream.pins import Pin, Pins
from proxy.upstream.streamed import LOST, Call, StreamedReply, describe
from proxy.upstream.wire import Departure, WireRequest, end_with_connection, target_url

# Well below what servers keep idle connections for (IIS 120 s): a connection that upstream closes just
# when a write leaves on it would make the write's outcome unknown.
KEEPALIVE_S = 15.0
READ_BUFFER_BYTES = 1 << 20
# Kerberos tokens; filters in what upstream echoes.
MAX_LINE_BYTES = 65536
MAX_HEADERS = 500
PIECE_BYTES = 65536

# A method whose request is expected to have content says so when it has none (RFC 9110, 8.6).
_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH", "MERGE"))


class UpstreamClient:
    """All connections to one upstream: a `proxy.reconcile.ports.Upstream`, and streams for pass-through.

    Requests leave byte for byte as given, exactly once, with no header but Host added. `connections`
    bounds the requests in flight; others wait, at most `patience_s`. An async context manager.
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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`origin`: scheme, host and port. `connect_timeout_s`: for a connection to be made.

        `read_timeout_s`: for upstream to say, or to take, anything more, and for a connection to become
        free. `reply_limit_bytes`: of a whole body, on the wire and decoded. `now`: aware UTC. `tls`: for
        an https origin, the system's own where None. Raises ValueError for what is no http or https origin.
        """
        url = URL(origin)
        if url.scheme not in ("http", "https") or str(url).rstrip("/") != str(url.origin()):
            raise ValueError(f"not an origin: {origin!r}")
        self._url = url.origin()
        self._connections = connections
        self._read_timeout_s = read_timeout_s
        self.patience_s = connect_timeout_s + read_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=self.patience_s,
            sock_connect=connect_timeout_s,
            sock_read=read_timeout_s,
        )
        self._limit = reply_limit_bytes
        self._now = now
        self._tls = tls
        self._flights = Flights(self._exchange)
        self._clock = UpstreamClock()
        self._session: aiohttp.ClientSession | None = None
        self.pins = Pins(self._one_connection)

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a default port."""
        return str(self._url)

    async def __aenter__(self) -> Self:
        self._session = self._new_session(self._connections, KEEPALIVE_S)
        return self

    def _one_connection(self) -> aiohttp.ClientSession:
        return self._new_session(1, PIN_KEEPALIVE_S)

    def _new_session(self, connections: int, keepalive_s: float) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                keepalive_timeout=keepalive_s,
                ssl=True if self._tls is None else self._tls,
            ),
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.pins.close()
        if self._session is not None:
            await self._session.close()

    def pin(self, connection: asyncio.Task[Any], headers: CIMultiDict[str]) -> Pin | None:
        """What a request of a client's has to leave on: the pin of the client's `connection` from the first
        message of a login of its own (`pins`), before that None. Raises UpstreamUnreachable.
        """
        pin = self.pins.get(connection)
        if pin is None and logs_in_connection(headers):
            try:
                return self.pins.make(connection)
            except RuntimeError as error:
                raise UpstreamUnreachable(str(error)) from error
        return pin

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        """Send a request and wait for the whole answer. See the port.

        The body is decoded from gzip and deflate, the only codings that upstream is asked for; where that
        cannot be done, it is left as it came. UpstreamCut whenever a status came and the body did not, for
        whatever reason, but UpstreamTooLong where it went over the limit and a GET may be sent again. A
        joinable request without a body is answered together with equal ones (`flights`).
        """
        call = Call(request.method, request.target)
        try:
            if joinable and isinstance(request.connection, Pin) and request.connection.in_login:
                raise UpstreamUnreachable("a login is under way on the client's connection")
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
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: AsyncIterator[bytes] | None,
        connection: object | None = None,
    ) -> StreamedReply:
        """Send a request and stream its answer: nothing is decoded, nothing is held.

        `headers`: end-to-end ones; a Content-Length among them must be the body's, without one the body
        is sent in chunks. Where `body` raises, the connection is given up, so that upstream cannot take
        what came for the whole. `connection`: as in `Request`. The answer is an async context manager.
        Raises UpstreamFailure.
        """
        headers = headers.copy()
        if body is not None and "Content-Length" not in headers:
            headers["Transfer-Encoding"] = "chunked"
        call = Call(method, target)
        try:
            departure = Departure(headers, _nothing)
            response = await self._open(method, target, departure, body, connection)
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

        departure = Departure(headers, leave)
        body = _pieces(request.body) if request.body else None
        response = await self._open(request.method, request.target, departure, body, request.connection)
        async with response:
            chunks: list[bytes] = []
            try:
                is_whole = await self._read(response, chunks)
            except LOST as error:
                reply = self._reply(response, chunks, decode_start, sent_at)
                raise UpstreamCut(f"the body did not come whole: {describe(error)}", reply) from error
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
        self,
        method: str,
        target: str,
        departure: Departure,
        body: AsyncIterator[bytes] | None,
        connection: object | None,
    ) -> aiohttp.ClientResponse:
        """The response, its status and headers there, its body yet to be read. Raises UpstreamFailure."""
        pin = connection if isinstance(connection, Pin) else None
        session = self._session if pin is None else pin.session
        assert session is not None, "used outside its context"
        try:
            if body is None:
                response = await self._ask(session, method, target, departure, None)
            else:
                async with asyncio.timeout(None) as progress:
                    body = self._taken_in_time(body, progress)
                    response = await self._ask(session, method, target, departure, body)
        except LOST as error:
            raise _failure(error, departure) from error
        if response.status == 101:
            response.close()
            raise UpstreamBroken("upstream switched to a protocol that nobody asked for")
        end_with_connection(response)
        if pin is not None:
            pin.in_login = response.status == 401 and logs_in_connection(departure.headers)
        return response

    def _ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        target: str,
        departure: Departure,
        body: AsyncIterator[bytes] | None,
    ) -> Awaitable[aiohttp.ClientResponse]:
        return session.request(
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


def _codings(response: aiohttp.ClientResponse) -> str:
    return ",".join(response.headers.getall("Content-Encoding", ()))


def _failure(error: Exception, departure: Departure) -> UpstreamFailure:
    """What an exception before the status means."""
    if not departure.left:
        return UpstreamUnreachable(f"no connection to upstream: {describe(error)}")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("no answer in time")
    return UpstreamBroken(f"no answer: {describe(error)}")
