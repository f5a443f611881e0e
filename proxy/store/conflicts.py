"""Conflicts: recorded with both sides, named in the mirror row, settled by the next state stored there."""

from __future__ import annotations

from sqlalchemy import bindparam, cast, func, insert, not_, select

from proxy.odata.edm import EntitySet
from proxy.reconcile.ports import NewConflict
from proxy.store.columns import storable
from proxy.store.engine import Connection, compiled
from proxy.store.epochs import is_mirrors
from proxy.store.part import Part
from proxy.store.schema import CONFLICTS
from proxy.store.set_table import can_hold_key

_SIDE = ("fetch_number", "modified_on", "version_number", "etag", "document")
_BOUND = (
    "entity_set",
    "entity_key",
    *(f"{side}_{name}" for side in ("held", "seen") for name in _SIDE),
    "found_at",
    "request_id",
)
_RECORD = compiled(
    insert(CONFLICTS)
    .from_select(
        _BOUND,
        select(*(cast(bindparam(name), CONFLICTS.c[name].type) for name in _BOUND)).where(
            not_(is_mirrors(bindparam("entity_set")))
        ),
    )
    .returning(CONFLICTS.c.id)
)
_COUNT = compiled(
    select(func.count())
    .select_from(CONFLICTS)
    .where(CONFLICTS.c.entity_set == bindparam("of_set"), CONFLICTS.c.settled_at.is_(None))
)


class Conflicts(Part):
    """The part of the port that is about conflicts."""

    async def record_conflict(self, conflict: NewConflict) -> int | None:
        """Record it and mark the row, unless the row changed since `held`, or the mirror is the authority
        (then None).

        Every change of a row raises its fetch number, and so does every confirmation. A conflict that is
        open already is not recorded again: its id is returned.
        """
        held, seen = conflict.held, conflict.seen
        if not can_hold_key(held.key):
            return None
        table = await self._tables.of(conflict.entity_set)
        row = {"rows": table.key_rows([held.key])}
        parameters = {
            "entity_set": conflict.entity_set.name,
            "entity_key": table.key_text(held.key),
            "found_at": conflict.found_at,
            "request_id": storable(conflict.request_id),
        }
        for side, state in (("held", held), ("seen", seen)):
            parameters |= {
                f"{side}_fetch_number": state.fetch_number,
                f"{side}_modified_on": state.stamp.modified_on,
                f"{side}_version_number": state.stamp.version_number,
                f"{side}_etag": state.stamp.etag and storable(state.stamp.etag),
                f"{side}_document": state.document,
            }

        async def work(connection: Connection) -> int | None:
            rows = await connection.fetch(table.statements.lock, row)
            if [(number, intents) for number, intents, _ in rows] != [(held.fetch_number, 0)]:
                return None
            ((_, _, open_conflict),) = rows
            if open_conflict is not None:
                return int(open_conflict)
            recorded = await connection.fetch(_RECORD, parameters)
            if not recorded:
                return None
            ((identity,),) = recorded
            await connection.execute(table.statements.flag, {**row, "number": identity})
            return int(identity)

        return await self._engine.transaction(work)

    async def conflict_count(self, entity_set: EntitySet) -> int:
        """Open conflicts of the set."""
        ((count,),) = await self._engine.fetch(_COUNT, {"of_set": entity_set.name})
        return int(count)
