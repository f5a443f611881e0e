"""Answers of upstream's that do not come whole, wherever the proxy meets one: never a bug of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from world import World, world
from yarl import URL

from proxy.sandbox import Fault

NAME = b'{"Name":"Written"}'
POSTED = {"Content-Type": "application/json"}


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


def path_of(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


async def seen(place: World, path: str, accept: str = "application/json") -> tuple[int, bool]:
    """The status of a GET, and whether its body came whole."""
    target = URL(place.proxy_root + path, encoded=True)
    async with place.session.get(target, headers={"Accept": accept}) as response:
        try:
            await response.read()
        except aiohttp.ClientPayloadError:
            return response.status, False
        return response.status, True


PATHS = [
    "{entity}",
    "{entity}?$select=Name",
    "{entity}?$expand=account_primary_contact",
    "{entity}/Name",
    "{entity}/$links/account_primary_contact",
    "/AccountSet?$top=3",
    "/AccountSet?$top=3&$select=Name",
    "/$metadata",
    "/",
    "",
]


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize("warm", [False, True])
async def test_where_every_answer_is_cut_the_clients_is_too(place: World, warm: bool, accept: str) -> None:
    for number, path in enumerate(PATHS):
        path = path.format(entity=path_of(place, number))
        for _ in range(3 if warm else 0):
            await place.ask(path, Accept=accept)
            await place.ask(path_of(place, number))
            await place.idle()
        place.sandbox.faults.add(Fault(kind="cut", times=100))
        assert await seen(place, path, accept) == (200, False), path
        await place.idle()
        place.sandbox.faults.clear()
        assert await seen(place, path, accept) == (200, True), path


async def test_pass_through_is_cut_as_upstream_was(place: World) -> None:
    place.sandbox.faults.add(Fault(kind="cut", times=100))
    async with place.session.get(place.proxy.url + "/gzip") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("method", "status"), [("MERGE", 204), ("PUT", 204), ("DELETE", 204)])
async def test_looks_before_and_after_a_write_that_are_cut_do_not_fail_it(
    place: World, method: str, status: int, held: bool
) -> None:
    path = path_of(place)
    if held:
        await place.ask(path)
    place.sandbox.faults.add(Fault(kind="cut", method="GET", times=100))
    body = None if method == "DELETE" else NAME
    answer = await place.ask(path, method, body=body, Content_Type="application/json")
    assert (answer.status, answer.cache) == (status, f"syncpoint; fwd=method; fwd-status={status}")
    place.sandbox.faults.clear()
    place.proxy.sweeper.grace_s = 0
    model = place.proxy.metadata.model
    assert model is not None
    await place.proxy.sweeper.sweep(model)
    assert await place.proxy.store.open_intents() == []


async def test_a_sweep_that_is_cut_is_made_again(place: World) -> None:
    path = path_of(place)
    place.sandbox.faults.add(Fault(kind="applied_no_answer", method="MERGE"))
    assert (await place.merge(path, NAME.decode())).status == 504
    place.sandbox.faults.add(Fault(kind="cut", method="GET"))
    place.proxy.sweeper.grace_s = 0
    model = place.proxy.metadata.model
    assert model is not None
    for left in (1, 0):
        await place.proxy.sweeper.sweep(model)
        assert len(await place.proxy.store.open_intents()) == left


async def test_joined_checks_that_are_cut_fall_back_each_for_itself(place: World) -> None:
    path = path_of(place)
    before = await place.ask(path)
    place.sandbox.faults.add(Fault(kind="cut", path="$select=", times=100))
    for answer in await asyncio.gather(*(place.ask(path) for _ in range(5))):
        assert (answer.status, answer.body) == (200, before.body)
