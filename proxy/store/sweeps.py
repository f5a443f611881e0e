"""What a sweep for deletes asks of the mirror: which of its keys upstream did not list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.schema import CreateIndex

from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.uri import parse_key
from proxy.store.engine import Connection, compiled
from proxy.store.names import index_name
from proxy.store.part import Part
from proxy.store.schema import MISSING
from proxy.store.set_table import SetTable

_of_set = MISSING.c.entity_set == bindparam("of_set")
_keys = cast(bindparam("keys"), ARRAY(Text))
_NOTE = compiled(
    postgresql.insert(MISSING)
    .from_select(["entity_set", "entity_key"], select(cast(bindparam("of_set"), Text), func.unnest(_keys)))
    .on_conflict_do_nothing()
)
_LIST = compiled(select(MISSING.c.entity_key).where(_of_set).order_by(MISSING.c.entity_key))
_FORGET = compiled(delete(MISSING).where(_of_set, MISSING.c.entity_key == func.any(_keys)))
_FORGET_ALL = compiled(delete(MISSING).where(_of_set))


class Sweeps(Part):
    """The part of the port that is about sweeps. Their sets have a key of one property."""

    async def make_stale(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """These are to be fetched rather than checked next time."""
        table = await self._tables.of(entity_set)
        ordered = sorted(keys, key=table.key_text)
        rows = table.key_rows(ordered, named=[0] * len(ordered), stale=[True] * len(ordered))
        release = table.statements.release
        await self._engine.transaction(
            lambda connection: connection.execute(release, {"rows": rows, "after": 0})
        )

    async def index_doubtful(self, entity_set: EntitySet) -> None:
        """Make `has_doubtful` fast, however many entities there are."""
        table = (await self._tables.of(entity_set)).table
        index = Index(
            index_name(table.name, "doubtful"), table.c.intents, postgresql_where=_is_doubtful(table)
        )
        creation = compiled(CreateIndex(index, if_not_exists=True))
        await self._engine.transaction(lambda connection: connection.execute(creation))

    async def has_doubtful(self, entity_set: EntitySet, looked_at: datetime) -> bool:
        """True while there are rows that a look at all changes, begun at `looked_at`, does not vouch for:
        named by an open intent; or stored before, and in conflict, not settled, without a ModifiedOn to look
        by, or of a document of another shape than the metadata document says."""
        made = await self._tables.of(entity_set)
        held = made.table.c
        is_older = or_(held.intents > literal_column("0"), held.fetched_at < bindparam("looked_at"))
        doubtful = exists(select(held.intents).where(_is_doubtful(made.table), is_older))
        conditions = [doubtful]
        if made.since:
            is_of_another = and_(held.document.is_not(None), held.fetch_number < bindparam("since"))
            conditions.append(exists(select(held.intents).where(is_of_another)))
        query = compiled(select(or_(*conditions)))
        ((found,),) = await self._engine.fetch(query, {"looked_at": looked_at, "since": made.since})
        return bool(found)

    async def unsettled_since(self, entity_set: EntitySet, number: int) -> Sequence[EntityKey]:
        """Entities that a fetch or a write above this number left to be fetched again."""
        table = await self._tables.of(entity_set)
        rows = await self._engine.fetch(table.statements.unsettled, {"number": number})
        names = entity_set.entity_type.key
        return [tuple(zip(names, row, strict=True)) for row in rows]

    async def index_keys(self, entity_set: EntitySet) -> None:
        """Make `absent_keys` fast, however many entities there are."""
        table = await self._tables.of(entity_set)
        index = Index(f"{table.table.name[:54]}_in_order", _in_order(*_key_column(table)))
        creation = compiled(CreateIndex(index, if_not_exists=True))
        await self._engine.transaction(lambda connection: connection.execute(creation))

    async def absent_keys(
        self,
        entity_set: EntitySet,
        after: EntityKey | None,
        upto: EntityKey | None,
        shown: Sequence[EntityKey],
        before_number: int,
        limit: int,
    ) -> Sequence[EntityKey]:
        """Entities held of the keys behind `after` up to `upto` (None: no bound), in upstream's order, that
        are not `shown`, were stored by an earlier fetch than `before_number`, and that no write is under
        way on; at most `limit`."""
        table = await self._tables.of(entity_set)
        key, edm_type = _key_column(table)
        held = table.table.c
        conditions = [
            held.document.is_not(None),
            held.intents == 0,
            held.fetch_number < bindparam("before"),
            not_(key == func.any(cast(bindparam("shown"), ARRAY(key.type)))),
        ]
        parameters: dict[str, Any] = {
            "before": before_number,
            "shown": [value for ((_, value),) in shown],
            "limit": limit,
        }
        for name, bound in (("after", after), ("upto", upto)):
            if bound is not None:
                mark = _in_order(cast(bindparam(name), key.type), edm_type)
                order = _in_order(key, edm_type)
                conditions.append(order > mark if name == "after" else order <= mark)
                ((_, parameters[name]),) = bound
        query = select(key).where(*conditions).order_by(_in_order(key, edm_type)).limit(bindparam("limit"))
        rows = await self._engine.fetch(compiled(query), parameters)
        (name,) = entity_set.entity_type.key
        return [((name, value),) for (value,) in rows]

    async def note_missing(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """A sweep did not find them where they should be."""
        await self._change_missing(_NOTE, entity_set, keys)

    async def missing(self, entity_set: EntitySet) -> Sequence[EntityKey]:
        """What sweeps did not find, and nobody knows more about yet."""
        rows = await self._engine.fetch(_LIST, {"of_set": entity_set.name})
        return [parse_key(text, entity_set.entity_type) for (text,) in rows]

    async def forget_missing(self, entity_set: EntitySet, keys: Sequence[EntityKey] | None = None) -> None:
        """What became of them is known; None: of all."""
        if keys is not None:
            await self._change_missing(_FORGET, entity_set, keys)
            return
        parameters = {"of_set": entity_set.name}
        await self._engine.transaction(lambda connection: connection.execute(_FORGET_ALL, parameters))

    async def _change_missing(self, statement: Any, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        table = await self._tables.of(entity_set)
        parameters = {"of_set": entity_set.name, "keys": [table.key_text(key) for key in keys]}

        async def work(connection: Connection) -> None:
            await connection.execute(statement, parameters)

        await self._engine.transaction(work)


def _key_column(table: SetTable) -> tuple[Column[Any], str]:
    """The one key property's column, and its EDM type."""
    entity_type = table.entity_set.entity_type
    (name,) = entity_type.key
    return table.keys[0].column, entity_type.properties[name].type


def _is_doubtful(table: Table) -> ColumnElement[bool]:
    held = table.c
    unsure = or_(held.conflict.is_not(None), not_(held.settled), held.stamp_modified_on.is_(None))
    # Spelt out rather than bound: only so does Postgres see that it is the index's own condition.
    return or_(held.intents > literal_column("0"), and_(held.document.is_not(None), unsure))


def _in_order(value: ColumnElement[Any], edm_type: str) -> ColumnElement[Any]:
    """What sorts keys as upstream does: SQL Server has an order of its own for uniqueidentifiers."""
    return func.syncpoint.guid_order(value) if edm_type == "Edm.Guid" else value
