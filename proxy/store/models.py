"""Models: queries over the rows that `model_views` shows, and what only the mirror keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from typing import cast as typed

from sqlalchemy import Table, Text, and_, bindparam, cast, delete, func, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.models import Mapped, MappedSet
from proxy.odata.uri import format_key
from proxy.reconcile.ports import Provenance, Stored
from proxy.store.columns import TypedPath, encoder
from proxy.store.engine import Connection, Engine, Statement, compiled
from proxy.store.entities import as_stored, provenance_values
from proxy.store.find import Finding
from proxy.store.model_views import OWN, Rows, replace_views, rows_of, view_of
from proxy.store.schema import FETCH_NUMBER, REVISIONS
from proxy.store.set_table import SetTable, can_hold_key
from proxy.store.statements import HELD
from proxy.store.tables import Tables

_is_one = and_(OWN.c.model == bindparam("of_model"), OWN.c.entity_key == bindparam("key"))
_KEPT = compiled(
    select(OWN.c.entity_key, OWN.c.kept).where(
        OWN.c.model == bindparam("of_model"),
        OWN.c.entity_key == func.any(cast(bindparam("keys"), ARRAY(Text))),
    )
)
_RECORD = compiled(
    insert_into(REVISIONS).values(
        {
            "fetch_number": FETCH_NUMBER.next_value(),
            **{
                name: bindparam(name)
                for name in ("entity_set", "entity_key", "source", "user_name", "client", "request_id")
            },
            "document": cast(bindparam("document"), Text),
            "deleted": bindparam("deleted"),
        }
    )
)
_values = cast(bindparam("values", type_=Text), JSONB)
_new = insert(OWN).values(
    model=bindparam("of_model"),
    entity_key=bindparam("key"),
    kept=_values,
    changed_at=func.clock_timestamp(),
)
_ADD = compiled(_new.on_conflict_do_nothing().returning(OWN.c.kept))
_PUT = compiled(
    _new.on_conflict_do_update(
        index_elements=["model", "entity_key"],
        set_={
            "kept": OWN.c.kept.op("||")(_new.excluded.kept),
            "changed_at": _new.excluded.changed_at,
        },
    ).returning(OWN.c.kept)
)
_CHANGE = compiled(
    update(OWN)
    .values(kept=OWN.c.kept.op("||")(_values), changed_at=func.clock_timestamp())
    .where(_is_one)
    .returning(OWN.c.kept)
)
_REMOVE = compiled(delete(OWN).where(_is_one).returning(OWN.c.kept))


class ModelTable(SetTable):
    """A model's rows as queries see them: its properties, and the mirror's own columns."""

    def __init__(self, mapped: MappedSet, rows: Rows) -> None:
        self.entity_set = mapped.entity_set
        # A property may be called as one of the mirror's own columns is.
        names = {
            TypedPath((each.name,), each.declared.type): f"p{index}"
            for index, each in enumerate(mapped.properties)
        }
        properties = (value.label(name) for value, name in zip(rows.properties, names.values(), strict=True))
        held = (value.label(name) for value, name in zip(rows.held, HELD, strict=True))
        selected = select(*properties, *held).select_from(rows.source)
        if mapped.source is None:  # in the mirror's tables queries look for entities themselves
            selected = selected.where(rows.is_entity)
        # Queries read and alias it, as they would a table; nothing writes to it.
        self.table = typed("Table", selected.subquery(mapped.entity_set.name))
        self._use(names)


class ModelTables(Tables):
    """The tables of models, by name of the model."""

    def __init__(self, engine: Engine, mirror: Tables, model: Callable[[], Model]) -> None:
        super().__init__(engine, model)
        self._mirror = mirror
        self._models: Mapping[str, ModelTable] = {}

    async def of(self, entity_set: EntitySet) -> SetTable:
        return self._models[entity_set.name]

    async def follow(self, mapped: Mapped) -> None:
        """Make views and tables what the models say, all views in one transaction."""
        tables: dict[str, ModelTable] = {}
        views: dict[str, str] = {}
        for name, each in mapped.sets.items():
            source = None if each.source is None else await self._mirror.of(each.source)
            rows = rows_of(each, source)
            tables[name] = ModelTable(each, rows)
            views[name] = view_of(each, rows)
        await self._engine.transaction(lambda connection: replace_views(connection, views))
        self._models = tables


class ModelStore(Finding):
    """What the mirror holds under the names of models, and what only the mirror keeps.

    Rows have their documents as upstream wrote them: `odata.models` gives the names. Every method raises
    StoreUnavailable.
    """

    _tables: ModelTables

    def __init__(self, engine: Engine, mirror: Tables, model: Callable[[], Model]) -> None:
        super().__init__(engine, ModelTables(engine, mirror, model), model)

    async def follow(self, mapped: Mapped) -> None:
        """From now on models are what these say; the views in the schema `model` are made so."""
        await self._tables.follow(mapped)

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        """What is held of these entities; unknown keys are left out."""
        asked = [key for key in keys if can_hold_key(key)]
        table = await self._tables.of(entity_set)
        rows = await self._engine.fetch(table.statements.get, table.key_arrays(asked)) if asked else []
        return {(key := asked[position - 1]): as_stored(key, row) for position, *row in rows}

    async def kept(
        self, mapped: MappedSet, keys: Sequence[EntityKey]
    ) -> Mapping[EntityKey, Mapping[str, Any]]:
        """What only the mirror keeps of these: JSON values by `MappedProperty.kept_as`."""
        texts = {_key_text(key): key for key in keys if can_hold_key(key)}
        rows = await self._engine.fetch(_KEPT, {"of_model": mapped.kept_under, "keys": list(texts)})
        return {texts[text]: values for text, values in rows}

    async def keep(
        self,
        mapped: MappedSet,
        key: EntityKey,
        values: Mapping[str, tuple[str, Any]],
        provenance: Provenance,
        *,
        exists: bool | None = None,
    ) -> bool:
        """Keep values, (EDM type, value) by `kept_as`, beside those kept already, and record a revision.

        False, and nothing is done, where `exists` says what is not so.
        """
        statement = _PUT if exists is None else _CHANGE if exists else _ADD
        plain = {member: _plain(*value) for member, value in values.items()}
        return await self._recorded(statement, mapped, key, provenance, {"values": json.dumps(plain)})

    async def remove(self, mapped: MappedSet, key: EntityKey, provenance: Provenance) -> bool:
        """Forget what only the mirror keeps of an entity, and record it. False: there was nothing."""
        return await self._recorded(_REMOVE, mapped, key, provenance, {})

    async def _recorded(
        self,
        statement: Statement,
        mapped: MappedSet,
        key: EntityKey,
        provenance: Provenance,
        values: Mapping[str, Any],
    ) -> bool:
        revision = {
            "entity_set": f"model/{mapped.entity_set.name}",
            "entity_key": format_key(key, mapped.entity_set.entity_type),
            "deleted": statement is _REMOVE,
            **provenance_values(provenance),
        }

        parameters = {"of_model": mapped.kept_under, "key": _key_text(key), **values}

        async def work(connection: Connection) -> bool:
            found = await connection.fetch(statement, parameters)
            for (kept,) in found:
                document = None if statement is _REMOVE else json.dumps(kept)
                await connection.execute(_RECORD, {**revision, "document": document})
            return bool(found)

        return await self._engine.transaction(work)


def _key_text(key: EntityKey) -> str:
    """As Postgres writes the key's column."""
    ((_, value),) = key
    return str(value)


def _plain(edm_type: str, value: Any) -> Any:
    encode = encoder(edm_type)
    return encode(value) if encode and value is not None else value
