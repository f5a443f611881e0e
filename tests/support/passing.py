"""A proxy that passes everything through, between a raw client and a raw upstream."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from raw_http import Answer, RawUpstream, client_of, closed, listening, says

from proxy.passthrough import drop_added_headers, pass_through, server_options
from proxy.reconcile.ports import UpstreamFailure
from proxy.upstream.calls import UpstreamCall, upstream_calls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Passing:
    """A proxy that passes everything through, its upstream, and what became of each request."""

    upstream: RawUpstream
    port: int
    failures: list[Exception] = field(default_factory=list)
    calls: list[UpstreamCall] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            await closed(writer)

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer, as they came."""
        async with self.client() as client:
            client.writer.write(request)
            return await client.answer(request.split(b" ")[0])


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, method: bytes = b"GET") -> tuple[bytes, bytes]:
        head = await self.head()
        fields = head.lower()
        if method == b"HEAD" or re.match(rb"HTTP/1.1 (1..|204|304) ", head):
            return head, b""
        if b"\r\ntransfer-encoding: chunked" in fields:
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await self.reader.readuntil(b"\r\n")
                if body.endswith(b"\r\n0\r\n") or body == b"0\r\n":
                    body += await self.reader.readexactly(2)
            return head, body
        if length := re.search(rb"\r\ncontent-length: (\d+)", fields):
            return head, await self.reader.readexactly(int(length[1]))
        return head, await self.reader.read()


@asynccontextmanager
async def passing(
    answer: Answer | RawUpstream | None,
    *,
    body_limit: int | None = None,
    client_origin: str = "http://p:8010",
    **settings: float,
) -> AsyncIterator[Passing]:
    """`answer`: what upstream does, or who it is; None where nobody listens there."""
    upstream = answer if isinstance(answer, RawUpstream) else RawUpstream(answer or says(OK))
    async with asyncio.timeout(60), listening(upstream):
        if answer is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                upstream.origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with client_of(upstream.origin, **settings) as client:
            state = Passing(upstream, 0)

            @web.middleware
            async def everything(request: web.Request, handler: object) -> web.StreamResponse:
                upstream_calls.set(state.calls)
                try:
                    return await pass_through(
                        request, client, client_origin=client_origin, body_limit=body_limit
                    )
                except UpstreamFailure as failure:
                    state.failures.append(failure)
                    return web.Response(status=502, text="own")
                except web.HTTPException as failure:
                    state.failures.append(failure)
                    failure.force_close()
                    raise
                finally:
                    state.answered.set()

            app = web.Application(middlewares=[everything])
            app.on_response_prepare.append(drop_added_headers)
            runner = web.AppRunner(app, shutdown_timeout=1, **server_options())
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            state.port = runner.addresses[0][1]
            yield state
            upstream.go_on.set()
            await runner.cleanup()
