"""The rows of models as SELECTs, and the views in the schema `model` that show them.

A model is one SELECT over the mirror's table and the values that only the mirror keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    FromClause,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement, SetColumnComment

from proxy.odata.edm import EntitySet
from proxy.odata.models import MappedProperty, MappedSet
from proxy.store.columns import SQL_TYPES
from proxy.store.engine import Connection, Statement, compiled
from proxy.store.functions import Sql
from proxy.store.migrate import LOCK_SCHEMA
from proxy.store.set_table import SetTable
from proxy.store.statements import HELD

_INSTANT = DateTime(timezone=True)
_MODELS = Table("models", MetaData(schema="syncpoint"), Column("name", Text), Column("definition", Text))
OWN = Table(
    "own_values",
    MetaData(schema="syncpoint"),
    Column("model", Text),
    Column("entity_key", Text),
    Column("kept", JSONB),
    Column("changed_at", _INSTANT),
)
_DEFINITIONS = compiled(select(_MODELS.c.name, _MODELS.c.definition))
_FORGET = compiled(delete(_MODELS).where(_MODELS.c.name == bindparam("gone")))
_REMEMBER = compiled(insert(_MODELS).values(name=bindparam("name"), definition=bindparam("definition")))
# The mirror's own columns of a row that it is the authority of.
_AUTHENTIC: Mapping[str, Sql] = {
    "document": literal("{}", Text),
    "stamp_modified_on": cast(null(), DateTime),
    "stamp_version_number": cast(null(), BigInteger),
    "etag": cast(null(), Text),
    "digest": cast(null(), LargeBinary),
    "settled": true(),
    "fetch_number": literal(0, BigInteger),
    "fetched_at": func.now(),
    "intents": literal(0, Integer),
    "conflict": cast(null(), BigInteger),
    "deleted_at": cast(null(), _INSTANT),
}


class CreateView(DDLElement):
    """CREATE VIEW, literals written out: a view has no parameters."""

    inherit_cache = False

    def __init__(self, view: Table, rows: Select[Any]) -> None:
        self.view = view
        self.rows = rows


class SetViewComment(DDLElement):
    """COMMENT ON VIEW."""

    inherit_cache = False

    def __init__(self, view: Table, text: str) -> None:
        self.view = view
        self.text = text


class DropView(DDLElement):
    """DROP VIEW IF EXISTS: refused by Postgres while others' views build on it."""

    inherit_cache = False

    def __init__(self, view: Table) -> None:
        self.view = view


@compiles(CreateView, "postgresql")
def _create_view(element: CreateView, compiler: Any, **_: Any) -> str:
    name = compiler.preparer.format_table(element.view)
    return f"CREATE VIEW {name} AS {compiler.sql_compiler.process(element.rows, literal_binds=True)}"


@compiles(SetViewComment, "postgresql")
def _set_view_comment(element: SetViewComment, compiler: Any, **_: Any) -> str:
    text = compiler.sql_compiler.render_literal_value(element.text, Text())
    return f"COMMENT ON VIEW {compiler.preparer.format_table(element.view)} IS {text}"


@compiles(DropView, "postgresql")
def _drop_view(element: DropView, compiler: Any, **_: Any) -> str:
    return f"DROP VIEW IF EXISTS {compiler.preparer.format_table(element.view)}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A model's rows: its properties in their order, the mirror's own columns, where they come from, and what
    makes a row an entity."""

    properties: Sequence[Sql]
    held: Sequence[Sql]
    source: FromClause
    is_entity: Sql


def rows_of(mapped: MappedSet, source: SetTable | None) -> Rows:
    """`source`: the mirror's table of the set that is mapped, None where there is none."""
    of_model = OWN.c.model == literal(mapped.kept_under)
    if source is None:
        # Not a bare cast: Postgres may come to it before it leaves out the rows of other models.
        key: Sql = case((of_model, cast(OWN.c.entity_key, SQL_TYPES[mapped.key.declared.type])), else_=null())
        held = [_AUTHENTIC[name] for name in HELD]
        return Rows([key, *map(_own_column, mapped.own)], held, OWN, of_model)
    table = source.table
    joined: FromClause = table
    if mapped.own:
        named = cast(source.column_in(table, mapped.key.path), Text)
        joined = table.outerjoin(OWN, and_(of_model, OWN.c.entity_key == named))
    properties = [
        _source_column(each, source) if each.path else _own_column(each) for each in mapped.properties
    ]
    return Rows(properties, [table.c[name] for name in HELD], joined, table.c.document.is_not(None))


def _own_column(mapped: MappedProperty) -> Sql:
    value: Sql = cast(OWN.c.kept.op("->>")(literal(mapped.kept_as)), SQL_TYPES[mapped.declared.type])
    return _never_null(value, mapped)


def _source_column(mapped: MappedProperty, source: SetTable) -> Sql:
    value: Sql = source.column_in(source.table, mapped.path)
    if mapped.target:
        named = source.column_in(source.table, (mapped.path[0], "LogicalName"))
        value = case((named == literal(mapped.target), value), else_=null())
    return _never_null(value, mapped)


def _never_null(value: Sql, mapped: MappedProperty) -> Sql:
    return func.coalesce(value, literal("")) if mapped.never_null else value


def view_of(mapped: MappedSet, rows: Rows) -> str:
    """The statements that make a model's view."""
    name = mapped.entity_set.name
    source = mapped.source
    columns = [
        Column(each.name, SQL_TYPES[each.declared.type], comment=_comment(each, source))
        for each in mapped.properties
    ]
    view = Table(name, MetaData(schema="model"), *columns)
    what = f"The entities of {source.name}" if source else "Entities that only the mirror keeps"
    shown = (value.label(column.name) for value, column in zip(rows.properties, columns, strict=True))
    elements = [
        CreateView(view, select(*shown).select_from(rows.source).where(rows.is_entity)),
        SetViewComment(view, f"{what}, as the model {name} names them."),
        *(SetColumnComment(column) for column in view.c),
    ]
    return "; ".join(compiled(element).sql for element in elements)


def _comment(mapped: MappedProperty, source: EntitySet | None) -> str:
    if source is None or not mapped.path:
        where = "Kept by the mirror alone"
    else:
        where = f"{source.name}: {'/'.join(mapped.path)}"
    empty = "; null shown as empty" if mapped.never_null else ""
    time = "; UTC" if mapped.declared.type == "Edm.DateTime" else ""
    target = f"; null where it names no {mapped.target}" if mapped.target else ""
    return f"{where}{empty}{time}{target}."


async def replace_views(connection: Connection, views: Mapping[str, str]) -> None:
    """Drop the views that are no longer so, make those that are not there."""
    await connection.fetch(LOCK_SCHEMA)
    known: dict[str, str] = dict(await connection.fetch(_DEFINITIONS))
    for name, definition in known.items():
        if views.get(name) != definition:
            view = Table(name, MetaData(schema="model"))
            await connection.execute(compiled(DropView(view)))
            await connection.execute(_FORGET, {"gone": name})
    for name, definition in views.items():
        if known.get(name) != definition:
            await connection.execute(Statement(definition, {}))
            await connection.execute(_REMEMBER, {"name": name, "definition": definition})
