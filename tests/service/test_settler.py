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
    def __init__(self) -> None:
        self.passed = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed


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


async def create(place: World, body: bytes, kind: Any) -> None:
    place.sandbox.faults.add(Fault(kind, method="POST"))
    answer = await place.ask("/AccountSet", "POST", body=body, Content_Type="application/json")
    assert answer.status == 504


async def test_an_unanswered_create_is_found_by_what_it_posted(place: World, database_url: str) -> None:
    await create(place, b'{"Name":"Made","Telephone1":"1"}', "applied_no_answer")
    assert await settle(place) == ["applied"]
    names = query(database_url, 'SELECT "Name" FROM mirror."AccountSet"')
    assert names == [("Made",)]
    source = query(database_url, "SELECT source, method FROM syncpoint.revisions")
    assert source == [("client write", "CreateEntity")]


async def test_a_create_that_never_arrived_is_refused_once_it_cannot_arrive(place: World, time: Time) -> None:
    await create(place, b'{"Name":"Lost"}', "reset_before")
    assert await settle(place) == [None]
    time.passed = timedelta(seconds=200)
    assert await settle(place) == [None]
    time.passed = timedelta(seconds=301)
    assert await settle(place) == ["refused"]


async def test_a_create_is_not_mistaken_for_one_that_was_answered(place: World, time: Time) -> None:
    body = b'{"Name":"Twice"}'
    await create(place, body, "reset_before")
    answered = await place.ask("/AccountSet", "POST", body=body, Content_Type="application/json")
    assert answered.status == 201
    time.passed = timedelta(seconds=301)
    assert await settle(place) == ["refused", "applied"]


async def test_two_equal_creates_are_never_guessed(place: World, time: Time) -> None:
    body = b'{"Name":"Twins"}'
    await create(place, body, "applied_no_answer")
    await create(place, body, "reset_before")
    assert await settle(place) == [None, None]
    time.passed = timedelta(seconds=301)
    assert await settle(place) == ["undetermined", "undetermined"]


@pytest.mark.parametrize("hours", [-30, 30])
async def test_upstreams_clock_may_be_far_from_ours(place: World, hours: int) -> None:
    place.sandbox.clock.advance(hours * 3600)
    await place.ask("/AccountSet?$top=1")  # whose Date tells
    await create(place, b'{"Name":"Elsewhen"}', "applied_no_answer")
    assert await settle(place) == ["applied"]


async def test_a_create_with_a_key_of_its_own_is_looked_for_there(place: World, time: Time) -> None:
    key = "11111111-2222-3333-4444-555555555555"
    body = b'{"AccountId":"%s","Name":"Keyed"}' % key.encode()
    await create(place, body, "applied_no_answer")
    place.clear()
    assert await settle(place) == ["applied"]
    assert place.upstream_requests() == [f"GET /AccountSet(guid'{key}')"]
    await create(place, body.replace(b"1111-", b"9999-"), "reset_before")
    time.passed = timedelta(seconds=301)
    assert await settle(place) == ["applied", "refused"]


async def test_a_set_that_does_not_say_when_leaves_it_undetermined(database_url: str, time: Time) -> None:
    async with world(database_url, now=time) as place:
        await create(place, b'{"Name":"Past","OverriddenCreatedOn":"2001-01-01T00:00:00"}', "reset_before")
        time.passed = timedelta(seconds=301)
        assert await settle(place) == ["undetermined"]


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
