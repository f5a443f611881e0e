"""Mirror rows: read, stored, confirmed, buried. And their revisions, always in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, bindparam, cast, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.ports import Fetched, Provenance, PutResult, Stored
from proxy.reconcile.progress import Walk
from proxy.reconcile.stamp import Stamp
from proxy.store.columns import storable
from proxy.store.engine import Connection, Statement, compiled
from proxy.store.part import Part
from proxy.store.progress import save_walk
from proxy.store.schema import CONFLICTS, RENAMES
from proxy.store.set_table import Offered, SetTable, can_hold_key

_SETTLE_CONFLICTS = compiled(
    update(CONFLICTS)
    .values(settled_at=func.now())
    .where(
        CONFLICTS.c.entity_set == bindparam("of_set"),
        CONFLICTS.c.entity_key == func.any(cast(bindparam("keys"), ARRAY(Text))),
        CONFLICTS.c.settled_at.is_(None),
    )
)
_LAST_RENAME = compiled(select(func.coalesce(func.max(RENAMES.c.fetch_number), 0)))


class Entities(Part):
    """The part of the port that is about mirror rows."""

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        """What is held of these entities: rows, tombstones and bare rows; unknown keys are left out."""
        asked = [key for key in keys if can_hold_key(key)]
        if not asked:
            return {}
        table = await self._tables.of(entity_set)
        rows = await self._engine.fetch(table.statements.get, table.key_arrays(asked))
        return {(key := asked[position - 1]): as_stored(key, row) for position, *row in rows}

    async def put(
        self,
        entity_set: EntitySet,
        fetched: Sequence[Fetched],
        provenance: Provenance,
        walk: Walk | None = None,
    ) -> PutResult:
        """Store states that upstream showed; one transaction, which saves the `walk` as well.

        A row that is not older, by fetch number, or that an open intent names is skipped, and so is an
        entity whose key Postgres cannot hold. A revision is recorded where the content is new.
        """
        states = newest(fetched)
        table = await self._tables.of(entity_set)
        ready = storing(table, (offer(table, state) for state in states), provenance)

        async def work(connection: Connection) -> PutResult:
            result = await store(connection, ready) if states else PutResult()
            if walk is not None:
                await save_walk(connection, walk)
            return result

        return await self._engine.transaction(work)

    async def touch(self, entity_set: EntitySet, fetched: Sequence[Fetched]) -> None:
        """A fetch showed just what we hold: raise fetch number, `fetched_at`, `settled`; nothing else.

        Skips what is not newer by fetch number, has an open intent, or has another content or stamp by now.
        """
        states = newest(fetched)
        if not states:
            return
        table = await self._tables.of(entity_set)
        states.sort(key=lambda state: table.key_text(state.key))
        statement, parameters = table.statements.touch, {"rows": table.stamp_rows(states)}
        await self._engine.transaction(lambda connection: connection.execute(statement, parameters))

    async def bury(
        self, entity_set: EntitySet, key: EntityKey, fetch_number: int, provenance: Provenance
    ) -> bool:
        """Make a tombstone, with a revision unless there was one, where `put` would store a state."""
        result = await self.put(entity_set, [absence(key, fetch_number)], provenance)
        return key in result.stored

    async def last_rename(self) -> int:
        """The fetch number of the last rename; 0 while there was none."""
        ((number,),) = await self._engine.fetch(_LAST_RENAME)
        return int(number)

    async def count(self, entity_set: EntitySet, *, at_most: int) -> int:
        """Entities held of the set, counting no further than `at_most`."""
        table = await self._tables.of(entity_set)
        ((count,),) = await self._engine.fetch(table.statements.count, {"limit": at_most})
        return int(count)


@dataclass(frozen=True, slots=True)
class Storing:
    """States on their way into a table, all made ready before a transaction begins."""

    statement: Statement
    parameters: Mapping[str, Any]
    set_name: str
    offered: Sequence[Offered]


def storing(
    table: SetTable,
    states: Iterable[Offered],
    provenance: Provenance,
    *,
    own: bool = False,
    method: str | None = None,
    gap: bool = True,
) -> Storing:
    """`own`: the rows are named by an intent, and its writer stores them. `method`: of the write.

    `gap`: other states may have passed since the row was last seen.
    """
    offered = sorted(states, key=lambda state: state.key_text)
    return Storing(
        table.statements.put_own if own else table.statements.put,
        {
            "rows": table.state_rows(offered),
            "documents": [state.fetched.document for state in offered],
            "method": method,
            "gap": gap,
            **provenance_values(provenance),
        },
        table.entity_set.name,
        offered,
    )


async def store(connection: Connection, states: Storing) -> PutResult:
    """Store states where their rows give way, record revisions, end conflicts."""
    rows = await connection.fetch(states.statement, states.parameters)
    taken = [states.offered[position] for position, _ in rows]
    # A statement of its own: it sees conflicts recorded while the first one waited for a row.
    await connection.execute(
        _SETTLE_CONFLICTS, {"of_set": states.set_name, "keys": [state.key_text for state in taken]}
    )
    return PutResult(
        frozenset(state.fetched.key for state in taken),
        frozenset(states.offered[position].fetched.key for position, changed in rows if changed),
    )


def newest(fetched: Sequence[Fetched]) -> list[Fetched]:
    """One state for each key that Postgres can hold: that of the highest number, the later of equals."""
    by_key: dict[EntityKey, Fetched] = {}
    for state in fetched:
        other = by_key.get(state.key)
        if can_hold_key(state.key) and (other is None or state.fetch_number >= other.fetch_number):
            by_key[state.key] = state
    return list(by_key.values())


def offer(table: SetTable, state: Fetched, *, always: bool = False) -> Offered:
    """A state as the table takes it. An absence has no content and no values."""
    key_text = table.key_text(state.key)
    if state.document is not None:
        return Offered(state, key_text, always=always)
    absent = replace(state, values={}, stamp=Stamp(), digest=b"")
    return Offered(absent, key_text, deleted_at=state.fetched_at, always=always)


def absence(key: EntityKey, fetch_number: int) -> Fetched:
    """Upstream said that the entity does not exist."""
    return Fetched(
        key=key,
        document=None,
        values={},
        stamp=Stamp(),
        digest=b"",
        settled=True,
        fetch_number=fetch_number,
        fetched_at=datetime.now(UTC),
    )


def provenance_values(provenance: Provenance) -> dict[str, Any]:
    """The columns that say who and what a state came by."""
    return {
        "source": provenance.source.value,
        "user_name": provenance.user and storable(provenance.user),
        "client": provenance.client and storable(provenance.client),
        "request_id": storable(provenance.request_id),
    }


def as_stored(key: EntityKey, row: Sequence[Any]) -> Stored:
    """A row of the columns HELD."""
    document, modified_on, version, etag, digest, settled, number, fetched_at, *rest = row
    intents, conflict, deleted_at = rest
    return Stored(
        key=key,
        document=document,
        stamp=Stamp(modified_on, version, etag),
        digest=b"" if digest is None else bytes(digest),
        settled=settled,
        fetch_number=number,
        fetched_at=fetched_at.astimezone(UTC),
        intents=intents,
        conflict=conflict,
        deleted_at=deleted_at and deleted_at.astimezone(UTC),
    )
