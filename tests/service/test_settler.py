"""Writes that nobody answered end by what upstream shows, as soon as the rule allows it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lifecycle import load, model_of
from storing import query
from world import World, world

from proxy.sandbox import Fault

OUTCOMES = "SELECT outcome FROM syncpoint.intents ORDER BY id"


class Time:
    """Stands still, so that however slow a test is, only what it says has passed."""

    def __init__(self) -> None:
        self.start = datetime.now(UTC)
        self.passed = timedelta(0)

    def __call__(self) -> datetime:
        return self.start + self.passed


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def place(database_url: str, time: Time) -> AsyncIterator[World]:
    async with world(database_url, now=time) as made:
        yield made


async def settle(place: World) -> list[Any]:
    await place.proxy.settler.settle(model_of(place))
    return [outcome for (outcome,) in query(place.proxy.store._connections._url, OUTCOMES)]


async def test_what_a_living_process_sends_is_left_to_it(place: World, database_url: str) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.ask(path)
    place.sandbox.faults.add(Fault("applied_no_answer", method="MERGE"))
    assert (await place.merge(path, '{"Name":"Written"}')).status == 504
    query(database_url, "UPDATE syncpoint.intents SET holder = 'other'")
    other = "INSERT INTO syncpoint.leases VALUES ('other', 'other', 1, now() + interval '1 hour')"
    query(database_url, other)
    assert await settle(place) == [None]
    query(database_url, "UPDATE syncpoint.leases SET expires_at = now() WHERE name = 'other'")
    assert await settle(place) == ["applied"], "as soon as its lease has run out"


async def test_one_that_cannot_be_looked_at_holds_up_no_other(place: World) -> None:
    first, second = (f"/AccountSet(guid'{place.a_key('AccountSet', number)}')" for number in (0, 1))
    for path in (first, second):
        await place.ask(path)
        place.sandbox.faults.add(Fault("applied_no_answer", method="MERGE"))
        assert (await place.merge(path, '{"Name":"Written"}')).status == 504
    place.sandbox.faults.add(Fault("reset_before", method="GET", path=place.a_key("AccountSet", 0)))
    assert await settle(place) == [None, "applied"]
    assert await settle(place) == ["applied", "applied"]


async def test_looks_are_spaced_and_one_comes_at_the_moment_that_decides(place: World, time: Time) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await load(place)
    place.sandbox.faults.add(Fault("reset_before", method="MERGE"))
    assert (await place.merge(path, '{"Name":"Lost"}')).status == 504
    service, model = place.proxy.service, model_of(place)
    looked_at = []
    for second in range(310):
        time.passed = timedelta(seconds=second)
        place.clear()
        await place.proxy.settler._settle_due(service, model)
        if place.upstream_requests():
            looked_at.append(second)
    assert looked_at[0] == 0
    assert len(looked_at) < 45
    assert max(b - a for a, b in itertools.pairwise(looked_at)) <= 16
    assert 300 <= looked_at[-1] <= 302
    assert await settle(place) == ["refused"]


async def test_background_work_says_who_it_is(database_url: str) -> None:
    login = {"upstream__service__headers": {"Authorization": "Bearer secret-1"}}
    async with world(database_url, **login) as place:
        await load(place)
        asked = [entry for entry in place.sandbox.journal if "AccountSet" in entry.target]
        assert {entry.headers.get("Authorization") for entry in asked} == {"Bearer secret-1"}
        place.clear()
        await place.ask("/AccountSet?$top=1")
        assert all("Authorization" not in entry.headers for entry in place.sandbox.journal), "not clients'"
