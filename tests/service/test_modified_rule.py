"""The modified rule, every way: what the mirror makes of each stamp, proven by the requests it sent."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from storing import query, revisions
from world import Answer, Hands, World, world

from proxy.sandbox import Switches

CHECK = "?$select=VersionNumber,ModifiedOn,AccountId"
RISING = Switches(version_number="rising")
HIT = "syncpoint; hit; detail=checked"


def key_of(place: World, number: int = 0) -> uuid.UUID:
    return place.sandbox.organisation.keys("AccountSet")[number]


def path_of(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{key_of(place, number)}')"


def stamp_of(place: World, number: int = 0) -> datetime:
    entity = place.sandbox.organisation.entity("AccountSet", key_of(place, number))
    assert entity is not None
    stamp: datetime = entity["ModifiedOn"]
    return stamp


def change(place: World, values: dict[str, Any], number: int = 0, **how: Any) -> None:
    place.sandbox.organisation.change("AccountSet", key_of(place, number), values, **how)


def counted(place: World, name: str) -> float:
    return place.proxy.metrics.registry.get_sample_value(name, {"entity_set": "AccountSet"}) or 0.0


async def read(place: World, *requests: str, number: int = 0) -> Answer:
    """A read that says what upstream says, and takes just `requests` (below the entity's path)."""
    path = path_of(place, number)
    direct = await place.ask(path, direct=True)
    place.clear()
    answer = await place.ask(path)
    assert (answer.status, answer.text) == (direct.status, place.rooted(direct.text))
    assert place.upstream_requests() == [f"GET {path}{request}" for request in requests]
    return answer


async def test_the_same_stamp_is_in_sync(database_url: str) -> None:
    async with world(database_url) as place:
        await read(place, "")
        for _ in range(2):
            assert (await read(place, CHECK)).cache == HIT
    assert len(revisions(database_url)) == 1


async def test_upstream_newer_is_stored_as_a_refresh(database_url: str) -> None:
    async with world(database_url) as place:
        await read(place, "")
        change(place, {"Name": "Newer"}, modified_on=stamp_of(place) + timedelta(days=1))
        answer = await read(place, CHECK, "")
        assert answer.json()["d"]["Name"] == "Newer"
        assert (await read(place, CHECK)).cache == HIT
    assert revisions(database_url, "source") == ["upstream refresh"] * 2


async def test_in_the_same_second_version_number_tells(database_url: str) -> None:
    async with world(database_url, switches=RISING) as place:
        place.sandbox.clock.freeze()
        change(place, {"Name": "First"})
        await read(place, "")
        assert (await read(place, CHECK)).cache == HIT, "a number that counts writes needs no time to settle"
        before = stamp_of(place)
        change(place, {"Name": "Second"})
        assert stamp_of(place) == before
        assert (await read(place, CHECK, "")).json()["d"]["Name"] == "Second"
        assert (await read(place, CHECK)).cache == HIT


async def test_in_the_same_second_without_version_number_every_read_fetches(database_url: str) -> None:
    hands = Hands()
    async with world(database_url, now=hands.now) as place:
        place.sandbox.clock.freeze()
        change(place, {"Name": "First"})
        await read(place, "")
        before = stamp_of(place)
        change(place, {"Name": "Second"})
        assert stamp_of(place) == before
        assert (await read(place, "")).json()["d"]["Name"] == "Second"
        assert "fwd=stale" in (await read(place, "")).cache
        hands.advance(place, 60)
        await read(place, "")
        assert (await read(place, CHECK)).cache == HIT, "once the second is long over, its stamp is evidence"
        assert counted(place, "syncpoint_lies_total") == 0


async def test_a_stamp_moved_for_nothing_is_no_revision(database_url: str) -> None:
    async with world(database_url) as place:
        await read(place, "")
        change(place, {}, modified_on=stamp_of(place) + timedelta(days=1))
        await read(place, CHECK, "")
        assert (await read(place, CHECK)).cache == HIT
    assert len(revisions(database_url)) == 1


async def test_content_moved_under_its_stamp_is_found_by_the_audit(database_url: str) -> None:
    async with world(database_url, audit=True) as place:
        await read(place, "")
        await read(place, CHECK, "")
        assert counted(place, "syncpoint_lies_total") == 0
        change(place, {"Name": "Silent"}, modified_on="keep", version="keep")
        assert (await read(place, CHECK, "")).json()["d"]["Name"] == "Silent"
        assert counted(place, "syncpoint_lies_total") == 1
        await read(place, CHECK, "")
        assert counted(place, "syncpoint_lies_total") == 1, "one change is one lie, however often it is seen"
    assert len(revisions(database_url)) == 2


async def test_without_the_audit_an_unmoved_stamp_is_believed(database_url: str) -> None:
    async with world(database_url) as place:
        before = await read(place, "")
        change(place, {"Name": "Silent"}, modified_on="keep", version="keep")
        place.clear()
        assert (await place.ask(path_of(place))).body == before.body
        assert place.upstream_requests() == [f"GET {path_of(place)}{CHECK}"]
        fresh = await place.ask(path_of(place), Cache_Control="no-cache")
        assert fresh.json()["d"]["Name"] == "Silent"
        assert counted(place, "syncpoint_lies_total") == 1


async def test_a_set_whose_stamps_lie_too_often_is_forwarded(database_url: str) -> None:
    async with world(database_url, audit=True, sync__lie_limit=1) as place:
        for number in (0, 1):
            await read(place, "", number=number)
            change(place, {"Name": "Silent"}, number, modified_on="keep", version="keep")
            await read(place, CHECK, "", number=number)
        assert counted(place, "syncpoint_sets_forwarded_total") == 1
        assert "detail=forward-mode" in (await read(place, "")).cache


async def test_a_null_modified_on_is_no_evidence(database_url: str) -> None:
    async with world(database_url, switches=Switches(modified_on="null_on_some")) as place:
        organisation = place.sandbox.organisation
        without = [
            number
            for number, key in enumerate(organisation.keys("AccountSet"))
            if (organisation.entity("AccountSet", key) or {})["ModifiedOn"] is None
        ]
        number = without[0]
        for _ in range(2):
            await read(place, "", number=number)
        change(place, {"Name": "Unstamped"}, number)
        assert (await read(place, "", number=number)).json()["d"]["Name"] == "Unstamped"
        assert counted(place, "syncpoint_lies_total") == 0


async def test_a_null_modified_on_beside_a_version_number_is_checked_by_that(database_url: str) -> None:
    switches = Switches(modified_on="null_on_some", version_number="rising")
    async with world(database_url, switches=switches) as place:
        organisation = place.sandbox.organisation
        number = next(
            number
            for number, key in enumerate(organisation.keys("AccountSet"))
            if (organisation.entity("AccountSet", key) or {})["ModifiedOn"] is None
        )
        await read(place, "", number=number)
        assert (await read(place, CHECK, number=number)).cache == HIT
        change(place, {"Name": "Counted"}, number)
        assert (await read(place, CHECK, "", number=number)).json()["d"]["Name"] == "Counted"


async def test_version_number_up_outranks_modified_on_down(database_url: str) -> None:
    async with world(database_url, switches=RISING) as place:
        await read(place, "")
        change(place, {"Name": "Imported"}, modified_on=stamp_of(place).replace(year=2001))
        assert (await read(place, CHECK, "")).json()["d"]["Name"] == "Imported"
        assert (await read(place, CHECK)).cache == HIT
    assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(0,)]


async def restore(place: World, number: int = 0, name: str = "Restored") -> None:
    """Hold a state, then let upstream show an older one with other content."""
    await place.ask(path_of(place, number))
    change(place, {"Name": name}, number, modified_on=stamp_of(place, number).replace(year=2001))
    place.clear()


def open_conflicts(database_url: str) -> int:
    ((count,),) = query(database_url, "SELECT count(*) FROM syncpoint.conflicts WHERE settled_at IS NULL")
    return int(count)


async def test_mirror_newer_is_one_recorded_conflict_until_upstream_moves_on(database_url: str) -> None:
    async with world(database_url) as place:
        latest = stamp_of(place)
        await restore(place)
        path = path_of(place)
        assert (await place.ask(path)).status == 409
        assert place.upstream_requests() == [f"GET {path}{CHECK}", f"GET {path}"]
        place.clear()
        assert (await place.ask(path)).status == 409
        assert place.upstream_requests() == [f"GET {path}"], "a conflicted entity is fetched, not checked"
        assert open_conflicts(database_url) == 1
        assert counted(place, "syncpoint_conflicts_total") == 1
        change(place, {"Name": "Moved on"}, modified_on=latest + timedelta(days=1))
        assert (await read(place, "")).json()["d"]["Name"] == "Moved on"
        assert open_conflicts(database_url) == 0
        assert (await read(place, CHECK)).cache == HIT


async def test_an_older_stamp_on_the_same_content_is_no_conflict(database_url: str) -> None:
    async with world(database_url) as place:
        await read(place, "")
        change(place, {}, modified_on=stamp_of(place).replace(year=2001))
        await read(place, CHECK, "")
        assert (await read(place, CHECK)).cache == HIT
        assert open_conflicts(database_url) == 0
    assert len(revisions(database_url)) == 1


async def test_a_conflicted_row_means_that_its_page_is_forwarded(database_url: str) -> None:
    async with world(database_url) as place:
        page = "/AccountSet?$top=5"
        await place.ask(page)
        await place.idle()
        await restore(place)
        assert (await place.ask(path_of(place))).status == 409
        direct = await place.ask(page, direct=True)
        place.clear()
        answer = await place.ask(page)
        await place.idle()
        assert (answer.status, answer.text) == (200, place.rooted(direct.text))
        assert "detail=rows-moved" in answer.cache
        assert open_conflicts(database_url) == 1


async def test_a_write_to_a_conflicted_entity_settles_it(database_url: str) -> None:
    async with world(database_url) as place:
        await restore(place)
        assert (await place.ask(path_of(place))).status == 409
        assert (await place.merge(path_of(place), '{"Name":"Decided"}')).status == 204
        assert open_conflicts(database_url) == 0
        answer = await place.ask(path_of(place))
        assert (answer.status, answer.json()["d"]["Name"]) == (200, "Decided")


async def test_too_many_conflicts_are_a_restored_upstream(database_url: str) -> None:
    async with world(database_url, sync__conflict_trip=1) as place:
        await restore(place, 0)
        assert (await place.ask(path_of(place, 0))).status == 409
        await restore(place, 1)
        await read(place, CHECK, "", number=1)
        assert counted(place, "syncpoint_sets_forwarded_total") == 1
        for number in (0, 1):
            assert "detail=forward-mode" in (await read(place, "", number=number)).cache
        for number in (2, 3):
            await restore(place, number)
        page = await place.ask("/AccountSet?$top=5")
        assert "detail=forward-mode" in page.cache
        await place.idle()
        assert counted(place, "syncpoint_sets_forwarded_total") == 1, "one alarm, however many rows are older"
    states = query(database_url, "SELECT entity_set FROM syncpoint.set_states WHERE forward_reason <> ''")
    assert states == [("AccountSet",)]


@pytest.mark.parametrize("where", ["defaults__on_conflict", "sets__AccountSet__on_conflict"])
async def test_where_upstream_wins_the_older_state_is_taken(database_url: str, where: str) -> None:
    async with world(database_url, **{where: "upstream-wins"}) as place:
        await restore(place)
        assert (await read(place, CHECK, "")).json()["d"]["Name"] == "Restored"
        assert (await read(place, CHECK)).cache == HIT
        assert open_conflicts(database_url) == 0
    assert len(revisions(database_url)) == 2
