"""A Postgres that goes away, hangs, cancels, and comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from storing import ACCOUNTS, MODEL, NOW, REFRESH, account, an_intent, query, state, until

from proxy.reconcile.ports import Outcome, SetState, Settlement, StoreUnavailable
from proxy.store import EmbeddedPostgres, PostgresStore

TABLE = 'LOCK TABLE mirror."AccountSet" IN ACCESS EXCLUSIVE MODE'
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def locked(url: str, statement: str = TABLE) -> Iterator[None]:
    with closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute(statement)
        yield


def waits(url: str, count: int = 1) -> Callable[[], bool]:
    return lambda: query(url, f"SELECT count(*) {OTHERS} AND wait_event_type = 'Lock'") == [(count,)]


@pytest.fixture
async def filled(store: PostgresStore) -> PostgresStore:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    return store


@pytest.fixture
def own_server() -> Iterator[Path]:
    """A folder for a server that may be maltreated."""
    with tempfile.TemporaryDirectory(prefix="syncpoint-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


EVERY_METHOD: list[Callable[[PostgresStore], Awaitable[Any]]] = [
    lambda store: store.next_fetch_number(),
    lambda store: store.get(ACCOUNTS, [account(1)]),
    lambda store: store.put(ACCOUNTS, [state(account(1), 5)], REFRESH),
    lambda store: store.touch(ACCOUNTS, [state(account(1), 5)]),
    lambda store: store.bury(ACCOUNTS, account(1), 5, REFRESH),
    lambda store: store.open_intent(an_intent(account(1))),
    lambda store: store.open_intents(),
    lambda store: store.intents_of(ACCOUNTS, account(1)),
    lambda store: store.unsettled_creates(ACCOUNTS, NOW, NOW),
    lambda store: store.claimed(ACCOUNTS, [account(1)], 1),
    lambda store: store.conflict_count(ACCOUNTS),
    lambda store: store.count(ACCOUNTS, at_most=1),
    lambda store: store.set_state(ACCOUNTS),
    lambda store: store.save_set_state(ACCOUNTS, SetState()),
    lambda store: store.latest_metadata(),
    lambda store: store.save_metadata(b"x"),
]


async def test_down_and_up_again(own_server: Path) -> None:
    server = EmbeddedPostgres.start(own_server)
    store = PostgresStore(server.url(), MODEL, connect_timeout_s=600)
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))

    server.stop()
    async with asyncio.timeout(60):  # nothing waits for the limit
        for method in EVERY_METHOD:
            with pytest.raises(StoreUnavailable):
                await method(store)
        with pytest.raises(StoreUnavailable):
            await store.settle_intent(intent, Settlement(Outcome.REFUSED, 5))
        assert not await store.is_ready()

    server = EmbeddedPostgres.start(own_server)
    assert await store.is_ready()
    assert await store.open_intents() == [intent]
    await store.settle_intent(intent, Settlement(Outcome.REFUSED, 5))
    assert (await store.get(ACCOUNTS, [account(1)]))[account(1)].intents == 0
    await store.close()
    server.stop()


async def test_killed_it_recovers_what_was_committed(own_server: Path) -> None:
    server = EmbeddedPostgres.start(own_server)
    store = PostgresStore(server.url(), MODEL)
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    pid = int((own_server / "postgres/postmaster.pid").read_text().splitlines()[0])
    with locked(server.url()):
        putting = asyncio.create_task(store.put(ACCOUNTS, [state(account(1), 2, "b")], REFRESH))
        await until(waits(server.url()))
        os.kill(pid, signal.SIGKILL)
        second = EmbeddedPostgres.start(own_server)
        with pytest.raises(StoreUnavailable):
            await putting
    assert (await store.get(ACCOUNTS, [account(1)]))[account(1)].fetch_number == 1
    await store.put(ACCOUNTS, [state(account(1), 3, "c")], REFRESH)
    await store.close()
    server.stop()
    second.stop()


async def test_a_store_may_be_there_before_its_postgres(own_server: Path) -> None:
    server = EmbeddedPostgres.start(own_server)
    url = server.url()
    server.stop()
    store = PostgresStore(url, MODEL)
    with pytest.raises(StoreUnavailable):
        await store.open()
    assert not await store.is_ready()
    server = EmbeddedPostgres.start(own_server)
    assert await store.get(ACCOUNTS, [account(1)]) == {}
    await store.open()
    await store.close()
    server.stop()


async def test_a_postgres_that_says_nothing_holds_up_nobody_for_long() -> None:
    tried = 0

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = PostgresStore(f"postgresql://someone@127.0.0.1:{port}/x", MODEL, connect_timeout_s=0.3)
    asked = [store.get(ACCOUNTS, [account(1)]) for _ in range(20)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert tried == 1, "they wait together, not one after the other"
    await store.close()
    server.close()


async def test_a_pool_in_use_holds_up_nobody_for_long(database_url: str, filled: PostgresStore) -> None:
    small = PostgresStore(database_url, MODEL, pool_size=1, connect_timeout_s=0.2)
    await small.get(ACCOUNTS, [account(1)])
    with locked(database_url):
        first = asyncio.create_task(small.get(ACCOUNTS, [account(1)]))
        await until(waits(database_url))
        with pytest.raises(StoreUnavailable, match="in time"):
            await small.next_fetch_number()
    assert account(1) in await first
    assert await small.next_fetch_number()
    await small.close()


@pytest.mark.parametrize("method", EVERY_METHOD[1:5])
async def test_a_statement_that_postgres_cancels_is_an_error_and_no_cancellation(
    filled: PostgresStore, database_url: str, caplog: pytest.LogCaptureFixture, method: Any
) -> None:
    caplog.set_level(logging.CRITICAL, "asyncio")
    with locked(database_url):
        running = asyncio.ensure_future(method(filled))
        await until(waits(database_url))
        query(database_url, f"SELECT pg_cancel_backend(pid) {OTHERS} AND wait_event_type = 'Lock'")
        with pytest.raises(StoreUnavailable, match="cancelled"):
            await running
    assert (await filled.get(ACCOUNTS, [account(1)]))[account(1)].fetch_number == 1


async def test_a_statement_has_its_time(database_url: str, filled: PostgresStore) -> None:
    hasty = PostgresStore(database_url, MODEL, statement_timeout_s=0.1)
    with locked(database_url):
        for method in (EVERY_METHOD[1], EVERY_METHOD[2]):
            with pytest.raises(StoreUnavailable):
                await method(hasty)
    assert account(1) in await hasty.get(ACCOUNTS, [account(1)])
    await hasty.close()


async def test_a_lock_has_its_time(database_url: str, filled: PostgresStore) -> None:
    hasty = PostgresStore(database_url, MODEL, lock_timeout_s=0.1)
    with (
        locked(database_url, 'SELECT 1 FROM mirror."AccountSet" FOR UPDATE'),
        pytest.raises(StoreUnavailable),
    ):
        await hasty.put(ACCOUNTS, [state(account(1), 2)], REFRESH)
    await hasty.close()


async def test_a_read_whose_connection_breaks_is_sent_again(filled: PostgresStore, database_url: str) -> None:
    with locked(database_url):
        reading = asyncio.create_task(filled.get(ACCOUNTS, [account(1)]))
        await until(waits(database_url))
        query(database_url, f"SELECT pg_terminate_backend(pid) {OTHERS} AND wait_event_type = 'Lock'")
        await until(waits(database_url, 1))
    assert account(1) in await reading


async def test_a_change_whose_connection_breaks_is_not_sent_again(
    filled: PostgresStore, database_url: str
) -> None:
    with locked(database_url):
        putting = asyncio.create_task(filled.put(ACCOUNTS, [state(account(1), 2, "b")], REFRESH))
        await until(waits(database_url))
        query(database_url, f"SELECT pg_terminate_backend(pid) {OTHERS} AND wait_event_type = 'Lock'")
        with pytest.raises(StoreUnavailable):
            await putting
    assert (await filled.get(ACCOUNTS, [account(1)]))[account(1)].fetch_number == 1


async def test_connections_that_died_idle_are_nobodys_trouble(
    filled: PostgresStore, database_url: str
) -> None:
    for method in EVERY_METHOD:
        await asyncio.gather(*(filled.next_fetch_number() for _ in range(5)))
        query(database_url, f"SELECT pg_terminate_backend(pid) {OTHERS}")
        await method(filled)


async def test_a_cancelled_change_happens_all_the_same(filled: PostgresStore, database_url: str) -> None:
    with locked(database_url):
        putting = asyncio.create_task(filled.put(ACCOUNTS, [state(account(1), 2, "b")], REFRESH))
        await until(waits(database_url))
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    await filled.close()  # waits for what runs
    assert query(database_url, 'SELECT fetch_number FROM mirror."AccountSet"') == [(2,)]


async def test_a_cancelled_read_is_cancelled(filled: PostgresStore, database_url: str) -> None:
    with locked(database_url):
        reading = asyncio.create_task(filled.get(ACCOUNTS, [account(1)]))
        await until(waits(database_url))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert account(1) in await filled.get(ACCOUNTS, [account(1)])


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    assert [task for task in asyncio.all_tasks() if "_transaction" in repr(task)] == []
