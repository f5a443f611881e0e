"""Queries as of a moment against the sandbox's evaluation of what was remembered of that moment.

A random sequence of changes is recorded; of the state behind each of them a sandbox is kept. Then random
queries at random ones of these moments are put to the mirror's history and to the sandbox of that moment.
`SYNCPOINT_PAST_QUERIES` asks for a longer run, `SYNCPOINT_PAST_SEED` for the one that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import storing
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from queries import Asked, queries, rows
from sqlalchemy import select
from things import BOXES, DOCUMENT, LIDS, MODEL, RELATIONSHIPS, THINGS

from proxy.odata import verbose_json
from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.query_options import parse_query
from proxy.reconcile.ports import Provenance, Related, Source
from proxy.reconcile.questions import query_of
from proxy.reconcile.stamp import Stamp
from proxy.sandbox import Sandbox, Switches
from proxy.sandbox.query import Queries
from proxy.store import PostgresStore
from proxy.store.engine import compiled
from proxy.store.set_table import SetTable

EPOCHS = 12
BATCH = 20
COUNT = int(os.environ.get("SYNCPOINT_PAST_QUERIES", "2000"))
SEED = int(os.environ.get("SYNCPOINT_PAST_SEED", random.SystemRandom().randrange(2**32)))
POLL = Provenance(Source.POLL)

State = dict[str, dict[uuid.UUID, dict[str, Any]]]


@dataclass(frozen=True, repr=False)
class Epoch:
    """What was so until the next change: when it was seen, and a sandbox that is still so."""

    at: datetime
    sandbox: Sandbox
    queries: Queries

    def judged(self, asked: Asked, within: list[uuid.UUID] | None = None) -> list[uuid.UUID] | None:
        things = self.sandbox.organisation.entity_set("ThingSet")
        try:
            return list(self.queries.page(things, parse_query(asked.raw), within=within).keys)
        except ODataError as error:
            assert error.message in ("Division by zero.", "Arithmetic overflow."), error.message
            return None


@dataclass(frozen=True, repr=False)
class History:
    store: PostgresStore
    epochs: list[Epoch]

    async def found(
        self, asked: Asked, moment: datetime, within: Related | None = None
    ) -> list[uuid.UUID] | None:
        past = self.store.at(moment)
        options = parse_query(asked.raw)
        query = query_of(options, THINGS, MODEL, RELATIONSHIPS, page=asked.page, page_limit=10_000)
        keys: list[uuid.UUID] = []
        skip, after = asked.skip, None
        while True:
            top = None if asked.top is None else asked.top - len(keys)
            try:
                page = await past.find(
                    replace(query, skip=skip, top=top, after=after, page=asked.page, within=within)
                )
            except ODataError as error:
                assert "cannot be worked out" in error.message, error.message
                return None
            keys += [row.key[0][1] for row in page.rows]
            skip, after = 0, page.next
            if after is None:
                return keys


def changed(state: State, made: Any, dice: random.Random) -> State:
    """About a third of all entities take other values, begin or end."""
    after: State = {name: dict(entities) for name, entities in state.items()}
    for name, key, new in (("BoxSet", "BoxId", made.boxes), ("ThingSet", "ThingId", made.things)):
        for values in new:
            match dice.choice(("keep", "keep", "keep", "put", "put", "end")):
                case "put":
                    after[name][values[key]] = values
                case "end":
                    after[name].pop(values[key], None)
    # What refers to nothing would be refused by the sandbox.
    for values in (after["ThingSet"], after["BoxSet"]):
        for key, entity in values.items():
            values[key] = {name: _standing(value, after) for name, value in entity.items()}
    return after


def _is_lookup(value: Any) -> bool:
    return isinstance(value, dict) and "LogicalName" in value


def _standing(value: Any, state: State) -> Any:
    if _is_lookup(value):
        name = "ThingSet" if value["LogicalName"] == "thing" else "BoxSet"
        return value if value["Id"] in state[name] else None
    return value


def a_sandbox(state: State, dice: random.Random) -> Sandbox:
    sandbox = Sandbox(DOCUMENT, 0, switches=Switches(language="v2", page_size=1000, deep_skip="unlimited"))
    for name in ("BoxSet", "ThingSet"):
        for values in state[name].values():
            alone = {name: value for name, value in values.items() if not _is_lookup(value)}
            sandbox.organisation.insert(name, alone)
    for name in ("BoxSet", "ThingSet"):
        for key, values in state[name].items():
            lookups = {name: value for name, value in values.items() if _is_lookup(value)}
            sandbox.organisation.change(name, key, lookups)
    things = sandbox.organisation.entity_set("ThingSet")
    lids = sandbox.organisation.schema.relationships.of(things, "lids")
    assert lids is not None
    for thing in state["ThingSet"]:
        for box in state["BoxSet"]:
            if dice.random() < 0.2:
                sandbox.organisation.associate(things, thing, lids, box)
    return sandbox


async def record(
    store: PostgresStore, before: Sandbox | None, after: Sandbox, numbers: Iterator[int]
) -> None:
    """Let the mirror see one state follow another."""
    for entity_set in (BOXES, THINGS, LIDS):
        was, now = _texts(before, entity_set), _texts(after, entity_set)
        (part,) = entity_set.entity_type.key
        states = [
            storing.state(
                ((part, key),),
                next(numbers),
                text,
                values=after.organisation.entity(entity_set.name, key),
                document=text,
                stamp=Stamp(),
            )
            for key, text in now.items()
            if was.get(key) != text
        ]
        await store.put(entity_set, states, POLL)
        for key in was.keys() - now.keys():
            await store.bury(entity_set, ((part, key),), next(numbers), POLL)


def _texts(sandbox: Sandbox | None, entity_set: EntitySet) -> dict[uuid.UUID, str]:
    if sandbox is None:
        return {}
    organisation = sandbox.organisation
    return {
        key: verbose_json.write_entity(
            organisation.entity(entity_set.name, key) or {}, entity_set, MODEL, "\x01/root.svc"
        )
        for key in organisation.keys(entity_set.name)
    }


async def lived(store: PostgresStore, number: int) -> History:
    dice = random.Random(number)
    numbers = iter(range(1, 10**9))
    state: State = {"BoxSet": {}, "ThingSet": {}}
    sandbox = None
    epochs = []
    for _ in range(EPOCHS):
        state = changed(state, rows(dice.randrange(2**32)), dice)
        before, sandbox = sandbox, a_sandbox(state, dice)
        await record(store, before, sandbox, numbers)
        epochs.append(
            Epoch(datetime.now(UTC), sandbox, Queries(sandbox.organisation.tables, sandbox.switches))
        )
    return History(store, epochs)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def past(databases: Any, template: str, runner: asyncio.Runner) -> Iterator[History]:
    with contextlib.ExitStack() as stack:
        store = PostgresStore(stack.enter_context(databases.database(template)), MODEL)
        yield runner.run(lived(store, SEED))
        runner.run(store.close())


def test_the_history_answers_as_the_sandbox_did_then(past: History, runner: asyncio.Runner) -> None:
    tally = Counter[str]()

    @seed(SEED)
    @settings(
        max_examples=-(-COUNT // BATCH),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, EPOCHS - 1), st.lists(queries, min_size=BATCH, max_size=BATCH))
    def compare(number: int, batch: list[Asked]) -> None:
        epoch = past.epochs[number]
        for asked in batch:
            judged, found = epoch.judged(asked), runner.run(past.found(asked, epoch.at))
            tally["asked"] += 1
            if judged is None or found is None:
                tally["not worked out"] += 1
                continue
            tally["some rows" if judged else "no rows"] += 1
            assert found == judged, f"seed {SEED}, epoch {number}: {asked}"

    compare()
    print(f"seed {SEED}: {dict(tally)}")
    assert tally["asked"] >= COUNT
    assert tally["not worked out"] < 0.2 * tally["asked"]
    assert tally["some rows"] > 0.3 * tally["asked"]


async def _led(past: History, epoch: Epoch, name: str, box: uuid.UUID) -> list[uuid.UUID]:
    relationship = RELATIONSHIPS.of(BOXES, name)
    assert relationship is not None
    within = Related(BOXES, (("BoxId", box),), relationship)
    related = await past.store.at(epoch.at).related(relationship, [within.key], 1000)
    found = await past.found(Asked(), epoch.at, within)
    assert [row.key[0][1] for row in related[within.key].rows] == found
    return found or []


@pytest.mark.parametrize("name", ["things", "covered"])
def test_relationships_lead_where_they_led_then(past: History, runner: asyncio.Runner, name: str) -> None:
    told = 0
    for epoch in past.epochs:
        organisation = epoch.sandbox.organisation
        relationship = organisation.schema.relationships.of(organisation.entity_set("BoxSet"), name)
        assert relationship is not None
        for box in organisation.keys("BoxSet"):
            judged = organisation.tables.related(box, relationship)
            found = runner.run(_led(past, epoch, name, box))
            assert sorted(found) == sorted(judged), f"seed {SEED}"
            told += len(found)
    assert told > EPOCHS


async def _by_key(
    past: History, epoch: Epoch, entity_set: EntitySet, keys: list[uuid.UUID]
) -> set[uuid.UUID]:
    (part,) = entity_set.entity_type.key
    got = await past.store.at(epoch.at).get(entity_set, [((part, key),) for key in keys])
    for row in got.values():
        assert (row.document is None) == (row.deleted_at is not None)
        assert row.fetched_at <= epoch.at
    return {key[0][1] for key, row in got.items() if row.document is not None}


def test_entities_are_found_by_key_as_they_were(past: History, runner: asyncio.Runner) -> None:
    for entity_set in (THINGS, BOXES):
        everything = {
            key for epoch in past.epochs for key in epoch.sandbox.organisation.keys(entity_set.name)
        }
        for epoch in past.epochs:
            there = runner.run(_by_key(past, epoch, entity_set, [*everything]))
            assert there == set(epoch.sandbox.organisation.keys(entity_set.name)), f"seed {SEED}"


async def _columns(store: PostgresStore, table: SetTable, entity_set: EntitySet, moment: Any) -> list[Any]:
    shown = [table.column_in(table.table, path.members) for path in _paths(table)]
    statement = compiled(select(*shown).where(table.table.c.document.is_not(None)))
    rows = await store._connections.fetch(statement, {"as_of": moment})
    return sorted(str([bytes(v) if isinstance(v, memoryview) else v for v in row]) for row in rows)


def _paths(table: SetTable) -> list[Any]:
    return [field.path for field in table._fields]


async def _both(past: History, entity_set: EntitySet) -> tuple[list[Any], list[Any]]:
    store = past.store
    now = await _columns(store, await store._tables.of(entity_set), entity_set, None)
    then = await _columns(store, await store._past._tables.of(entity_set), entity_set, datetime.now(UTC))
    return now, then


def test_documents_are_read_into_the_columns_of_the_mirror(past: History, runner: asyncio.Runner) -> None:
    for entity_set in (THINGS, BOXES, LIDS):
        now, then = runner.run(_both(past, entity_set))
        assert now
        assert then == now
