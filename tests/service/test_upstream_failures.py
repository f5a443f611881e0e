"""What the client of upstream makes of answers that fail, and what is recorded of them."""

from __future__ import annotations

import asyncio
import gzip
import socket

import pytest
from multidict import CIMultiDict
from raw_http import (
    OK,
    PART,
    RawUpstream,
    ask,
    client_of,
    running,
    says,
    says_and_closes,
    waits,
)

from proxy.reconcile.ports import (
    UpstreamBroken,
    UpstreamCut,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.upstream.calls import UpstreamCall, upstream_calls

CHUNKED = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
ZIPPED = gzip.compress(b"hello" + bytes(range(256)) * 20, 0)[:40]
ZIPPED_PART = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Encoding: gzip\r\nContent-Length: 900\r\n\r\n" + ZIPPED


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{free.getsockname()[1]}") as client:
            with pytest.raises(UpstreamUnreachable) as caught:
                await client.send(ask(target="/x?secret"))
    assert not caught.value.sent
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [b"", b"SSH-2.0-hello\r\n", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\0\1\2\3"],
    ids=["nothing", "no HTTP", "half a head", "bad length", "binary"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_that_is_no_http_is_broken(reply: bytes, method: str) -> None:
    async with running(says_and_closes(reply)) as (upstream, client):
        with pytest.raises(UpstreamBroken) as caught:
            await client.send(ask(method, "/x?secret"))
    assert caught.value.sent
    assert "secret" not in str(caught.value)
    assert len(upstream.requests) == 1


async def test_a_protocol_nobody_asked_for_is_broken() -> None:
    reply = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsomething"
    async with running(says(reply)) as (_, client):
        with pytest.raises(UpstreamBroken):
            await client.send(ask())


@pytest.mark.parametrize("reply", [PART, CHUNKED, ZIPPED_PART])
async def test_a_cut_body_keeps_its_status_and_what_came(reply: bytes) -> None:
    async with running(says_and_closes(reply)) as (_, client):
        with pytest.raises(UpstreamCut) as caught:
            await client.send(ask("POST"))
    got = caught.value.reply
    assert (got.status, got.headers["X-A"]) == (200, "1")
    assert got.body[:5] in (b"hello", b"")


async def test_a_body_that_stops_coming_is_cut() -> None:
    async with running(says(PART), read_timeout_s=0.2) as (_, client):
        with pytest.raises(UpstreamCut) as caught:
            await client.send(ask())
    assert caught.value.reply.body == b"hello"


async def test_a_chunk_that_is_none_ends_the_wait_at_once() -> None:
    """The connection stays open, so nothing but the bad chunk tells that no more can come."""

    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await upstream.go_on.wait()
        writer.write(b"zz\r\nwrong")

    async with (
        running(answer) as (upstream, client),
        await client.stream("GET", "/x", CIMultiDict(), None) as reply,
    ):
        assert await reply.read() == b"hello"
        upstream.go_on.set()
        with pytest.raises(UpstreamBroken):
            await asyncio.wait_for(reply.read(), 10)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_answer_in_time(method: str) -> None:
    async with running(waits, read_timeout_s=0.2) as (_, client):
        with pytest.raises(UpstreamTimeout) as caught:
            await client.send(ask(method))
    assert caught.value.sent


@pytest.mark.parametrize("joinable", [False, True])
async def test_a_connection_that_never_becomes_free(joinable: bool) -> None:
    async with (
        running(says(PART), connections=1, connect_timeout_s=0.1, read_timeout_s=0.2) as (upstream, client),
        await client.stream("GET", "/held", CIMultiDict(), None),
    ):
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send(ask(), joinable=joinable)
        assert not caught.value.sent
    assert upstream.requests[0].startswith(b"GET /held ")
    assert len(upstream.requests) == 1


class Stalled(RawUpstream):
    """Reads the head of a request, and no more than that."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await self.go_on.wait()


async def test_an_upstream_that_stops_taking_the_body() -> None:
    async with running(Stalled(says(OK)), read_timeout_s=0.3) as (_, client):
        with pytest.raises(UpstreamTimeout):
            await client.send(ask("POST", body=b"x" * 32_000_000))


def brief(calls: list[UpstreamCall]) -> list[tuple[object, ...]]:
    return [(c.method, c.path, c.status, c.error, c.bytes, c.shared) for c in calls]


async def test_calls_are_recorded_without_queries() -> None:
    calls: list[UpstreamCall] = []
    upstream_calls.set(calls)
    async with running(says(OK)) as (_, client):
        await client.send(ask(target="/x?$filter=Name eq 'Ada'"))
        async with await client.stream("MERGE", "/y?z", CIMultiDict(), None) as reply:
            while await reply.read():
                pass
    async with running(says_and_closes(PART)) as (_, client):
        with pytest.raises(UpstreamFailure):
            await client.send(ask())
        with pytest.raises(UpstreamFailure):
            async with await client.stream("GET", "/x", CIMultiDict(), None) as reply:
                while await reply.read():
                    pass
    async with running(says_and_closes(b"")) as (_, client):
        with pytest.raises(UpstreamFailure):
            await client.send(ask())
    assert brief(calls) == [
        ("GET", "/x", 200, None, 2, False),
        ("MERGE", "/y", 200, None, 2, False),
        ("GET", "/x", 200, "UpstreamCut", 5, False),
        ("GET", "/x", 200, "UpstreamBroken", 5, False),
        ("GET", "/x", None, "UpstreamBroken", 0, False),
    ]
    assert all(0 < call.elapsed_ms < 10_000 for call in calls)
