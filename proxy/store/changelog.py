"""What was committed since: revisions by the transactions that wrote them, in the order of their commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, bindparam, cast, func, not_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.changes import Cursor, CursorRefused, Place
from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Stored
from proxy.store.engine import Statement, compiled
from proxy.store.entities import as_stored
from proxy.store.part import Part
from proxy.store.revisions import COLUMNS, revision_of
from proxy.store.schema import COMMITS, FEED, NAMES, REVISIONS, Snapshot

_DATABASES = Table(
    "pg_database", MetaData(schema="pg_catalog"), Column("oid", BigInteger), Column("datname", Text)
)
_NOW = compiled(select(cast(func.pg_current_snapshot(), Text)))
_DATABASE = compiled(
    # A copy of a database has its own transactions, so it is another one.
    select(func.concat_ws("/", FEED.c.database, _DATABASES.c.oid)).where(
        _DATABASES.c.datname == func.current_database()
    )
)
_since, _upto = (cast(bindparam(name), Snapshot) for name in ("since", "upto"))
_JUDGE = compiled(
    select(
        func.pg_snapshot_xmax(_since) <= func.pg_snapshot_xmax(func.pg_current_snapshot()),
        FEED.c.dropped < func.pg_snapshot_xmin(_since),
    )
)
_KEPT_SETS = compiled(select(NAMES.c.entity_set).where(NAMES.c.path == "").order_by(NAMES.c.entity_set))


def _changes(*narrower: Any) -> Statement:
    place = tuple_(COMMITS.c.number, REVISIONS.c.id)
    return compiled(
        select(COMMITS.c.number, *(REVISIONS.c[name] for name in COLUMNS))
        .join_from(COMMITS, REVISIONS, REVISIONS.c.transaction == COMMITS.c.transaction)
        .where(
            COMMITS.c.transaction >= func.pg_snapshot_xmin(_since),
            not_(func.pg_visible_in_snapshot(COMMITS.c.transaction, _since)),
            func.pg_visible_in_snapshot(COMMITS.c.transaction, _upto),
            COMMITS.c.number >= bindparam("after_number"),
            place > tuple_(bindparam("after_number"), bindparam("after_id")),
            REVISIONS.c.unseen.is_(False),
            *narrower,
        )
        .order_by(*place)
        .limit(bindparam("limit"))
    )


_CHANGES = _changes()
_CHANGES_OF = _changes(REVISIONS.c.entity_set == func.any(cast(bindparam("sets"), ARRAY(Text))))


class ChangeLog(Part):
    """Implements `proxy.reconcile.changes.ChangeLog`."""

    _database: str | None = None

    async def now(self) -> Cursor:
        """The place behind everything committed so far."""
        database = await self._identity()
        ((snapshot,),) = await self._engine.fetch(_NOW)
        return Cursor(database, snapshot)

    async def is_kept(self, cursor: Cursor) -> bool:
        """False where retention took what the reader has not read. Raises CursorRefused for a cursor of
        another database."""
        if cursor.database != await self._identity():
            raise CursorRefused("This cursor is of another database.")
        for text in (cursor.since, cursor.upto):
            if text is not None:
                ((is_past, is_kept),) = await self._engine.fetch(_JUDGE, {"since": text})
                if not is_past:
                    raise CursorRefused(
                        "This cursor is of another database, or of a later state of this one."
                    )
                if text == cursor.since and not is_kept:
                    return False
        return True

    async def changes(
        self, cursor: Cursor, entity_sets: Sequence[str] | None, limit: int
    ) -> Sequence[tuple[Place, Revision]]:
        """Revisions that `cursor.upto` sees and `cursor.since` does not, from behind `cursor.after`, in the
        order of their commits; states that nobody saw are left out."""
        number, identity = cursor.after
        parameters = {
            "since": cursor.since,
            "upto": cursor.upto,
            "after_number": number,
            "after_id": identity,
            "sets": entity_sets,
            "limit": limit,
        }
        rows = await self._engine.fetch(_CHANGES if entity_sets is None else _CHANGES_OF, parameters)
        return [((number, row[0]), revision_of(tuple(row))) for number, *row in rows]

    async def page(self, entity_set: EntitySet, after: EntityKey | None, limit: int) -> Sequence[Stored]:
        """The entities of a set in the order of their keys."""
        table = await self._tables.of(entity_set)
        statement, parameters = table.statements.page, {"limit": limit}
        if after is not None:
            statement = table.statements.page_after
            parameters |= {name: value for name, (value,) in table.key_arrays([after]).items()}
        rows = await self._engine.fetch(statement, parameters)
        names = entity_set.entity_type.key
        return [
            as_stored(tuple(zip(names, row[: len(names)], strict=True)), row[len(names) :]) for row in rows
        ]

    async def kept_sets(self) -> Sequence[str]:
        """Names of the sets that there are tables of."""
        return [name for (name,) in await self._engine.fetch(_KEPT_SETS)]

    async def _identity(self) -> str:
        if self._database is None:
            ((self._database,),) = await self._engine.fetch(_DATABASE)
        return self._database
