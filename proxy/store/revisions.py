"""The history: revisions read, and dropped when their time has come. `statements` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Integer, Text, and_, bindparam, cast, column, func, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Provenance, Source
from proxy.store.engine import Connection, Row, compiled
from proxy.store.part import Part
from proxy.store.schema import HISTORY
from proxy.store.set_table import can_hold_key

_MAINTENANCE_S = 3600.0

COLUMNS = (
    "id",
    "entity_set",
    "entity_key",
    "recorded_at",
    "effective_at",
    "source",
    "request_id",
    "user_name",
    "client",
    "method",
    "changed",
    "document",
    "unseen",
    "deleted",
    "gap",
    "seen_until",
)
_ALL = tuple(HISTORY.c[name] for name in COLUMNS)
_of_entity = and_(HISTORY.c.entity_set == bindparam("of_set"), HISTORY.c.entity_key == bindparam("of_key"))
_newest_first = (HISTORY.c.effective_at.desc(), HISTORY.c.id.desc())
_place = tuple_(HISTORY.c.effective_at, HISTORY.c.id)
_LIST = compiled(select(*_ALL).where(_of_entity).order_by(*_newest_first).limit(bindparam("limit")))
_other = HISTORY.alias("other")
_LIST_BEFORE = compiled(
    select(*_ALL)
    .where(
        _of_entity,
        _place
        < select(_other.c.effective_at, _other.c.id)
        .where(_other.c.id == bindparam("before"))
        .limit(1)
        .scalar_subquery(),
    )
    .order_by(*_newest_first)
    .limit(bindparam("limit"))
)
_FIND = compiled(select(*_ALL).where(HISTORY.c.id == bindparam("identity")).limit(1))
_AS_OF = compiled(
    select(*(column(name) for name in COLUMNS)).select_from(
        func.syncpoint.revision_as_of(
            bindparam("of_set"), bindparam("of_key"), bindparam("at", type_=DateTime(timezone=True))
        )
    )
)
_MAKE_PARTITIONS = compiled(select(cast(func.syncpoint.make_revision_partitions(), Text)))
_DROP = compiled(
    select(
        func.syncpoint.drop_revisions(
            cast(bindparam("days", type_=Text), JSONB), bindparam("otherwise", type_=Integer)
        )
    )
)


class Revisions(Part):
    """Implements `proxy.reconcile.history.History`."""

    async def revisions(
        self, entity_set: EntitySet, key: EntityKey, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Revision]:
        """Those of one entity, newest first; `before`: only those older than the revision of that id."""
        parameters = await self._named(entity_set, key)
        if parameters is None:
            return []
        statement = _LIST if before is None else _LIST_BEFORE
        rows = await self._engine.fetch(statement, {**parameters, "before": before, "limit": limit})
        return [revision_of(row) for row in rows]

    async def revision(self, identity: int) -> Revision | None:
        """The revision of that id, unless it is unknown or dropped."""
        for row in await self._engine.fetch(_FIND, {"identity": identity}):
            return revision_of(row)
        return None

    async def as_of(self, entity_set: EntitySet, key: EntityKey, at: datetime) -> Revision | None:
        """The state that held at `at`, as far as the history knows; `deleted` for one that was gone by
        then, None for what is older than the history."""
        parameters = await self._named(entity_set, key)
        for row in await self._engine.fetch(_AS_OF, {**parameters, "at": at}) if parameters else ():
            return revision_of(row)
        return None

    async def drop_revisions(self, days: Mapping[str, int], otherwise: int) -> Sequence[str]:
        """Make room for what is to come, and drop what is older than its set keeps.

        `days`: how long sets keep revisions, `otherwise` all others; 0: for ever. The partitions that
        something was taken from. As-of reads of what remains find the same as before.
        """

        def call(statement: Any, parameters: Mapping[str, Any]) -> Callable[[Connection], Any]:
            return lambda connection: connection.fetch(statement, parameters)

        await self._engine.transaction(call(_MAKE_PARTITIONS, {}), timeout_s=_MAINTENANCE_S)
        dropped: list[str] = []
        limits = {"days": json.dumps(days), "otherwise": otherwise}
        while True:
            ((name,),) = await self._engine.transaction(call(_DROP, limits), timeout_s=_MAINTENANCE_S)
            if name is None:
                return dropped
            dropped.append(name)

    async def _named(self, entity_set: EntitySet, key: EntityKey) -> dict[str, Any] | None:
        if not can_hold_key(key):
            return None
        return {"of_set": entity_set.name, "of_key": (await self._tables.of(entity_set)).key_text(key)}


def revision_of(row: Row) -> Revision:
    """A row of COLUMNS."""
    shown: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    changed, seen_until = shown["changed"], shown["seen_until"]
    return Revision(
        id=shown["id"],
        entity_set=shown["entity_set"],
        key=shown["entity_key"],
        recorded_at=shown["recorded_at"].astimezone(UTC),
        effective_at=shown["effective_at"].astimezone(UTC),
        provenance=Provenance(
            Source(shown["source"]), shown["request_id"], shown["user_name"], shown["client"]
        ),
        method=shown["method"],
        changed=None if changed is None else tuple(changed),
        document=shown["document"],
        unseen=shown["unseen"],
        deleted=shown["deleted"],
        gap=shown["gap"],
        seen_until=seen_until and seen_until.astimezone(UTC),
    )
