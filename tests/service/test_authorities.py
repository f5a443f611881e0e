"""The authority of a set: no write begins on the wrong side, whoever hears of a move late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace

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
from world import Answer, World, world

from proxy.reconcile.authority import Authorities, Authority, Epochs, Holding
from proxy.reconcile.errors import AuthorityMoving
from proxy.reconcile.observations import Observation
from proxy.reconcile.ports import AuthorityMoved, NewConflict, StoreUnavailable
from proxy.sandbox import Switches
from proxy.store import PostgresStore

NEVER_MOVED = {"AccountSet": 0}
WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'"""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[PostgresStore]:
    """The store of another process."""
    made = PostgresStore(database_url, MODEL)
    yield made
    await made.close()


async def move(
    store: PostgresStore, authority: Authority, answers: Authority | None = None, *sets: str
) -> None:
    """Give sets to another authority, whatever their epochs are."""
    held = {one.entity_set: one.epoch for one in await store.holdings()}
    epochs = {name: held.get(name, 0) for name in sets or ("AccountSet",)}
    assert await store.move_authorities(epochs, authority, answers or authority, "a test")


async def waits(url: str, task: asyncio.Task[object]) -> None:
    """Until a statement of `task` waits for a lock."""
    await until(lambda: query(url, WAITING) == [(1,)] or task.done())
    assert not task.done()


# The check, whose order against a move Postgres decides


async def test_a_move_waits_for_an_intent_that_is_being_opened(
    store: PostgresStore, database_url: str
) -> None:
    with closing(psycopg2.connect(database_url)) as opening:
        with opening.cursor() as cursor:
            cursor.execute("SELECT syncpoint.are_epochs('{AccountSet}', '{0}')")
            assert cursor.fetchall() == [(True,)]
        moving = asyncio.create_task(
            store.move_authorities(NEVER_MOVED, Authority.MOVING, Authority.UPSTREAM, "a test")
        )
        await waits(database_url, moving)
        opening.commit()
        assert await moving == {"AccountSet": 1}


async def test_an_intent_waits_for_a_move_and_is_not_opened(store: PostgresStore, database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as moving:
        with moving.cursor() as cursor:
            cursor.execute(
                "SELECT syncpoint.move_authorities('{AccountSet}', '{0}', 'moving', 'upstream', 'a test')"
            )
        opening = asyncio.create_task(store.open_intent(an_intent(account(1))))
        await waits(database_url, opening)
        moving.commit()
        with pytest.raises(AuthorityMoved):
            await opening
    assert query(database_url, "SELECT count(*) FROM syncpoint.intents") == [(0,)]
    assert await store.get(ACCOUNTS, [account(1)]) == {}


async def test_an_intent_names_every_set_that_it_writes_to(store: PostgresStore, database_url: str) -> None:
    await move(store, Authority.MOVING, Authority.UPSTREAM, "TaskSet")
    seen = {"AccountSet": 0, "TaskSet": 0}
    new = an_intent(account(1))
    with pytest.raises(AuthorityMoved):
        await store.open_intent(replace(new, epochs=seen))
    await store.open_intent(replace(new, epochs={**seen, "TaskSet": 1}))
    ((written,),) = query(database_url, "SELECT written FROM syncpoint.intents")
    assert sorted(written) == ["AccountSet", "TaskSet"]


async def test_of_two_moves_one_happens(store: PostgresStore, other: PostgresStore) -> None:
    moves = [
        one.move_authorities(NEVER_MOVED, Authority.MOVING, Authority.UPSTREAM, "a test")
        for one in (store, other)
    ]
    assert sorted(await asyncio.gather(*moves), key=str) == [None, {"AccountSet": 1}]


async def test_a_unit_moves_whole_or_not_at_all(store: PostgresStore) -> None:
    await move(store, Authority.MOVING, Authority.UPSTREAM, "TaskSet")
    epochs = {"AccountSet": 0, "TaskSet": 0}
    assert await store.move_authorities(epochs, Authority.MIRROR, Authority.MIRROR, "a test") is None
    assert [(held.entity_set, held.epoch) for held in await store.holdings()] == [("TaskSet", 1)]


# What upstream says of a set that is the mirror's


@pytest.mark.parametrize(
    ("authority", "stored"),
    [(Authority.UPSTREAM, True), (Authority.MOVING, True), (Authority.MIRROR, False)],
)
async def test_upstreams_states_do_not_enter_a_set_of_the_mirrors(
    store: PostgresStore, database_url: str, authority: Authority, stored: bool
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "before")], REFRESH)
    await move(store, authority, None if authority is not Authority.MOVING else Authority.MIRROR)
    await store.put(TASKS, [state(task(1), 2, "another set's")], REFRESH)
    result = await store.put(ACCOUNTS, [state(account(1), 5, "late"), state(account(2), 5, "new")], REFRESH)
    assert len(result.stored) == (2 if stored else 0)
    assert await store.bury(ACCOUNTS, account(1), 6, REFRESH) is stored
    held = (await store.get(ACCOUNTS, [account(1)]))[account(1)]
    conflict = NewConflict(ACCOUNTS, held, state(account(1), 7), NOW, "r")
    assert (await store.record_conflict(conflict) is not None) is stored
    assert len(revisions(database_url)) == (5 if stored else 2)


# A whole proxy


MESSAGE = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Execute><request>'
    "<Parameters><p><Id>{}</Id><LogicalName>account</LogicalName></p></Parameters>"
    "<RequestName>SetState</RequestName></request></Execute></s:Body></s:Envelope>"
)


def batch_of(place: World, key: str) -> bytes:
    return (
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n"
        f"Content-Transfer-Encoding: binary\r\n\r\nMERGE {place.proxy_root}/AccountSet(guid'{key}') HTTP/1.1"
        '\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"Name":"New"}\r\n--c--\r\n--b--\r\n'
    ).encode()


async def write(place: World, kind: str, key: str) -> Answer:
    """A write of one account, by each of the ways that there are."""
    if kind == "batch":
        content_type = "multipart/mixed; boundary=b"
        return await place.ask("/$batch", "POST", body=batch_of(place, key), Content_Type=content_type)
    if kind == "message":
        url = f"{place.proxy.url}/XRMServices/2011/Organization.svc/web"
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": "Execute"}
        return await place.send(url, "POST", headers, MESSAGE.format(key).encode())
    return await place.merge(f"/AccountSet(guid'{key}')", '{"Name":"New"}')


DONE = {"merge": 204, "batch": 202, "message": 200}


def asked(place: World) -> list[str]:
    """Requests that reached upstream, those of reads left out."""
    return [seen for seen in place.upstream_requests() if not seen.startswith("GET ")]


@pytest.mark.parametrize("kind", DONE)
async def test_a_write_waits_while_its_set_moves(database_url: str, kind: str) -> None:
    async with world(database_url, rows=5, switches=Switches(batch="serve")) as place:
        key = place.a_key("AccountSet")
        await move(place.proxy.store, Authority.MOVING, Authority.UPSTREAM)
        await place.proxy.service.sets.authorities.read()
        writing = asyncio.create_task(write(place, kind, key))
        for _ in range(3):  # it looks again and again
            await place.proxy.service.sets.authorities.read()
        assert not writing.done()
        assert query(database_url, "SELECT count(*) FROM syncpoint.intents") == [(0,)]
        await move(place.proxy.store, Authority.UPSTREAM)
        assert (await writing).status == DONE[kind]
        assert len(asked(place)) == 1


@pytest.mark.parametrize("kind", DONE)
async def test_a_process_that_heard_nothing_of_a_move_sends_nothing(database_url: str, kind: str) -> None:
    async with world(database_url, rows=5) as place:
        authorities = place.proxy.service.sets.authorities
        authorities._read_at = float("inf")  # believes what it knows for ever
        await move(place.proxy.store, Authority.MIRROR)
        authorities._held = {}
        answer = await write(place, kind, place.a_key("AccountSet"))
        # The mirror answers: it holds no such entity, refuses batches, and does not know what messages do.
        ours = {"merge": 404, "batch": 404, "message": 501}
        assert (answer.status, asked(place)) == (ours[kind], [])
        assert authorities.of("AccountSet") == (Authority.MIRROR, 1)


@pytest.mark.parametrize("kind", DONE)
async def test_a_write_that_waits_too_long_is_told_when_to_come_again(database_url: str, kind: str) -> None:
    async with world(database_url, rows=5, cutover__wait_s=0.01) as place:
        await move(place.proxy.store, Authority.MOVING, Authority.UPSTREAM)
        await place.proxy.service.sets.authorities.read()
        answer = await write(place, kind, place.a_key("AccountSet"))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert "Syncpoint.AuthorityMoving" in answer.text
        assert asked(place) == []


async def test_other_sets_go_on_meanwhile(database_url: str) -> None:
    async with world(database_url, rows=5) as place:
        await move(place.proxy.store, Authority.MOVING, Authority.UPSTREAM, "ContactSet")
        assert (await write(place, "merge", place.a_key("AccountSet"))).status == 204


# What a process knows


class Table:
    """The table of authorities, or none."""

    def __init__(self) -> None:
        self.held: list[Holding] = []
        self.asked = 0
        self.is_there = True

    async def holdings(self) -> list[Holding]:
        self.asked += 1
        if not self.is_there:
            raise StoreUnavailable("gone")
        return self.held

    def say(self, authority: Authority, epoch: int) -> None:
        self.held = [Holding("AccountSet", authority, Authority.UPSTREAM, epoch, NOW, "a test")]


async def test_what_is_known_is_asked_again_while_a_set_moves_and_not_otherwise() -> None:
    table = Table()
    authorities = Authorities(table, lambda _: None)
    for _ in range(2):
        await authorities.follow(["AccountSet"])
    assert table.asked == 1
    table.say(Authority.MOVING, 1)
    await authorities.read()
    await authorities.follow(["ContactSet"])
    assert table.asked == 2
    table.say(Authority.UPSTREAM, 2)
    await authorities.follow(["AccountSet"])
    assert authorities.of("AccountSet") == (Authority.UPSTREAM, 2)


async def test_who_asks_while_the_table_is_read_gets_what_was_read_after() -> None:
    table, began, go_on = Table(), asyncio.Event(), asyncio.Event()
    read = table.holdings

    async def slowly() -> list[Holding]:
        held = await read()
        began.set()
        await go_on.wait()
        return held

    table.holdings = slowly  # type: ignore[method-assign]
    authorities = Authorities(table, lambda _: None)
    first = asyncio.create_task(authorities.read())
    await began.wait()
    table.say(Authority.MOVING, 1)
    second = asyncio.create_task(authorities.read())
    go_on.set()
    await first
    await second
    assert authorities.of("AccountSet") == (Authority.MOVING, 1)


async def test_what_is_known_stands_while_the_database_is_away() -> None:
    table = Table()
    table.say(Authority.MIRROR, 2)
    seen: list[Observation] = []
    authorities = Authorities(table, seen.append, wait_s=0)
    await authorities.read()
    seen.clear()
    table.is_there = False
    authorities._read_at = -1000.0  # long ago
    await authorities.follow(["AccountSet"])
    assert (authorities.of("AccountSet"), len(seen)) == ((Authority.MIRROR, 2), 1)
    await authorities.follow(["AccountSet"])
    assert len(seen) == 1  # not every request waits for a database that is away


async def test_nothing_is_upstreams_as_long_as_nobody_knows() -> None:
    table = Table()
    table.is_there = False
    authorities = Authorities(table, lambda _: None)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await authorities.follow(["AccountSet"])


async def test_a_write_begins_again_where_the_set_went() -> None:
    table, sides = Table(), []
    authorities = Authorities(table, lambda _: None)

    async def upstream(epochs: Epochs) -> str:
        sides.append(("upstream", dict(epochs)))
        table.say(Authority.MIRROR, 2)
        raise AuthorityMoved

    async def mirror(epochs: Epochs) -> str:
        sides.append(("mirror", dict(epochs)))
        return "done"

    assert await authorities.on_its_side({"AccountSet"}, upstream, mirror) == "done"
    assert sides == [("upstream", {"AccountSet": 0}), ("mirror", {"AccountSet": 2})]


async def test_waiting_ends() -> None:
    table = Table()
    table.say(Authority.MOVING, 1)
    authorities = Authorities(table, lambda _: None, wait_s=0.0)
    with pytest.raises(AuthorityMoving):
        await authorities.wait("AccountSet")
