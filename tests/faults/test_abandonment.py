"""The write path, abandoned between any two steps of its event loop, as a killed process abandons it.

Each schedule runs one write in an event loop of its own that stops for good after so many turns, wherever
every task then is, and loses its sockets. Afterwards a survivor settles what is open, and three histories are
compared. `SYNCPOINT_FAULT_SEED` chooses other schedules; the number of a failing one is its seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from histories import MARK, Attempt, disagreements
from lifecycle import load, model_of
from multidict import CIMultiDict
from storing import query, until
from world import Hands, World, world

from proxy.odata.edm import Model
from proxy.odata.operation import CreateEntity, DeleteEntity, MergeEntity
from proxy.odata.uri import entity_path
from proxy.reconcile.background import Background
from proxy.reconcile.exchange import Ask, Relayed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.policy import Policies, SyncRules
from proxy.reconcile.ports import Caller, Directives, Request
from proxy.reconcile.sending import Sender
from proxy.reconcile.sets import Sets
from proxy.reconcile.writer import Writer
from proxy.store import PostgresStore
from proxy.upstream.client import UpstreamClient

BASE = int(os.environ.get("SYNCPOINT_FAULT_SEED", "20160825"))
BATCHES, SCHEDULES = 8, 40
MOST_TURNS = 70  # more than a write takes
_limbo: list[Any] = []  # what was abandoned stays so: nothing may run its end


class Abandoned(Exception):
    """The process ended here."""


class Doomed(asyncio.SelectorEventLoop):
    """An event loop that stops for good after so many turns."""

    turns = -1

    def _run_once(self) -> None:
        if self.turns == 0:
            raise Abandoned
        self.turns -= 1
        super()._run_once()  # type: ignore[misc]


@dataclass(frozen=True)
class Plan:
    """One schedule."""

    number: int
    method: str
    key: uuid.UUID | None
    text: str
    turns: int


def a_plan(number: int, keys: list[uuid.UUID]) -> Plan:
    chance = random.Random(number)
    method = chance.choice(["merge", "merge", "create", "delete", "refused"])
    key = None if method == "create" else keys[number % len(keys)]
    turns = -1 if number % 10 == 0 else chance.randrange(MOST_TURNS)  # some are left to their end
    return Plan(number, method, key, f"text-{number}-end", turns)


def a_write(plan: Plan, model: Model, root_path: str) -> tuple[Any, Ask]:
    accounts = model.entity_sets["AccountSet"]
    body = b'{"Name":"%s"}' % plan.text.encode()
    headers = CIMultiDict({"Accept": "application/json", "Content-Type": "application/json"})
    headers[MARK] = str(plan.number)
    key = (("AccountId", plan.key),)
    match plan.method:
        case "create":
            operation: Any = CreateEntity(accounts)
            request = Request("POST", f"{root_path}/AccountSet", headers, body)
        case "delete":
            operation = DeleteEntity(accounts, key)
            request = Request("DELETE", f"{root_path}/{entity_path(accounts, key)}", headers)
        case _:
            operation = MergeEntity(accounts, key)
            if plan.method == "refused":
                # More money than there is: what nobody can read would end undetermined.
                body = b'{"Name":"%s","CreditLimit":{"Value":"1000000000000000"}}' % plan.text.encode()
            request = Request("MERGE", f"{root_path}/{entity_path(accounts, key)}", headers, body)
    ask = Ask(request, "http://client", "json", Caller(), Directives(), f"attempt-{plan.number}")
    return operation, ask


def doomed_write(plan: Plan, model: Model, root: str, database_url: str) -> int | None:
    """Carry the write out in a process of its own, so to speak; the status, None where it was abandoned."""
    loop = Doomed()
    parts = urlsplit(root)
    store = PostgresStore(database_url, model, pool_size=3)
    client = UpstreamClient(
        f"{parts.scheme}://{parts.netloc}",
        connections=4,
        connect_timeout_s=10,
        read_timeout_s=10,
        reply_limit_bytes=1 << 24,
        now=lambda: datetime.now(UTC),
    )

    def observe(_: object) -> None:
        pass

    async def begin() -> Writer:
        await store.open()
        upstream = await client.__aenter__()
        sets = Sets(store, Policies(), observe)
        mirror = Mirror(store, upstream, sets, SyncRules(audit_share=0), parts.path, observe)
        background = Background(observe)
        feeder = Feeder(mirror, background, observe)
        sender = Sender(mirror, upstream, observe, set())
        return Writer(mirror, upstream, sender, feeder, background, lambda: datetime.now(UTC))

    writer = loop.run_until_complete(begin())
    operation, ask = a_write(plan, model, parts.path)
    loop.turns = plan.turns
    status = None
    with suppress(Abandoned):
        answer = loop.run_until_complete(writer.write(operation, ask, model))
        assert isinstance(answer, Relayed)
        status = answer.reply.status
    _limbo.append((loop, store, client, writer))
    cut_off(loop, store)
    return status


def cut_off(loop: Doomed, store: PostgresStore) -> None:
    """Break every connection, as the end of a process does."""
    own = loop._ssock.fileno()  # type: ignore[attr-defined]
    fds = {key.fd for key in loop._selector.get_map().values()} - {own}  # type: ignore[attr-defined]
    pool = store._connections._pool
    connections = [*pool._free, *pool._used] if pool is not None else []
    fds |= {connection.raw.fileno() for connection in connections if not connection.raw.closed}
    for fd in fds:
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as end:
            end.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.raw.close()
    for own_end in (loop._ssock, loop._csock, loop._selector):  # type: ignore[attr-defined]
        own_end.close()


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_a_write_abandoned_anywhere_ends_as_it_went(database_url: str, batch: int) -> None:
    hands = Hands()
    async with world(database_url, rows=SCHEDULES, now=hands.now) as place:
        keys = list(place.sandbox.organisation.keys("AccountSet"))
        for key in keys:  # a delete must change no other account
            place.sandbox.organisation.tables.change("AccountSet", key, {"ParentAccountId": None})
        await load(place)
        place.clear()
        model = model_of(place)
        attempts = []
        for number in range(batch * SCHEDULES, (batch + 1) * SCHEDULES):
            plan = a_plan(BASE + number, keys)
            status = await asyncio.to_thread(doomed_write, plan, model, place.direct_root, database_url)
            attempts.append(
                Attempt(plan.number, plan.method, str(plan.key) if plan.key else None, plan.text, status)
            )
        await all_arrived(place)
        await all_committed(database_url)
        abandoned = sum(attempt.status is None for attempt in attempts)
        assert 0 < abandoned < SCHEDULES, "schedules that end early and such that do not"
        hands.advance(place, 301)
        await place.proxy.settler.settle(model)
        assert query(database_url, "SELECT count(*) FROM syncpoint.intents WHERE outcome IS NULL") == [(0,)]
        assert "\n".join(await disagreements(attempts, place, database_url)) == ""


async def all_arrived(place: World) -> None:
    """Let upstream read what was on its way when its sender ended."""
    for _ in range(3):
        await place.ask("/AccountSet?$top=1", direct=True)


async def all_committed(database_url: str) -> None:
    """Let Postgres end what was on its way to it: a commit that was sent is made, however late it is read."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
    )
    await until(lambda: query(database_url, busy) == [(0,)])


def test_the_histories_are_told_apart() -> None:
    """A checker that finds nothing wrong must be one that could."""
    from histories import Upstream, _problems

    told: Callable[..., list[str]] = _problems
    lost = Attempt(1, "merge", "k", "text", 204)
    shown = [("client write", '{"Name":"text"}', False)]
    assert told(lost, Upstream(1, True), "applied", shown) == []
    assert told(lost, Upstream(1, True), "applied", [])
    assert told(lost, Upstream(1, True), "refused", shown)
    assert told(lost, Upstream(0, False), "never sent", [])
    assert told(lost, Upstream(2, True), "applied", shown)
    refused = Attempt(2, "merge", "k", "text", 400)
    assert told(refused, Upstream(1, False), "refused", []) == []
    assert told(refused, Upstream(1, False), "refused", shown)
    assert told(refused, Upstream(1, False), "applied", [])
