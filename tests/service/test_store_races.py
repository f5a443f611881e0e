"""Who wins when several change one row: decided by Postgres, in every order of arrival.

A row is held by somebody else's transaction while the contenders line up behind it, in the order given;
then it is let go.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from storing import (
    ACCOUNTS,
    MODEL,
    NOW,
    REFRESH,
    TASKS,
    account,
    an_intent,
    query,
    revisions,
    state,
    task,
    until,
)

from proxy.reconcile.ports import NewConflict, Outcome, Settlement, Stored, StoreUnavailable, Touched
from proxy.store import PostgresStore

ROW_1, ROW_2 = (
    f'SELECT 1 FROM mirror."AccountSet" WHERE "AccountId" = \'{uuid.UUID(int=number)}\' FOR UPDATE'
    for number in (1, 2)
)


async def row(store: PostgresStore) -> Stored:
    return (await store.get(ACCOUNTS, [account(1)]))[account(1)]


def waiting(url: str) -> int:
    """How many statements in this database wait for a lock."""
    ((count,),) = query(
        url,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    return int(count)


@asynccontextmanager
async def held_by_another(url: str, statement: str = ROW_1) -> AsyncIterator[Any]:
    with closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute(statement)
        yield connection


async def in_order(url: str, works: list[Awaitable[Any]]) -> list[Any]:
    """Results of works that lined up behind row 1 in this order."""
    tasks = []
    async with held_by_another(url):
        for place, work in enumerate(works, 1):
            tasks.append(asyncio.ensure_future(work))
            await until(lambda place=place: waiting(url) == place)  # type: ignore[misc]
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize("first_number", [5, 6])
async def test_crossing_puts_end_in_the_higher_number(
    store: PostgresStore, database_url: str, first_number: int
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    numbers = [first_number, 11 - first_number]
    results = await in_order(
        database_url,
        [store.put(ACCOUNTS, [state(account(1), number, str(number))], REFRESH) for number in numbers],
    )
    assert (await row(store)).fetch_number == 6
    assert [bool(result.stored) for result in results] == [True, first_number == 5]
    assert revisions(database_url, "fetch_number") == ([1, 5, 6] if first_number == 5 else [1, 6])


async def test_crossing_puts_of_an_entity_never_seen(store: PostgresStore, database_url: str) -> None:
    await store.count(ACCOUNTS, at_most=1)
    for number in range(20):
        key = account(number)
        await asyncio.gather(
            *(store.put(ACCOUNTS, [state(key, place, str(place))], REFRESH) for place in (3, 1, 4, 2))
        )
        held = (await store.get(ACCOUNTS, [key]))[key]
        assert (held.fetch_number, held.document) == (4, state(key, 4, "4").document)
    history = revisions(database_url, "entity_key, fetch_number")
    for _, group in itertools.groupby(
        sorted(history, key=lambda entry: entry[0]), key=lambda entry: entry[0]
    ):
        numbers = [number for _, number in group]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 4


async def test_a_put_behind_an_intent_is_left_out(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    opened, put = await in_order(
        database_url,
        [
            store.open_intent(an_intent(account(1))),
            store.put(ACCOUNTS, [state(account(1), 99, "b")], REFRESH),
        ],
    )
    assert not put.stored
    assert (await row(store)).fetch_number == opened.fetch_number
    assert len(revisions(database_url)) == 1


async def test_an_intent_behind_a_put_marks_what_was_put(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    put, _ = await in_order(
        database_url,
        [
            store.put(ACCOUNTS, [state(account(1), 99, "b")], REFRESH),
            store.open_intent(an_intent(account(1))),
        ],
    )
    assert put.stored
    held = await row(store)
    assert (held.fetch_number, held.intents, held.settled) == (99, 1, False)


@pytest.mark.parametrize(("number", "stored"), [(1_000, True), (1, False)])
async def test_a_put_behind_a_settlement_obeys_its_number(
    store: PostgresStore, database_url: str, number: int, stored: bool
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    settlement = Settlement(Outcome.APPLIED, 500, seen=[(ACCOUNTS, state(account(1), 500, "written"))])
    _, put = await in_order(
        database_url,
        [
            store.settle_intent(intent, settlement),
            store.put(ACCOUNTS, [state(account(1), number, "read")], REFRESH),
        ],
    )
    assert bool(put.stored) is stored
    held = await row(store)
    assert (held.fetch_number, held.intents) == (number if stored else 500, 0)


async def test_a_settlement_behind_a_put_that_the_intent_kept_out(
    store: PostgresStore, database_url: str
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    settlement = Settlement(Outcome.APPLIED, 500, seen=[(ACCOUNTS, state(account(1), 500, "written"))])
    put, _ = await in_order(
        database_url,
        [
            store.put(ACCOUNTS, [state(account(1), 1_000, "read")], REFRESH),
            store.settle_intent(intent, settlement),
        ],
    )
    assert not put.stored
    assert (await row(store)).fetch_number == 500


@pytest.mark.parametrize("first", ["bury", "put"])
async def test_a_burial_and_a_put(store: PostgresStore, database_url: str, first: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    works: list[Awaitable[Any]] = [
        store.bury(ACCOUNTS, account(1), 6, REFRESH),
        store.put(ACCOUNTS, [state(account(1), 5, "b")], REFRESH),
    ]
    await in_order(database_url, works if first == "bury" else works[::-1])
    held = await row(store)
    assert (held.document, held.fetch_number) == (None, 6)
    assert revisions(database_url, "fetch_number") == ([1, 6] if first == "bury" else [1, 5, 6])


async def test_a_conflict_behind_a_put_is_none(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    conflict = NewConflict(ACCOUNTS, await row(store), state(account(1), 2, "old"), NOW, "r")
    _, found = await in_order(
        database_url,
        [store.put(ACCOUNTS, [state(account(1), 3, "b")], REFRESH), store.record_conflict(conflict)],
    )
    assert found is None
    assert await store.conflict_count(ACCOUNTS) == 0


async def test_a_put_behind_a_conflict_settles_it(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    conflict = NewConflict(ACCOUNTS, await row(store), state(account(1), 2, "old"), NOW, "r")
    found, _ = await in_order(
        database_url,
        [store.record_conflict(conflict), store.put(ACCOUNTS, [state(account(1), 3, "b")], REFRESH)],
    )
    assert found is not None
    assert (await row(store)).conflict is None
    assert await store.conflict_count(ACCOUNTS) == 0


async def test_a_touch_behind_a_put_confirms_nothing(store: PostgresStore, database_url: str) -> None:
    shown = state(account(1), 1, "a", settled=False)
    await store.put(ACCOUNTS, [shown], REFRESH)
    await in_order(
        database_url,
        [
            store.put(ACCOUNTS, [state(account(1), 2, "b", settled=False)], REFRESH),
            store.touch(ACCOUNTS, [state(account(1), 3, "a", stamp=shown.stamp)]),
        ],
    )
    held = await row(store)
    assert (held.fetch_number, held.settled) == (2, False)


async def test_settled_by_two_at_once_it_is_settled_once(store: PostgresStore, database_url: str) -> None:
    intent = await store.open_intent(an_intent(account(1)))
    settlement = Settlement(Outcome.APPLIED, 500, seen=[(ACCOUNTS, state(account(1), 500, "written"))])
    await asyncio.gather(*(store.settle_intent(intent, settlement) for _ in range(4)))
    assert (await row(store)).intents == 0
    assert len(revisions(database_url)) == 1


async def test_a_deadlock_that_postgres_breaks_is_run_again(store: PostgresStore, database_url: str) -> None:
    both = [state(account(1), 2, "b"), state(account(2), 2, "b")]
    await store.put(ACCOUNTS, [replace(shown, fetch_number=1) for shown in both], REFRESH)
    async with held_by_another(database_url, ROW_2) as other:
        putting = asyncio.create_task(store.put(ACCOUNTS, both, REFRESH))
        await until(lambda: waiting(database_url) == 1)  # it has row 1, and waits for row 2
        await asyncio.to_thread(other.cursor().execute, ROW_1)
    assert (await putting).stored == {account(1), account(2)}


def is_free(url: str, statement: str) -> bool:
    """Whether the statement would get its lock now."""
    try:
        query(url, f"{statement} NOWAIT")
    except psycopg2.errors.LockNotAvailable:
        return False
    return True


async def test_rows_are_locked_in_one_order_however_they_are_offered(
    store: PostgresStore, database_url: str
) -> None:
    shown = [state(account(number), 0) for number in (2, 1)]
    await store.put(ACCOUNTS, shown, REFRESH)
    intent = await store.open_intent(an_intent(account(2)))
    number = await store.next_fetch_number()
    newer = [replace(held, fetch_number=number) for held in shown]
    settlement = Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, held) for held in newer])
    works: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.settle_intent(intent, settlement),
        lambda: store.put(ACCOUNTS, [replace(held, fetch_number=number + 1) for held in shown], REFRESH),
        lambda: store.touch(ACCOUNTS, [replace(held, fetch_number=number + 2) for held in shown]),
        lambda: store.open_intent(an_intent(account(2), Touched(ACCOUNTS, account(1)))),
    ]
    for work in works:
        async with held_by_another(database_url):
            running = asyncio.ensure_future(work())
            await until(lambda: waiting(database_url) == 1)
            assert is_free(database_url, ROW_2)
        await running
    kept = await store.get(ACCOUNTS, [account(1), account(2)])
    assert {row.fetch_number for row in kept.values()} == {number + 2}


async def test_writers_and_readers_of_the_same_rows_do_not_lock_each_other_out(store: PostgresStore) -> None:
    keys = [account(number) for number in range(8)]
    tasks = [Touched(TASKS, task(number)) for number in range(8)]

    async def put(number: int) -> None:
        await store.put(
            ACCOUNTS, [state(key, number, str(number)) for key in keys[:: 1 - 2 * (number % 2)]], REFRESH
        )

    async def write(number: int) -> None:
        touched = [*tasks, *(Touched(ACCOUNTS, key) for key in keys)][:: 1 - 2 * (number % 2)]
        intent = await store.open_intent(an_intent(None, *touched))
        drawn = await store.next_fetch_number()
        seen = [(ACCOUNTS, state(key, drawn, str(drawn))) for key in keys]
        await store.settle_intent(intent, Settlement(Outcome.APPLIED, drawn, seen=seen, stale=tasks))

    await asyncio.gather(*(work(number) for number in range(10) for work in (put, write)))
    held = await store.get(ACCOUNTS, keys)
    assert {kept.intents for kept in held.values()} == {0}
    assert await store.get(TASKS, [entity.key for entity in tasks]) == {}


# Crash points: a transaction that cannot end leaves nothing.


@pytest.fixture
async def hasty(database_url: str) -> AsyncIterator[PostgresStore]:
    """A store that waits no time for a lock, on rows 1."""
    made = PostgresStore(database_url, MODEL, lock_timeout_s=0.05)
    await made.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    await made.put(TASKS, [state(task(1), 1, "a")], REFRESH)
    yield made
    await made.close()


SNAPSHOT = """SELECT (SELECT json_agg(t) FROM mirror."AccountSet" t)::text,
 (SELECT json_agg(t) FROM mirror."TaskSet" t)::text,
 (SELECT json_agg(t) FROM syncpoint.revisions t)::text, (SELECT json_agg(t) FROM syncpoint.intents t)::text,
 (SELECT json_agg(t) FROM syncpoint.conflicts t)::text"""
HISTORY = "LOCK TABLE syncpoint.revisions IN ACCESS EXCLUSIVE MODE"
TASK_1 = 'SELECT 1 FROM mirror."TaskSet" FOR UPDATE'
CONFLICTS = "LOCK TABLE syncpoint.conflicts IN ACCESS EXCLUSIVE MODE"


@pytest.mark.parametrize("obstacle", [HISTORY, CONFLICTS])
async def test_a_put_that_cannot_end_leaves_nothing(
    hasty: PostgresStore, database_url: str, obstacle: str
) -> None:
    before = query(database_url, SNAPSHOT)
    async with held_by_another(database_url, obstacle):
        for work in (
            hasty.put(ACCOUNTS, [state(account(2), 2, "b"), state(account(1), 2, "b")], REFRESH),
            hasty.bury(ACCOUNTS, account(1), 3, REFRESH),
        ):
            with pytest.raises(StoreUnavailable):
                await work
    assert query(database_url, SNAPSHOT) == before


async def test_an_intent_that_cannot_be_opened_leaves_no_mark(
    hasty: PostgresStore, database_url: str
) -> None:
    before = query(database_url, SNAPSHOT)
    async with held_by_another(database_url, TASK_1):
        with pytest.raises(StoreUnavailable):
            await hasty.open_intent(
                an_intent(account(1), Touched(TASKS, task(1)), Touched(ACCOUNTS, account(3)))
            )
    assert query(database_url, SNAPSHOT) == before


@pytest.mark.parametrize("obstacle", [HISTORY, TASK_1, CONFLICTS])
async def test_a_settlement_that_cannot_end_leaves_the_intent_open(
    hasty: PostgresStore, database_url: str, obstacle: str
) -> None:
    intent = await hasty.open_intent(an_intent(account(1), Touched(TASKS, task(1))))
    settlement = Settlement(
        Outcome.APPLIED,
        500,
        seen=[(ACCOUNTS, state(account(1), 500, "b")), (ACCOUNTS, state(account(2), 500, "b"))],
        removed=[Touched(TASKS, task(1))],
    )
    before = query(database_url, SNAPSHOT)
    async with held_by_another(database_url, obstacle):
        with pytest.raises(StoreUnavailable):
            await hasty.settle_intent(intent, settlement)
    assert query(database_url, SNAPSHOT) == before
    await hasty.settle_intent(intent, settlement)
    assert await hasty.open_intents() == []
    assert (await row(hasty)).fetch_number == 500


async def test_a_conflict_that_cannot_be_recorded_is_not_marked(
    hasty: PostgresStore, database_url: str
) -> None:
    conflict = NewConflict(ACCOUNTS, await row(hasty), state(account(1), 2, "old"), NOW, "r")
    async with held_by_another(database_url, CONFLICTS):
        with pytest.raises(StoreUnavailable):
            await hasty.record_conflict(conflict)
    assert (await row(hasty)).conflict is None
