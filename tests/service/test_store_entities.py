"""Mirror rows on a real Postgres: get, put, touch, bury, count."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storing import (
    ACCOUNTS,
    LINES,
    NOW,
    REFRESH,
    account,
    an_intent,
    query,
    revisions,
    state,
)

from proxy.reconcile.ports import Stored
from proxy.reconcile.stamp import Stamp
from proxy.store import PostgresStore


async def held(store: PostgresStore, number: int = 1) -> Stored | None:
    return (await store.get(ACCOUNTS, [account(number)])).get(account(number))


async def test_numbers_are_drawn_upwards(store: PostgresStore) -> None:
    drawn = [await store.next_fetch_number() for _ in range(5)]
    assert drawn == sorted(set(drawn))


async def test_what_is_put_is_got(store: PostgresStore) -> None:
    shown = state(account(1), 7, "a", stamp=Stamp(datetime(2026, 5, 6), 9, 'W/"1"'), settled=False)
    result = await store.put(ACCOUNTS, [shown], REFRESH)
    assert (result.stored, result.changed) == ({account(1)}, {account(1)})
    assert await store.get(ACCOUNTS, [account(2), account(1), account(1)]) == {
        account(1): Stored(
            account(1), shown.document, shown.stamp, shown.digest, False, 7, NOW, intents=0, conflict=None
        )
    }


async def test_nothing_is_held_of_a_set_at_first(store: PostgresStore) -> None:
    assert await store.get(ACCOUNTS, [account(1)]) == {}
    assert await store.get(ACCOUNTS, []) == {}
    assert await store.count(ACCOUNTS, at_most=10) == 0


async def test_instants_come_back_in_utc(store: PostgresStore) -> None:
    elsewhere = NOW.astimezone(datetime.now().astimezone().tzinfo) + timedelta(hours=0)
    await store.put(ACCOUNTS, [state(account(1), 1, fetched_at=elsewhere)], REFRESH)
    row = await held(store)
    assert row is not None
    assert (row.fetched_at, row.fetched_at.tzinfo) == (NOW, UTC)


async def test_a_row_gives_way_only_to_a_higher_number(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 10, "ten")], REFRESH)
    for number in (9, 10):
        result = await store.put(ACCOUNTS, [state(account(1), number, "late")], REFRESH)
        assert not result.stored
        assert not result.changed
    result = await store.put(ACCOUNTS, [state(account(1), 11, "eleven")], REFRESH)
    assert result.stored == result.changed == {account(1)}
    assert [number for number, _ in revisions(database_url, "fetch_number, document")] == [10, 11]


async def test_rows_of_one_put_are_judged_one_by_one(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 10, "a"), state(account(2), 5, "b")], REFRESH)
    offered = [state(account(number), 7, text) for number, text in ((3, "c"), (2, "b"), (1, "x"))]
    result = await store.put(ACCOUNTS, offered, REFRESH)
    assert result.stored == {account(2), account(3)}
    assert result.changed == {account(3)}


async def test_of_one_entity_twice_in_a_put_the_newer_counts(store: PostgresStore) -> None:
    offered = [state(account(1), 2, "new"), state(account(1), 1, "old")]
    await store.put(ACCOUNTS, offered, REFRESH)
    row = await held(store)
    assert row is not None
    assert row.document == offered[0].document


async def test_a_revision_says_who_and_what(store: PostgresStore, database_url: str) -> None:
    shown = state(account(1), 3, "a")
    await store.put(ACCOUNTS, [shown], REFRESH)
    assert query(
        database_url,
        "SELECT entity_set, entity_key, fetch_number, source, user_name, client, request_id, method,"
        " document, unseen, deleted, recorded_at > now() - interval '1 minute' FROM syncpoint.revisions",
    ) == [
        (
            "AccountSet",
            f"guid'{uuid.UUID(int=1)}'",
            3,
            "upstream refresh",
            "someone",
            "10.0.0.1",
            "r-1",
            None,
            shown.document,
            False,
            False,
            True,
        )
    ]


async def test_the_same_content_is_stored_without_a_revision(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    moved = state(account(1), 2, "a", stamp=Stamp(datetime(2027, 1, 1), 99), document='{"new":"stamp"}')
    result = await store.put(ACCOUNTS, [moved], REFRESH)
    assert (result.stored, result.changed) == ({account(1)}, frozenset())
    row = await held(store)
    assert row is not None
    assert (row.stamp, row.document) == (moved.stamp, moved.document)
    assert len(revisions(database_url)) == 1


async def test_an_open_intent_keeps_all_others_out(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    await store.open_intent(an_intent(account(1)))
    assert not (await store.put(ACCOUNTS, [state(account(1), 1000, "b")], REFRESH)).stored
    assert not await store.bury(ACCOUNTS, account(1), 1001, REFRESH)
    await store.touch(ACCOUNTS, [state(account(1), 1002, "a", stamp=state(account(1), 0).stamp)])
    row = await held(store)
    assert row is not None
    assert (row.document, row.intents, row.settled) == (state(account(1), 0, "a").document, 1, False)
    assert row.fetch_number < 1000


async def test_touch_confirms_and_changes_nothing_else(store: PostgresStore, database_url: str) -> None:
    shown = state(account(1), 1, "a", settled=False)
    await store.put(ACCOUNTS, [shown], REFRESH)
    later = NOW + timedelta(minutes=1)
    again = state(account(1), 2, "a", stamp=shown.stamp, fetched_at=later, document="other text")
    await store.touch(ACCOUNTS, [again, state(account(2), 2, "b")])
    row = await held(store)
    assert row == Stored(account(1), shown.document, shown.stamp, shown.digest, True, 2, later)
    assert await held(store, 2) is None
    assert len(revisions(database_url)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"fetch_number": 5},
        {"digest": b"other"},
        {"stamp": Stamp(datetime(2026, 1, 2, 3, 4, 5), 6)},
        {"stamp": Stamp(None, 5)},
        {"stamp": Stamp(datetime(2026, 1, 2, 3, 4, 5), 5, "etag")},
    ],
)
async def test_touch_leaves_a_row_alone_that_moved_meanwhile(
    store: PostgresStore, changes: dict[str, Any]
) -> None:
    shown = state(account(1), 5, "a", settled=False)
    await store.put(ACCOUNTS, [shown], REFRESH)
    before = await held(store)
    await store.touch(
        ACCOUNTS, [state(account(1), **{"fetch_number": 6, "content": "a", "stamp": shown.stamp, **changes})]
    )
    assert await held(store) == before


async def test_touch_does_not_wake_the_dead(store: PostgresStore) -> None:
    await store.bury(ACCOUNTS, account(1), 5, REFRESH)
    before = await held(store)
    await store.touch(ACCOUNTS, [state(account(1), 6, digest=b"", stamp=Stamp())])
    assert await held(store) == before


async def test_a_tombstone_keeps_its_number_and_nothing_of_the_entity(
    store: PostgresStore, database_url: str
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 5, "a")], REFRESH)
    assert not await store.bury(ACCOUNTS, account(1), 5, REFRESH)
    assert await store.bury(ACCOUNTS, account(1), 6, REFRESH)
    row = await held(store)
    assert row is not None
    assert (row.document, row.digest, row.stamp, row.fetch_number) == (None, b"", Stamp(), 6)
    assert row.deleted_at is not None
    assert abs(row.deleted_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert query(database_url, 'SELECT "Name", "CreditLimit_Value" FROM mirror."AccountSet"') == [
        (None, None)
    ]
    assert revisions(database_url, "deleted, document IS NULL, fetch_number") == [
        (False, False, 5),
        (True, True, 6),
    ]
    assert await store.count(ACCOUNTS, at_most=10) == 0


async def test_an_entity_never_seen_can_be_buried(store: PostgresStore, database_url: str) -> None:
    assert await store.bury(ACCOUNTS, account(1), 6, REFRESH)
    assert revisions(database_url, "deleted, fetch_number") == [(True, 6)]
    assert not (await store.put(ACCOUNTS, [state(account(1), 5, "old")], REFRESH)).stored


async def test_buried_again_it_stays_dead_since_the_first_time(
    store: PostgresStore, database_url: str
) -> None:
    await store.bury(ACCOUNTS, account(1), 6, REFRESH)
    first = await held(store)
    assert await store.bury(ACCOUNTS, account(1), 7, REFRESH)
    again = await held(store)
    assert first is not None
    assert again is not None
    assert (again.deleted_at, again.fetch_number) == (first.deleted_at, 7)
    assert len(revisions(database_url)) == 1


async def test_what_was_buried_can_come_back(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 5, "a")], REFRESH)
    await store.bury(ACCOUNTS, account(1), 6, REFRESH)
    result = await store.put(ACCOUNTS, [state(account(1), 7, "a")], REFRESH)
    assert result.changed == {account(1)}
    row = await held(store)
    assert row is not None
    assert (row.deleted_at, row.document) == (None, state(account(1), 7, "a").document)
    assert revisions(database_url, "deleted") == [False, True, False]


async def test_a_put_of_an_absence_is_a_burial(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 5, "a")], REFRESH)
    await store.put(ACCOUNTS, [state(account(1), 6, "a", document=None)], REFRESH)
    row = await held(store)
    assert row is not None
    assert (row.document, row.digest, row.deleted_at) == (None, b"", NOW)


async def test_count_counts_entities_and_no_further_than_asked(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(number), 1) for number in range(5)], REFRESH)
    await store.bury(ACCOUNTS, account(9), 1, REFRESH)
    await store.open_intent(an_intent(account(8)))
    assert [await store.count(ACCOUNTS, at_most=limit) for limit in (0, 1, 4, 5, 99)] == [0, 1, 4, 5, 5]


async def test_compound_keys(store: PostgresStore, database_url: str) -> None:
    keys = [(("Order", order), ("Line", line)) for order in ("it's", "a,b", "%s", "Ünï") for line in (-1, 2)]
    await store.put(
        LINES, [state(key, 1, str(key), values={**dict(key), "Text": "t"}) for key in keys], REFRESH
    )
    assert set(await store.get(LINES, keys)) == set(keys)
    assert await store.get(LINES, [(("Order", "it's"), ("Line", 3))]) == {}
    assert await store.bury(LINES, keys[0], 2, REFRESH)
    await store.touch(LINES, [state(keys[1], 3, str(keys[1]), stamp=state(keys[1], 1).stamp)])
    rows = await store.get(LINES, keys)
    assert rows[keys[0]].deleted_at is not None
    assert rows[keys[1]].fetch_number == 3
    assert "Order='it''s',Line=-1" in revisions(database_url, "entity_key")


@pytest.mark.parametrize("text", ["nul\x00", "lone\ud800"])
async def test_a_key_that_postgres_cannot_hold_is_held_by_nobody(store: PostgresStore, text: str) -> None:
    key, other = (("Order", text), ("Line", 1)), (("Order", "x"), ("Line", 1))
    result = await store.put(LINES, [state(key, 1, document="{}"), state(other, 1)], REFRESH)
    assert result.stored == {other}
    assert set(await store.get(LINES, [key, other])) == {other}
    assert not await store.bury(LINES, key, 2, REFRESH)
    assert await store.intents_of(LINES, key) == []


async def test_provenance_that_postgres_cannot_hold_is_no_obstacle(
    store: PostgresStore, database_url: str
) -> None:
    odd = type(REFRESH)(REFRESH.source, "r\x00", "u\ud800", "c\x00")
    await store.put(ACCOUNTS, [state(account(1), 1, stamp=Stamp(etag="e\x00"))], odd)
    assert revisions(database_url, "request_id, user_name, client") == [("r�", "u�", "c�")]


async def test_a_full_page(store: PostgresStore) -> None:
    states = [state(account(number), 1, str(number)) for number in range(200)]
    assert len((await store.put(ACCOUNTS, states, REFRESH)).stored) == 200
    assert len(await store.get(ACCOUNTS, [shown.key for shown in reversed(states)])) == 200
