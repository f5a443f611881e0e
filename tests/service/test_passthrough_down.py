"""Answers that are passed through, byte by byte, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket

import pytest
from passing import OK, passing
from raw_http import Answer, RawUpstream, says, says_and_closes

from proxy.reconcile.ports import UpstreamBroken, UpstreamFailure, UpstreamTimeout, UpstreamUnreachable

CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        OK,
        b"HTTP/1.1 200 Fine thanks\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nX-b: 1\r\nx-B: 2\r\nX-b:\r\nServer: IIS\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; path=/\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Bad\r\nContent-Type: text/html\r\nDate: now\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: A\r\nWWW-Authenticate: B\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 299 Odd\r\nContent-Length: 3\r\n\r\n\0\xff\n",
        b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 M\xfcller\r\nX-Name: M\xfcller \xc3\xbc\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n',
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere?\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_an_answer_is_passed_as_it_came(reply: bytes) -> None:
    async with passing(says(reply)) as place:
        for _ in range(2):
            head, body = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
            assert head + body == reply.replace(b"X-b:\r\n", b"X-b: \r\n")
    assert place.upstream.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: text/plain\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n",
    ],
)
async def test_an_answer_to_head_is_passed_without_waiting_for_a_body(reply: bytes) -> None:
    async with passing(says(reply)) as place, place.client() as client:
        for _ in range(2):
            client.writer.write(b"HEAD /a HTTP/1.1\r\nHost: p\r\n\r\n")
            assert await client.answer(b"HEAD") == (reply, b"")
    assert len(place.upstream.requests) == 2


async def test_hop_by_hop_fields_of_an_answer_stay_behind() -> None:
    reply = OK.replace(
        b"\r\n\r\n", b"\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-A: 1\r\n\r\n"
    )
    async with passing(says(reply)) as place:
        head, _ = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\r\n"


async def test_a_chunked_answer_is_passed_in_chunks_without_trailers() -> None:
    reply = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
        b"2\r\nok\r\n1;e=1\r\n!\r\n0\r\nX: 1\r\n\r\n"
    )
    async with passing(says(reply)) as place:
        head, body = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert re.sub(rb"[0-9]\r\n|\r\n", b"", body) == b"ok!"


async def test_an_answer_that_ends_with_its_connection_is_passed_in_chunks() -> None:
    async with passing(says_and_closes(b"HTTP/1.1 200 OK\r\n\r\nhello")) as place:
        head, body = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert re.sub(rb"[0-9]\r\n|\r\n", b"", body) == b"hello"


@pytest.mark.parametrize("reply", [OK, CHUNKED_OK])
async def test_an_old_client_gets_no_chunks(reply: bytes) -> None:
    async with passing(says(reply)) as place:
        head, body = await place.ask(b"GET /a HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"ransfer" not in head
    assert body == b"ok"


async def test_a_compressed_answer_stays_compressed() -> None:
    body = gzip.compress(b"hello" * 1000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with passing(says(reply)) as place:
        head, got = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\nAccept-Encoding: gzip\r\n\r\n")
    assert head + got == reply


async def test_the_head_does_not_wait_for_a_slow_body() -> None:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-2])
        await upstream.go_on.wait()
        writer.write(b"ok")

    async with passing(answer) as place, place.client() as client:
        client.writer.write(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
        assert await client.head() == OK[:-2]
        place.upstream.go_on.set()
        assert await client.reader.readexactly(2) == b"ok"


async def test_urls_and_cookies_of_upstream_become_the_proxys() -> None:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        origin = upstream.origin.encode()
        writer.write(
            b"HTTP/1.1 201 Created\r\nLocation: " + origin + b"/Org/Data.svc/X(1)?a=%27\r\n"
            b"Set-Cookie: a=1; domain=127.0.0.1; path=/\r\nX-Other: "
            + origin
            + b"\r\nContent-Length: 0\r\n\r\n"
        )

    async with passing(answer, client_origin="https://sync.example.org") as place:
        head, _ = await place.ask(b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 0\r\n\r\n")
    assert head == (
        b"HTTP/1.1 201 Created\r\nLocation: https://sync.example.org/Org/Data.svc/X(1)?a=%27\r\n"
        b"Set-Cookie: a=1; path=/\r\nX-Other: "
        + place.upstream.origin.encode()
        + b"\r\nContent-Length: 0\r\n\r\n"
    )


async def test_answers_of_our_own_do_not_name_the_server_software() -> None:
    async with passing(None) as place:
        head, body = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
    assert body == b"own"
    assert b"\r\nServer:" not in head
    assert b"\r\nDate:" in head
    assert b"\r\nContent-Type: text/plain" in head


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (None, UpstreamUnreachable),
        (says_and_closes(b""), UpstreamBroken),
        (says_and_closes(b"SSH-2.0\r\n"), UpstreamBroken),
        (says(b"HTTP/1.1 200 OK\r\nContent"), UpstreamTimeout),
    ],
    ids=["nobody", "no answer", "no HTTP", "half a head"],
)
async def test_no_answer_of_upstream_is_a_failure(
    answer: Answer | None, failure: type[UpstreamFailure], method: bytes
) -> None:
    async with passing(answer, read_timeout_s=0.3) as place:
        head, _ = await place.ask(method + b" /a HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\nhi")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert [type(one) for one in place.failures] == [failure]
    assert len(place.upstream.requests) <= 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
)
@pytest.mark.parametrize("how", ["closed", "reset", "silent"])
async def test_a_body_cut_on_its_way_down_is_never_whole_at_the_client(
    version: bytes, framing: bytes, how: str
) -> None:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await upstream.go_on.wait()
        if how == "closed":
            writer.close()
        elif how == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        else:
            await asyncio.Event().wait()

    async with (
        passing(answer, read_timeout_s=20 if how != "silent" else 0.3) as place,
        place.client() as client,
    ):
        client.writer.write(b"GET /a HTTP/" + version + b"\r\nHost: p\r\n\r\n")
        head = await client.head()
        assert head.startswith(b"HTTP/" + version + b" 200 OK\r\n")
        got = await client.reader.readuntil(b"hello")
        place.upstream.go_on.set()
        if version == b"1.0" and b"Content-Length" not in head:
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
        else:
            got += await client.reader.read()
            assert b"0\r\n\r\n" not in got
            assert len(got) < 20
        await place.answered.wait()
    assert place.failures == []
    assert [(call.status, call.bytes) for call in place.calls] == [(200, 5)]
    assert place.calls[0].error in ("UpstreamBroken", "UpstreamTimeout")


async def test_a_client_that_leaves_ends_the_download() -> None:
    sent = 0

    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with passing(answer) as place:
        async with place.client() as client:
            client.writer.write(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
            await client.head()
            await client.reader.readexactly(100_000)
        await asyncio.wait_for(place.upstream.closed.wait(), 20)
        await place.answered.wait()
    assert place.failures == []
    assert sent < 100_000_000


async def test_a_client_that_leaves_while_upstream_works_does_not_end_its_request() -> None:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        await upstream.go_on.wait()
        writer.write(OK)

    async with passing(answer) as place:
        async with place.client() as client:
            client.writer.write(b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\nhi")
            await place.upstream.arrived.wait()
        place.upstream.go_on.set()
        await place.answered.wait()
    assert [(call.status, call.error) for call in place.calls] == [(200, None)]


async def test_an_answer_before_the_whole_body_is_passed_at_once() -> None:
    async with passing(says(OK)) as place, place.client() as client:
        place.upstream.answers_early = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"
        client.writer.write(b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000\r\n\r\nhello")
        assert await client.answer() == (b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n", b"no")
    assert place.upstream.whole == 0
    assert place.failures == []
