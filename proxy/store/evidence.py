"""What a cutover is decided by: comparisons, what upstream computed, writes under way, who refers to whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Interval,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.edm import EntitySet
from proxy.odata.relationships import is_reference
from proxy.reconcile.ports import Outcome, Source
from proxy.reconcile.readiness import Computed, Foreign, OpenIntent, Verification
from proxy.store.engine import Connection, compiled
from proxy.store.part import Part
from proxy.store.schema import COMPUTED, INTENTS, LEASES, REVISIONS, SHADOW, SHADOW_EXAMPLES, VERIFICATIONS

_WIDE_LOOK_S = 600.0  # one pass through a table of millions
_VERIFIED = ("began_at", "number", "upstream", "mirror", "contents", "drift", "repaired")
_LIST_VERIFIED = compiled(select(VERIFICATIONS.c.entity_set, *(VERIFICATIONS.c[name] for name in _VERIFIED)))
_new = postgresql.insert(VERIFICATIONS).values({name: bindparam(name) for name in ("entity_set", *_VERIFIED)})
_SAVE_VERIFIED = compiled(
    _new.on_conflict_do_update(
        index_elements=[VERIFICATIONS.c.entity_set], set_={name: _new.excluded[name] for name in _VERIFIED}
    )
)
_COUNTS = ("differed", "changed", "filled")
_LIST_COMPUTED = compiled(
    select(COMPUTED.c.entity_set, COMPUTED.c.property, *(COMPUTED.c[name] for name in _COUNTS)).order_by(
        COMPUTED.c.entity_set, COMPUTED.c.property
    )
)
_counted = (
    func.unnest(
        cast(bindparam("properties"), ARRAY(Text)),
        *(cast(bindparam(name), ARRAY(BigInteger)) for name in _COUNTS),
    )
    .table_valued("property", *_COUNTS)
    .render_derived(name="counted")
)
_more = postgresql.insert(COMPUTED).from_select(
    ["entity_set", "property", *_COUNTS],
    select(
        cast(bindparam("of_set"), Text), _counted.c.property, *(_counted.c[name] for name in _COUNTS)
    ).order_by(_counted.c.property),
)
_COUNT_COMPUTED = compiled(
    _more.on_conflict_do_update(
        index_elements=[COMPUTED.c.entity_set, COMPUTED.c.property],
        set_={name: COMPUTED.c[name] + _more.excluded[name] for name in _COUNTS}
        | {"last_at": func.clock_timestamp()},
    )
)
_sets = cast(bindparam("sets"), ARRAY(Text))
_named = func.jsonb_path_query_array(INTENTS.c.touched, "$[*][0]")
_INTENTS = compiled(
    select(
        *(INTENTS.c[name] for name in ("id", "method", "entity_set", "entity_key", "opened_at")),
        exists().where(LEASES.c.name == INTENTS.c.holder, LEASES.c.expires_at > func.clock_timestamp()),
    )
    .where(
        INTENTS.c.closed_at.is_(None),
        or_(
            INTENTS.c.entity_set == func.any(_sets),
            INTENTS.c.written.op("&&")(_sets),
            _named.op("?|")(_sets),
        ),
    )
    .order_by(INTENTS.c.id)
)
_since = (
    func.unnest(
        cast(bindparam("sets"), ARRAY(Text)), cast(bindparam("moments"), ARRAY(DateTime(timezone=True)))
    )
    .table_valued("entity_set", "moment")
    .render_derived(name="since")
)
_UNDETERMINED = compiled(
    select(_since.c.entity_set, INTENTS.c.id)
    .join_from(
        INTENTS,
        _since,
        or_(
            INTENTS.c.entity_set == _since.c.entity_set,
            _since.c.entity_set == func.any(INTENTS.c.written),
        ),
    )
    .where(
        INTENTS.c.outcome == bindparam("ended", Outcome.UNDETERMINED.value),
        or_(_since.c.moment.is_(None), INTENTS.c.closed_at > _since.c.moment),
    )
    .order_by(INTENTS.c.id)
)
_BY_OTHERS = [Source.POLL, Source.UPSTREAM_REFRESH, Source.SWEEP, Source.COMPARISON]
_FOREIGN = compiled(
    select(REVISIONS.c.entity_set, func.count(), func.max(REVISIONS.c.recorded_at))
    .where(
        REVISIONS.c.entity_set == func.any(_sets),
        REVISIONS.c.source == func.any(cast(literal([each.value for each in _BY_OTHERS]), ARRAY(Text))),
        REVISIONS.c.recorded_at > func.now() - cast(literal("1 day"), Interval),
        # Else it was seen for the first time.
        or_(REVISIONS.c.seen_until.is_not(None), REVISIONS.c.deleted),
    )
    .group_by(REVISIONS.c.entity_set)
)
_DIFFERENCES = compiled(
    select(
        select(func.count())
        .where(
            SHADOW_EXAMPLES.c.entity_set == bindparam("of_set"),
            or_(
                cast(bindparam("moment"), DateTime(timezone=True)).is_(None),
                SHADOW_EXAMPLES.c.found_at > bindparam("moment"),
            ),
        )
        .scalar_subquery(),
        select(func.coalesce(func.sum(SHADOW.c.same + SHADOW.c.different), 0))
        .where(SHADOW.c.entity_set == bindparam("of_set"))
        .scalar_subquery(),
    )
)


class EvidenceTable(Part):
    """Implements `proxy.reconcile.readiness.EvidenceStore`."""

    async def verifications(self) -> Mapping[str, Verification]:
        """By entity set."""
        rows = await self._engine.fetch(_LIST_VERIFIED)
        return {name: Verification(at.astimezone(UTC), *rest) for name, at, *rest in rows}

    async def save_verification(self, entity_set: str, verification: Verification) -> None:
        """Put it in the place of the one before."""
        parameters = {name: getattr(verification, name) for name in _VERIFIED} | {"entity_set": entity_set}
        await self._engine.transaction(lambda connection: connection.execute(_SAVE_VERIFIED, parameters))

    async def computed(self) -> Mapping[str, Sequence[Computed]]:
        """By entity set, without rules."""
        found: dict[str, list[Computed]] = {}
        for entity_set, *counted in await self._engine.fetch(_LIST_COMPUTED):
            found.setdefault(entity_set, []).append(Computed(*counted))
        return found

    async def count_computed(self, entity_set: str, counts: Sequence[Computed]) -> None:
        """Add to the counts."""
        parameters = {
            "of_set": entity_set,
            "properties": [each.property for each in counts],
            **{name: [getattr(each, name) for each in counts] for name in _COUNTS},
        }
        await self._engine.transaction(lambda connection: connection.execute(_COUNT_COMPUTED, parameters))

    async def intents_naming(self, entity_sets: Collection[str]) -> Sequence[OpenIntent]:
        """The open ones that write to one of these sets or touch one of its entities, oldest first."""
        rows = await self._engine.fetch(_INTENTS, {"sets": list(entity_sets)})
        return [
            OpenIntent(identity, method, entity_set, key, opened_at.astimezone(UTC), is_held)
            for identity, method, entity_set, key, opened_at, is_held in rows
        ]

    async def undetermined(self, since: Mapping[str, datetime | None]) -> Mapping[str, Sequence[int]]:
        """Intents given up, by the set that they wrote to, since that moment (None: ever)."""
        found: dict[str, list[int]] = {}
        parameters = {"sets": list(since), "moments": list(since.values())}
        for entity_set, identity in await self._engine.fetch(_UNDETERMINED, parameters):
            found.setdefault(entity_set, []).append(identity)
        return found

    async def foreign(self, entity_sets: Collection[str]) -> Mapping[str, Foreign]:
        """Changes of the last day that no client's write made."""
        rows = await self._engine.fetch(_FOREIGN, {"sets": list(entity_sets)})
        return {name: Foreign(count, last_at.astimezone(UTC)) for name, count, last_at in rows}

    async def differences(self, entity_set: str, since: datetime | None) -> tuple[int, int]:
        """Examples that shadow mode kept since then of entities that differ, and how many it compared."""
        ((found, compared),) = await self._engine.fetch(_DIFFERENCES, {"of_set": entity_set, "moment": since})
        return int(found), int(compared)

    async def references(self, entity_set: EntitySet) -> Mapping[str, frozenset[str]]:
        """What the held entities' lookups refer to: logical names, by property."""
        names = [
            declared.name for declared in entity_set.entity_type.properties.values() if is_reference(declared)
        ]
        if not names:
            return {}
        table = await self._tables.of(entity_set)
        columns: list[Any] = [table.column_in(table.table, (name, "LogicalName")) for name in names]
        shown = (
            func.unnest(cast(literal(names), ARRAY(Text)), postgresql.array(columns))
            .table_valued("property", "logical_name")
            .render_derived(name="shown")
        )
        statement = compiled(
            select(shown.c.property, shown.c.logical_name)
            .distinct()
            .select_from(table.table.join(shown, literal(True)))
            .where(and_(table.table.c.document.is_not(None), shown.c.logical_name.is_not(None)))
        )

        async def work(connection: Connection) -> list[tuple[str, str]]:
            return [(name, logical) for name, logical in await connection.fetch(statement)]

        found: dict[str, set[str]] = {}
        for name, logical_name in await self._engine.transaction(work, timeout_s=_WIDE_LOOK_S):
            found.setdefault(name, set()).add(logical_name.lower())
        return {name: frozenset(logical_names) for name, logical_names in found.items()}
