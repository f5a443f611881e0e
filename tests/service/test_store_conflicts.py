"""Conflicts, learned states and metadata versions on a real Postgres."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import psycopg2
from storing import ACCOUNTS, NOW, REFRESH, TASKS, account, an_intent, query, state, task, until

from proxy.reconcile.ports import NewConflict, SetState, Stored
from proxy.reconcile.stamp import Stamp
from proxy.store import PostgresStore

SEEN = state(account(1), 6, "older", stamp=Stamp(datetime(2025, 1, 1), 1, "e"))


async def put_and_get(store: PostgresStore) -> Stored:
    await store.put(ACCOUNTS, [state(account(1), 5, "a")], REFRESH)
    return await row(store)


async def row(store: PostgresStore) -> Stored:
    return (await store.get(ACCOUNTS, [account(1)]))[account(1)]


def conflict(held: Stored) -> NewConflict:
    return NewConflict(ACCOUNTS, held, SEEN, NOW, "r-7")


async def test_both_sides_are_recorded_and_the_row_is_marked(store: PostgresStore, database_url: str) -> None:
    held = await put_and_get(store)
    identity = await store.record_conflict(conflict(held))
    assert await row(store) == replace(held, conflict=identity)
    assert await store.conflict_count(ACCOUNTS) == 1
    assert await store.conflict_count(TASKS) == 0
    (recorded,) = query(
        database_url,
        "SELECT id, held_fetch_number, held_modified_on, held_version_number, held_etag, held_document,"
        " seen_fetch_number, seen_modified_on, seen_version_number, seen_etag, seen_document,"
        " found_at, request_id, settled_at FROM syncpoint.conflicts",
    )
    assert recorded == (
        identity,
        *(5, held.stamp.modified_on, 5, None, held.document),
        *(6, SEEN.stamp.modified_on, 1, "e", SEEN.document),
        *(NOW, "r-7", None),
    )


async def test_an_open_conflict_is_not_recorded_again(store: PostgresStore, database_url: str) -> None:
    held = await put_and_get(store)
    found = await asyncio.gather(*(store.record_conflict(conflict(held)) for _ in range(5)))
    assert set(found) == {found[0]}
    assert found[0] is not None
    assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(1,)]


async def test_a_row_that_changed_since_is_no_conflict(store: PostgresStore) -> None:
    held = await put_and_get(store)
    await store.touch(ACCOUNTS, [state(account(1), 7, "a", stamp=held.stamp)])
    assert await store.record_conflict(conflict(held)) is None
    await store.put(ACCOUNTS, [state(account(1), 8, "b")], REFRESH)
    assert await store.record_conflict(conflict(held)) is None
    assert await store.record_conflict(conflict(replace(held, key=account(2)))) is None
    current = await row(store)
    await store.open_intent(an_intent(account(1)))
    assert await store.record_conflict(conflict(await row(store))) is None
    assert await store.record_conflict(conflict(current)) is None
    assert await store.conflict_count(ACCOUNTS) == 0


async def test_the_next_state_settles_it_and_a_new_one_may_come(
    store: PostgresStore, database_url: str
) -> None:
    held = await put_and_get(store)
    first = await store.record_conflict(conflict(held))
    assert not (await store.put(ACCOUNTS, [state(account(1), 5, "late")], REFRESH)).stored
    assert await store.conflict_count(ACCOUNTS) == 1
    await store.put(ACCOUNTS, [state(account(1), 7, "b"), state(account(2), 7, "b")], REFRESH)
    held = await row(store)
    assert held.conflict is None
    assert await store.conflict_count(ACCOUNTS) == 0
    second = await store.record_conflict(conflict(held))
    assert second not in (None, first)
    assert await store.bury(ACCOUNTS, account(1), 8, REFRESH)
    assert (await row(store)).conflict is None
    assert query(database_url, "SELECT settled_at IS NOT NULL FROM syncpoint.conflicts") == [(True,), (True,)]


async def test_a_set_is_unknown_until_something_is_learned(store: PostgresStore) -> None:
    assert await store.set_state(ACCOUNTS) == SetState()
    learned = SetState("Name", frozenset({"entry", "feed"}), "content changed\x00", 3, 14)
    await store.save_set_state(ACCOUNTS, learned)
    assert await store.set_state(ACCOUNTS) == replace(learned, forward_reason="content changed�")
    await store.save_set_state(ACCOUNTS, SetState(title=""))
    assert await store.set_state(ACCOUNTS) == SetState(title="")
    assert await store.set_state(TASKS) == SetState()


async def test_metadata_versions(store: PostgresStore, database_url: str) -> None:
    assert await store.latest_metadata() is None
    first, second = b"<edmx/>\x00\xff", b"<edmx>2</edmx>"
    for document in (first, first, second, second, first):
        await store.save_metadata(document)
        assert await store.latest_metadata() == document
    assert query(database_url, "SELECT count(*) FROM syncpoint.metadata_versions") == [(3,)]


async def test_metadata_seen_by_two_at_once_is_one_version(store: PostgresStore, database_url: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with closing(psycopg2.connect(database_url)) as other:
        other.cursor().execute("LOCK TABLE syncpoint.metadata_versions IN SHARE MODE")
        saving = [asyncio.create_task(store.save_metadata(b"<edmx/>")) for _ in range(2)]
        await until(lambda: query(database_url, waiting) == [(2,)])
    await asyncio.gather(*saving)
    assert query(database_url, "SELECT count(*) FROM syncpoint.metadata_versions") == [(1,)]


async def test_it_says_when_it_is_ready(store: PostgresStore) -> None:
    assert await store.is_ready()
    await store.put(TASKS, [state(task(1), 1)], REFRESH)
    await store.close()
    assert not await store.is_ready()
