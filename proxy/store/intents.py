"""Write intents: opened before a write leaves, settled with what it showed, each in one transaction.

Rows are locked in one order everywhere, entity sets by name and then keys by their text, and all of a
settlement's before the first is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.operation import CreateEntity
from proxy.odata.uri import format_key, parse_key
from proxy.reconcile.ports import (
    AuthorityMoved,
    Fetched,
    Intent,
    NewIntent,
    Outcome,
    Provenance,
    Settlement,
    Source,
    StoreUnavailable,
    Touched,
)
from proxy.store.columns import storable
from proxy.store.engine import Connection, Row, compiled
from proxy.store.entities import Storing, absence, newest, offer, provenance_values, store, storing
from proxy.store.epochs import are_epochs, epoch_values
from proxy.store.part import Part
from proxy.store.schema import FETCH_NUMBER, INTENTS, LEASES, REVISIONS
from proxy.store.set_table import SetTable, can_hold_key
from proxy.store.statements import Statements

_BOUND = (
    "method",
    "entity_set",
    "entity_key",
    "body",
    "content_type",
    "before",
    "source",
    "user_name",
    "client",
    "request_id",
    "opened_at",
    "holder",
)
_new: dict[str, ColumnElement[Any]] = {
    **{name: cast(bindparam(name), INTENTS.c[name].type) for name in _BOUND},
    "touched": cast(bindparam("touched", type_=Text), JSONB),
    "written": cast(bindparam("sets"), ARRAY(Text)),
    "fetch_number": FETCH_NUMBER.next_value(),
}
# No row where the authority has moved; and where it has not, it cannot before this is committed.
_OPEN = compiled(
    insert(INTENTS)
    .from_select(list(_new), select(*_new.values()).where(are_epochs()))
    .returning(INTENTS.c.id, INTENTS.c.fetch_number)
)
_NEXT_NUMBER = compiled(select(FETCH_NUMBER.next_value()))
_CLOSE = compiled(
    update(INTENTS)
    .values(closed_at=func.now(), outcome=bindparam("ended"))
    .where(INTENTS.c.id == bindparam("intent"), INTENTS.c.closed_at.is_(None))
    .returning(INTENTS.c.id)
)
_COLUMNS = (
    INTENTS.c.id,
    INTENTS.c.fetch_number,
    cast(INTENTS.c.touched, Text),
    exists().where(LEASES.c.name == INTENTS.c.holder, LEASES.c.expires_at > func.clock_timestamp()),
    *(INTENTS.c[name] for name in _BOUND),
)
_IS_OPEN = INTENTS.c.closed_at.is_(None)
_LIST = compiled(select(*_COLUMNS).where(_IS_OPEN).order_by(INTENTS.c.id).limit(bindparam("limit")))
_LIST_OF = compiled(
    select(*_COLUMNS)
    .where(
        _IS_OPEN,
        or_(
            and_(
                INTENTS.c.entity_set == bindparam("of_set"),
                INTENTS.c.entity_key == bindparam("of_key"),
            ),
            INTENTS.c.touched.contains(cast(bindparam("of_named", type_=Text), JSONB)),
        ),
    )
    .order_by(INTENTS.c.id)
)
_LIST_UNSETTLED_CREATES = compiled(
    select(*_COLUMNS)
    .where(
        INTENTS.c.entity_set == bindparam("of_set"),
        INTENTS.c.entity_key.is_(None),
        or_(INTENTS.c.outcome.is_(None), INTENTS.c.outcome == Outcome.UNDETERMINED.value),
        INTENTS.c.opened_at.between(bindparam("since"), bindparam("until")),
    )
    .order_by(INTENTS.c.id)
)
_CLAIMED = compiled(
    select(REVISIONS.c.entity_key)
    .distinct()
    .where(
        REVISIONS.c.entity_set == bindparam("of_set"),
        REVISIONS.c.entity_key == any_(bindparam("keys", type_=ARRAY(Text))),
        or_(
            REVISIONS.c.fetch_number < bindparam("below"),
            REVISIONS.c.method == CreateEntity.__name__,
        ),
    )
)
_REVISION = ("entity_set", "entity_key", "fetch_number", "source", "user_name", "client", "request_id")
_RECORD_UNSEEN = compiled(
    insert(REVISIONS).values(
        **{name: bindparam(name) for name in (*_REVISION, "method", "document")},
        unseen=bindparam("unseen", True),
    )
)


@dataclass(slots=True)
class _Fate:
    """What a settlement means for one row."""

    named: bool = False
    stale: bool = False
    state: Fetched | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """What a settlement does to one table: `rows` are all that it names, with their flags."""

    statements: Statements
    rows: str
    states: Sequence[Storing]


class Intents(Part):
    """The part of the port that is about writes. `holder`: this process."""

    holder: str

    async def open_intent(self, intent: NewIntent) -> Intent:
        """Commit the mark, raise the named rows' fetch number and intents count, in one transaction.

        Raises AuthorityMoved.
        """
        touched = _distinct(intent)
        target = [] if intent.target is None else [Touched(intent.entity_set, intent.target)]
        named = [*target, *touched]
        if not all(can_hold_key(entity.key) for entity in named):
            raise StoreUnavailable("the key of an entity holds a character that Postgres cannot hold")
        tables = {
            entity_set.name: await self._tables.of(entity_set)
            for entity_set in (intent.entity_set, *(entity.entity_set for entity in touched))
        }
        key_texts = [tables[entity.entity_set.name].key_text(entity.key) for entity in named]
        parameters = {
            "method": storable(intent.method),
            "entity_set": intent.entity_set.name,
            "entity_key": key_texts[0] if target else None,
            "touched": json.dumps(
                [
                    (entity.entity_set.name, text)
                    for entity, text in zip(touched, key_texts[len(target) :], strict=True)
                ]
            ),
            "body": intent.body,
            "content_type": storable(intent.content_type),
            "before": intent.before,
            "opened_at": intent.opened_at,
            "holder": self.holder,
            **provenance_values(intent.provenance),
            **epoch_values({intent.entity_set.name: 0, **intent.epochs}),
        }
        marks = [
            (table.statements.mark, {"rows": table.key_rows(keys), "at": intent.opened_at})
            for table, keys in _by_set(named, tables)
        ]

        async def work(connection: Connection) -> tuple[int, int]:
            opened = await connection.fetch(_OPEN, parameters)
            if not opened:
                raise AuthorityMoved
            ((identity, number),) = opened
            for statement, rows in marks:
                await connection.execute(statement, {**rows, "number": number})
            return identity, number

        identity, number = await self._engine.transaction(work)
        return Intent(
            id=identity,
            method=intent.method,
            entity_set=intent.entity_set.name,
            key=intent.target,
            touched=[(entity.entity_set.name, entity.key) for entity in touched],
            body=intent.body,
            content_type=intent.content_type,
            before=intent.before,
            provenance=intent.provenance,
            opened_at=intent.opened_at,
            fetch_number=number,
            holder=self.holder,
        )

    async def settle_intent(self, intent: Intent, settlement: Settlement) -> None:
        """Mirror rows, revisions, conflicts cleared, intent closed: one transaction.

        Does nothing if the intent is closed already. The rows that it names take its states whatever
        other intents are open, all others by the rule of `put`; none a state older than its own.
        """
        fates = _fates(intent, settlement, self._model())
        endings = [
            _ending(await self._tables.of(entity_set), of_set, intent, settlement)
            for _, (entity_set, of_set) in sorted(fates.items())
        ]
        closing = {"ended": settlement.outcome.value, "intent": intent.id}
        unseen = [_unseen_revision(intent, entity) for entity in settlement.unseen]

        async def work(connection: Connection) -> None:
            if not await connection.fetch(_CLOSE, closing):
                return
            for ending in endings:
                await connection.fetch(ending.statements.lock, {"rows": ending.rows})
            # Upstream has answered by now: what was asked for before may still lack the write.
            ((after,),) = await connection.fetch(_NEXT_NUMBER) if settlement.stale else ((0,),)
            for revision in unseen:
                await connection.execute(_RECORD_UNSEEN, revision)
            for ending in endings:
                for states in ending.states:
                    await store(connection, states)
                await connection.execute(ending.statements.release, {"rows": ending.rows, "after": after})
                await connection.execute(ending.statements.forget, {"rows": ending.rows})

        await self._engine.transaction(work)

    async def open_intents(self, *, limit: int = 100) -> Sequence[Intent]:
        """Oldest first. Left out while the metadata document does not know a set that they name."""
        rows = await self._engine.fetch(_LIST, {"limit": limit})
        model = self._model()
        return [intent for row in rows if (intent := _intent(row, model)) is not None]

    async def intents_of(self, entity_set: EntitySet, key: EntityKey) -> Sequence[Intent]:
        """The open intents that name the entity, as their target or beside it."""
        if not can_hold_key(key):
            return []
        table = await self._tables.of(entity_set)
        text = table.key_text(key)
        named = {
            "of_set": entity_set.name,
            "of_key": text,
            "of_named": json.dumps([[entity_set.name, text]]),
        }
        rows = await self._engine.fetch(_LIST_OF, named)
        model = self._model()
        return [intent for row in rows if (intent := _intent(row, model)) is not None]

    async def unsettled_creates(
        self, entity_set: EntitySet, since: datetime, until: datetime
    ) -> Sequence[Intent]:
        """The creates opened between two instants whose outcome is not known: open or undetermined."""
        rows = await self._engine.fetch(
            _LIST_UNSETTLED_CREATES, {"of_set": entity_set.name, "since": since, "until": until}
        )
        model = self._model()
        return [intent for row in rows if (intent := _intent(row, model)) is not None]

    async def claimed(
        self, entity_set: EntitySet, keys: Sequence[EntityKey], fetch_number: int
    ) -> frozenset[EntityKey]:
        """Those of `keys` that a create is recorded to have made, or that were seen by a fetch below
        `fetch_number`."""
        texts = {format_key(key, entity_set.entity_type): key for key in keys if can_hold_key(key)}
        rows = await self._engine.fetch(
            _CLAIMED, {"of_set": entity_set.name, "keys": [*texts], "below": fetch_number}
        )
        return frozenset(texts[text] for (text,) in rows)


def _distinct(intent: NewIntent) -> list[Touched]:
    """The touched entities, each once, without the target: a row counts an intent once."""
    seen = {(intent.entity_set.name, intent.target)}
    touched = []
    for entity in intent.touched:
        if (entity.entity_set.name, entity.key) not in seen:
            seen.add((entity.entity_set.name, entity.key))
            touched.append(entity)
    return touched


def _by_set(
    entities: Sequence[Touched], tables: Mapping[str, SetTable]
) -> list[tuple[SetTable, list[EntityKey]]]:
    """Keys by table, both in the order of locking."""
    keys: dict[str, list[EntityKey]] = {}
    for entity in entities:
        keys.setdefault(entity.entity_set.name, []).append(entity.key)
    return [(tables[name], sorted(keys[name], key=tables[name].key_text)) for name in sorted(keys)]


def _fates(
    intent: Intent, settlement: Settlement, model: Model
) -> dict[str, tuple[EntitySet, dict[EntityKey, _Fate]]]:
    """What becomes of every row that the intent or its settlement names."""
    fates: dict[str, tuple[EntitySet, dict[EntityKey, _Fate]]] = {}

    def fate(entity_set: EntitySet, key: EntityKey) -> _Fate:
        if not can_hold_key(key):
            return _Fate()
        return fates.setdefault(entity_set.name, (entity_set, {}))[1].setdefault(key, _Fate())

    named = list(intent.touched) if intent.key is None else [(intent.entity_set, intent.key), *intent.touched]
    for name, key in named:
        if (entity_set := model.entity_sets.get(name)) is not None:
            fate(entity_set, key).named = True
    for entity in settlement.stale:
        fate(entity.entity_set, entity.key).stale = True
    for entity in settlement.removed:
        fate(entity.entity_set, entity.key).state = absence(entity.key, settlement.fetch_number)
    for entity_set, seen in settlement.seen:
        other = fate(entity_set, seen.key).state
        fate(entity_set, seen.key).state = newest([*([other] if other else []), seen])[0]
    return fates


def _ending(
    table: SetTable, fates: Mapping[EntityKey, _Fate], intent: Intent, settlement: Settlement
) -> _Ending:
    written = _keys_of(settlement.written, table.entity_set)
    if intent.key is not None and intent.entity_set == table.entity_set.name:
        written = written | {intent.key}
    overwritten = _keys_of(settlement.unseen, table.entity_set)
    settled = Provenance(Source.SETTLEMENT, intent.provenance.request_id)
    states = []
    for own, is_clients in ((True, True), (True, False), (False, True), (False, False)):
        offered = [
            offer(table, fate.state, always=is_clients and key in written)
            for key, fate in fates.items()
            if fate.state is not None
            and fate.named is own
            # A state that is not of the client's making must not stand in the history under its name.
            and (settlement.outcome is Outcome.APPLIED and key not in overwritten) is is_clients
        ]
        if offered:
            provenance = intent.provenance if is_clients else settled
            # Without a look just before the write, nobody knows what it was made upon.
            is_made = intent.method == CreateEntity.__name__
            gap = not is_clients or (own and intent.before is None and not is_made)
            states.append(storing(table, offered, provenance, own=own, method=intent.method, gap=gap))
    keys = sorted(fates, key=table.key_text)
    named, stale = [int(fates[key].named) for key in keys], [fates[key].stale for key in keys]
    return _Ending(table.statements, table.key_rows(keys, named=named, stale=stale), states)


def _keys_of(entities: Sequence[Touched], entity_set: EntitySet) -> frozenset[EntityKey]:
    return frozenset(entity.key for entity in entities if entity.entity_set.name == entity_set.name)


def _unseen_revision(intent: Intent, entity: Touched) -> dict[str, Any]:
    """The state that a write made and nobody saw: by its request (rule 5)."""
    return {
        "entity_set": entity.entity_set.name,
        "entity_key": format_key(entity.key, entity.entity_set.entity_type),
        "fetch_number": intent.fetch_number,
        "method": intent.method,
        "document": storable(intent.body.decode("utf-8", "replace")),
        **provenance_values(intent.provenance),
    }


def _intent(row: Row, model: Model) -> Intent | None:
    identity, number, touched, is_held, *bound = row
    values: dict[str, Any] = dict(zip(_BOUND, bound, strict=True))
    entities = json.loads(touched)
    names = {values["entity_set"], *(name for name, _ in entities)}
    sets = [entity_set for name in names if (entity_set := model.entity_sets.get(name)) is not None]
    types = {entity_set.name: entity_set.entity_type for entity_set in sets}
    if types.keys() != names:
        return None
    key_text = values["entity_key"]
    return Intent(
        id=identity,
        method=values["method"],
        entity_set=values["entity_set"],
        key=None if key_text is None else parse_key(key_text, types[values["entity_set"]]),
        touched=[(name, parse_key(text, types[name])) for name, text in entities],
        body=bytes(values["body"]),
        content_type=values["content_type"],
        before=None if values["before"] is None else bytes(values["before"]),
        provenance=Provenance(
            Source(values["source"]), values["request_id"], values["user_name"], values["client"]
        ),
        opened_at=values["opened_at"].astimezone(UTC),
        fetch_number=number,
        holder=values["holder"],
        is_held=is_held,
    )
