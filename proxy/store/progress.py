"""How far background work has come: walks through sets, what was followed, what the operator is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, bindparam, select, true, update
from sqlalchemy.dialects import postgresql

from proxy.odata.edm import EntitySet
from proxy.odata.uri import format_key, parse_key
from proxy.reconcile.progress import Finding, Following, Stage, Walk
from proxy.store.columns import storable
from proxy.store.engine import Connection, Statement, compiled
from proxy.store.part import Part
from proxy.store.schema import FINDINGS, FOLLOWING, WALKS

_WALK = ("started_at", "upstream_started_at", "next_target", "rows", "last_key", "finished_at")
_FOLLOWING = ("watermark", "since", "polled_at", "looked_back_at")
_FINDING = ("entity_set", "kind", "detail", "found_at", "accepted")


def _saving(table: Table, key: tuple[str, ...], names: tuple[str, ...]) -> Statement:
    """Put a row in the place of the one with the same key."""
    row = postgresql.insert(table).values({name: bindparam(f"{name}_") for name in (*key, *names)})
    return compiled(
        row.on_conflict_do_update(
            index_elements=[table.c[name] for name in key], set_={name: row.excluded[name] for name in names}
        )
    )


_SAVE_WALK = _saving(WALKS, ("stage", "entity_set"), _WALK)
_FIND_WALK = compiled(
    select(*(WALKS.c[name] for name in _WALK)).where(
        WALKS.c.stage == bindparam("of_stage"), WALKS.c.entity_set == bindparam("of_set")
    )
)
_FINISHED = compiled(
    select(WALKS.c.entity_set).where(WALKS.c.stage == bindparam("of_stage"), WALKS.c.finished_at.is_not(None))
)
_SAVE_FOLLOWING = _saving(FOLLOWING, ("entity_set",), _FOLLOWING)
# The sweep's start outlives its walk: the next one takes the walk's place when it begins.
_SAVE_SWEPT = compiled(
    update(FOLLOWING).values(swept_at=bindparam("swept")).where(FOLLOWING.c.entity_set == bindparam("of_set"))
)
_FIND_FOLLOWING = compiled(
    select(*(FOLLOWING.c[name] for name in (*_FOLLOWING, "swept_at"))).where(
        FOLLOWING.c.entity_set == bindparam("of_set")
    )
)
_RECORD_FINDING = compiled(
    postgresql.insert(FINDINGS)
    .values({name: bindparam(f"{name}_") for name in _FINDING})
    .on_conflict_do_nothing(index_elements=[FINDINGS.c.entity_set], index_where=FINDINGS.c.accepted.is_(None))
)
_LAST_FINDING = compiled(
    select(*(FINDINGS.c[name] for name in (*_FINDING, "spent")))
    .where(FINDINGS.c.entity_set == bindparam("of_set"))
    .order_by(FINDINGS.c.id.desc())
    .limit(1)
)
_FOLLOWINGS = compiled(
    select(FOLLOWING.c.entity_set, *(FOLLOWING.c[name] for name in (*_FOLLOWING, "swept_at")))
)
_OPEN_FINDINGS = compiled(
    select(*(FINDINGS.c[name] for name in (*_FINDING, "spent")))
    .where(FINDINGS.c.accepted.is_(None))
    .order_by(FINDINGS.c.id)
)
_SPEND_FINDING = compiled(
    update(FINDINGS)
    .values(spent=true())
    .where(FINDINGS.c.entity_set == bindparam("of_set"), FINDINGS.c.accepted.is_not(None))
)


async def save_walk(connection: Connection, walk: Walk) -> None:
    """Put it in the place of the one before."""
    parameters = {f"{name}_": getattr(walk, name) for name in (*_WALK, "entity_set")}
    parameters["stage_"] = walk.stage.value
    parameters["last_key_"] = walk.last_key and format_key(walk.last_key)
    await connection.execute(_SAVE_WALK, parameters)


class Progress(Part):
    """The part of the port that is about how far background work has come."""

    async def walk(self, stage: Stage, entity_set: EntitySet) -> Walk | None:
        """The last way through the set."""
        parameters = {"of_stage": stage.value, "of_set": entity_set.name}
        for row in await self._engine.fetch(_FIND_WALK, parameters):
            values = dict(zip(_WALK, map(_utc, row), strict=True))
            if values["last_key"] is not None:
                values["last_key"] = parse_key(values["last_key"], entity_set.entity_type)
            return Walk(stage=stage, entity_set=entity_set.name, **values)
        return None

    async def save_walk(self, walk: Walk) -> None:
        """Put it in the place of the one before."""
        await self._engine.transaction(lambda connection: save_walk(connection, walk))

    async def finished_walks(self, stage: Stage) -> frozenset[str]:
        """The entity sets that have been walked through."""
        rows = await self._engine.fetch(_FINISHED, {"of_stage": stage.value})
        return frozenset(name for (name,) in rows)

    async def following(self, entity_set: EntitySet) -> Following | None:
        """How far the set's changes have been followed; None: not at all."""
        for row in await self._engine.fetch(_FIND_FOLLOWING, {"of_set": entity_set.name}):
            return Following(row[0], *map(_utc, row[1:]))
        return None

    async def followings(self) -> Mapping[str, Following]:
        """How far the changes of all followed sets have been followed."""
        rows = await self._engine.fetch(_FOLLOWINGS)
        return {name: Following(watermark, *map(_utc, rest)) for name, watermark, *rest in rows}

    async def save_following(self, entity_set: EntitySet, following: Following) -> None:
        """Put it in the place of what was known; `swept_at` stays."""
        parameters = {f"{name}_": getattr(following, name) for name in _FOLLOWING}
        parameters["entity_set_"] = entity_set.name
        await self._engine.transaction(lambda connection: connection.execute(_SAVE_FOLLOWING, parameters))

    async def save_swept(self, entity_set: EntitySet, swept_at: datetime) -> None:
        """Deletes before this moment are known."""
        parameters = {"of_set": entity_set.name, "swept": swept_at}
        await self._engine.transaction(lambda connection: connection.execute(_SAVE_SWEPT, parameters))

    async def record_finding(self, finding: Finding) -> None:
        """Ask the operator, unless something about the set is asked already."""
        parameters = {f"{name}_": getattr(finding, name) for name in _FINDING}
        parameters["detail_"] = storable(finding.detail)
        await self._engine.transaction(lambda connection: connection.execute(_RECORD_FINDING, parameters))

    async def spend_finding(self, entity_set: EntitySet) -> None:
        """A sweep went by the operator's last answer: the next one asks again."""
        parameters = {"of_set": entity_set.name}
        await self._engine.transaction(lambda connection: connection.execute(_SPEND_FINDING, parameters))

    async def last_finding(self, entity_set: EntitySet) -> Finding | None:
        """The last that the operator was asked about the set."""
        for row in await self._engine.fetch(_LAST_FINDING, {"of_set": entity_set.name}):
            return Finding(*map(_utc, row))
        return None

    async def open_findings(self) -> Sequence[Finding]:
        """What waits for the operator's answer, oldest first."""
        return [Finding(*map(_utc, row)) for row in await self._engine.fetch(_OPEN_FINDINGS)]


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
