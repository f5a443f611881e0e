"""What goes wrong around a request, and what its client gets; the mirror is unharmed in every case."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
from xml.etree import ElementTree

import aiohttp
import pytest
from relay import relayed
from world import Answer, World, world
from yarl import URL

from proxy.sandbox import Fault
from proxy.sandbox.faults import FaultKind

CHECKED = "syncpoint; hit; detail=checked"
METADATA = "{http://schemas.microsoft.com/ado/2007/08/dataservices/metadata}"
FORMATS = ["application/json", "application/atom+xml"]
NAME = b'{"Name":"Written"}'


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


def path_of(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


def origin_of(place: World) -> str:
    return place.direct_root.removesuffix(urlsplit(place.direct_root).path)


def sent_writes(place: World) -> list[str]:
    return [entry.method for entry in place.sandbox.journal if entry.method not in ("GET", "HEAD")]


async def held(place: World, path: str) -> Answer:
    """What the mirror alone says."""
    return await place.ask(path, Cache_Control="only-if-cached")


async def sweep(place: World) -> None:
    model = place.proxy.metadata.model
    assert model is not None
    await place.proxy.settler.settle(model)


def assert_own_error(answer: Answer, status: int, code: str, accept: str = "application/json") -> None:
    """An OData error of the proxy's own, in the client's format."""
    assert answer.status == status
    assert answer.headers["Proxy-Status"].startswith("syncpoint; error=")
    if accept == "application/json":
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]["value"]
    else:
        assert answer.headers["Content-Type"].startswith("application/xml")
        error = ElementTree.fromstring(answer.body)
        assert error.tag == f"{METADATA}error"
        assert error.findtext(f"{METADATA}code") == code
        assert error.findtext(f"{METADATA}message")


# Upstream down


@pytest.fixture
def nobody() -> Iterator[str]:
    """An origin that refuses connections: its port is taken, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("accept", FORMATS)
async def test_upstream_down_is_502_in_the_clients_format(
    database_url: str, nobody: str, accept: str
) -> None:
    async with world(database_url) as before:
        path = path_of(before)
        stored = await before.ask(path)
        root_path = urlsplit(before.direct_root).path
    async with world(database_url, upstream__service_root=nobody + root_path) as place:
        for target in (path, path_of(place, 1), "/AccountSet?$top=5", "/AccountSet?$expand=x", "/Nothing"):
            answer = await place.ask(target, Accept=accept)
            assert_own_error(answer, 502, "Syncpoint.UpstreamUnreachable", accept)
        for method, target in (("MERGE", path), ("DELETE", path), ("POST", "/AccountSet")):
            answer = await place.ask(
                target, method, body=NAME, Accept=accept, Content_Type="application/json"
            )
            assert_own_error(answer, 502, "Syncpoint.UpstreamUnreachable", accept)
        assert await place.proxy.store.open_intents() == [], "what never left is known not to be applied"
        kept = await held(place, path)
        assert kept.json()["d"]["Name"] == stored.json()["d"]["Name"]


async def test_upstream_down_from_the_start_is_502(database_url: str, nobody: str) -> None:
    async with world(database_url, upstream__service_root=nobody + "/root.svc") as place:
        for path in ("/root.svc/AccountSet", "/elsewhere"):
            answer = await place.send(place.proxy.url + path, headers={"Accept": "application/json"})
            assert_own_error(answer, 502, "Syncpoint.UpstreamUnreachable")


# Upstream too slow


async def test_upstream_too_slow_is_504(database_url: str) -> None:
    async with world(database_url, upstream__read_timeout_s=2.0) as place:
        known, unknown = path_of(place, 0), path_of(place, 1)
        before = await place.ask(known)
        asked = [
            (accept, target)
            for accept in FORMATS
            for target in (known, unknown, "/AccountSet?$top=5", "/AccountSet?$expand=x")
        ]
        fault = place.sandbox.faults.add(Fault(kind="hold", method="GET", times=100))
        answers = await asyncio.gather(*(place.ask(target, Accept=accept) for accept, target in asked))
        for (accept, _), answer in zip(asked, answers, strict=True):
            assert_own_error(answer, 504, "Syncpoint.UpstreamTimeout", accept)
        place.sandbox.faults.clear()
        assert fault.event is not None
        fault.event.set()
        assert (await held(place, known)).body == before.body
        assert (await place.ask(known)).cache == CHECKED


# Upstream garbled, cut short, or an HTML page

WRONG: list[FaultKind] = ["html", "garbled", "status"]


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("path", ["entity", "/AccountSet?$top=5", "/AccountSet?$top=5&$select=Name"])
async def test_what_is_no_answer_is_passed_on_as_it_came_and_not_stored(
    place: World, kind: FaultKind, path: str
) -> None:
    path = path_of(place) if path == "entity" else path
    place.sandbox.faults.add(Fault(kind=kind, times=2))
    direct = await place.ask(path, direct=True)
    place.clear()
    answer = await place.ask(path)
    await place.idle()
    assert place.upstream_requests() == [f"GET {path}"]
    # The last link may be cut before it is known for one: then it is upstream's still.
    as_direct = answer.text.replace(place.proxy.url, origin_of(place))
    assert (answer.status, as_direct) == (direct.status, direct.text)
    assert answer.headers["Content-Type"] == direct.headers["Content-Type"]
    assert "Proxy-Status" not in answer.headers
    assert (await held(place, path_of(place))).status == 504


async def cut_read(
    place: World, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body of an answer that the client must see is cut."""
    came = b""
    target = URL(place.proxy_root + path, encoded=True)
    headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
    async with place.session.request(method, target, headers=headers, data=body) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            while piece := await response.content.readany():
                came += piece
        return response.status, came


@pytest.mark.parametrize("path", ["entity", "/AccountSet?$top=5"])
async def test_a_cut_body_is_cut_for_the_client_too_and_not_stored(place: World, path: str) -> None:
    path = path_of(place) if path == "entity" else path
    whole = place.rooted((await place.ask(path, direct=True)).text).encode()
    place.clear()
    place.sandbox.faults.add(Fault(kind="cut"))
    status, came = await cut_read(place, path)
    assert status == 200
    assert came
    assert whole.startswith(came)
    await place.idle()
    assert place.upstream_requests() == [f"GET {path}"]
    assert (await held(place, path_of(place))).status == 504


CHECK_FAULTS: list[FaultKind] = [*WRONG, "cut"]


@pytest.mark.parametrize("kind", CHECK_FAULTS)
@pytest.mark.parametrize("path", ["entity", "/AccountSet?$top=5"])
async def test_a_check_that_cannot_be_read_is_forgotten_and_the_client_asks_itself(
    place: World, kind: FaultKind, path: str
) -> None:
    path = path_of(place) if path == "entity" else path
    await place.ask(path)
    await place.idle()
    direct = await place.ask(path, direct=True)
    place.clear()
    place.sandbox.faults.add(Fault(kind=kind, path="$select="))
    answer = await place.ask(path)
    assert (answer.status, answer.text) == (200, place.rooted(direct.text))
    assert answer.cache == "syncpoint; fwd=stale; fwd-status=200; detail=check-refused"
    check, own = place.upstream_requests()
    assert "$select=" in check
    assert own == f"GET {path}"
    await place.idle()
    assert (await place.ask(path)).cache == CHECKED


@pytest.mark.parametrize("kind", CHECK_FAULTS)
async def test_a_fetch_that_cannot_be_read_is_forgotten_where_the_client_asked_for_less(
    place: World, kind: FaultKind
) -> None:
    for _ in range(2):  # a check shows that upstream follows $select
        await place.ask(path_of(place))
    path = path_of(place, 1) + "?$select=Name"
    direct = await place.ask(path, direct=True)
    place.clear()
    place.sandbox.faults.add(Fault(kind=kind))
    answer = await place.ask(path)
    assert (answer.status, answer.text) == (200, place.rooted(direct.text))
    assert place.upstream_requests() == [f"GET {path_of(place, 1)}", f"GET {path}"]
    assert (await held(place, path_of(place, 1))).status == 504


async def test_an_entity_that_is_gone_is_gone_from_the_mirror(place: World) -> None:
    path = path_of(place)
    await place.ask(path)
    organisation = place.sandbox.organisation
    organisation.remove("AccountSet", organisation.keys("AccountSet")[0])
    assert (await place.ask(path)).status == 404
    assert (await held(place, path)).status == 504


# Answers to writes


async def merge_then(place: World, path: str, kind: FaultKind) -> Answer:
    """A MERGE whose read-back goes wrong; what comes before it does not."""
    hold = place.sandbox.faults.add(Fault(kind="hold", method="MERGE"))
    merging = asyncio.create_task(place.merge(path, NAME.decode()))
    await hold.reached.wait()
    place.sandbox.faults.add(Fault(kind=kind, method="GET"))
    assert hold.event is not None
    hold.event.set()
    return await merging


@pytest.mark.parametrize("kind", [*CHECK_FAULTS, "reset_before"])
async def test_a_read_back_that_cannot_be_read_leaves_the_intent_open(place: World, kind: FaultKind) -> None:
    path = path_of(place)
    await place.ask(path)
    answer = await merge_then(place, path, kind)
    assert answer.status == 204
    assert answer.cache == "syncpoint; fwd=method; fwd-status=204"
    assert len(await place.proxy.store.open_intents()) == 1
    assert (await held(place, path)).status == 504, "what an open intent may have changed is not shown"
    assert (await place.ask(path)).json()["d"]["Name"] == "Written"
    await sweep(place)
    assert await place.proxy.store.open_intents() == []
    assert sent_writes(place) == ["MERGE"]
    assert (await held(place, path)).json()["d"]["Name"] == "Written"


async def test_a_login_page_is_no_success(place: World) -> None:
    path = path_of(place)
    before = await place.ask(path)
    place.sandbox.faults.add(Fault(kind="html", method="MERGE"))
    answer = await place.merge(path, NAME.decode())
    assert answer.status == 200
    assert b"<html" in answer.body.lower()
    assert await place.proxy.store.open_intents() == []
    assert (await held(place, path)).body == before.body


async def test_a_created_entity_is_found_though_its_answer_is_garbled(place: World) -> None:
    place.sandbox.faults.add(Fault(kind="garbled", method="POST"))
    answer = await place.ask("/AccountSet", "POST", body=NAME, Content_Type="application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert answer.headers["Location"].startswith(place.proxy.url)
    assert sent_writes(place) == ["POST"]
    assert await place.proxy.store.open_intents() == []
    created = answer.headers["Location"].partition("AccountSet")[2]
    assert (await held(place, f"/AccountSet{created}")).json()["d"]["Name"] == "Written"


async def test_a_created_entity_is_found_though_its_answer_is_cut(place: World) -> None:
    place.sandbox.faults.add(Fault(kind="cut", method="POST"))
    status, _ = await cut_read(place, "/AccountSet", "POST", NAME)
    assert status == 201
    assert sent_writes(place) == ["POST"]
    assert await place.proxy.store.open_intents() == []


async def test_a_gateways_error_leaves_the_write_open_until_it_is_seen(place: World) -> None:
    path = path_of(place)
    await place.ask(path)
    place.sandbox.faults.add(Fault(kind="status", status=503, method="MERGE", body="busy"))
    answer = await place.merge(path, NAME.decode())
    assert (answer.status, answer.body) == (503, b"busy")
    assert "Proxy-Status" not in answer.headers
    assert len(await place.proxy.store.open_intents()) == 1
    assert sent_writes(place) == ["MERGE"]


# Postgres down


async def test_without_postgres_reads_fall_through_and_writes_do_not_leave(database_url: str) -> None:
    async with relayed(database_url) as relay, world(relay.url) as place:
        path, page = path_of(place), "/AccountSet?$top=5"
        for target in (path, page):
            await place.ask(target)
        await place.idle()
        await relay.down()
        for target in (path, path_of(place, 1), page, page + "&$select=Name"):
            direct = await place.ask(target, direct=True)
            place.clear()
            answer = await place.ask(target)
            assert (answer.status, answer.text) == (200, place.rooted(direct.text))
            assert answer.cache == "syncpoint; fwd=bypass; fwd-status=200; detail=store-unavailable"
            *checks, own = place.upstream_requests()
            assert own == f"GET {target}"
            assert all("$select=VersionNumber," in check for check in checks)
        failures = place.proxy.metrics.registry.get_sample_value(
            "syncpoint_store_failures_total", {"doing": "read"}
        )
        assert failures == 4
        assert_own_error(await held(place, path), 504, "Syncpoint.NotInMirror")
        place.clear()
        for accept in FORMATS:
            for method, target in (("MERGE", path), ("PUT", path), ("DELETE", path), ("POST", "/AccountSet")):
                refused = await place.ask(
                    target, method, body=NAME, Accept=accept, Content_Type="application/json"
                )
                assert_own_error(refused, 503, "Syncpoint.WritesRefused", accept)
        assert sent_writes(place) == []
        await relay.up()
        assert (await place.ask(path)).cache == CHECKED
        assert (await place.merge(path, NAME.decode())).status == 204
        assert (await held(place, path)).json()["d"]["Name"] == "Written"


async def test_postgres_lost_while_a_write_is_under_way_leaves_it_open(database_url: str) -> None:
    async with relayed(database_url) as relay, world(relay.url) as place:
        path = path_of(place)
        await place.ask(path)
        hold = place.sandbox.faults.add(Fault(kind="hold", method="MERGE"))
        merging = asyncio.create_task(place.merge(path, NAME.decode()))
        await hold.reached.wait()
        await relay.down()
        assert hold.event is not None
        hold.event.set()
        assert (await merging).status == 204, "once upstream has answered, the client gets that answer"
        await relay.up()
        assert len(await place.proxy.store.open_intents()) == 1
        await sweep(place)
        assert await place.proxy.store.open_intents() == []
        assert (await held(place, path)).json()["d"]["Name"] == "Written"


# Clients


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(database_url: str, accept: str, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    async with world(database_url, limits__request_body_bytes=1000) as place:
        soap = place.proxy.url + "/XRMServices/2011/Organization.svc/web"
        targets = [("MERGE", place.proxy_root + path_of(place)), ("POST", soap)]
        headers = {"Accept": accept, "Content-Type": "application/json"}
        for method, url in targets:
            body = pieces() if chunked else b" " * 2000
            async with place.session.request(
                method, URL(url, encoded=True), headers=headers, data=body
            ) as response:
                answer = Answer(response.status, response.headers, await response.read())
            assert_own_error(answer, 413, "Syncpoint.BodyTooLarge", accept)
        assert not any(entry.applied for entry in place.sandbox.journal)
        assert await place.proxy.store.open_intents() == []
        within = await place.merge(path_of(place), NAME.decode().ljust(1000))
        assert within.status == 204


@pytest.mark.parametrize("method", ["MERGE", "DELETE"])
async def test_a_write_settles_though_its_client_has_left(place: World, method: str) -> None:
    path = path_of(place)
    await place.ask(path)
    hold = place.sandbox.faults.add(Fault(kind="hold", method=method))
    writing = asyncio.create_task(place.ask(path, method, body=NAME, Content_Type="application/json"))
    await hold.reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    # The client's leaving was there first, so the proxy has seen it once it answers this.
    await place.ask("/ContactSet?$top=1")
    assert len(await place.proxy.store.open_intents()) == 1
    assert hold.event is not None
    hold.event.set()
    await place.idle()
    assert await place.proxy.store.open_intents() == []
    assert sent_writes(place) == [method]
    if method == "MERGE":
        assert (await held(place, path)).json()["d"]["Name"] == "Written"
    else:
        assert (await held(place, path)).status == 504


async def test_a_body_cut_on_its_way_up_is_not_sent(place: World) -> None:
    url = urlsplit(place.proxy_root + path_of(place))
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"MERGE {url.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n".encode() + NAME)
    await writer.drain()
    await place.ask("/ContactSet?$top=1")  # by now the proxy waits for the rest
    writer.close()
    await place.ask("/ContactSet?$top=1")  # by now it knows that there is none
    await place.idle()
    assert sent_writes(place) == []
    assert await place.proxy.store.open_intents() == []
