"""The mirror as it was at one moment: the queries of `find` over revisions instead of the mirror's tables.

Of each entity the last state counts that held by then. Its typed columns are read out of its document, and
only those that a query names: Postgres leaves out what nobody asks a subquery for. So a query reads the
history of its sets as far as that moment; what is asked for by key is looked up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from typing import cast as typed

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.reconcile.ports import Stored
from proxy.store.columns import SQL_TYPES, TypedPath, typed_paths
from proxy.store.engine import Engine, compiled
from proxy.store.entities import as_stored
from proxy.store.find import Finding
from proxy.store.functions import Sql
from proxy.store.schema import HISTORY
from proxy.store.set_table import SetTable, can_hold_key
from proxy.store.statements import HELD
from proxy.store.tables import Tables

_INSTANT = DateTime(timezone=True)
_AT = bindparam("as_of", type_=_INSTANT)
# How a document's values become those of a column; by EDM type, text where nothing else is said.
_READERS: Mapping[str, str] = {
    "Edm.Binary": "bytes_of",
    "Edm.Boolean": "truth_of",
    "Edm.Byte": "whole_of",
    "Edm.DateTime": "instant_of",
    "Edm.DateTimeOffset": "offset_instant_of",
    "Edm.Decimal": "number_of",
    "Edm.Double": "real_of",
    "Edm.Guid": "guid_of",
    "Edm.Int16": "whole_of",
    "Edm.Int32": "whole_of",
    "Edm.Int64": "whole_of",
    "Edm.SByte": "whole_of",
    "Edm.Single": "real_of",
    "Edm.Time": "duration_of",
}


class PastTable(SetTable):
    """A set's entities at a moment, as queries see them."""

    def __init__(self, entity_set: EntitySet, paths: Sequence[TypedPath]) -> None:
        self.entity_set = entity_set
        names = {path: f"p{index}" for index, path in enumerate(paths)}
        states = _last_states(entity_set.name)
        key = entity_set.entity_type.key
        values = (_value(path, states, key).label(name) for path, name in names.items())
        since, of_set = states.c.effective_at, literal(entity_set.name, Text)
        certain = func.syncpoint.is_certain(of_set, states.c.entity_key, since, _AT)
        held = (value.label(name) for name, value in _held(states, certain).items())
        # Queries read and alias it, as they would a table; nothing writes to it.
        self.table = typed("Any", select(*values, *held).subquery("past"))
        self._use(names)

    def held_in(self, rows: FromClause) -> list[ColumnElement[Any]]:
        """What is renamed since is no matter of the past."""
        return [rows.c[name] for name in HELD]


def _last_states(set_name: str) -> FromClause:
    last = (
        select(*(HISTORY.c[name] for name in ("entity_key", "document", "deleted", "effective_at")))
        .where(
            HISTORY.c.entity_set == literal(set_name),
            HISTORY.c.effective_at <= _AT,
            HISTORY.c.unseen.is_(False),
        )
        .ext(distinct_on(HISTORY.c.entity_key))
        .order_by(HISTORY.c.entity_key, HISTORY.c.effective_at.desc(), HISTORY.c.id.desc())
        .subquery("last")
    )
    # A fence: a document is parsed once, whatever is asked of it.
    content = func.syncpoint.content_of(last.c.document).label("content")
    return select(*last.c, content).where(last.c.deleted.is_(False)).offset(0).subquery("states")


def _value(path: TypedPath, states: FromClause, key: Sequence[str]) -> Sql:
    type_ = SQL_TYPES[path.edm_type]
    if path.edm_type == "Edm.Guid" and path.members == tuple(key):
        # guid'…': found without parsing a document.
        return cast(func.substr(states.c.entity_key, 6, 36), type_)
    at = func.jsonb_extract_path_text(states.c.content, *(literal(member, Text) for member in path.members))
    reader = _READERS.get(path.edm_type)
    return cast(at if reader is None else getattr(func.syncpoint, reader)(at), type_)


def _held(states: FromClause, certain: Sql) -> dict[str, Sql]:
    """HELD of a state of the past; `certain`: that it held at the moment is what `settled` says."""
    values: dict[str, Sql] = {
        "document": states.c.document,
        "stamp_modified_on": cast(null(), DateTime),
        "stamp_version_number": cast(null(), BigInteger),
        "etag": cast(null(), Text),
        "digest": cast(null(), LargeBinary),
        "settled": certain,
        "fetch_number": literal(0, BigInteger),
        "fetched_at": states.c.effective_at,
        "intents": literal(0, Integer),
        "conflict": cast(null(), BigInteger),
        "deleted_at": cast(null(), _INSTANT),
    }
    return {name: values[name] for name in HELD}


def _states(of_key: Sql) -> FromClause:
    """What `state_as_of` says of an entity of the set `of_set`."""
    return func.syncpoint.state_as_of(cast(bindparam("of_set"), Text), cast(of_key, Text), _AT).table_valued(
        column("document", Text), column("deleted"), column("effective_at", _INSTANT), column("certain")
    )


def _looked_up(state: FromClause) -> list[Sql]:
    """HELD of such a state."""
    held = _held(state, state.c.certain)
    return [*(held | {"deleted_at": case((state.c.deleted, state.c.effective_at))}).values()]


def _one() -> Any:
    """Rows of (1, *HELD) for the key text `key`: planned in a part of the time of those for several."""
    state = _states(bindparam("key")).alias("state")
    return select(literal_column("1"), *_looked_up(state)).select_from(state)


def _several() -> Any:
    """Rows (position, *HELD) for the key texts `keys`, counted from one."""
    asked = (
        func.unnest(cast(bindparam("keys"), ARRAY(Text)))
        .table_valued("key", with_ordinality="position")
        .render_derived(name="asked")
    )
    state = _states(asked.c.key).lateral("state")
    return select(asked.c.position, *_looked_up(state)).select_from(asked.join(state, true()))


_GET_ONE, _GET = compiled(_one()), compiled(_several())


class PastTables(Tables):
    """The sets' past, by name of the set."""

    def __init__(self, engine: Engine, model: Callable[[], Model]) -> None:
        super().__init__(engine, model)
        self._past: dict[str, PastTable] = {}

    async def of(self, entity_set: EntitySet) -> SetTable:
        table = self._past.get(entity_set.name)
        if table is None or table.entity_set is not entity_set:
            paths = typed_paths(entity_set.entity_type, self._model())
            table = self._past[entity_set.name] = PastTable(entity_set, paths)
        return table


class Past(Finding):
    """Implements `proxy.reconcile.ports.Answers` for one moment, after `at`."""

    _moment: datetime | None = None

    def __init__(self, engine: Engine, model: Callable[[], Model]) -> None:
        super().__init__(engine, PastTables(engine, model), model)

    def at(self, moment: datetime) -> Past:
        """The mirror as it was then; statements are compiled once for all moments."""
        past = copy.copy(self)
        past._moment = moment
        return past

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        """The states that held; of what had been deleted by then, since when (`deleted_at`)."""
        asked = [key for key in keys if can_hold_key(key)]
        table = await self._tables.of(entity_set)
        texts = [table.key_text(key) for key in asked]
        named = {"of_set": entity_set.name, "keys": texts, "key": texts[0] if texts else ""}
        rows = await self._fetch(_GET_ONE if len(texts) == 1 else _GET, named) if asked else []
        return {(key := asked[position - 1]): as_stored(key, row) for position, *row in rows}

    async def _fetch(self, statement: Any, values: Mapping[str, Any]) -> Any:
        return await super()._fetch(statement, {**values, "as_of": self._moment})
