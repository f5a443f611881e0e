"""Leases: one holder at a time, and no write by one whose lease is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from storing import ACCOUNTS, MODEL, NOW, REFRESH, account, an_intent, query, state, until

from proxy.reconcile.progress import LeaseLost, Stage, Walk
from proxy.store import PostgresStore

LONG = 600.0
WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'"""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[PostgresStore]:
    """The store of another process."""
    made = PostgresStore(database_url, MODEL)
    yield made
    await made.close()


def run_out(url: str) -> None:
    query(url, "UPDATE syncpoint.leases SET expires_at = now() - interval '1 second'")


async def test_of_two_the_loser_waits_until_the_lease_is_released(
    store: PostgresStore, other: PostgresStore
) -> None:
    held = await store.acquire_lease("poll", LONG)
    assert held is not None
    assert await other.acquire_lease("poll", LONG) is None
    assert await other.acquire_lease("sweep", LONG) is not None
    await store.release_lease(held)
    taken = await other.acquire_lease("poll", LONG)
    assert taken is not None
    assert taken.fence > held.fence


async def test_many_at_once_have_one_winner(store: PostgresStore, other: PostgresStore) -> None:
    asked = (some.acquire_lease("poll", LONG) for some in (store, other) * 10)
    assert sum(lease is not None for lease in await asyncio.gather(*asked)) == 1


async def test_an_expired_holder_writes_nothing(
    store: PostgresStore, other: PostgresStore, database_url: str
) -> None:
    held = await store.acquire_lease("poll", LONG)
    assert held is not None
    under = store.under(held)
    await under.put(ACCOUNTS, [state(account(1), 1, "in time")], REFRESH)
    run_out(database_url)
    writes = [
        lambda: under.put(ACCOUNTS, [state(account(1), 2, "late")], REFRESH),
        lambda: under.bury(ACCOUNTS, account(1), 3, REFRESH),
        lambda: under.save_walk(Walk(Stage.SWEEP, "AccountSet", NOW, None, "/next")),
        lambda: under.note_missing(ACCOUNTS, [account(1)]),
        lambda: under.open_intent(an_intent(account(1))),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            await write()
    assert not await store.renew_lease(held, LONG), "what ran out is not renewed, but taken anew"
    assert await other.acquire_lease("poll", LONG) is not None
    for write in writes:
        with pytest.raises(LeaseLost):
            await write()
    row = (await store.get(ACCOUNTS, [account(1)]))[account(1)]
    assert (row.fetch_number, row.intents) == (1, 0)
    assert await store.walk(Stage.SWEEP, ACCOUNTS) is None
    assert await store.missing(ACCOUNTS) == []


async def test_a_renewed_lease_lives_on(store: PostgresStore, database_url: str) -> None:
    held = await store.acquire_lease("poll", 0.5)
    assert held is not None
    assert await store.renew_lease(held, LONG)
    ((left,),) = query(database_url, "SELECT expires_at > now() + interval '1 minute' FROM syncpoint.leases")
    assert left
    assert await store.acquire_lease("poll", LONG) is None, "not even to its own process twice"


async def test_whoever_takes_a_lease_over_waits_for_what_is_being_written(
    store: PostgresStore, other: PostgresStore, database_url: str
) -> None:
    held = await store.acquire_lease("poll", LONG)
    assert held is not None
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def work(connection: object) -> None:
        inside.set()
        await may_end.wait()

    writing = asyncio.create_task(store.under(held)._engine.transaction(work))
    await inside.wait()
    taking = asyncio.create_task(asyncio.to_thread(run_out, database_url))
    await until(
        lambda: query(database_url, WAITING) == [(1,)]
    )  # the lease's row is locked until the write ends
    may_end.set()
    await asyncio.gather(writing, taking)
    assert await other.acquire_lease("poll", LONG) is not None


async def test_an_intent_tells_whether_its_process_lives(store: PostgresStore, other: PostgresStore) -> None:
    await store.open_intent(an_intent(account(1)))
    assert [intent.is_held for intent in await other.open_intents()] == [False]
    alive = await store.acquire_lease(store.holder, LONG)
    assert alive is not None
    (intent,) = await other.open_intents()
    assert (intent.is_held, intent.holder) == (True, store.holder)
    await store.release_lease(alive)
    assert [intent.is_held for intent in await other.open_intents()] == [False]
