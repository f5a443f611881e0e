"""The change feed: commit order whatever the numbers say, cursors that never expire, events and pages."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import aiohttp
import psycopg2
import pytest
from storing import ACCOUNTS, MODEL, REFRESH, TASKS, account, query, state, task
from world import World, world

from proxy.reconcile.changes import Cursor, CursorRefused, Event, Feed
from proxy.store import PostgresStore

RECORD = (
    "INSERT INTO syncpoint.revisions (entity_set, entity_key, fetch_number, source, request_id, document) "
    "VALUES (%s, %s, 1, 'poll', '', '{}') RETURNING id"
)


async def read_all(
    feed: Feed, cursor: Cursor, sets: frozenset[str] | None = None, limit: int = 3
) -> tuple[list[Event], Cursor]:
    events: list[Event] = []
    while True:
        some, cursor = await feed.read(cursor, sets, limit)
        if not some:
            return events, cursor
        events += some


def keys(events: list[Event]) -> list[str]:
    return [event.revision.key if event.revision else event.kind for event in events]


@pytest.fixture
def feed(store: PostgresStore) -> Feed:
    return Feed(store, lambda: MODEL)


async def test_what_commits_late_is_not_missed(store: PostgresStore, feed: Feed, database_url: str) -> None:
    cursor = await feed.cursor("now")
    with closing(psycopg2.connect(database_url)) as slow, closing(psycopg2.connect(database_url)) as fast:
        slow.cursor().execute(RECORD, ("AccountSet", "slow"))
        fast.cursor().execute(RECORD, ("AccountSet", "fast"))
        fast.commit()
        events, cursor = await read_all(feed, cursor)
        assert keys(events) == ["fast"]
        slow.commit()
        events, cursor = await read_all(feed, cursor)
        assert keys(events) == ["slow"]
        assert (await read_all(feed, cursor))[0] == []


async def test_of_one_entity_the_last_to_commit_comes_last(
    store: PostgresStore, feed: Feed, database_url: str
) -> None:
    """A transaction with a low number may write an entity after one with a high number has."""
    cursor = await feed.cursor("now")
    with closing(psycopg2.connect(database_url)) as early, closing(psycopg2.connect(database_url)) as late:
        early.cursor().execute("SELECT pg_current_xact_id()")
        late.cursor().execute(RECORD, ("AccountSet", "first"))
        late.commit()
        early.cursor().execute(RECORD, ("AccountSet", "second"))
        early.commit()
    assert keys((await read_all(feed, cursor))[0]) == ["first", "second"]


async def test_what_commits_first_comes_first_whatever_numbers_it_drew(
    store: PostgresStore, feed: Feed, database_url: str
) -> None:
    cursor = await feed.cursor("now")
    with closing(psycopg2.connect(database_url)) as early, closing(psycopg2.connect(database_url)) as late:
        early.cursor().execute(RECORD, ("AccountSet", "began first"))
        late.cursor().execute(RECORD, ("ContactSet", "began last"))
        late.commit()
        early.cursor().execute(RECORD, ("TaskSet", "began first, too"))
        early.commit()
    for limit in (1, 3):
        events, _ = await read_all(feed, cursor, limit=limit)
        assert keys(events) == ["began last", "began first", "began first, too"]


WRITERS, TRANSACTIONS = 150, 4


def writes(url: str, writer: int) -> dict[str, tuple[float, float]]:
    """Transactions of several rows that take their time; when the commit of each row began and ended."""
    dice = random.Random(writer)
    times = {}
    with closing(psycopg2.connect(url)) as connection:
        for number in range(TRANSACTIONS):
            rows = [f"{writer}/{number}/{row}" for row in range(dice.choice((1, 1, 2, 5)))]
            for row in rows:
                connection.cursor().execute(RECORD, (dice.choice(("AccountSet", "TaskSet")), row))
                connection.cursor().execute("SELECT pg_sleep(%s)", (dice.random() * 0.05,))
            begun = time.monotonic()
            connection.commit()
            times |= dict.fromkeys(rows, (begun, time.monotonic()))
    return times


async def test_hundreds_of_writers_are_told_in_the_order_of_their_commits(
    store: PostgresStore, feed: Feed, database_url: str
) -> None:
    cursor = await feed.cursor("now")
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    with ThreadPoolExecutor(WRITERS) as threads:
        running = [loop.run_in_executor(threads, writes, database_url, writer) for writer in range(WRITERS)]
        while not all(task.done() for task in running):
            some, cursor = await feed.read(Cursor.of(cursor.text()), None, 7)
            seen += keys(some)
    events, _ = await read_all(feed, cursor, limit=100)
    seen += keys(events)
    times = {row: moments for task in running for row, moments in task.result().items()}
    assert set(seen) == set(times)
    assert len(seen) == len(times)
    earliest_end = math.inf  # among all that came later
    for row in reversed(seen):
        begun, ended = times[row]
        assert begun <= earliest_end, f"something that was committed before {row} comes after it"
        earliest_end = min(earliest_end, ended)


async def test_a_reader_goes_on_within_what_it_was_reading(store: PostgresStore, feed: Feed) -> None:
    cursor = await feed.cursor("now")
    await store.put(ACCOUNTS, [state(account(n), 1, str(n)) for n in range(1, 6)], REFRESH)
    await store.put(TASKS, [state(task(1), 1, "t")], REFRESH)
    first, cursor = await feed.read(cursor, None, 2)
    await store.put(ACCOUNTS, [state(account(9), 2, "new")], REFRESH)
    rest, cursor = await read_all(feed, Cursor.of(cursor.text()), limit=2)
    ids = [event.revision.id for event in (*first, *rest) if event.revision]
    assert len(ids) == len(set(ids)) == 7
    again, _ = await read_all(feed, Cursor.of(first[0].cursor.text()))
    assert [event.revision for event in again] == [event.revision for event in (first[1], *rest)]
    only, _ = await read_all(feed, replace(first[0].cursor, after=(0, 0)), frozenset({"TaskSet"}))
    assert [event.revision.entity_set for event in only if event.revision] == ["TaskSet"]


async def test_without_a_cursor_all_entities_come_first(store: PostgresStore, feed: Feed) -> None:
    await store.put(ACCOUNTS, [state(account(n), 1, str(n)) for n in range(1, 6)], REFRESH)
    await store.bury(ACCOUNTS, account(2), 2, REFRESH)
    await store.put(TASKS, [state(task(1), 1, "t")], REFRESH)
    cursor = await feed.cursor(None)
    some, cursor = await feed.read(cursor, None, 2)
    await store.put(ACCOUNTS, [state(account(1), 3, "changed")], REFRESH)
    events, cursor = await read_all(feed, Cursor.of(cursor.text()), limit=2)
    kinds = [event.kind for event in (*some, *events)]
    assert kinds == ["snapshot-begins", *["entity"] * 5, "snapshot-ends", "change"]
    shown = [(event.entity_set, event.key[-2]) for event in (*some, *events) if event.held]
    assert shown == [
        ("AccountSet", "1"),
        ("AccountSet", "3"),
        ("AccountSet", "4"),
        ("AccountSet", "5"),
        ("TaskSet", "1"),
    ]
    only, _ = await read_all(feed, await feed.cursor(None), frozenset({"TaskSet"}))
    assert [event.kind for event in only] == ["snapshot-begins", "entity", "snapshot-ends"]


async def test_a_reader_whom_retention_overtakes_begins_anew(
    store: PostgresStore, feed: Feed, database_url: str
) -> None:
    cursor = await feed.cursor("now")
    await store.put(ACCOUNTS, [state(account(n), 1, str(n)) for n in range(1, 6)], REFRESH)
    some, cursor = await feed.read(cursor, None, 2)
    assert [event.kind for event in some] == ["change", "change"]
    # As if retention had taken what the transaction recorded.
    query(
        database_url, "UPDATE syncpoint.feed SET dropped = (SELECT max(transaction) FROM syncpoint.revisions)"
    )
    events, _ = await read_all(feed, cursor)
    assert [event.kind for event in events] == ["snapshot-begins", *["entity"] * 5, "snapshot-ends"]


async def test_a_cursor_that_retention_has_overtaken_begins_anew(
    store: PostgresStore, feed: Feed, database_url: str
) -> None:
    behind = await feed.cursor("now")
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    ahead = await feed.cursor("now")
    # Transactions are the cluster's: while one that is older runs, be it in the database of another test,
    # the place might be behind what is dropped.
    while len(set(ahead.since.split(":")[:2])) > 1:
        ahead = await feed.cursor("now")
    query(
        database_url,
        "CREATE TABLE syncpoint.revisions_2020q1 PARTITION OF syncpoint.revisions "
        "FOR VALUES FROM ('2020-01-01+00') TO ('2020-04-01+00')",
    )
    query(database_url, "UPDATE syncpoint.revisions SET recorded_at = '2020-01-02+00'")
    assert (await feed.cursor(behind.text())).walk is None
    assert await store.drop_revisions({}, 30) == ["revisions_2020q1"]
    assert (await feed.cursor(ahead.text())) == ahead
    assert [event.kind for event in (await read_all(feed, await feed.cursor(behind.text())))[0]] == [
        "snapshot-begins",
        "entity",
        "snapshot-ends",
    ]


async def test_a_cursor_of_before_is_still_one(store: PostgresStore, feed: Feed) -> None:
    """What it was in the middle of is read once more."""
    cursor = await feed.cursor("now")
    await store.put(ACCOUNTS, [state(account(n), 1, str(n)) for n in range(1, 4)], REFRESH)
    upto = (await store.now()).since
    fields = json.dumps(["1", cursor.database, cursor.since, upto, 10**6, None]).encode()
    events, _ = await read_all(feed, await feed.cursor(base64.urlsafe_b64encode(fields).decode()))
    assert len(events) == 3


@pytest.mark.parametrize(
    "text", ["", "x", "é", "bm9uZQ", base64.urlsafe_b64encode(b'["1","d","s",null,true,null]').decode()]
)
async def test_what_is_no_cursor_is_refused(feed: Feed, text: str) -> None:
    with pytest.raises(CursorRefused, match="no cursor"):
        await feed.cursor(text)


async def test_a_cursor_of_another_database_is_refused(
    store: PostgresStore, feed: Feed, blank_database_url: str
) -> None:
    other = PostgresStore(blank_database_url, MODEL)
    foreign = await other.now()
    await other.close()
    with pytest.raises(CursorRefused, match="another database"):
        await feed.cursor(foreign.text())
    ours = await feed.cursor("now")
    with pytest.raises(CursorRefused, match="later state"):
        await feed.cursor(replace(ours, since="999999999:999999999:").text())


# Over HTTP


@asynccontextmanager
async def listening(place: World, **parameters: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a stream, each with its `id` and, under `event`, its kind."""
    headers = {"Accept": "text/event-stream", **parameters.pop("headers", {})}
    url = f"{place.proxy.services_url}/changes"
    async with place.session.get(url, headers=headers, params=parameters) as response:
        assert response.headers["Content-Type"] == "text/event-stream"

        async def events() -> AsyncIterator[dict[str, Any]]:
            block: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                else:
                    yield {**block, **json.loads(block.get("data", "{}"))}
                    block = {}

        yield events()


async def following(events: AsyncIterator[dict[str, Any]], kind: str = "change") -> dict[str, Any]:
    async with asyncio.timeout(20):
        async for event in events:
            if event.get("event") == kind:
                return event
    raise AssertionError("the stream ended")


async def test_a_write_reaches_a_listener_and_a_listener_goes_on_where_it_was(database_url: str) -> None:
    async with world(database_url) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        async with listening(place, cursor="now", set="AccountSet") as events:
            first = await anext(events)
            assert "id" in first
            await place.merge(path, '{"Name":"One"}')
            event = await following(events)
            while event["entity"]["Name"] != "One":
                event = await following(events)
            assert (event["source"], event["deleted"]) == ("client write", False)
        await place.merge(path, '{"Name":"Two"}')
        async with listening(place, set="AccountSet", headers={"Last-Event-ID": event["id"]}) as events:
            event = await following(events)
            assert (event["entity"]["Name"], event["changed"][0]) == ("Two", "ModifiedOn") or event["entity"][
                "Name"
            ] == "Two"


async def test_pages(database_url: str) -> None:
    async with world(database_url) as place:
        url = f"{place.proxy.services_url}/changes"
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        await place.ask(path)
        page = (await place.send(f"{url}?set=AccountSet")).json()
        assert [event["kind"] for event in page["events"]] == ["snapshot-begins", "entity"]
        assert page["events"][1]["entity"]["__metadata"]["uri"].startswith(place.proxy.services_url)
        page = (await place.send(f"{url}?set=AccountSet&cursor={page['cursor']}")).json()
        assert [event["kind"] for event in page["events"]] == ["snapshot-ends"]
        await place.merge(path, '{"Name":"One"}')
        page = (await place.send(f"{url}?set=AccountSet&cursor={page['cursor']}")).json()
        assert [event["entity"]["Name"] for event in page["events"]] == ["One"]
        page = (await place.send(f"{url}?set=AccountSet&cursor={page['cursor']}")).json()
        assert page["events"] == []
        for refused in ("cursor=x", "limit=x"):
            answer = await place.send(f"{url}?{refused}")
            assert (answer.status, "error" in answer.json()) == (400, True)


async def test_stopping_does_not_wait_for_listeners(database_url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        async with world(database_url, limits__shutdown_s=600) as place:
            url = f"{place.proxy.services_url}/changes?cursor=now"
            response = await session.get(url, headers={"Accept": "text/event-stream"})
            assert (await response.content.readline()).startswith(b"id: ")
        response.close()
