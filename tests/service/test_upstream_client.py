"""The client of upstream against real sockets: which bytes leave, how often, and what an answer becomes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict
from raw_http import Answer, RawUpstream, client_of, listening, says, says_and_closes

from proxy.reconcile.ports import (
    Request,
    UpstreamBroken,
    UpstreamCut,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.upstream.calls import UpstreamCall, upstream_calls
from proxy.upstream.client import UpstreamClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO_BODY = b"HTTP/1.1 204 No Content\r\n\r\n"
METHODS = ["GET", "PUT", "DELETE", "POST", "MERGE", "OPTIONS", "PATCH"]


async def waits(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
    await upstream.go_on.wait()
    writer.write(OK)


@asynccontextmanager
async def running(answer: Answer, **settings: float) -> AsyncIterator[tuple[RawUpstream, UpstreamClient]]:
    async with listening(RawUpstream(answer)) as upstream, client_of(upstream.origin, **settings) as client:
        yield upstream, client
        upstream.go_on.set()


def ask(
    method: str = "GET",
    target: str = "/x",
    headers: CIMultiDict[str] | None = None,
    body: bytes = b"",
) -> Request:
    return Request(method, target, CIMultiDict() if headers is None else headers, body)


# -- the bytes of a request ------------------------------------------------------------------------------


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


# -- exactly once ----------------------------------------------------------------------------------------


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
            async with client.stream(method, "/x", CIMultiDict(), None):
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


# -- what an answer becomes ------------------------------------------------------------------------------


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
        (gzip.compress(b"hello"), "gzip"),
        (gzip.compress(b"hel") + gzip.compress(b"lo"), "x-gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (b"hello", "identity"),
        (zlib.compress(gzip.compress(b"hello")), "gzip, deflate"),
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
        (gzip.compress(b"hello")[:-4], "gzip"),
        (b"hello", "br"),
        (gzip.compress(b"\0" * 2_000_000), "gzip"),
        (b"\0" * 2_000_000, "identity"),
    ],
    ids=["no gzip", "short gzip", "unknown coding", "bomb", "too long"],
)
async def test_a_body_that_cannot_be_used_is_broken(body: bytes, coding: str) -> None:
    async with running(says(coded(body, coding))) as (upstream, client):
        with pytest.raises(UpstreamBroken):
            await client.send(ask())
    assert len(upstream.requests) == 1


# -- failures --------------------------------------------------------------------------------------------

PART = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 10\r\n\r\nhello"
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
        client.stream("GET", "/x", CIMultiDict(), None) as reply,
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
        client.stream("GET", "/held", CIMultiDict(), None),
    ):
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send(ask(), joinable=joinable)
        assert not caught.value.sent
    assert upstream.requests[0].startswith(b"GET /held ")
    assert len(upstream.requests) == 1


async def test_an_upstream_that_stops_taking_the_body() -> None:
    async def reads_the_head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.close()

    done = asyncio.Event()
    server = await asyncio.start_server(reads_the_head_only, "127.0.0.1", 0, limit=1024)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with client_of(origin, read_timeout_s=0.3) as client:
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(client.send(ask("POST", body=b"x" * 32_000_000)), 10)
    done.set()
    server.close()


# -- connections -----------------------------------------------------------------------------------------


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


async def client_has_settled() -> None:
    """Let everything run that needs no network: a request too many would have been written by then."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("authorization", "connections"), [("Basic eA==", 1), ("NTLM TlRM", 3), ("negotiate YII", 3), (None, 1)]
)
async def test_a_connection_that_was_logged_in_is_not_used_again(
    authorization: str | None, connections: int
) -> None:
    headers = CIMultiDict({"Authorization": authorization} if authorization else {})
    async with running(says(OK)) as (upstream, client):
        await client.send(ask(headers=headers))
        async with client.stream("GET", "/x", headers, None) as reply:
            while await reply.read():
                pass
        await client.send(ask())
    assert upstream.connections == connections


# -- shared checks ---------------------------------------------------------------------------------------


@asynccontextmanager
async def one_busy_connection() -> AsyncIterator[tuple[RawUpstream, UpstreamClient, asyncio.Task[object]]]:
    """The only connection waits for an answer, so that what is sent now has to wait."""
    async with running(waits, connections=1) as (upstream, client):
        busy = asyncio.create_task(client.send(ask(target="/busy")))
        await upstream.arrived.wait()
        upstream.arrived.clear()
        yield upstream, client, busy
        await busy


def paths(upstream: RawUpstream) -> list[str]:
    return [request.split()[1].decode() for request in upstream.requests]


async def test_equal_checks_that_wait_share_one_exchange() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(5)]
        await client_has_settled()
        upstream.go_on.set()
        replies = [await check for check in checks]
    assert paths(upstream) == ["/busy", "/x"]
    assert all(reply is replies[0] for reply in replies)


async def test_a_check_whose_bytes_have_left_takes_no_joiners() -> None:
    async with running(waits) as (upstream, client):
        first = asyncio.create_task(client.send(ask(), joinable=True))
        await upstream.arrived.wait()
        second = asyncio.create_task(client.send(ask(), joinable=True))
        await client_has_settled()
        upstream.go_on.set()
        assert await first is not await second
    assert paths(upstream) == ["/x", "/x"]


OTHERS = {
    "another target": ask(target="/x?"),
    "another method": ask("OPTIONS"),
    "another credential": ask(headers=CIMultiDict({"Authorization": "Basic b"})),
    "another cookie": ask(headers=CIMultiDict({"Cookie": "b"})),
    "a header more": ask(headers=CIMultiDict([("Authorization", "Basic a"), ("X", "")])),
    "a body": ask(headers=CIMultiDict({"Authorization": "Basic a"}), body=b"b"),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_only_equal_checks_share(other: str) -> None:
    async with one_busy_connection() as (upstream, client, _):
        mine = ask(headers=CIMultiDict({"Authorization": "Basic a"}))
        requests = (mine, OTHERS[other], mine)
        checks = [asyncio.create_task(client.send(request, joinable=True)) for request in requests]
        await client_has_settled()
        upstream.go_on.set()
        for check in checks:
            await check
    assert len(upstream.requests) == 3  # the busy one, mine once, the other


async def test_what_is_not_joinable_shares_nothing() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=flag)) for flag in (True, False)]
        await client_has_settled()
        upstream.go_on.set()
        for check in checks:
            await check
    assert paths(upstream) == ["/busy", "/x", "/x"]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_that_is_cancelled_leaves_the_exchange_to_the_others(leaver: int) -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(2)]
        await client_has_settled()
        checks[leaver].cancel()
        with pytest.raises(asyncio.CancelledError):
            await checks[leaver]
        upstream.go_on.set()
        assert (await checks[1 - leaver]).body == b"ok"
    assert paths(upstream) == ["/busy", "/x"]


async def test_the_last_one_that_leaves_ends_the_exchange() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(2)]
        await client_has_settled()
        for check in checks:
            check.cancel()
        await asyncio.wait(checks)
        upstream.go_on.set()
        assert (await client.send(ask(target="/after"), joinable=True)).body == b"ok"
    assert paths(upstream) == ["/busy", "/after"]


async def test_a_failure_reaches_everybody_and_the_next_check_is_new() -> None:
    answers = [PART, OK]

    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        await upstream.go_on.wait()
        writer.write(answers.pop(0) if upstream.requests[-1].startswith(b"GET /x") else OK)
        if not answers[1:]:
            writer.close()

    async with running(answer, connections=1) as (upstream, client):
        busy = asyncio.create_task(client.send(ask(target="/busy")))
        await upstream.arrived.wait()
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(3)]
        await client_has_settled()
        upstream.go_on.set()
        outcomes = await asyncio.gather(busy, *checks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[1:]] == [UpstreamCut] * 3
        assert (await client.send(ask(), joinable=True)).body == b"ok"
    assert paths(upstream) == ["/busy", "/x", "/x"]


# -- what the log line shows -----------------------------------------------------------------------------


def brief(calls: list[UpstreamCall]) -> list[tuple[object, ...]]:
    return [(c.method, c.path, c.status, c.error, c.bytes, c.shared) for c in calls]


async def test_calls_are_recorded_without_queries() -> None:
    calls: list[UpstreamCall] = []
    upstream_calls.set(calls)
    async with running(says(OK)) as (_, client):
        await client.send(ask(target="/x?$filter=Name eq 'Ada'"))
        async with client.stream("MERGE", "/y?z", CIMultiDict(), None) as reply:
            while await reply.read():
                pass
    async with running(says_and_closes(PART)) as (_, client):
        with pytest.raises(UpstreamFailure):
            await client.send(ask())
        with pytest.raises(UpstreamFailure):
            async with client.stream("GET", "/x", CIMultiDict(), None) as reply:
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


async def test_a_shared_check_is_recorded_where_it_was_asked() -> None:
    async def one(calls: list[UpstreamCall]) -> None:
        upstream_calls.set(calls)
        await client.send(ask(), joinable=True)

    async with one_busy_connection() as (upstream, client, _):
        lists: list[list[UpstreamCall]] = [[], []]
        tasks = [asyncio.create_task(one(calls)) for calls in lists]
        await client_has_settled()
        upstream.go_on.set()
        await asyncio.gather(*tasks)
    assert [brief(calls) for calls in lists] == [
        [("GET", "/x", 200, None, 2, False)],
        [("GET", "/x", 200, None, 2, True)],
    ]


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
