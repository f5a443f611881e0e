"""The sweep for deletes: only upstream's own word makes a tombstone, and what looks wrong stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from lifecycle import a_set, load, mirrored, model_of
from storing import query
from world import World, world

from proxy.reconcile.progress import Stage
from proxy.sandbox import Fault

ROWS = 230


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, rows=ROWS, background__sweep_pages_per_s=1e6) as made:
        assert await load(made)
        made.clear()
        yield made


async def sweep(place: World) -> list[str]:
    """Sweep as if it were due; what was asked for."""
    place.clear()
    finished = "DELETE FROM syncpoint.walks WHERE stage = 'sweep' AND finished_at IS NOT NULL"
    query(place.proxy.store._connections._url, finished)
    await place.proxy.sweeper.sweep(model_of(place))
    return place.upstream_requests()


def remove(place: World, *numbers: int) -> list[str]:
    """Somebody else deletes entities; their keys."""
    keys = [place.sandbox.organisation.keys("AccountSet")[number] for number in numbers]
    for key in keys:
        place.sandbox.organisation.remove("AccountSet", key)
    return [str(key) for key in keys]


def tombstones(url: str) -> set[str]:
    rows = query(url, 'SELECT "AccountId"::text FROM mirror."AccountSet" WHERE deleted_at IS NOT NULL')
    return {key for (key,) in rows}


def findings(url: str) -> list[Any]:
    return query(url, "SELECT kind, accepted, spent FROM syncpoint.findings ORDER BY id")


async def test_deletes_are_found_and_nothing_else_is(place: World, database_url: str) -> None:
    gone = remove(place, 0, 60, 61, 229)
    asked = await sweep(place)
    assert tombstones(database_url) == set(gone)
    assert len(mirrored(database_url)) == ROWS - 4
    own = [target for target in asked if "(guid'" in target]
    assert sorted(own) == sorted(f"GET /AccountSet(guid'{key}')" for key in gone)
    assert len(asked) - len(own) == 5, "as many pages as there are"
    last = "SELECT source, deleted FROM syncpoint.revisions ORDER BY id DESC LIMIT 1"
    assert query(database_url, last) == [("sweep", True)]
    assert len(await sweep(place)) == 5
    assert tombstones(database_url) == set(gone)


async def test_a_sweep_is_not_due_twice(place: World) -> None:
    await sweep(place)
    place.clear()
    await place.proxy.sweeper.sweep(model_of(place))
    assert place.upstream_requests() == []


async def test_missing_in_the_list_is_no_delete(place: World, database_url: str) -> None:
    """Rights that changed hide an entity from lists; its own URL tells, and so does any other 404."""
    keys = place.sandbox.organisation.keys("AccountSet")
    hidden, forbidden, odd = sorted(map(str, (keys[3], keys[70], keys[140])))
    real = place.sandbox._service._reads._queries.page

    def page(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        shown = [key for key in found.keys if str(key) not in (hidden, forbidden, odd)]
        return type(found)(shown, found.next_query, found.count)

    place.sandbox._service._reads._queries.page = page
    place.sandbox.faults.add(Fault("status", path=f"AccountSet(guid'{forbidden}')", status=403))
    place.sandbox.faults.add(Fault("status", path=f"AccountSet(guid'{odd}')", status=404, body="Not Found"))
    asked = await sweep(place)
    assert sum("(guid'" in target for target in asked) == 3
    assert tombstones(database_url) == set()
    assert len(mirrored(database_url)) == ROWS
    assert findings(database_url) == []


async def test_a_set_suddenly_empty_stops_and_asks(place: World, database_url: str) -> None:
    remove(place, *range(ROWS))
    asked = await sweep(place)
    assert findings(database_url) == [("empty", None, False)]
    assert len(asked) == 1, "nobody is asked for by its own URL"
    assert await sweep(place) == [], "and nothing more until the operator has answered"
    assert tombstones(database_url) == set()
    query(database_url, "UPDATE syncpoint.findings SET accepted = true")
    await sweep(place)
    assert len(tombstones(database_url)) == ROWS
    assert findings(database_url) == [("empty", True, True)]


async def test_more_than_a_share_missing_stops_and_asks(place: World, database_url: str) -> None:
    gone = remove(place, *range(100, 112))  # the share is 11
    await sweep(place)
    assert findings(database_url) == [("many missing", None, False)]
    assert tombstones(database_url) == set()
    query(database_url, "UPDATE syncpoint.findings SET accepted = false")
    await sweep(place)
    assert [kind for kind, *_ in findings(database_url)] == ["many missing", "many missing"]
    query(database_url, "UPDATE syncpoint.findings SET accepted = true WHERE accepted IS NULL")
    await sweep(place)
    assert tombstones(database_url) == set(gone)
    remove(place, *range(12))
    await sweep(place)
    assert findings(database_url)[-1] == ("many missing", None, False), "an answer holds for one sweep"


async def test_a_share_of_the_set_is_no_question(place: World, database_url: str) -> None:
    gone = remove(place, *range(100, 111))
    await sweep(place)
    assert findings(database_url) == []
    assert tombstones(database_url) == set(gone)


async def test_a_sweep_that_ends_early_goes_on_where_it_was(place: World, database_url: str) -> None:
    gone = remove(place, 10, 220)
    place.sandbox.faults.add(Fault("status", path="$skiptoken=3", status=500))
    first = await sweep(place)
    walk = await place.proxy.store.walk(Stage.SWEEP, a_set(place))
    assert walk is not None
    assert not walk.finished_at
    assert tombstones(database_url) == set()
    second = await sweep(place)
    assert tombstones(database_url) == set(gone)
    assert len([target for target in first if "$orderby" in target]) == 4
    assert len([target for target in second if "$orderby" in target]) == 2


async def test_what_moved_or_came_unseen_is_fetched(place: World, database_url: str) -> None:
    key = place.sandbox.organisation.keys("AccountSet")[5]
    place.sandbox.organisation.change("AccountSet", key, {"Name": "moved"})
    new = place.sandbox.organisation.insert("AccountSet", {"Name": "new"})
    await sweep(place)
    for which, name in ((key, "moved"), (new, "new")):
        held = await place.ask(f"/AccountSet(guid'{which}')", Cache_Control="only-if-cached")
        assert held.json()["d"]["Name"] == name


async def test_what_is_made_while_the_sweep_looks_is_not_missed(place: World, database_url: str) -> None:
    """An entity stored after the page was asked for cannot be missing from it."""
    held = place.sandbox.faults.add(Fault("hold", path="$orderby=AccountId"))
    sweeping = asyncio.create_task(sweep(place))
    await held.reached.wait()
    made = await place.ask("/AccountSet", "POST", body=b'{"Name":"Made"}', Content_Type="application/json")
    key = made.json()["d"]["AccountId"]
    place.sandbox.faults.add(Fault("status", path=f"AccountSet(guid'{key}')", status=404, times=9))
    assert held.event is not None
    held.event.set()
    await sweeping
    assert key not in tombstones(database_url)


async def test_an_entity_with_an_open_write_is_left_to_its_writer(place: World, database_url: str) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet', 7)}')"
    place.sandbox.faults.add(Fault("applied_no_answer", method="DELETE"))
    assert (await place.ask(path, "DELETE")).status == 504
    await sweep(place)
    assert tombstones(database_url) == set()
    await place.proxy.settler.settle(model_of(place))
    assert len(tombstones(database_url)) == 1
