"""Answers that the proxy cannot read, or will not hold: the client gets them all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from world import World, world

from proxy.odata.atom import mask_updated
from proxy.sandbox import Fault

BROTLI = b"\x0b\x02\x80hello\x03"
CODED = {"Content-Type": "application/json", "Content-Encoding": "br", "X-Told": "1"}
LIMIT = 100_000  # the metadata is within it, a page of accounts is not


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, upstream__reply_limit_bytes=LIMIT) as made:
        yield made


def path_of(place: World) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet')}')"


async def raw(place: World, method: str, path: str, body: bytes | None = None) -> tuple[int, str, str, bytes]:
    """Status, two headers and the body as they cross the wire, seen by a client that decodes nothing."""
    headers = {"Accept": "application/json", "Accept-Encoding": "br", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, place.proxy_root + path, headers=headers, data=body) as response,
    ):
        shown = (response.headers.get("Content-Encoding", ""), response.headers.get("X-Told", ""))
        return response.status, *shown, await response.read()


@pytest.mark.parametrize("path", ["", "?$select=Name", "/Name"])
@pytest.mark.parametrize("warm", [False, True])
async def test_a_coding_that_nobody_asked_for_is_relayed_and_not_stored(
    place: World, path: str, warm: bool
) -> None:
    entity = path_of(place)
    if warm:
        await place.ask(entity)
    place.sandbox.faults.add(Fault(kind="status", status=200, body=BROTLI, headers=CODED, times=100))
    assert await raw(place, "GET", entity + path) == (200, "br", "1", BROTLI)
    await place.idle()
    place.sandbox.faults.clear()
    assert (await place.ask(entity)).text == place.rooted((await place.ask(entity, direct=True)).text)


async def test_what_says_that_it_is_coded_is_not_taken_for_plain(place: World) -> None:
    shown = (await place.ask(path_of(place), direct=True)).body
    place.sandbox.faults.add(Fault(kind="status", status=200, body=shown, headers=CODED, times=100))
    assert (await raw(place, "GET", path_of(place)))[:3] == (200, "br", "1")
    await place.idle()
    assert (await place.ask(path_of(place), Cache_Control="only-if-cached")).status == 504


@pytest.mark.parametrize("status", [201, 400])
async def test_the_answer_to_a_write_is_relayed_in_any_coding(place: World, status: int) -> None:
    place.sandbox.faults.add(Fault(kind="status", status=status, body=BROTLI, headers=CODED, method="POST"))
    assert await raw(place, "POST", "/AccountSet", b'{"Name":"A"}') == (status, "br", "1", BROTLI)


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize("path", ["/AccountSet", "/AccountSet?$top=40&$select=*", "/AccountSet?$skip=1"])
async def test_a_read_over_the_limit_is_streamed(small: World, path: str, accept: str) -> None:
    direct = await small.ask(path, direct=True, Accept=accept)
    await small.ask(path_of(small))
    assert len(direct.body) > LIMIT
    for _ in range(2):
        answer = await small.ask(path, Accept=accept)
        # A feed says when it was written; between two answers a second may begin.
        assert (answer.status, mask_updated(answer.text)) == (direct.status, mask_updated(direct.text))
        assert answer.headers["Content-Type"] == direct.headers["Content-Type"]


async def test_the_answer_to_a_write_over_the_limit_is_cut(small: World) -> None:
    long = b"x" * (LIMIT * 2)
    small.sandbox.faults.add(
        Fault(kind="status", status=400, body=long, headers={"X-Told": "1"}, method="MERGE")
    )
    headers = {"Content-Type": "application/json"}
    async with small.session.request(
        "MERGE", small.proxy_root + path_of(small), headers=headers, data=b'{"Name":"A"}'
    ) as response:
        assert (response.status, response.headers["X-Told"]) == (400, "1")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert await small.proxy.store.open_intents() == []
