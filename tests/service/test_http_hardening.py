"""Hostile HTTP: one reading of each request, one place it goes to, and nobody who holds up others.

Run a second time with the parser that is written in Python, which serves where aiohttp has no wheel.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from passing import OK, passing
from raw_http import RawUpstream, listening, says
from world import World, world

from proxy import passthrough
from proxy.sandbox import Fault

HEAD = b"POST /a HTTP/1.1\r\nHost: p\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: p\r\n\r\n"
IN_CHUNKS = b"Transfer-Encoding: chunked\r\n"


def test_the_same_holds_with_the_parser_written_in_python() -> None:
    if "AIOHTTP_NO_EXTENSIONS" in os.environ:
        pytest.skip("this is that run")
    environment = os.environ | {"AIOHTTP_NO_EXTENSIONS": "1"}
    arguments = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "framing or target",
    ]
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d\d passed", done.stdout)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(HEAD + b"Content-Length: 1\r\nContent-Length: 0\r\n\r\nx", id="two lengths"),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", id="two equal lengths"),
        pytest.param(HEAD + b"Content-Length: 5, 5\r\n\r\nhello", id="a list of lengths"),
        pytest.param(HEAD + b"Content-Length: +5\r\n\r\nhello", id="plus"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", id="minus"),
        pytest.param(HEAD + b"Content-Length: 0x5\r\n\r\nhello", id="hexadecimal"),
        pytest.param(HEAD + b"Content-Length: 1_0\r\n\r\nhellohello", id="underscore"),
        pytest.param(HEAD + b"Content-Length: \xd9\xa3\r\n\r\nabc", id="other digits"),
        pytest.param(HEAD + b"Content-Length: 4\r\n" + IN_CHUNKS + b"\r\n0\r\n\r\n", id="length and chunks"),
        pytest.param(HEAD + IN_CHUNKS + b"Content-Length: 4\r\n\r\n0\r\n\r\n", id="chunks and length"),
        pytest.param(HEAD + IN_CHUNKS + IN_CHUNKS + b"\r\n0\r\n\r\n", id="chunks twice"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunks not last"),
        pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="no coding"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="compressed transfer"),
        pytest.param(HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", id="vertical tab"),
        pytest.param(HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="blank before the colon"),
        pytest.param(HEAD + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="folded"),
        pytest.param(HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", id="NUL"),
        pytest.param(HEAD + b"X: a\rb\r\nContent-Length: 0\r\n\r\n", id="bare CR"),
        pytest.param(HEAD + b"No colon\r\nContent-Length: 0\r\n\r\n", id="no colon"),
        pytest.param(HEAD + b": x\r\nContent-Length: 0\r\n\r\n", id="no name"),
        pytest.param(HEAD + IN_CHUNKS + b"\r\n-1\r\n\r\n0\r\n\r\n", id="negative chunk"),
        pytest.param(HEAD + IN_CHUNKS + b"\r\n0x5\r\nhello\r\n0\r\n\r\n", id="hexadecimal chunk"),
        pytest.param(HEAD + IN_CHUNKS + b"\r\n5 \nhello\r\n0\r\n\r\n", id="chunk with a bare LF"),
        pytest.param(HEAD + IN_CHUNKS + b"\r\n5\r\nhelloXX0\r\n\r\n", id="chunk longer than said"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: p\r\nHost: q\r\n\r\n", id="two hosts"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    ],
)
async def test_framing_has_one_reading_or_none(request_: bytes) -> None:
    """What comes after a request that can be read in two ways never becomes a request of its own."""
    async with passing(says(OK)) as place:
        async with place.client() as client, asyncio.timeout(30):
            client.writer.write(request_ + HIDDEN)
            answers = await client.reader.read()
        assert re.match(rb"HTTP/1\.[01] (400|501) ", answers) or not answers
        assert not any(b"/hidden" in seen for seen in place.upstream.requests)
        assert place.upstream.whole == 0


async def test_framing_of_what_asks_for_another_protocol_stays_http() -> None:
    asks = HEAD + b"Connection: Upgrade, X-Mine\r\nUpgrade: h2c\r\nX-Mine: 1\r\nContent-Length: 1\r\n\r\nx"
    async with passing(says(OK)) as place:
        head, _ = await place.ask(asks)
    assert b" 200 " in head
    assert_one_framing(place.upstream.requests[0])
    assert b"X-Mine" not in place.upstream.requests[0]


def assert_one_framing(seen: bytes) -> None:
    """A request as it left: with a length or in chunks, not both, nothing folded, no bare line ends."""
    head, _, body = seen.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert names.count(b"host") == 1
    assert not re.search(rb"[^\r]\n|\r[^\n]|\x00|\r\n[ \t]", head)
    assert not set(names) & {b"upgrade", b"connection", b"te", b"trailer", b"keep-alive"}
    assert not body or b"content-length" in names or b"transfer-encoding" in names


@pytest.mark.parametrize(
    ("ending", "trailer"),
    [(b"0\r\nX-Evil: 1\r\n\r\n", b"X-Evil"), (b"0\r\nContent-Length: 5\r\n\r\n", b"Content-Length")],
)
async def test_framing_comes_from_the_head_and_never_from_trailers(ending: bytes, trailer: bytes) -> None:
    async with passing(says(OK)) as place:
        head, _ = await place.ask(HEAD + IN_CHUNKS + b"Trailer: X-Evil\r\n\r\n2;x=y\r\nhi\r\n" + ending)
    seen = place.upstream.requests[0] if place.upstream.requests else b""
    assert trailer not in seen
    assert b" 400 " in head or seen.endswith(b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")


async def test_framing_of_an_answer_with_length_and_chunks_is_chunks() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    async with passing(says(answer)) as place:
        head, _ = await place.ask(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
    assert not (b"content-length" in head.lower() and b"chunked" in head.lower())


@pytest.mark.parametrize(
    "target",
    [
        "http://{0}/x",
        "HTTP://{0}/x",
        "https://user:password@{0}/x",
        "//{0}/x",
        "///{0}/x",
        "/\\{0}/x",
        "/@{0}/x",
        "/x?url=http://{0}/",
        "/%2f%2f{0}/x",
        "/..//{0}/x",
    ],
)
async def test_whatever_the_target_only_upstream_is_contacted(target: str) -> None:
    async with passing(says(OK)) as place, listening(RawUpstream(says(OK))) as decoy:
        address = decoy.origin.removeprefix("http://")
        line = (
            f"GET {target.format(address)} HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-Host: {address}\r\n\r\n"
        )
        await place.ask(line.encode())
        assert decoy.connections == 0
        assert (
            f"\r\nHost: {urlsplit(place.upstream.origin).netloc}\r\n".encode() in place.upstream.requests[0]
        )


@pytest.mark.parametrize(
    "path",
    [
        "{0}/../{1}",
        "{0}/AccountSet/../ContactSet",
        "{0}/%2e%2e/{1}",
        "{0}%2fAccountSet",
        "{0}/%41ccountSet(guid'{2}')/..",
        "{0}/./AccountSet(guid'{2}')",
        "{0}/AccountSet(guid'{2}');x=y",
        "{0}/AccountSet(guid'{2}')%00",
        "{0}\\AccountSet",
        "/other{0}/AccountSet(guid'{2}')",
    ],
)
async def test_a_path_that_may_mean_something_else_goes_to_upstream_as_it_is(
    database_url: str, path: str
) -> None:
    async with world(database_url, rows=2) as place:
        root = urlsplit(place.direct_root).path
        key = place.a_key("AccountSet")
        await place.ask(f"/AccountSet(guid'{key}')")
        place.clear()
        target = path.format(root, "Data.svc", key)
        for _ in range(2):
            answer = await place.send(place.proxy.url + target, headers={"Accept": "application/json"})
            assert "hit" not in answer.cache
        assert [entry.target for entry in place.sandbox.journal] == [target] * 2


async def test_links_to_elsewhere_are_passed_on_and_not_followed(database_url: str) -> None:
    async with world(database_url, rows=2) as place, listening(RawUpstream(says(OK))) as decoy:
        await place.ask("/AccountSet")
        page = f'{{"d":{{"results":[],"__next":"{decoy.origin}/next"}}}}'
        headers = {"Content-Type": "application/json", "Location": f"{decoy.origin}/made"}
        for status, body in ((200, page), (302, ""), (201, page)):
            fault = Fault("status", status=status, body=body, headers=headers, times=4)
            place.sandbox.faults.add(fault)
            answer = await place.ask(
                "/AccountSet?$top=1", method="POST" if status == 201 else "GET", body=b"{}"
            )
            assert answer.status == status
            await place.idle()
            place.sandbox.faults.clear()
        assert decoy.connections == 0


# Hosts, and who was on the way


@pytest.mark.parametrize("host", ['x","y":"z', "a b", "<x>", "a/b", "a@b", "", "a:b:c", "[::1", "a\tb"])
async def test_a_host_that_is_none_is_refused(database_url: str, host: str) -> None:
    """It would stand in links of the answer."""
    async with world(database_url, rows=1) as place:
        head = await raw(place, f"GET /a HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert place.upstream_requests() == []


@pytest.mark.parametrize("host", ["crm.example.com", "crm:8010", "[::1]:8010", "my_crm", "10.0.0.1:80"])
async def test_a_host_that_is_one_stands_in_the_answers_links(database_url: str, host: str) -> None:
    async with world(database_url, rows=1) as place:
        path = f"{urlsplit(place.direct_root).path}/AccountSet"
        answer = await raw(
            place,
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
        )
        assert f'"uri":"http://{host}/'.encode() in answer.replace(b"\\/", b"/")


async def test_a_client_of_old_that_names_no_host_gets_the_address(database_url: str) -> None:
    async with world(database_url, rows=1) as place:
        path = f"{urlsplit(place.direct_root).path}/AccountSet"
        answer = await raw(place, f"GET {path} HTTP/1.0\r\nAccept: application/json\r\n\r\n")
        assert f'"uri":"{place.proxy.url}/'.encode() in answer.replace(b"\\/", b"/")
        refused = await raw(place, f"GET {path} HTTP/1.1\r\nAccept: application/json\r\n\r\n")
        assert b" 400 " in refused.split(b"\r\n")[0]


async def raw(place: World, request: str) -> bytes:
    url = urlsplit(place.proxy.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(request.encode())
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


async def test_fields_about_the_way_are_the_clients_own(database_url: str) -> None:
    """Nothing is added to them: to upstream the proxy is a client, to clients it is upstream."""
    fields = {"Via": "1.1 other", "Forwarded": "for=1.2.3.4", "X-Forwarded-For": "1.2.3.4"}
    async with world(database_url, rows=1) as place:
        with_them = await place.send(place.proxy.url + "/echo", headers=fields)
        without = await place.send(place.proxy.url + "/echo")
    seen = dict(with_them.json()["headers"])
    assert {name: seen[name] for name in fields} == fields
    assert not {name for name, _ in without.json()["headers"]} & {*fields, "X-Forwarded-Host"}
    assert "Via" not in without.headers


# Limits


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: p\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: p\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: p\r\n" + b"X: y\r\n" * 600 + b"\r\n",
    ],
    ids=["line", "field", "fields"],
)
async def test_a_head_over_the_limits_is_refused(head: bytes) -> None:
    async with passing(says(OK)) as place:
        answer, _ = await place.ask(head)
        assert answer.split(b" ")[1] in (b"400", b"414", b"431")
        assert place.upstream.connections == 0


@pytest.mark.parametrize("sent", [b"", b"GET /a HT", b"GET /a HTTP/1.1\r\nHost: p\r\nX: "])
@pytest.mark.parametrize("before", [b"", b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n"])
async def test_who_does_not_go_on_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, before: bytes, sent: bytes
) -> None:
    monkeypatch.setattr(passthrough, "CLIENT_IDLE_S", 0.3)
    async with passing(says(OK)) as place, place.client() as client:
        if before:
            client.writer.write(before)
            await client.answer()
        client.writer.write(sent)
        async with asyncio.timeout(20):
            assert b"200" not in await client.reader.read()


async def test_a_client_that_does_not_read_gives_upstream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "CLIENT_PATIENCE_S", 0.3)

    async def endless(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with passing(endless) as place:
        lazy = socket.create_connection(("127.0.0.1", place.port))
        lazy.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(lazy, b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
        await asyncio.wait_for(place.upstream.closed.wait(), 30)
        lazy.close()
