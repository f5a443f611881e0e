"""The first load: whole sets, resumable, at most one page twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lifecycle import a_set, load, mirrored, model_of, pages_asked
from storing import query
from world import World, world

from proxy.reconcile.backfill import Backfill, Load
from proxy.reconcile.progress import Stage
from proxy.sandbox import Fault

ROWS = 230  # five pages
NEXT = "skiptoken"


@pytest.fixture
async def place(database_url):
    async with world(database_url, rows=ROWS) as made:
        yield made


async def test_a_whole_set_is_loaded_by_upstreams_own_pages(place: World, database_url: str) -> None:
    seen: list[Load] = []
    assert await load(place, report=seen.append)
    assert len(mirrored(database_url)) == ROWS
    asked = pages_asked(place)
    assert asked[0] == "/AccountSet"
    assert len(asked) == len(set(asked)) == 5
    assert [step.rows for step in seen] == [0, 50, 100, 150, 200, 230, 230]
    assert (seen[0].state, seen[-1].state) == ("waiting", "done")
    assert query(database_url, "SELECT DISTINCT source FROM syncpoint.revisions") == [("backfill",)]
    place.clear()
    key = place.a_key("AccountSet", 7)
    held = await place.ask(f"/AccountSet(guid'{key}')", Cache_Control="only-if-cached")
    assert held.body.replace(place.proxy.url.encode(), b"") != b""
    direct = await place.ask(f"/AccountSet(guid'{key}')", direct=True)
    assert held.text == place.rooted(direct.text)


async def test_a_page_and_the_place_behind_it_are_one_transaction(place: World, database_url: str) -> None:
    await load(place)
    ((last,),) = query(database_url, "SELECT xmin::text FROM syncpoint.walks")
    recorded = "SELECT count(*) FROM syncpoint.revisions WHERE transaction::text = %s"
    assert query(database_url, recorded, last) == [(ROWS % 50,)]


async def test_what_was_loaded_is_left_alone_unless_told(place: World) -> None:
    assert await load(place)
    place.clear()
    assert await load(place)
    assert pages_asked(place) == []
    assert await load(place, again=True)
    assert len(pages_asked(place)) == 5


async def test_a_load_that_ends_early_goes_on_where_it_was(place: World, database_url: str) -> None:
    class Killed(Exception):
        pass

    def report(step: Load) -> None:
        if step.rows == 150:
            raise Killed

    with pytest.raises(Killed):
        await load(place, report=report)
    before = pages_asked(place)
    place.clear()
    seen: list[Load] = []
    assert await load(place, report=seen.append)
    assert len(mirrored(database_url)) == ROWS
    assert seen[1].resumed == 150
    repeated = set(before) & set(pages_asked(place))
    assert len(repeated) <= 1
    assert len(pages_asked(place)) == 2


async def test_several_sets_are_loaded_and_a_forbidden_one_stops_no_other(place: World) -> None:
    place.sandbox.faults.add(Fault("status", path="/ContactSet", times=99, status=403))
    ended: dict[str, Load] = {}
    done = await Backfill(place.proxy.service, lambda step: ended.update({step.entity_set: step})).run(
        [a_set(place, name) for name in ("AccountSet", "ContactSet", "TaskSet")], model_of(place), at_once=3
    )
    assert not done
    assert [ended[name].state for name in ("AccountSet", "ContactSet", "TaskSet")] == [
        "done",
        "failed",
        "done",
    ]
    assert "403" in ended["ContactSet"].reason


@pytest.mark.parametrize("status", [429, 503])
async def test_a_page_that_upstream_has_no_time_for_is_asked_again(
    place: World, status: int, database_url: str
) -> None:
    place.sandbox.faults.add(Fault("status", path=NEXT, status=status, headers={"Retry-After": "0"}))
    assert await load(place)
    assert len(mirrored(database_url)) == ROWS
    assert len(pages_asked(place)) == 6


async def test_a_reset_connection_is_tried_again(
    place: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reconcile.backfill._PAUSE_S", 0.0)
    for kind in ("reset_before", "cut", "garbled", "html"):
        place.sandbox.faults.add(Fault(kind, path=NEXT))
    assert await load(place)
    assert len(mirrored(database_url)) == ROWS


async def test_a_place_of_another_upstream_begins_anew(place: World, database_url: str, monkeypatch) -> None:
    monkeypatch.setattr("proxy.reconcile.backfill._PAUSE_S", 0.0)
    await load(place)
    query(
        database_url,
        "UPDATE syncpoint.walks SET finished_at = NULL, rows = 50, next_target = %s",
        f"{place.sandbox.root_path}/AccountSet?$skiptoken=1,'nonsense','x','y'",
    )
    query(database_url, 'DELETE FROM mirror."AccountSet"')
    assert await load(place)
    assert len(mirrored(database_url)) == ROWS


async def test_only_one_process_loads_a_set(place: World, monkeypatch) -> None:
    monkeypatch.setattr("proxy.reconcile.backfill._PAUSE_S", 0.0)
    other = await place.proxy.store.acquire_lease("backfill AccountSet", 60)
    assert other is not None
    seen: list[Load] = []
    assert not await load(place, report=seen.append)
    assert seen[-1].reason == "another process is loading it"
    assert pages_asked(place) == []


def answer_instead(place: World, rows: list[dict[str, Any]], next_link: str | None = None) -> None:
    """The next answers to requests for the set, its count included, are these rows."""
    page: dict[str, Any] = {"results": rows} | ({"__next": next_link} if next_link else {})
    place.sandbox.faults.add(
        Fault(
            "status",
            path="/AccountSet",
            times=99,
            status=200,
            body=json.dumps({"d": page}),
            headers={"Content-Type": "application/json"},
        )
    )


async def some_rows(place: World, count: int) -> list[dict[str, Any]]:
    page = await place.ask(f"/AccountSet?$top={count}", direct=True)
    rows: list[dict[str, Any]] = page.json()["d"]["results"]
    return rows


async def test_a_page_that_repeats_rows_stores_each_once(place: World, database_url: str) -> None:
    rows = await some_rows(place, 2)
    answer_instead(place, [*rows, *rows, rows[0]])
    assert await load(place)
    assert len(mirrored(database_url)) == 2
    assert query(database_url, "SELECT count(*) FROM syncpoint.revisions") == [(2,)]


async def test_a_link_to_the_same_page_ends_the_load_and_says_so(place: World, monkeypatch) -> None:
    monkeypatch.setattr("proxy.reconcile.backfill._PAUSE_S", 0.0)
    answer_instead(place, [], f"http://elsewhere{place.sandbox.root_path}/AccountSet")
    seen: list[Load] = []
    assert not await load(place, report=seen.append)
    assert "same page" in seen[-1].reason


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Name", "nul \x00 and a lone \ud800 surrogate", "nul \ufffd and a lone \ufffd surrogate"),
        ("CreatedOn", "/Date(-62135596800000)/", "0001-01-01 00:00:00"),
        ("CreatedOn", "/Date(253402300799999)/", "9999-12-31 23:59:59.999"),
        ("CreatedOn", "9999-12-31T23:59:59.9999999", "9999-12-31 23:59:59.999999"),
        ("ModifiedOn", None, None),
    ],
)
async def test_odd_values_are_loaded_and_shown_as_upstream_wrote_them(
    place: World, database_url: str, name: str, value: str | None, shown: str | None
) -> None:
    (row,) = await some_rows(place, 1)
    row[name] = value
    answer_instead(place, [row])
    assert await load(place)
    ((held,),) = query(database_url, f'SELECT "{name}"::text FROM mirror."AccountSet"')
    assert held == shown
    cached = await place.ask(f"/AccountSet(guid'{row['AccountId']}')", Cache_Control="only-if-cached")
    assert cached.json()["d"][name] == value


async def test_an_entity_that_does_not_fit_is_told_and_left_out(place: World, database_url: str) -> None:
    rows = await some_rows(place, 3)
    rows[1]["CreatedOn"] = "/Date(999999999999999999)/"
    del rows[2]["Name"]
    answer_instead(place, rows)
    assert await load(place)
    assert [str(key) for key in mirrored(database_url, column="AccountId")] == [rows[0]["AccountId"]]
    told = place.proxy.metrics.registry.get_sample_value(
        "syncpoint_entities_unreadable_total", {"entity_set": "AccountSet"}
    )
    assert told == 2


async def test_a_load_takes_nothing_from_a_write_under_way(place: World, database_url: str) -> None:
    await load(place)
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    place.sandbox.faults.add(Fault("applied_no_answer", method="MERGE"))
    assert (await place.merge(path, '{"Name":"Unanswered"}')).status == 504
    await load(place, again=True)
    walk = await place.proxy.store.walk(Stage.BACKFILL, a_set(place))
    assert walk is not None
    assert walk.finished_at
    assert (await place.ask(path, Cache_Control="only-if-cached")).status == 504
