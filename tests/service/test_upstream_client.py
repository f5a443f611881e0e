"""The client of upstream: which bytes leave, how often, and what an answer becomes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict
from raw_http import (
    OK,
    RawUpstream,
    ask,
    client_has_settled,
    running,
    says,
    says_and_closes,
    waits,
)

from proxy.reconcile.ports import UpstreamBroken, UpstreamCut, UpstreamFailure, UpstreamTooLong
from proxy.upstream import client as client_module
from proxy.upstream.client import UpstreamClient

NO_BODY = b"HTTP/1.1 204 No Content\r\n\r\n"
METHODS = ["GET", "PUT", "DELETE", "POST", "MERGE", "OPTIONS", "PATCH"]


@pytest.mark.parametrize(
    "target",
    [
        "/Data.svc/AccountSet?",
        "/Data.svc/AccountSet",
        "/a//b/../c/./d",
        "/a?x=1&&y=%27%2C%zz+%20&",
        "/a?x=#not-a-fragment",
        "/a#b?c",
        "/AccountSet(guid'8F2C0000-0000-0000-0000-000000000000')?$filter=Name%20eq%20%27a''b%27",
        "/a?b?c",
        "/a:b@c;d=e,f(g)*!~[h]",
        "*",
        "/%e4%f6/%C3%A4",
        "/a?x=" + "y" * 20_000,
    ],
)
async def test_the_target_leaves_as_given(target: str) -> None:
    async with running(says(OK)) as (upstream, client):
        await client.send(ask(target=target))
    assert upstream.requests[0].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


async def test_headers_leave_as_given_and_none_is_added_but_host() -> None:
    headers = CIMultiDict(
        [("aCCept", "application/json"), ("X-Two", "1"), ("x-two", "2"), ("X-Two", "3"), ("Cookie", "a=b; c")]
    )
    async with running(says(OK)) as (upstream, client):
        await client.send(ask(headers=headers))
    host = upstream.origin.removeprefix("http://")
    assert upstream.requests[0].decode() == (
        f"GET /x HTTP/1.1\r\nHost: {host}\r\naCCept: application/json\r\n"
        "X-Two: 1\r\nx-two: 2\r\nX-Two: 3\r\nCookie: a=b; c\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", b"", b""),
        ("DELETE", b"", b""),
        ("OPTIONS", b"", b""),
        ("HEAD", b"", b""),
        ("POST", b"", b"Content-Length: 0\r\n"),
        ("MERGE", b"", b"Content-Length: 0\r\n"),
        ("PUT", b"", b"Content-Length: 0\r\n"),
        ("GET", b"body", b"Content-Length: 4\r\n"),
        ("DELETE", b"body", b"Content-Length: 4\r\n"),
        ("MERGE", b"\x00\xff" * 100_000, b"Content-Length: 200000\r\n"),
        ("BREW", b"pot", b"Content-Length: 3\r\n"),
    ],
)
async def test_a_body_is_framed_by_its_length(method: str, body: bytes, framing: bytes) -> None:
    stale = CIMultiDict({"Content-Length": "77"})
    async with running(says(NO_BODY)) as (upstream, client):
        await client.send(ask(method, headers=stale, body=body))
    head, _, sent = upstream.requests[0].partition(b"\r\n\r\n")
    assert sent == body
    assert head + b"\r\n" == (f"{method} /x HTTP/1.1\r\nHost: {upstream.origin[7:]}\r\n".encode() + framing)


async def test_header_bytes_that_are_no_utf8_survive_both_ways() -> None:
    reply = b"HTTP/1.1 200 Gr\xfc\xdfe\r\nContent-Length: 0\r\nX-Name: M\xfcller\r\nX-Utf: \xc3\xbc\r\n\r\n"
    headers = CIMultiDict({"X-Name": b"M\xfcller".decode("utf-8", "surrogateescape"), "X-Utf": "ü"})
    async with running(says(reply)) as (upstream, client):
        for body in (b"", b"abc"):
            got = await client.send(ask("POST", headers=headers, body=body))
            assert got.headers["X-Name"].encode("utf-8", "surrogateescape") == b"M\xfcller"
            assert got.headers["X-Utf"] == "ü"
            assert got.reason.encode("utf-8", "surrogateescape") == b"Gr\xfc\xdfe"
    for sent, body in zip(upstream.requests, (b"", b"abc"), strict=True):
        assert b"X-Name: M\xfcller\r\nX-Utf: \xc3\xbc\r\n" in sent
        assert sent.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b", "\udcfc\r\nX: y"])
async def test_a_control_character_in_a_header_never_leaves(value: str) -> None:
    async with running(says(OK)) as (upstream, client):
        with pytest.raises(ValueError, match="control character"):
            await client.send(ask(headers=CIMultiDict({"X-A": value})))
        await client.send(ask(target="/next"))
    assert [request.split()[1] for request in upstream.requests] == [b"/next"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("abrupt", [False, True])
async def test_a_request_leaves_once_when_a_kept_connection_drops(method: str, abrupt: bool) -> None:
    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        if len(upstream.requests) == 1:
            writer.write(OK)
        elif abrupt:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        else:
            writer.close()

    async with running(answer) as (upstream, client):
        await client.send(ask())
        with pytest.raises(UpstreamBroken):
            await client.send(ask(method, "/second", body=b"x" if method != "GET" else b""))
    assert [request.split()[1] for request in upstream.requests] == [b"/x", b"/second"]
    assert upstream.connections == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_streamed_request_leaves_once_too(method: str) -> None:
    async with running(says_and_closes(b"")) as (upstream, client):
        with pytest.raises(UpstreamBroken):
            async with await client.stream(method, "/x", CIMultiDict(), None):
                pass
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary", "401 Unauthorized", "503 Busy"])
async def test_no_status_is_acted_on(status: str) -> None:
    reply = f"HTTP/1.1 {status}\r\nLocation: /y\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".encode()
    async with running(says(reply)) as (upstream, client):
        got = await client.send(ask())
    assert (got.status, len(upstream.requests)) == (int(status[:3]), 1)


async def test_cookies_of_answers_are_not_kept() -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    async with running(says(reply)) as (upstream, client):
        first = await client.send(ask())
        await client.send(ask())
    assert first.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert b"ookie" not in upstream.requests[1]


def coded(body: bytes, coding: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_a_reply_holds_what_came() -> None:
    reply = (
        b"HTTP/1.1 201 Made it\r\ncontent-TYPE: Application/JSON;charset=utf-8\r\nX-A: 1\r\nx-a: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n"
    )
    before = datetime.now(UTC)
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + reply
    async with running(says(reply)) as (_, client):
        got = await client.send(ask())
    assert (got.status, got.reason, got.body, got.media_type) == (201, "Made it", b"abc", "application/json")
    assert list(got.headers.items())[:3] == [
        ("content-TYPE", "Application/JSON;charset=utf-8"),
        ("X-A", "1"),
        ("x-a", "2"),
    ]
    assert before <= got.sent_at <= got.received_at <= datetime.now(UTC)


async def test_a_reply_says_what_upstreams_clock_showed_at_least() -> None:
    dated = b"HTTP/1.1 204 No Content\r\nDate: Thu, 25 Aug 2016 12:00:00 GMT\r\n\r\n"
    async with running(says(dated)) as (_, client):
        got = await client.send(ask())
    assert got.upstream_sent_at == datetime(2016, 8, 25, 12, tzinfo=UTC) - (got.received_at - got.sent_at)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0), "x-gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (b"hello", "identity"),
        (zlib.compress(gzip.compress(b"hello", mtime=0)), "gzip, deflate"),
    ],
)
async def test_a_coded_body_is_decoded(body: bytes, coding: str) -> None:
    async with running(says(coded(body, coding))) as (_, client):
        got = await client.send(ask())
    assert got.body == b"hello"
    assert got.headers["Content-Encoding"] == coding


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"hello", "gzip"),
        (gzip.compress(b"hello", mtime=0)[:-4], "gzip"),
        (b"hello", "br"),
        (gzip.compress(b"\0" * 2_000_000, mtime=0), "gzip"),
    ],
    ids=["no gzip", "short gzip", "unknown coding", "bomb"],
)
async def test_a_body_that_cannot_be_decoded_is_left_as_it_came(body: bytes, coding: str) -> None:
    async with running(says(coded(body, coding))) as (upstream, client):
        got = await client.send(ask())
    assert (got.body, got.is_coded, got.headers["Content-Encoding"]) == (body, True, coding)
    assert len(upstream.requests) == 1


async def test_a_cut_body_that_cannot_be_decoded_is_left_as_it_came() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n"
    async with running(says_and_closes(head + b"hello")) as (_, client):
        with pytest.raises(UpstreamCut) as caught:
            await client.send(ask())
    assert (caught.value.reply.body, caught.value.reply.is_coded) == (b"hello", True)


@pytest.mark.parametrize(("method", "failure"), [("GET", UpstreamTooLong), ("POST", UpstreamCut)])
async def test_a_body_over_the_limit_is_not_held(method: str, failure: type[UpstreamFailure]) -> None:
    async with running(says(coded(b"\0" * 2_000_000, "identity"))) as (upstream, client):
        with pytest.raises(failure):
            await client.send(ask(method))
    assert len(upstream.requests) == 1


async def test_upstream_is_asked_for_codings_that_can_be_decoded() -> None:
    async with running(says(OK)) as (upstream, client):
        await client.send(ask(headers=CIMultiDict({"Accept-Encoding": "br, gzip;q=0.5"})))
        async with await client.stream("GET", "/x", CIMultiDict({"Accept-Encoding": "br"}), None):
            pass
    assert b"\r\nAccept-Encoding: gzip;q=0.5\r\n" in upstream.requests[0]
    assert b"\r\nAccept-Encoding: br\r\n" in upstream.requests[1]


async def test_no_more_requests_are_in_flight_than_connections() -> None:
    async with running(waits, connections=3) as (upstream, client):
        tasks = [asyncio.create_task(client.send(ask(target=f"/{n}"))) for n in range(10)]
        while len(upstream.requests) < 3:
            upstream.arrived.clear()
            await upstream.arrived.wait()
        await client_has_settled()
        assert len(upstream.requests) == 3
        upstream.go_on.set()
        assert [(await task).status for task in tasks] == [200] * 10
    assert (len(upstream.requests), upstream.connections) == (10, 3)


@pytest.mark.parametrize(
    "origin", ["", "h", "ftp://h", "http://h/a", "http://u:p@h", "http://h?x", "http://"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError):
        UpstreamClient(
            origin,
            connections=1,
            connect_timeout_s=1,
            read_timeout_s=1,
            reply_limit_bytes=1,
            now=lambda: datetime.now(UTC),
        )


async def test_upstreams_time_does_not_run_while_the_client_is_the_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[bool] = []
    move = client_module._move

    def moved(progress: asyncio.Timeout, to: float | None) -> None:
        runs.append(to is not None)
        move(progress, to)

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            assert not any(runs[-1:]), "nobody waits for upstream"
            yield piece
            assert runs[-1:] == [False]

    monkeypatch.setattr(client_module, "_move", moved)
    async with (
        running(says(OK)) as (_, client),
        await client.stream("POST", "/x", CIMultiDict(), body()) as reply,
    ):
        assert await reply.read() == b"ok"
    assert runs == [True, False, True, False, True, False, True]
