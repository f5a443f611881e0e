"""The statements of queries. What they bind is told in `find`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import FromClause, Select, and_, bindparam, cast, exists, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.bound import BoundOrder, Constant
from proxy.odata.errors import UnsupportedConstruct
from proxy.odata.relationships import Relationship
from proxy.reconcile.ports import Query, Related
from proxy.store.expressions import Expressions, parameter, tied
from proxy.store.functions import Sql
from proxy.store.ordering import OrderColumn, beyond, key_order
from proxy.store.set_table import SetTable
from proxy.store.statements import HELD

Tables = Mapping[str, SetTable]


def sorting(query: Query) -> Iterator[BoundOrder]:
    """What the rows are sorted by before their keys; a constant sorts nothing."""
    for order in query.orderby:
        if not isinstance(order.expression, Constant):
            yield order


def key_types(table: SetTable) -> list[str]:
    """Types of all that keys are sorted by."""
    return [column.edm_type for column in _key_order(table, table.table)]


def page_of(query: Query, tables: Tables, nulls: Sequence[bool] | None) -> Select[Any]:
    """Rows of HELD, the key, and the values sorted by; `nulls`: those of what the page follows, if anything.

    Parameters besides: `limit` and `skip`.
    """
    table, expressions, conditions = _begun(query, tables)
    order = [
        OrderColumn(expressions.value(item.expression), item.expression.type, item.descending)
        for item in sorting(query)
    ]
    order += _key_order(table, table.table)
    if nulls is not None:
        folds = query.behind is not None
        conditions.append(beyond([replace(column, folds=folds) for column in order], nulls))
    return (
        select(*_held(table, table.table), *(column.shown for column in order))
        .select_from(expressions.joined(table.table))
        .where(*conditions)
        .order_by(*(column.sorted for column in order))
        .limit(bindparam("limit"))
        .offset(bindparam("skip"))
    )


def counted(query: Query, tables: Tables) -> Select[Any]:
    """How many rows pass the filter."""
    table, expressions, conditions = _begun(query, tables)
    return select(func.count()).select_from(expressions.joined(table.table)).where(*conditions)


def led_from_many(relationship: Relationship, tables: Tables) -> Select[Any]:
    """Rows of (position of the source among those asked, from one; HELD; the key; the values sorted by).

    Parameters: the arrays of `SetTable.key_arrays`, and `limit`.
    """
    source, target = tables[relationship.source.name], tables[relationship.target.name]
    arrays = [cast(bindparam(key.name), ARRAY(key.column.type)) for key in source.keys]
    asked = (
        func.unnest(*arrays)
        .table_valued(*(key.name for key in source.keys), with_ordinality="position")
        .render_derived(name="asked")
    )
    near, far = source.table.alias("near"), target.table.alias("far")
    held = _held(target, far)
    order = list(_key_order(target, far))
    page = (
        select(*(column.label(f"c{index}") for index, column in enumerate(held)))
        .add_columns(*(column.shown.label(f"o{index}") for index, column in enumerate(order)))
        .where(_led(relationship, (source, near), (target, far), tables))
        .order_by(*(column.sorted for column in order))
        .limit(bindparam("limit"))
        .correlate(near)
        .lateral("page")
    )
    keys = zip(list(page.c)[len(HELD) :], (key.path.edm_type for key in target.keys), strict=False)
    is_source = and_(*(near.c[key.column.name] == asked.c[key.name] for key in source.keys))
    return (
        select(asked.c.position, *page.c)
        .select_from(asked.join(near, and_(is_source, near.c.document.is_not(None))).join(page, true()))
        .order_by(asked.c.position, *(column.sorted for column in key_order(keys)))
    )


def _begun(query: Query, tables: Tables) -> tuple[SetTable, Expressions, list[Sql]]:
    """What page and count have in common. The filter's literals are numbered first."""
    table = tables[query.entity_set.name]
    expressions = Expressions(table, table.table, tables)
    conditions: list[Sql] = [table.table.c.document.is_not(None)]
    if query.filter is not None:
        conditions.append(expressions.condition(query.filter))
    if query.within is not None:
        conditions.append(_within(query.within, table, tables))
    return table, expressions, conditions


def _within(related: Related, target: SetTable, tables: Tables) -> Sql:
    source = tables[related.source.name]
    near = source.table.alias("near")
    named = [
        near.c[key.column.name] == parameter(f"k{index}", key.path.edm_type)
        for index, key in enumerate(source.keys)
    ]
    led = _led(related.relationship, (source, near), (target, target.table), tables)
    found = select(near.c.document).where(*named, near.c.document.is_not(None), led)
    return exists(found.correlate(target.table))


def _led(
    relationship: Relationship,
    near: tuple[SetTable, FromClause],
    far: tuple[SetTable, FromClause],
    tables: Tables,
) -> Sql:
    """True where the relationship leads from the near row to the far one. Both must be entities."""
    if relationship.kind != "links":
        return tied(relationship, near, far)
    intersect = relationship.intersect
    if intersect is None:
        raise UnsupportedConstruct(
            f"The navigation property '{relationship.name}' is not supported: no entity set shows its pairs.",
            token=relationship.name,
        )
    pairs = tables[intersect.entity_set.name]
    rows = pairs.table.alias("pairs")
    ((near_table, near_rows), (far_table, far_rows)) = near, far
    paired = select(rows.c.document).where(
        pairs.column_in(rows, (intersect.first,)) == near_rows.c[near_table.keys[0].column.name],
        pairs.column_in(rows, (intersect.second,)) == far_rows.c[far_table.keys[0].column.name],
        rows.c.document.is_not(None),
    )
    return and_(exists(paired.correlate(near_rows, far_rows)), far_rows.c.document.is_not(None))


def _held(table: SetTable, rows: FromClause) -> list[Sql]:
    return table.held_in(rows) + [rows.c[key.column.name] for key in table.keys]


def _key_order(table: SetTable, rows: FromClause) -> Iterator[OrderColumn]:
    return key_order((rows.c[key.column.name], key.path.edm_type) for key in table.keys)
