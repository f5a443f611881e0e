"""Following upstream's changes, and answering by age."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lifecycle import load, model_of, pages_asked
from storing import query
from world import World, world

from proxy.odata.csdl import parse_metadata
from proxy.sandbox import Fault, Switches
from proxy.sandbox.metadata import small_document


class Time:
    """The proxy's clock."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def pass_by(self, place: World, seconds: float) -> None:
        """Let both clocks show so much more, and forget what was cached for a moment."""
        self.passed += timedelta(seconds=seconds)
        place.sandbox.clock.advance(seconds)
        place.proxy.service.sets._following.clear()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def place(database_url: str, time: Time) -> AsyncIterator[World]:
    async with world(database_url, rows=120, now=time, sets__AccountSet__mode="bounded") as made:
        assert await load(made)
        time.pass_by(made, 600)
        made.clear()
        yield made


async def poll(place: World) -> list[str]:
    """What one poll asked for."""
    place.clear()
    await place.proxy.poller.poll(model_of(place))
    return pages_asked(place)


def change(place: World, number: int, **values: Any) -> str:
    """Somebody else changes an entity; its path."""
    key = place.sandbox.organisation.keys("AccountSet")[number]
    place.sandbox.organisation.change("AccountSet", key, values)
    return f"/AccountSet(guid'{key}')"


async def held_name(place: World, path: str) -> str:
    answer = await place.ask(path, Cache_Control="only-if-cached, max-age=100000000")
    return str(answer.json()["d"]["Name"])


async def test_a_change_is_fetched_and_an_idle_set_takes_one_request(place: World, time: Time) -> None:
    assert len(await poll(place)) == 1
    assert len(await poll(place)) == 1
    path = change(place, 7, Name="Elsewhere")
    time.pass_by(place, 30)
    stamps, fetch = await poll(place)
    assert "$select=ModifiedOn" in stamps or "$select=VersionNumber" in stamps
    assert "$orderby=ModifiedOn,AccountId" in stamps
    assert "AccountId%20eq" in fetch
    assert await held_name(place, path) == "Elsewhere"
    time.pass_by(place, 600)
    assert len(await poll(place)) == 1, "what was seen is seen"


async def test_changes_that_share_a_second_or_commit_late_are_not_lost(place: World, time: Time) -> None:
    await poll(place)
    paths = [change(place, number, Name=f"n{number}") for number in range(70)]
    await poll(place)
    time.pass_by(place, 10)
    key = place.sandbox.organisation.keys("AccountSet")[100]
    stamp = (place.sandbox.clock.now() - timedelta(seconds=250)).replace(microsecond=0, tzinfo=None)
    place.sandbox.organisation.tables.change("AccountSet", key, {"Name": "late", "ModifiedOn": stamp})
    time.pass_by(place, 10)
    await poll(place)
    assert [await held_name(place, path) for path in paths] == [f"n{number}" for number in range(70)]
    assert await held_name(place, f"/AccountSet(guid'{key}')") == "late"


async def test_once_a_day_it_looks_back_further(place: World, time: Time) -> None:
    await poll(place)
    time.pass_by(place, 80_000)
    await poll(place)
    key = place.sandbox.organisation.keys("AccountSet")[100]
    stamp = (place.sandbox.clock.now() - timedelta(hours=5)).replace(microsecond=0, tzinfo=None)
    place.sandbox.organisation.tables.change("AccountSet", key, {"Name": "very late", "ModifiedOn": stamp})
    await poll(place)
    assert await held_name(place, f"/AccountSet(guid'{key}')") != "very late"
    time.pass_by(place, 7_000)
    await poll(place)
    assert await held_name(place, f"/AccountSet(guid'{key}')") == "very late"


async def test_what_changed_while_the_set_was_loaded_is_followed(database_url: str, time: Time) -> None:
    async with world(database_url, rows=120, now=time) as place:
        path = ""

        def report(step: Any) -> None:
            nonlocal path
            if step.rows == 100:
                path = change(place, 3, Name="moved meanwhile")

        assert await load(place, report=report)
        time.pass_by(place, 86_000)
        await poll(place)
        assert await held_name(place, path) == "moved meanwhile"


async def test_a_poll_that_ends_early_goes_on_from_the_pages_it_had(place: World, time: Time) -> None:
    await poll(place)
    for number in range(110):
        time.pass_by(place, 30)
        change(place, number, Name=f"n{number}")
    before = query_watermark(place)
    place.sandbox.faults.add(Fault("status", path="skiptoken", times=1, status=500))
    await poll(place)
    assert query_watermark(place) > before, "the first page need not be asked again"
    await poll(place)
    assert await held_name(place, f"/AccountSet(guid'{place.a_key('AccountSet', 109)}')") == "n109"


def query_watermark(place: World) -> datetime:
    ((watermark,),) = query(place.proxy.store._connections._url, "SELECT watermark FROM syncpoint.following")
    return watermark  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["html", "garbled", "cut", "reset_before"])
async def test_a_broken_answer_moves_no_watermark(place: World, time: Time, kind: Any) -> None:
    await poll(place)
    path = change(place, 7, Name="Elsewhere")
    before = query_watermark(place)
    time.pass_by(place, 30)
    place.sandbox.faults.add(Fault(kind, path="ModifiedOn"))
    await poll(place)
    assert query_watermark(place) == before
    await poll(place)
    assert await held_name(place, path) == "Elsewhere"


async def test_upstreams_clock_may_jump_back(place: World, time: Time) -> None:
    await poll(place)
    time.pass_by(place, 30)
    place.sandbox.clock.advance(-7200)
    path = change(place, 7, Name="in the past")
    time.passed += timedelta(seconds=30)
    place.sandbox.clock.advance(30)
    await poll(place)
    assert await held_name(place, path) == "in the past"
    told = change(place, 8, Name="later in the past")
    await poll(place)
    assert await held_name(place, told) == "later in the past"


async def test_a_watermark_of_another_upstream_loses_nothing(place: World, time: Time) -> None:
    await poll(place)
    query(
        place.proxy.store._connections._url,
        "UPDATE syncpoint.following SET watermark = '9999-12-31T23:59:59'",
    )
    path = change(place, 7, Name="Elsewhere")
    time.pass_by(place, 30)
    await poll(place)
    assert await held_name(place, path) == "Elsewhere"
    assert query_watermark(place).year < 3000


@pytest.mark.parametrize("year", [1, 9999])
async def test_a_modified_date_at_the_ends_of_time_stops_nothing(place: World, time: Time, year: int) -> None:
    await poll(place)
    key = place.sandbox.organisation.keys("AccountSet")[3]
    odd = datetime(year, 1, 1, 0, 0, 1)
    place.sandbox.organisation.tables.change("AccountSet", key, {"Name": "odd", "ModifiedOn": odd})
    path = change(place, 7, Name="Elsewhere")
    time.pass_by(place, 30)
    await poll(place)
    await poll(place)
    assert await held_name(place, path) == "Elsewhere"
    assert query_watermark(place).year not in (1, 9999)
    answer = await place.ask(f"/AccountSet(guid'{key}')")
    assert answer.status == (200 if year == 9999 else 409), "what upstream shows as older is a conflict"


async def test_a_set_without_modified_on_is_not_polled_and_says_so(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = parse_metadata(small_document())
    name = next(name for name, s in model.entity_sets.items() if "ModifiedOn" not in s.entity_type.properties)
    async with world(database_url, **{f"sets__{name}__mode": "bounded"}) as place:
        seen: list[object] = []
        object.__setattr__(place.proxy.service, "observe", seen.append)
        await poll(place)
        await poll(place)
        assert pages_asked(place, name) == []
        assert [type(event).__name__ for event in seen] == ["SetNotFollowed"]


# Mode bounded


async def swept(place: World) -> None:
    await place.proxy.sweeper.sweep(model_of(place))


async def test_an_answer_by_age_takes_no_request_and_tells_the_older_of_poll_and_sweep(
    place: World, time: Time
) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await poll(place)
    await swept(place)
    time.pass_by(place, 20)
    await poll(place)
    time.pass_by(place, 10)
    place.clear()
    answer = await place.ask(path)
    assert place.upstream_requests() == []
    assert answer.cache == "syncpoint; hit; detail=age-allowed"
    assert 30 <= int(answer.headers["Age"]) <= 35
    direct = await place.ask(path, direct=True)
    assert answer.text == place.rooted(direct.text)
    for alone in (await place.ask(path, Cache_Control="only-if-cached"), await place.mirror(path)):
        assert 30 <= int(alone.headers["Age"]) <= 35
    time.pass_by(place, 40)
    await poll(place)
    place.clear()
    answer = await place.ask(path)
    assert "detail=checked" in answer.cache, "the sweep is too old, though the poll is not"
    assert len(place.upstream_requests()) == 1


async def test_deletes_may_lag_where_the_policy_says_so(database_url: str, time: Time) -> None:
    lag = {"sets__AccountSet__mode": "bounded", "sets__AccountSet__deletes_may_lag": True}
    async with world(database_url, rows=60, now=time, **lag) as place:
        await load(place)
        time.pass_by(place, 600)
        await poll(place)
        time.pass_by(place, 10)
        place.clear()
        answer = await place.ask(f"/AccountSet(guid'{place.a_key('AccountSet')}')")
        assert place.upstream_requests() == []
        assert 10 <= int(answer.headers["Age"]) <= 15


async def test_a_request_may_ask_for_less_age_than_the_policy_allows(place: World, time: Time) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await poll(place)
    await swept(place)
    time.pass_by(place, 30)
    for directive, detail in (
        ("max-age=10", "checked"),
        ("max-age=0", "checked"),
        ("max-age=59", "age-allowed"),
    ):
        place.proxy.service.sets._following.clear()
        answer = await place.ask(path, Cache_Control=directive)
        assert detail in answer.cache
        time.pass_by(place, 30)
        await poll(place)
        await swept_anew(place)


async def swept_anew(place: World) -> None:
    query(place.proxy.store._connections._url, "DELETE FROM syncpoint.walks WHERE stage = 'sweep'")
    await swept(place)


async def test_credentials_are_always_confirmed(place: World, time: Time) -> None:
    await poll(place)
    await swept(place)
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    place.clear()
    answer = await place.ask(path, Authorization="Basic eDp5")
    assert "checked" in answer.cache
    assert len(place.upstream_requests()) == 1


async def test_a_null_modified_on_is_no_evidence(database_url: str, time: Time) -> None:
    async with world(
        database_url,
        rows=60,
        now=time,
        switches=Switches(modified_on="null_on_some"),
        sets__AccountSet__mode="bounded",
    ) as place:
        await load(place)
        time.pass_by(place, 600)
        await poll(place)
        await swept(place)
        keys = place.sandbox.organisation.keys("AccountSet")
        key = next(key for key in keys if place.sandbox.organisation.tables.hides_modified_on(key))
        place.sandbox.organisation.tables.change("AccountSet", key, {"Name": "unseen"})
        time.pass_by(place, 70)
        await poll(place)
        await swept_anew(place)
        place.sandbox.organisation.tables.change("AccountSet", key, {"Name": "unseen again"})
        time.pass_by(place, 70)
        await poll(place)
        answer = await place.ask(f"/AccountSet(guid'{key}')")
        assert answer.json()["d"]["Name"] == "unseen again"
