"""Mirror tables, made from the metadata document when a set is first used.

A table only grows: a property that joins becomes an added column (null in rows stored before), one that
leaves keeps its column and is marked in `syncpoint.names`, one whose type changes gets a second column.
Processes make tables under one lock, and find what others made in `syncpoint.names`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Column, Index, bindparam, case, cast, func, insert, null, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement, SetColumnComment, SetTableComment
from sqlalchemy.types import Text

from proxy.odata.edm import EntitySet, Model
from proxy.reconcile.ports import StoreUnavailable
from proxy.store.columns import CONTROL_NAMES, TypedPath, typed_paths
from proxy.store.engine import Connection, Engine, Statement, compiled
from proxy.store.migrate import LOCK_SCHEMA
from proxy.store.names import SYSTEM_COLUMNS, free_name, index_name, table_name
from proxy.store.ordering import key_order
from proxy.store.schema import FETCH_NUMBER, NAMES
from proxy.store.set_table import SetTable

_TABLE = TypedPath(("",), "")  # how `syncpoint.names` names the table itself: no path, no type

_COMMENT = (
    "Entities of one set, one row each; text in UTF-8, timestamps without time zone are UTC. Rows whose "
    "document is null are no entities: tombstones, and marks of writes under way."
)

_names_of_set = NAMES.c.entity_set == bindparam("entity_set")
_FIND = compiled(
    select(
        NAMES.c.path, NAMES.c.edm_type, NAMES.c.name, NAMES.c.since, NAMES.c.dropped_at.is_not(None)
    ).where(_names_of_set)
)
_TABLE_NAMES = compiled(select(NAMES.c.name).where(NAMES.c.path == ""))
_added = func.unnest(
    *(cast(bindparam(part), ARRAY(Text)) for part in ("paths", "edm_types", "names"))
).table_valued("path", "edm_type", "name")
_ADD = compiled(
    insert(NAMES).from_select(
        ["entity_set", "path", "edm_type", "name", "since"],
        select(
            bindparam("entity_set"),
            *_added.render_derived(name="added").c,
            case((bindparam("is_new"), 0), else_=FETCH_NUMBER.next_value()),
        ),
    )
)
_is_used = NAMES.c.name == func.any(cast(bindparam("used"), ARRAY(Text)))
_MARK_DROPPED = compiled(
    update(NAMES)
    .values(
        dropped_at=case((_is_used, null()), else_=func.coalesce(NAMES.c.dropped_at, func.now())),
        since=case(
            (_is_used == NAMES.c.dropped_at.is_(None), NAMES.c.since), else_=FETCH_NUMBER.next_value()
        ),
    )
    .where(_names_of_set, NAMES.c.path != "")
)


class AddColumn(DDLElement):
    """ALTER TABLE … ADD COLUMN."""

    inherit_cache = False

    def __init__(self, added: Column[Any]) -> None:
        self.added = added


class StoreApart(DDLElement):
    """A column's long values go out of the row, uncompressed: read as a whole, compression costs more."""

    inherit_cache = False

    def __init__(self, stored: Column[Any]) -> None:
        self.stored = stored


@compiles(AddColumn, "postgresql")
def _add_column(element: AddColumn, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.added.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(element.added)}"


@compiles(StoreApart, "postgresql")
def _store_apart(element: StoreApart, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.stored.table)
    column = compiler.preparer.format_column(element.stored)
    return f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL"


class Tables:
    """The tables in use, by set. `model` gives the metadata document that is in force."""

    def __init__(self, engine: Engine, model: Callable[[], Model]) -> None:
        self._engine = engine
        self._model = model
        self._ready: dict[str, SetTable] = {}
        self._making: dict[str, asyncio.Task[SetTable]] = {}

    async def of(self, entity_set: EntitySet) -> SetTable:
        """The set's table; made, or grown to what the set's type declares, if need be.

        Raises StoreUnavailable.
        """
        name = entity_set.name
        while True:
            table = self._ready.get(name)
            if table is not None and table.entity_set is entity_set:
                return table
            # One attempt for all who wait: one after another they would add up their timeouts.
            if name not in self._making:
                self._making[name] = asyncio.create_task(self._make(entity_set))
                self._making[name].add_done_callback(self._ended)
            await asyncio.shield(self._making[name])

    def _ended(self, task: asyncio.Task[SetTable]) -> None:
        self._making = {name: making for name, making in self._making.items() if making is not task}
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _make(self, entity_set: EntitySet) -> SetTable:
        table = self._ready.get(entity_set.name)
        paths = typed_paths(entity_set.entity_type, self._model())
        if table is not None and table.is_for(entity_set, paths):
            table.entity_set = entity_set  # the same document, parsed again
        else:
            table = self._ready[entity_set.name] = await self._made(entity_set, paths)
        return table

    async def _made(self, entity_set: EntitySet, paths: list[TypedPath]) -> SetTable:
        missing = set(entity_set.entity_type.key) - {path.path for path in paths}
        if missing or not entity_set.entity_type.key:
            raise StoreUnavailable(f"{entity_set.name} has no key that the mirror could hold")
        found = await self._engine.fetch(_FIND, {"entity_set": entity_set.name})
        names: Mapping[TypedPath, str] = _by_path(found)
        marked = _by_path(row for row in found if row[-1])
        unused = {path for path in names if path not in paths and path != _TABLE}
        if not {_TABLE, *paths} <= names.keys() or unused != marked.keys():
            await self._engine.transaction(lambda connection: _grow(connection, entity_set, paths))
            found = await self._engine.fetch(_FIND, {"entity_set": entity_set.name})
            names = _by_path(found)
        since = max(row[3] for row in found)
        return SetTable(entity_set, names[_TABLE], {path: names[path] for path in paths}, since)


async def _grow(connection: Connection, entity_set: EntitySet, paths: list[TypedPath]) -> None:
    """Make the set's table or add to it, and record its names."""
    parameters = {"entity_set": entity_set.name}
    await connection.fetch(LOCK_SCHEMA)
    names = _by_path(await connection.fetch(_FIND, parameters))
    known = dict(names)
    if _TABLE not in names:
        taken = {name for (name,) in await connection.fetch(_TABLE_NAMES)}
        names[_TABLE] = table_name(entity_set.name, taken)
    taken = {*CONTROL_NAMES, *SYSTEM_COLUMNS, *(name for path, name in names.items() if path != _TABLE)}
    for path in paths:
        if path not in names:
            names[path] = free_name(path.path, taken)
            taken.add(names[path])
    added = {path: name for path, name in names.items() if path not in known}
    made = SetTable(entity_set, names[_TABLE], {path: names[path] for path in paths})
    if _TABLE in added:
        await _run(connection, _creation(made))
    else:
        await _run(connection, (AddColumn(made.table.c[name]) for name in added.values()))
    if added:
        listed = {
            "paths": [path.path for path in added],
            "edm_types": [path.edm_type for path in added],
            "names": list(added.values()),
            "is_new": _TABLE in added,
        }
        await connection.execute(_ADD, {**parameters, **listed})
    await connection.execute(_MARK_DROPPED, {**parameters, "used": [names[path] for path in paths]})


def _creation(made: SetTable) -> Iterable[DDLElement]:
    table = made.table
    table.comment = _COMMENT
    yield CreateTable(table)
    yield StoreApart(table.c.document)
    yield SetTableComment(table)
    for column in table.c:
        if column.comment:
            yield SetColumnComment(column)
    # Over all rows: an index over entities only would be written to whenever a document changes.
    order = key_order((key.column, key.path.edm_type) for key in made.keys)
    yield CreateIndex(Index(index_name(table.name, "order"), *(column.sorted for column in order)))


async def _run(connection: Connection, elements: Iterable[DDLElement]) -> None:
    texts = [compiled(element).sql for element in elements]
    if texts:
        await connection.execute(Statement("; ".join(texts), {}))


def _by_path(rows: Iterable[tuple[Any, ...]]) -> dict[TypedPath, str]:
    return {TypedPath(tuple(path.split("/")), edm_type): name for path, edm_type, name, *_ in rows}
