"""Requests that are passed through, byte by byte: what came in at the proxy against what upstream got."""

from __future__ import annotations

import gzip
import re
import socket

import pytest
from aiohttp import web
from passing import OK, Client, Passing, passing
from raw_http import says

from proxy import uploads

METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "MERGE", "OPTIONS", "TRACE", "PROPFIND", "SEARCH"]
METHODS += ["LOCK", "COPY", "MOVE", "MKCOL", "REPORT", "QUERY", "M-SEARCH"]


def host_of(place: Passing) -> bytes:
    return place.upstream.origin.removeprefix("http://").encode()


@pytest.mark.parametrize(
    "target",
    [
        b"/Org/XRMServices/2011/Organization.svc",
        b"/a?",
        b"/a?b=%27%2C+%20%zz&&c=(d,'e')&",
        b"//a//../b;c/%2F",
        b"/a?x=1?y=2",
        b"/Data.svc/AccountSet(guid'8f2c0000-0000-0000-0000-000000000000')",
        b"/a#b",
        b"/a?b#c?d",
        b"/" + b"x" * 60_000,
    ],
)
async def test_the_target_is_passed_as_it_came(target: bytes) -> None:
    async with passing(says(OK)) as place:
        await place.ask(b"GET " + target + b" HTTP/1.1\r\nHost: p\r\n\r\n")
    assert place.upstream.requests == [
        b"GET " + target + b" HTTP/1.1\r\nHost: " + host_of(place) + b"\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        (b"GET http://p:8010/a?b HTTP/1.1", b"GET /a?b HTTP/1.1"),
        (b"GET HTTP://elsewhere//a/?b? HTTP/1.1", b"GET //a/?b? HTTP/1.1"),
        (b"GET http://p:8010 HTTP/1.1", b"GET / HTTP/1.1"),
        (b"GET http://p:8010?a HTTP/1.1", b"GET /?a HTTP/1.1"),
        (b"OPTIONS http://p:8010 HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    ],
)
async def test_other_forms_of_the_target(line: bytes, passed: bytes) -> None:
    async with passing(says(OK)) as place:
        await place.ask(line + b"\r\nHost: p\r\n\r\n")
    assert place.upstream.requests[0].split(b"\r\n")[0] == passed


@pytest.mark.parametrize("method", METHODS)
async def test_methods_are_passed(method: str) -> None:
    async with passing(says(OK)) as place:
        head, body = await place.ask(f"{method} /a HTTP/1.1\r\nHost: p\r\n\r\n".encode())
    assert place.upstream.requests[0].startswith(f"{method} /a HTTP/1.1\r\n".encode())
    assert b"Content-Length" not in place.upstream.requests[0]
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"ok")


@pytest.mark.parametrize(
    "line",
    [
        b"BREW /a HTTP/1.1",
        b"merge /a HTTP/1.1",
        b"get /a HTTP/1.1",
        b"GET /a b HTTP/1.1",
        "GET /a?b=é HTTP/1.1".encode(),
        b"GET /a?b=\xe9 HTTP/1.1",
        b"GET a HTTP/1.1",
        b"POST * HTTP/1.1",
        b"GET /a\x01 HTTP/1.1",
    ],
    ids=[
        "unknown",
        "lower case",
        "lower-case get",
        "blank",
        "utf-8",
        "latin-1",
        "no slash",
        "star",
        "control",
    ],
)
async def test_what_the_parser_of_the_server_cannot_take(line: bytes) -> None:
    """Listed in the docs: these get 400 from the server itself, and upstream never hears of them."""
    async with passing(says(OK)) as place:
        head, _ = await place.ask(line + b"\r\nHost: p\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert place.upstream.connections == 0


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /a HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nX Y: 1\r\n\r\n", id="blank in a name"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nX : 1\r\n\r\n", id="blank after a name"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nX: a\0b\r\n\r\n", id="NUL in a value"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nX: a\r\n b\r\n\r\n", id="folded field"),
        pytest.param(b"GET /a HTTP/1.1\nHost: p\n\n", id="bare line feeds"),
        pytest.param(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: p\r\n\r\n", id="long target"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", id="long field"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\n" + b"X: 1\r\n" * 600 + b"\r\n", id="many fields"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhi\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(
            b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
            id="two lengths",
        ),
        pytest.param(b"POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: x\r\n\r\nhi", id="no number"),
        pytest.param(b"POST /a HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: gzip\r\n\r\nhi", id="other coding"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    ],
)
async def test_what_is_no_request_to_the_server(request_: bytes) -> None:
    """Listed in the docs, too."""
    async with passing(says(OK)) as place:
        head, _ = await place.ask(request_)
    assert head.startswith(b"HTTP/1.0 400 ")
    assert place.upstream.connections == 0


async def test_an_expectation_that_nobody_knows_is_refused() -> None:
    async with passing(says(OK)) as place:
        head, _ = await place.ask(
            b"POST /a HTTP/1.1\r\nHost: p\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\nhi"
        )
    assert head.startswith(b"HTTP/1.1 417 ")
    assert place.upstream.connections == 0


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_an_upgrade_is_not_asked_for(protocol: bytes) -> None:
    fields = b"Connection: Upgrade, X\r\nUpgrade: " + protocol + b"\r\nX: 1\r\n"
    async with passing(says(OK)) as place:
        head, body = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n" + fields + b"Y: 1\r\n\r\n")
    assert head + body == OK
    assert place.upstream.requests == [b"GET /a HTTP/1.1\r\nHost: " + host_of(place) + b"\r\nY: 1\r\n\r\n"]


async def test_a_tunnel_is_refused() -> None:
    async with passing(says(OK)) as place:
        head, _ = await place.ask(b"CONNECT crm:443 HTTP/1.1\r\nHost: crm:443\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 501 ")
    assert place.upstream.connections == 0


async def test_end_to_end_headers_are_passed_as_they_came() -> None:
    fields = (
        b"x-B: 1\r\nACCEPT: text/html;q=0.5,*/*\r\nX-b: 2\r\nx-B:\r\nCookie: a=b; c=d\r\ncookie: e\r\n"
        b"Authorization: Basic xyz==\r\nX-Name: M\xfcller\r\nX-Utf: \xc3\xbc\r\nAccept-Encoding: br, gzip\r\n"
    )
    hop = (
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: x\r\nUpgrade: h2c\r\n"
    )
    async with passing(says(OK)) as place:
        await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n" + hop + fields + b"\r\n")
    expected = fields.replace(b"x-B:\r\n", b"x-B: \r\n")
    assert place.upstream.requests == [
        b"GET /a HTTP/1.1\r\nHost: " + host_of(place) + b"\r\n" + expected + b"\r\n"
    ]


@pytest.mark.parametrize("method", [b"POST", b"GET", b"DELETE", b"MERGE"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_a_body_with_a_length_is_passed_with_it(method: bytes, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    fields = b'Content-Type: text/xml\r\ncontent-length: %d\r\nSOAPAction: "x"\r\n\r\n' % size
    async with passing(says(OK)) as place:
        await place.ask(method + b" /a HTTP/1.1\r\nHost: p\r\n" + fields + body)
    head = method + b" /a HTTP/1.1\r\nHost: " + host_of(place) + b"\r\n"
    assert place.upstream.requests == [head + fields + body]


@pytest.mark.parametrize("body", [b"", b"5\r\nhello\r\n1;ext=1\r\n!\r\n"])
async def test_a_chunked_body_is_passed_in_chunks_without_trailers(body: bytes) -> None:
    request = b"POST /a HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
    async with passing(says(OK)) as place:
        await place.ask(request + body + b"0\r\nX: trailer\r\n\r\n")
    head, _, sent = place.upstream.requests[0].partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nTransfer-Encoding: chunked")
    assert b"railer" not in head
    assert re.sub(rb"[0-9a-f]+\r\n|\r\n", b"", sent) == (b"hello!" if body else b"")
    assert sent.endswith(b"0\r\n\r\n")


async def test_a_compressed_body_stays_compressed() -> None:
    body = gzip.compress(b"hello" * 100)
    fields = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with passing(says(OK)) as place:
        await place.ask(b"POST /a HTTP/1.1\r\nHost: p\r\n" + fields + body)
    assert place.upstream.requests[0].endswith(b"\r\n" + fields + body)


async def test_a_client_that_waits_for_100_is_told_to_go_on_and_upstream_is_not_asked() -> None:
    async with passing(says(OK)) as place, place.client() as client:
        client.writer.write(
            b"POST /a HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(b"hello")
        assert await client.answer() == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")
    assert b"xpect" not in place.upstream.requests[0]
    assert place.upstream.requests[0].endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
)
@pytest.mark.parametrize("abrupt", [False, True])
async def test_a_body_cut_on_its_way_up_is_never_whole_at_upstream(framing: bytes, abrupt: bool) -> None:
    async with passing(says(OK)) as place:
        async with place.client() as client:
            client.writer.write(b"POST /a HTTP/1.1\r\nHost: p\r\n" + framing)
            await place.upstream.begun.wait()
            if abrupt:
                reset(client)
        await place.upstream.closed.wait()
        await place.answered.wait()
    assert place.upstream.whole == 0
    assert not place.upstream.requests[0].endswith(b"0\r\n\r\n")
    assert [type(failure) for failure in place.failures] == [web.HTTPBadRequest]


def reset(client: Client) -> None:
    connection = client.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.writer.transport.abort()


@pytest.mark.parametrize("rest", [b"zz\r\n", b""], ids=["no chunk", "nothing"])
async def test_a_client_that_does_not_go_on_with_its_body(
    rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CLIENT_PATIENCE_S", 0.2)
    async with passing(says(OK)) as place, place.client() as client:
        client.writer.write(
            b"POST /a HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        await place.upstream.begun.wait()
        client.writer.write(rest)
        head, _ = await client.answer()
        assert head.startswith(b"HTTP/1.1 408 ")
        await place.upstream.closed.wait()
    assert place.upstream.whole == 0


@pytest.mark.parametrize(
    "request_",
    [b"Content-Length: 11\r\n\r\nhello world", b"Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n"],
)
async def test_a_body_over_the_limit_is_refused(request_: bytes) -> None:
    async with passing(says(OK), body_limit=10) as place:
        head, _ = await place.ask(b"POST /a HTTP/1.1\r\nHost: p\r\n" + request_)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert place.upstream.whole == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"Content-Length: 10\r\n\r\nhelloworld",
        b"Transfer-Encoding: chunked\r\n\r\na\r\nhelloworld\r\n0\r\n\r\n",
    ],
)
async def test_a_body_of_the_limit_is_passed(request_: bytes) -> None:
    async with passing(says(OK), body_limit=10) as place:
        head, _ = await place.ask(b"POST /a HTTP/1.1\r\nHost: p\r\n" + request_)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert place.upstream.whole == 1
