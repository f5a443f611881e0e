"""The history on a real Postgres: what a revision says, as-of reads, and what retention leaves."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storing import ACCOUNTS, NOW, REFRESH, WRITE, account, an_intent, query, state

from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Outcome, Query, Settlement, Source, Touched
from proxy.reconcile.stamp import Stamp
from proxy.store import PostgresStore


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2020, 1, day, hour, tzinfo=UTC)


def shown(number: int, fetch_number: int, day: int | None, **values: Any) -> Any:
    """A state modified on that day of January 2020."""
    document = json.dumps({"__metadata": {"uri": f"origin/{fetch_number}"}, **values})
    document = document.replace("origin", "\x01")
    modified = day and at(day).replace(tzinfo=None)
    return state(
        account(number), fetch_number, document, document=document, stamp=Stamp(modified, fetch_number)
    )


async def history(store: PostgresStore, number: int = 1) -> list[Revision]:
    """Oldest first."""
    return [*reversed(await store.revisions(ACCOUNTS, account(number)))]


async def put(store: PostgresStore, *states: Any) -> None:
    for one in states:
        await store.put(ACCOUNTS, [one], REFRESH)


async def test_a_revision_names_what_changed_and_since_when(store: PostgresStore) -> None:
    await put(
        store,
        shown(1, 1, 1, Name="a", City="x", Odd='\x00 \ud800 \\" é'),
        shown(1, 2, 2, Name="b", City="x", Odd='\x00 \ud800 \\" é'),
        shown(1, 3, 3, Name="b", City="y", Odd="\x01", Added=None),
    )
    await store.bury(ACCOUNTS, account(1), 4, REFRESH)
    first, second, third, end = await history(store)
    assert [r.changed for r in (first, second, third, end)] == [
        None,
        ("Name",),
        ("Added", "City", "Odd"),
        None,
    ]
    assert [r.effective_at for r in (first, second, third)] == [at(1), at(2), at(3)]
    assert [r.seen_until for r in (first, second, third)] == [None, NOW, NOW]
    assert first.provenance == REFRESH
    assert (end.deleted, end.document) == (True, None)
    assert end.effective_at <= end.recorded_at
    assert end.effective_at > at(31)
    assert first.id < second.id < third.id < end.id


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2, 1),  # set back
        (2, 2),  # unmoved
        (2, None),
        (None, 2),
    ],
)
async def test_a_time_that_does_not_move_forward_is_that_of_recording(
    store: PostgresStore, before: int | None, after: int | None
) -> None:
    await put(store, shown(1, 1, before, Name="a"), shown(1, 2, after, Name="b"))
    first, second = await history(store)
    assert second.recorded_at - second.effective_at < timedelta(seconds=10)
    assert second.effective_at >= first.effective_at


async def test_a_time_to_come_is_not_believed(store: PostgresStore) -> None:
    ahead = Stamp(datetime(9999, 12, 31, 23, 59, 59), 1)
    await put(store, state(account(1), 1, "a", stamp=ahead))
    (only,) = await history(store)
    assert only.effective_at <= only.recorded_at


async def test_what_returns_after_its_end_holds_since_it_was_seen(store: PostgresStore) -> None:
    await put(store, shown(1, 1, 1, Name="a"))
    await store.bury(ACCOUNTS, account(1), 2, REFRESH)
    await put(store, shown(1, 3, 5, Name="a"))
    *_, back = await history(store)
    assert back.effective_at > at(31)


async def write(store: PostgresStore, before: bytes | None, seen: Any, **changes: Any) -> None:
    intent = await store.open_intent(replace(an_intent(account(1)), before=before))
    fetched = replace(seen, fetch_number=intent.fetch_number)
    settlement = Settlement(Outcome.APPLIED, intent.fetch_number, seen=[(ACCOUNTS, fetched)], **changes)
    await store.settle_intent(intent, settlement)


@pytest.mark.parametrize(("before", "gap"), [(b"seen", False), (None, True)])
async def test_a_write_leaves_no_gap_where_the_state_before_it_was_seen(
    store: PostgresStore, before: bytes | None, gap: bool
) -> None:
    await put(store, shown(1, 0, 1, Name="a"))
    await write(store, before, shown(1, 0, 2, Name="b"))
    first, second = await history(store)
    assert (first.gap, second.gap) == (True, gap)
    assert second.provenance == WRITE
    assert second.method == "MergeEntity"
    assert second.changed == ("Name",)


async def test_a_state_that_nobody_saw_is_in_the_list_and_in_no_as_of_read(store: PostgresStore) -> None:
    await put(store, shown(1, 0, 1, Name="a"))
    await write(store, b"x", shown(1, 0, 2, Name="b"), unseen=[Touched(ACCOUNTS, account(1))])
    _, unseen, second = sorted(await history(store), key=lambda revision: revision.id)
    assert (unseen.unseen, unseen.document, unseen.provenance.source) == (
        True,
        '{"Name":"posted"}',
        Source.CLIENT_WRITE,
    )
    assert (second.gap, second.provenance.source) == (True, Source.SETTLEMENT)
    now = await store.as_of(ACCOUNTS, account(1), datetime.now(UTC) + timedelta(hours=1))
    assert now is not None
    assert now.document == second.document


async def test_as_of_one_entity(store: PostgresStore) -> None:
    await put(store, *(shown(1, day, day, Name=str(day)) for day in (2, 4, 6)))
    await put(store, shown(2, 9, 1, Name="other"))
    await store.bury(ACCOUNTS, account(1), 10, REFRESH)

    async def name(moment: datetime) -> str | None:
        found = await store.as_of(ACCOUNTS, account(1), moment)
        return found and ("gone" if found.deleted else json.loads(found.document or "", strict=False)["Name"])

    assert await name(at(1)) is None
    assert [await name(moment) for moment in (at(2), at(3, 23), at(4), at(6), at(31))] == list("22466")
    assert await name(datetime.now(UTC) + timedelta(hours=1)) == "gone"
    assert await store.as_of(ACCOUNTS, account(7), at(9)) is None


async def test_a_list_goes_on_where_it_ended(store: PostgresStore) -> None:
    await put(store, *(shown(1, day, day, Name=str(day)) for day in range(1, 8)))
    first = await store.revisions(ACCOUNTS, account(1), limit=3)
    second = await store.revisions(ACCOUNTS, account(1), before=first[-1].id, limit=10)
    assert [r.effective_at.day for r in (*first, *second)] == [7, 6, 5, 4, 3, 2, 1]
    found = await store.revision(first[1].id)
    assert found == first[1]
    assert await store.revision(10**9) is None


def backdate(url: str, *quarters: tuple[str, str, str]) -> None:
    """Move the history of `revisions` to old partitions: (name, first day, recorded for keys like)."""
    for name, first, keys in quarters:
        query(
            url,
            f"CREATE TABLE IF NOT EXISTS syncpoint.{name} PARTITION OF syncpoint.revisions "
            f"FOR VALUES FROM ('{first}') TO (timestamptz '{first}' + interval '3 months')",
        )
        query(
            url,
            f"UPDATE syncpoint.revisions SET recorded_at = timestamptz '{first}' + interval '1 day' "
            "WHERE document LIKE %s",
            f'%"Name": "{keys}"%',
        )


def partitions(url: str) -> list[str]:
    rows = query(
        url,
        "SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid "
        "WHERE inhparent = 'syncpoint.revisions'::regclass ORDER BY 1",
    )
    return [name for (name,) in rows]


async def test_retention_drops_quarters_and_keeps_where_the_history_begins(
    store: PostgresStore, database_url: str
) -> None:
    await put(store, *(shown(1, day, day, Name=f"d{day}") for day in (1, 2, 3, 4)))
    await put(store, shown(2, 9, 5, Name="d1"))
    backdate(
        database_url,
        ("revisions_2020q1", "2020-01-01+00", "d1"),
        ("revisions_2020q1", "2020-01-01+00", "d2"),
        ("revisions_2020q2", "2020-04-01+00", "d3"),
    )
    before = partitions(database_url)
    assert await store.drop_revisions({}, 0) == []
    assert await store.drop_revisions({"AccountSet": 0}, 1) == []
    assert await store.drop_revisions({"AccountSet": 36500}, 1) == []
    assert await store.drop_revisions({"AccountSet": 30}, 0) == ["revisions_2020q1", "revisions_2020q2"]
    assert partitions(database_url) == [name for name in before if not name.startswith("revisions_2020")]
    names = [json.loads(r.document or "", strict=False)["Name"] for r in await history(store)]
    assert names == ["d3", "d4"]
    assert (await history(store, 2))[0].effective_at == at(5)
    third = await store.as_of(ACCOUNTS, account(1), at(3, 5))
    assert third is not None
    assert (third.effective_at, third.id) == (at(3), (await history(store))[0].id)
    assert await store.as_of(ACCOUNTS, account(1), at(2, 5)) is None
    assert await store.at(at(31)).count_of(Query(ACCOUNTS)) == 2
    assert await store.drop_revisions({"AccountSet": 30}, 0) == []


async def test_retention_of_one_set_leaves_the_others(store: PostgresStore, database_url: str) -> None:
    await put(store, shown(1, 1, 1, Name="d1"), shown(1, 2, 2, Name="d2"))
    backdate(database_url, ("revisions_2020q1", "2020-01-01+00", "d1"))
    query(
        database_url,
        "INSERT INTO syncpoint.revisions "
        "(entity_set, entity_key, fetch_number, recorded_at, source, request_id) "
        "VALUES ('OtherSet', 'k', 1, '2020-01-09+00', 'sweep', '')",
    )
    assert await store.drop_revisions({"OtherSet": 0}, 400) == ["revisions_2020q1"]
    assert "revisions_2020q1" in partitions(database_url)
    assert query(database_url, "SELECT entity_set FROM syncpoint.revisions_2020q1") == [("OtherSet",)]
    assert len(await history(store)) == 2


async def test_what_a_wrong_clock_dated_moves_into_its_partition(
    store: PostgresStore, database_url: str
) -> None:
    await put(store, shown(1, 1, 1, Name="d1"))
    latest = without_the_last(database_url)
    query(
        database_url,
        "UPDATE syncpoint.revisions SET recorded_at = (SELECT max(ending) + interval '1 day' FROM"
        " syncpoint.revision_partitions())",
    )
    await store.drop_revisions({}, 0)
    assert latest in partitions(database_url)
    assert query(database_url, f"SELECT count(*) FROM syncpoint.{latest}") == [(1,)]
    assert len(await history(store)) == 1


def without_the_last(url: str) -> str:
    """Take the last partition away; its name."""
    ((latest,),) = query(url, "SELECT name FROM syncpoint.revision_partitions() ORDER BY ending DESC LIMIT 1")
    query(url, f"ALTER TABLE syncpoint.revisions DETACH PARTITION syncpoint.{latest}")
    query(url, f"INSERT INTO syncpoint.revisions_other SELECT * FROM syncpoint.{latest}")
    query(url, f"DROP TABLE syncpoint.{latest}")
    return str(latest)


async def test_partitions_are_of_half_years_and_reach_three_months_on(
    store: PostgresStore, database_url: str
) -> None:
    await put(store, shown(1, 1, 1, Name="d1"))
    ((latest,),) = query(database_url, "SELECT max(ending) FROM syncpoint.revision_partitions()")
    assert latest > datetime.now(UTC) + timedelta(days=85)
    assert (latest.astimezone(UTC).month, latest.astimezone(UTC).day) in ((1, 1), (7, 1))
    assert all(
        re.fullmatch(r"revisions_\d{4}_(01|07)|revisions_other", each) for each in partitions(database_url)
    )


async def test_partitions_of_before_stay_with_what_they_hold(store: PostgresStore, database_url: str) -> None:
    """A quarter that holds something is kept, and the next partition begins behind it."""
    await put(store, shown(1, 1, 1, Name="d1"))
    for name in [each for each in partitions(database_url) if each != "revisions_other"]:
        query(database_url, f"DROP TABLE syncpoint.{name}")
    query(
        database_url,
        "DO $$ BEGIN EXECUTE format('CREATE TABLE syncpoint.revisions_2020q1 PARTITION OF syncpoint.revisions"
        " FOR VALUES FROM (%%L) TO (%%L)', date_trunc('quarter', now()),"
        " date_trunc('quarter', now()) + interval '3 months'); END $$",
    )
    await put(store, shown(1, 2, 2, Name="d2"))
    await store.drop_revisions({}, 0)
    assert query(database_url, "SELECT count(*) FROM syncpoint.revisions_2020q1") == [(1,)]
    ((latest,),) = query(database_url, "SELECT max(ending) FROM syncpoint.revision_partitions()")
    assert latest > datetime.now(UTC) + timedelta(days=85)
    await put(store, shown(1, 3, 3, Name="d3"))
    assert [json.loads(r.document or "", strict=False)["Name"] for r in await history(store)] == ["d2", "d3"]


async def test_processes_keep_the_history_one_after_another(store: PostgresStore, database_url: str) -> None:
    await put(store, shown(1, 1, 1, Name="d1"))
    latest = without_the_last(database_url)
    backdate(database_url, ("revisions_2020q1", "2020-01-01+00", "d1"))
    others = [PostgresStore(database_url) for _ in range(4)]
    dropped = await asyncio.gather(*(other.drop_revisions({}, 30) for other in others))
    assert sorted(dropped) == [[], [], [], ["revisions_2020q1"]]
    assert latest in partitions(database_url)
    for other in others:
        await other.close()
