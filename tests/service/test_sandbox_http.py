"""The sandbox as a server: journal, faults, header fields, and the paths beside OData."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

import aiohttp
import pytest
from sandboxing import Served, served

from proxy.sandbox import Fault

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    async with served(rows=3, version_number="rising") as world:
        world.sandbox.organisation.keys("AccountSet")
        yield world


def path_of(world: Served, number: int = 0) -> str:
    return f"/AccountSet(guid'{key_of(world, number)}')"


def key_of(world: Served, number: int = 0) -> uuid.UUID:
    return world.sandbox.organisation.keys("AccountSet")[number]


def name_of(world: Served) -> str:
    row = world.sandbox.organisation.entity("AccountSet", key_of(world))
    assert row is not None
    return str(row["Name"])


async def test_the_journal_tells_what_came_and_how_it_ended(world: Served) -> None:
    target = "/AccountSet()?$top=1&$filter=Name%20ne%20%27x%27&_=+&"
    await world.send("GET", target, b"{}", X_Custom="1")
    await world.send("MERGE", path_of(world), {"Name": "x"})
    await world.send("MERGE", path_of(world), {"Nmae": "x"})
    read, merged, refused = world.sandbox.journal
    assert (read.number, read.method, read.status, read.applied) == (1, "GET", 200, False)
    assert read.target == f"/XRMServices/2011/OrganizationData.svc{target}"
    assert (read.headers["x-custom"], read.body) == ("1", b"{}")
    assert (merged.method, merged.body, merged.status, merged.applied) == (
        "MERGE",
        b'{"Name": "x"}',
        204,
        True,
    )
    assert (refused.status, refused.applied) == (400, False)
    world.sandbox.journal.clear()
    await world.get("/")
    assert [entry.number for entry in world.sandbox.journal] == [4]


async def test_every_answer_looks_as_if_iis_gave_it(world: Served) -> None:
    for path in ("/AccountSet", "/WidgetSet", f"{world.origin}/some/script.js"):
        headers = (await world.get(path)).headers
        assert headers["Server"] == "Microsoft-IIS/7.5"
        assert headers["X-AspNet-Version"] == "4.0.30319"
        assert headers["X-Powered-By"] == "ASP.NET"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["Date"] == "Thu, 25 Aug 2016 16:00:00 GMT"
        assert "ETag" not in headers
        assert "Set-Cookie" not in headers
    world.sandbox.clock.advance(61)
    assert (await world.get("/AccountSet")).headers["Date"] == "Thu, 25 Aug 2016 16:01:01 GMT"


async def test_stamps_follow_the_servers_clock(world: Served) -> None:
    world.sandbox.clock.advance(0.9)
    await world.send("MERGE", path_of(world), {"Name": "x"})
    row = world.sandbox.organisation.entity("AccountSet", key_of(world))
    assert row is not None
    assert row["ModifiedOn"] == datetime(2016, 8, 25, 16, 0, 0)


async def test_a_cookie_and_a_login_by_switch() -> None:
    async with served(rows=1, set_cookie="MSISAuth=x; path=/", auth="basic") as world:
        reply = await world.get("/AccountSet")
        assert (reply.status, reply.headers["Set-Cookie"]) == (401, "MSISAuth=x; path=/")
        assert reply.headers["WWW-Authenticate"].startswith("Basic")
        assert (await world.get("/AccountSet", Authorization="Basic YTpi")).status == 200


async def test_latency_comes_before_every_answer() -> None:
    async with served(rows=1, latency_ms=120) as world:
        started = asyncio.get_running_loop().time()
        await world.get("/AccountSet")
        assert asyncio.get_running_loop().time() - started >= 0.12


# Faults


async def test_a_fault_strikes_what_it_names_as_often_as_it_says(world: Served) -> None:
    world.sandbox.faults.add(
        Fault(kind="status", method="MERGE", path=str(key_of(world)), times=2, status=503)
    )
    other = path_of(world, 1)
    assert (await world.get(path_of(world))).status == 200
    assert (await world.send("MERGE", other, {})).status == 204
    tunnel = {"X-HTTP-Method": "MERGE"}
    assert (await world.send("POST", path_of(world), {"Name": "x"}, **tunnel)).status == 503
    assert (await world.send("MERGE", path_of(world), {"Name": "x"})).status == 503
    assert name_of(world) != "x"
    assert (await world.send("MERGE", path_of(world), {"Name": "x"})).status == 204
    assert [entry.applied for entry in world.sandbox.journal] == [False, True, False, False, True]


async def test_a_status_may_have_its_own_headers_and_body(world: Served) -> None:
    world.sandbox.faults.add(
        Fault(kind="status", status=302, body="", headers={"Location": "https://adfs.example.org/adfs/ls/"})
    )
    reply = await world.get("/AccountSet")
    assert (reply.status, reply.headers["Location"]) == (302, "https://adfs.example.org/adfs/ls/")


async def test_a_login_page_in_the_place_of_an_answer(world: Served) -> None:
    world.sandbox.faults.add(Fault(kind="html"))
    reply = await world.send("MERGE", path_of(world), {"Name": "x"})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"__VIEWSTATE" in reply.body
    assert name_of(world) != "x"


async def test_a_cut_body(world: Served) -> None:
    whole = (await world.get("/AccountSet")).body
    world.sandbox.faults.add(Fault(kind="cut"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await world.get("/AccountSet")
    assert world.sandbox.journal[-1].status == 200
    assert (await world.get("/AccountSet")).body == whole


async def test_a_cut_where_there_is_no_body(world: Served) -> None:
    world.sandbox.faults.add(Fault(kind="cut"))
    with pytest.raises(BROKEN):
        await world.send("MERGE", path_of(world), {"Name": "x"})
    assert (world.sandbox.journal[-1].status, world.sandbox.journal[-1].applied) == (None, True)


async def test_garbled_json_has_its_length_right(world: Served) -> None:
    world.sandbox.faults.add(Fault(kind="garbled"))
    reply = await world.get("/AccountSet")
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(reply.body)))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(reply.body)


@pytest.mark.parametrize(("kind", "applied"), [("reset_before", False), ("applied_no_answer", True)])
async def test_a_broken_connection_before_or_after_the_write(world: Served, kind: str, applied: bool) -> None:
    world.sandbox.faults.add(Fault(kind=kind))  # type: ignore[arg-type]
    with pytest.raises(BROKEN):
        await world.send("MERGE", path_of(world), {"Name": "x"})
    [entry] = world.sandbox.journal
    assert (entry.status, entry.applied) == (None, applied)
    assert (name_of(world) == "x") is applied


async def test_a_stamp_that_does_not_move(world: Served) -> None:
    organisation = world.sandbox.organisation
    before = organisation.entity("AccountSet", key_of(world))
    world.sandbox.faults.add(Fault(kind="stamp_not_moved", method="MERGE"))
    assert (await world.send("MERGE", path_of(world), {"Name": "x"})).status == 204
    after = organisation.entity("AccountSet", key_of(world))
    assert before is not None
    assert after == {**before, "Name": "x"}
    await world.send("MERGE", path_of(world), {"Name": "x"})
    moved = organisation.entity("AccountSet", key_of(world))
    assert moved is not None
    assert moved["ModifiedOn"] != before["ModifiedOn"]
    assert moved["VersionNumber"] > before["VersionNumber"]


async def test_a_held_request_is_carried_out_when_it_is_let_go(world: Served) -> None:
    fault = world.sandbox.faults.add(Fault(kind="hold", method="MERGE"))
    sending = asyncio.create_task(world.send("MERGE", path_of(world), {"Name": "x"}))
    await fault.reached.wait()
    [entry] = world.sandbox.journal
    assert (entry.status, entry.applied, name_of(world) == "x") == (None, False, False)
    assert (await world.get(path_of(world))).status == 200
    assert fault.event is not None
    fault.event.set()
    assert (await sending).status == 204
    assert name_of(world) == "x"


async def test_a_held_request_may_lose_its_answer_too(world: Served) -> None:
    hold = world.sandbox.faults.add(Fault(kind="hold"))
    world.sandbox.faults.add(Fault(kind="applied_no_answer"))
    sending = asyncio.create_task(world.send("MERGE", path_of(world), {"Name": "x"}))
    await hold.reached.wait()
    assert hold.event is not None
    hold.event.set()
    with pytest.raises(BROKEN):
        await sending
    assert world.sandbox.journal[-1].applied


async def test_a_delay(world: Served) -> None:
    world.sandbox.faults.add(Fault(kind="delay", delay_s=0.15))
    started = asyncio.get_running_loop().time()
    assert (await world.get("/AccountSet")).status == 200
    assert asyncio.get_running_loop().time() - started >= 0.15


async def test_a_body_that_is_cut_while_it_is_sent_never_arrives(world: Served) -> None:
    host, _, port = world.origin.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {world.root.removeprefix(world.origin)}/AccountSet HTTP/1.1\r\nHost: x\r\nContent-Length: 99"
    )
    writer.write(f'{head}\r\nContent-Type: application/json\r\n\r\n{{"Name":'.encode())
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert not any(entry.applied for entry in world.sandbox.journal)
    assert len(world.sandbox.organisation.keys("AccountSet")) == 3


# Beside OData


async def test_the_root_is_found_in_any_case_and_nothing_else_is_odata(world: Served) -> None:
    lower = world.root.lower()
    assert (await world.get(f"{lower}/AccountSet?$top=1")).d["results"]
    beside = (await world.get(f"{world.root}x/AccountSet")).text
    assert "web resource" in beside


async def test_an_echo_tells_the_bytes(world: Served) -> None:
    url = f"{world.origin}/echo/../echo?a=%27%2C+%20&%zz"
    assert "web resource" in (await world.get(url)).text
    reply = await world.send("PROPFIND", f"{world.origin}/echo?a=%27%2C+%20&%zz", b"\x00\xff", X_A="1")
    said = json.loads(reply.body)
    assert (said["method"], said["target"]) == ("PROPFIND", "/echo?a=%27%2C+%20&%zz")
    assert said["body"].encode("latin-1") == b"\x00\xff"
    assert ["X-A", "1"] in said["headers"]


async def test_soap_is_answered_with_an_envelope(world: Served) -> None:
    soap = f"{world.origin}/xrmservices/2011/Organization.svc"
    reply = await world.send(
        "POST", f"{soap}/web", b"<a/>", Content_Type="text/xml", SOAPAction="urn:x/Execute"
    )
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert "<Action>urn:x/Execute</Action><Length>4</Length>" in reply.text
    assert (await world.send("POST", soap, b"")).text.startswith("<s:Envelope")


async def test_a_compressed_body_is_compressed_whatever_is_accepted(world: Served) -> None:
    reply = await world.get(f"{world.origin}/gzip", Accept_Encoding="identity")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert len(gzip.decompress(reply.body)) == 20_000
    assert (await world.get(f"{world.origin}/gzip")).body == reply.body


async def test_downloads_are_as_long_as_asked_and_the_same_every_time(world: Served) -> None:
    size = 2_500_000
    reply = await world.get(f"{world.origin}/download/{size}")
    assert (len(reply.body), reply.headers["Content-Length"]) == (size, str(size))
    assert (await world.get(f"{world.origin}/download/{size + 1}")).body.startswith(reply.body)
    assert reply.body[:64] != reply.body[64:128]
    head = await world.send("HEAD", f"{world.origin}/download/{size}")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")


async def test_other_verbs(world: Served) -> None:
    assert "GET" in (await world.send("OPTIONS", f"{world.origin}/x")).headers["Allow"]
    reply = await world.send("HEAD", f"{world.origin}/x.js")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 0
    for verb in ("HEAD", "OPTIONS", "PROPFIND"):
        assert (await world.send(verb, "/AccountSet")).status == 405


async def test_expect_is_answered_before_the_body_comes(world: Served) -> None:
    host, _, port = world.origin.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"ok")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_of_a_large_body_beside_odata_the_journal_keeps_the_beginning(world: Served) -> None:
    body = io.BytesIO(b"x" * 1_500_000)
    async with world.session.post(f"{world.origin}/upload", data=body) as response:
        assert response.status == 200
    assert world.sandbox.journal[-1].body == b"x" * (1 << 20)
