"""What an operator looks at: conflicts with both sides, writes without an end, sets at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Interval,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from proxy.odata.verbose_json import members
from proxy.reconcile.history import Conflict, IntentLine, LearnedEffect, Question, SetOverview, Side
from proxy.reconcile.ports import SetState, Source
from proxy.store.engine import Row, Statement, compiled
from proxy.store.part import Part
from proxy.store.schema import CONFLICTS, FINDINGS, INTENTS, NAMES, REVISIONS, SET_STATES

_CASE = ("id", "entity_set", "entity_key", "found_at", "request_id", "settled_at")
_SIDE = ("document", "modified_on", "version_number")
_CONFLICT = (
    *(
        CONFLICTS.c[name]
        for name in ("id", "entity_set", "entity_key", "found_at", "request_id", "settled_at")
    ),
    *(CONFLICTS.c[f"{side}_{name}"] for side in ("held", "seen") for name in _SIDE),
)


def _open(*narrower: ColumnElement[bool]) -> Statement:
    return compiled(
        select(*_CONFLICT)
        .where(CONFLICTS.c.settled_at.is_(None), CONFLICTS.c.id > bindparam("after"), *narrower)
        .order_by(CONFLICTS.c.id)
        .limit(bindparam("limit"))
    )


_OPEN_CONFLICTS = _open()
_OPEN_CONFLICTS_OF = _open(CONFLICTS.c.entity_set == bindparam("of_set"))
_FIND_CONFLICT = compiled(select(*_CONFLICT).where(CONFLICTS.c.id == bindparam("identity")))
_LINE = (
    "id",
    "method",
    "entity_set",
    "entity_key",
    "opened_at",
    "closed_at",
    "user_name",
    "client",
    "request_id",
)
_INTENT_LINES = compiled(
    select(*(INTENTS.c[name] for name in _LINE))
    .where(or_(INTENTS.c.closed_at.is_(None), INTENTS.c.outcome == bindparam("ended", "undetermined")))
    .order_by(INTENTS.c.id)
    .limit(bindparam("limit"))
)

_CLASSES = Table(
    "pg_class",
    MetaData(schema="pg_catalog"),
    Column("relname", Text),
    Column("relnamespace", BigInteger),
    Column("reltuples", BigInteger),
)
_is_table = and_(
    NAMES.c.path == "",
    _CLASSES.c.relname == NAMES.c.name,
    _CLASSES.c.relnamespace == literal_column("'mirror'::regnamespace"),
)
_tables = (
    select(NAMES.c.entity_set, cast(_CLASSES.c.reltuples, BigInteger).label("entities"))
    .join_from(NAMES, _CLASSES, _is_table)
    .subquery("tables")
)
_conflicts = (
    select(CONFLICTS.c.entity_set, func.count().label("open"))
    .where(CONFLICTS.c.settled_at.is_(None))
    .group_by(CONFLICTS.c.entity_set)
    .subquery("open_conflicts")
)
_OVERVIEW = compiled(
    select(
        func.coalesce(SET_STATES.c.entity_set, _tables.c.entity_set),
        SET_STATES.c.title,
        SET_STATES.c.proven,
        SET_STATES.c.forward_reason,
        func.coalesce(SET_STATES.c.lies, 0),
        func.coalesce(SET_STATES.c.hits_audited, 0),
        _tables.c.entities,
        func.coalesce(_conflicts.c.open, 0),
    )
    .select_from(
        SET_STATES.outerjoin(_tables, _tables.c.entity_set == SET_STATES.c.entity_set, full=True).outerjoin(
            _conflicts,
            _conflicts.c.entity_set == func.coalesce(SET_STATES.c.entity_set, _tables.c.entity_set),
        )
    )
    .order_by(func.coalesce(SET_STATES.c.entity_set, _tables.c.entity_set))
)


_ASKED = tuple(FINDINGS.c[name] for name in ("id", "entity_set", "kind", "detail", "found_at"))
_QUESTIONS = compiled(select(*_ASKED).where(FINDINGS.c.accepted.is_(None)).order_by(FINDINGS.c.id))
_ANSWER = compiled(
    update(FINDINGS)
    .values(accepted=bindparam("accepted"))
    .where(FINDINGS.c.id == bindparam("identity"), FINDINGS.c.accepted.is_(None))
    .returning(*_ASKED)
)

_RECENTLY = "1 day"
_SOON = "5 seconds"
_write, _found = REVISIONS.alias("write"), REVISIONS.alias("found")
_since = func.now() - cast(literal(_RECENTLY), Interval)
_id = func.substr(_found.c.entity_key, 6, 36)  # of guid'…'
_names_it = func.strpos(_write.c.document, _id) > 0
_EFFECTS = compiled(
    select(
        _write.c.entity_set,
        _write.c.method,
        _found.c.entity_set,
        func.count(),
        func.count().filter(_names_it),
        func.min(func.concat(_write.c.id, " ", _id)).filter(_names_it),
    )
    .join_from(
        _found,
        _write,
        and_(
            _found.c.entity_set != _write.c.entity_set,
            _found.c.effective_at >= _write.c.effective_at,
            _found.c.effective_at <= _write.c.effective_at + cast(literal(_SOON), Interval),
        ),
    )
    .where(
        _found.c.source == literal(Source.POLL.value),
        _found.c.recorded_at > _since,
        _found.c.entity_key.like("guid%"),
        _write.c.source == literal(Source.CLIENT_WRITE.value),
        _write.c.recorded_at > _since,
        _write.c.method.is_not(None),
    )
    .group_by(_write.c.entity_set, _write.c.method, _found.c.entity_set)
    .order_by(func.count().desc())
)
_DOCUMENT = compiled(select(REVISIONS.c.document).where(REVISIONS.c.id == bindparam("identity")))


class Casebook(Part):
    """Implements `proxy.reconcile.history.Casebook`."""

    async def conflicts(
        self, entity_set: str | None = None, *, after: int = 0, limit: int = 50
    ) -> Sequence[Conflict]:
        """Open ones, oldest first; `entity_set`: of that set only."""
        statement = _OPEN_CONFLICTS if entity_set is None else _OPEN_CONFLICTS_OF
        rows = await self._engine.fetch(statement, {"after": after, "limit": limit, "of_set": entity_set})
        return [_conflict(row) for row in rows]

    async def conflict(self, identity: int) -> Conflict | None:
        """Open or settled."""
        for row in await self._engine.fetch(_FIND_CONFLICT, {"identity": identity}):
            return _conflict(row)
        return None

    async def intent_lines(self, *, limit: int = 200) -> Sequence[IntentLine]:
        """Writes that are open, or were given up as undetermined; oldest first."""
        rows = await self._engine.fetch(_INTENT_LINES, {"limit": limit})
        return [
            IntentLine(
                identity, method, entity_set, key, opened_at.astimezone(UTC), _utc(closed_at), *provenance
            )
            for identity, method, entity_set, key, opened_at, closed_at, *provenance in rows
        ]

    async def learned_effects(self) -> Sequence[LearnedEffect]:
        """Of the last day, the most frequent first."""
        return [
            LearnedEffect(
                entity_set, operation, changed_set, times, named, await self._naming(sample) if sample else ()
            )
            for entity_set, operation, changed_set, times, named, sample in await self._engine.fetch(_EFFECTS)
        ]

    async def _naming(self, sample: str) -> tuple[str, ...]:
        """The properties of a revision that hold an id; `sample` is both."""
        revision, _, identity = sample.partition(" ")
        rows = await self._engine.fetch(_DOCUMENT, {"identity": int(revision)})
        return tuple(
            member.name
            for (document,) in rows
            for member in members(document)
            # In a property or a lookup, not in a link.
            if identity in (text := document[member.value_start : member.end]) and '"uri"' not in text
        )

    async def questions(self) -> Sequence[Question]:
        """What sweeps ask and nobody has answered, oldest first."""
        return [_question(row) for row in await self._engine.fetch(_QUESTIONS)]

    async def answer(self, identity: int, *, accepted: bool) -> Question | None:
        """Record an operator's answer. None where there is no such question, or it has its answer."""
        parameters = {"identity": identity, "accepted": accepted}
        rows = await self._engine.transaction(lambda connection: connection.fetch(_ANSWER, parameters))
        return _question(rows[0]) if rows else None

    async def sets_overview(self) -> Sequence[SetOverview]:
        """The sets of which anything is known, by name."""
        return [
            SetOverview(
                name,
                SetState(title, frozenset(proven or ()), reason, lies, audited),
                entities if entities is not None and entities >= 0 else None,
                conflicts,
            )
            for name, title, proven, reason, lies, audited, entities, conflicts in await self._engine.fetch(
                _OVERVIEW
            )
        ]


def _conflict(row: Row) -> Conflict:
    identity, entity_set, key, found_at, request_id, settled_at, *sides = row
    return Conflict(
        identity,
        entity_set,
        key,
        Side(*sides[:3]),
        Side(*sides[3:]),
        found_at.astimezone(UTC),
        request_id,
        _utc(settled_at),
    )


def _utc(value: datetime | None) -> datetime | None:
    return value and value.astimezone(UTC)


def _question(row: Row) -> Question:
    identity, entity_set, kind, detail, found_at = row
    return Question(identity, entity_set, kind, detail, found_at.astimezone(UTC))
