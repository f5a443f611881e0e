"""HTTP servers that know their bytes: what arrived is kept as it came, answers are written as given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from multidict import CIMultiDict

from proxy.reconcile.ports import Request
from proxy.upstream.client import UpstreamClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PART = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 10\r\n\r\nhello"

Answer = Callable[["RawUpstream", asyncio.StreamWriter], Awaitable[None]]


class RawUpstream:
    """Keeps the bytes of every request, then does what `answer` does with the connection.

    `whole` counts the requests that came with their whole body; `arrived` is set with each of them.
    `closed` is set when a connection ends. `answers_early` is written as soon as a head is there, `go_on`
    is for answers that wait.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.whole = 0
        self.connections = 0
        self.begun = asyncio.Event()
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self.go_on = asyncio.Event()
        self.origin = ""
        self.answers_early: bytes | None = None
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await self._keep(reader.readuntil(b"\r\n\r\n"), begin=True)
                self.begun.set()
                if self.answers_early is not None:
                    writer.write(self.answers_early)
                fields = self.requests[-1].lower()
                if b"\r\ntransfer-encoding: chunked" in fields:
                    await self._read_chunks(reader)
                elif b"\r\ncontent-length: " in fields:
                    length = int(fields.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
                    while length:
                        length -= await self._keep(reader.read(length))
                self.whole += 1
                self.arrived.set()
                await self._answer(self, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, EOFError):
            pass
        finally:
            self.closed.set()
            writer.close()

    async def _read_chunks(self, reader: asyncio.StreamReader) -> None:
        while True:
            before = len(self.requests[-1])
            await self._keep(reader.readuntil(b"\r\n"))
            size = int(self.requests[-1][before:], 16)
            await self._keep(reader.readexactly(size + 2))
            if not size:
                return

    async def _keep(self, reading: Awaitable[bytes], *, begin: bool = False) -> int:
        piece = await reading
        if not piece:
            raise EOFError
        if begin:
            self.requests.append(b"")
        self.requests[-1] += piece
        return len(piece)


def says(reply: bytes) -> Answer:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    return answer


def says_and_closes(reply: bytes) -> Answer:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    return answer


async def waits(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
    await upstream.go_on.wait()
    writer.write(OK)


async def closed(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def listening(upstream: RawUpstream) -> AsyncIterator[RawUpstream]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.writers.append(writer)
        await upstream.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        upstream.go_on.set()
        server.close()
        await closed(*upstream.writers)


def client_of(origin: str, **settings: float) -> UpstreamClient:
    """A client with settings that no test has to wait for, unless it says so."""
    defaults = {"connections": 4, "connect_timeout_s": 20.0, "read_timeout_s": 20.0}
    given: Any = {"reply_limit_bytes": 1 << 20} | defaults | settings
    return UpstreamClient(origin, now=lambda: datetime.now(UTC), **given)


@asynccontextmanager
async def running(
    answer: Answer | RawUpstream, **settings: float
) -> AsyncIterator[tuple[RawUpstream, UpstreamClient]]:
    server = answer if isinstance(answer, RawUpstream) else RawUpstream(answer)
    async with (
        asyncio.timeout(60),
        listening(server) as upstream,
        client_of(upstream.origin, **settings) as client,
    ):
        yield upstream, client
        upstream.go_on.set()


def ask(
    method: str = "GET",
    target: str = "/x",
    headers: CIMultiDict[str] | None = None,
    body: bytes = b"",
) -> Request:
    return Request(method, target, CIMultiDict() if headers is None else headers, body)


async def client_has_settled() -> None:
    """Let everything run that needs no network: a request too many would have been written by then."""
    for _ in range(50):
        await asyncio.sleep(0)
