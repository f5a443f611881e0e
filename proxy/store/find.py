"""Queries that the mirror answers by itself: a page, a count, where a relationship leads from many entities.

A statement depends on the shape of a query only, and compiling one costs more than sending it: those in use
are kept. What varies is bound: v0, v1, … are the literals of filter and order, p0, p1, … the values of a skip
token, k0, k1, … the parts of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from cachetools import LRUCache

from proxy.odata.bound import paths_in
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.relationships import Relationship
from proxy.reconcile.ports import Found, Query, StoreUnavailable
from proxy.store.engine import Row, Statement, compiled
from proxy.store.entities import as_stored
from proxy.store.expressions import shape
from proxy.store.ordering import read_token, write_token
from proxy.store.part import Database, Part
from proxy.store.questions import counted, key_types, led_from_many, page_of, sorting
from proxy.store.set_table import SetTable, can_hold_key
from proxy.store.statements import HELD
from proxy.store.tables import Tables

_STATEMENTS_KEPT = 1000


class Finding(Part):
    """The part of the port that is about questions."""

    def __init__(self, engine: Database, tables: Tables, model: Callable[[], Model]) -> None:
        super().__init__(engine, tables, model)
        self._statements: LRUCache[Hashable, Statement] = LRUCache(_STATEMENTS_KEPT)

    async def find(self, query: Query) -> Found:
        """A page of entities."""
        plan = _plan(query, await self._tables_of(query))
        total = await self.count_of(query) if query.count else None
        if plan is None:
            return Found((), total)
        wanted = query.page if query.top is None else min(query.page, query.top)
        is_cut = query.top is None or query.top > query.page
        limits = {"limit": wanted + is_cut, "skip": query.skip}
        statement = self._statement(("page", *plan.slot), lambda: page_of(query, plan.tables, plan.nulls))
        rows = await self._fetch(statement, {**plan.values, **limits})
        return _found(plan.tables[query.entity_set.name], plan.edm_types, rows, wanted, total)

    async def count_of(self, query: Query) -> int:
        """How many entities pass the query's filter."""
        plan = _plan(query, await self._tables_of(query))
        if plan is None:
            return 0
        statement = self._statement(("count", *plan.slot), lambda: counted(query, plan.tables))
        ((count,),) = await self._fetch(statement, plan.values)
        return int(count)

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        """Where a relationship leads from each of these."""
        asked = [key for key in sources if can_hold_key(key)]
        if not asked:
            return {key: Found(()) for key in sources}
        tables = await self._tables_named([relationship.source, *_ends(relationship)])
        slot = ("related", relationship.source.name, relationship.name, *tables.values())
        statement = self._statement(slot, lambda: led_from_many(relationship, tables))
        arrays = tables[relationship.source.name].key_arrays(asked)
        rows = await self._fetch(statement, {**arrays, "limit": page + 1})
        by_source: dict[EntityKey, list[Row]] = {key: [] for key in sources}
        for position, *row in rows:
            by_source[asked[position - 1]].append(tuple(row))
        table = tables[relationship.target.name]
        edm_types = key_types(table)
        return {key: _found(table, edm_types, found, page) for key, found in by_source.items()}

    async def _tables_of(self, query: Query) -> dict[str, SetTable]:
        expressions = [order.expression for order in query.orderby]
        if query.filter is not None:
            expressions.append(query.filter)
        sets = [query.entity_set]
        for expression in expressions:
            sets += [step.target for path in paths_in(expression) for step in path.steps]
        if query.within is not None:
            sets += [query.within.source, *_ends(query.within.relationship)]
        return await self._tables_named(sets)

    async def _tables_named(self, sets: Iterable[EntitySet]) -> dict[str, SetTable]:
        return {each.name: await self._tables.of(each) for each in sets}

    def _statement(self, slot: Hashable, make: Callable[[], Any]) -> Statement:
        statement = self._statements.get(slot)
        if statement is None:
            try:
                statement = self._statements[slot] = compiled(make())
            except RecursionError:
                # Functions within functions: Core needs several calls for each level.
                raise ODataError("The query nests functions too deeply for the mirror.") from None
        return statement

    async def _fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        try:
            return await self._engine.fetch(statement, values)
        except StoreUnavailable as failure:
            if not isinstance(failure.__cause__, psycopg2.DataError):
                raise
            reason = failure.__cause__.diag.message_primary
            raise ODataError(f"The query cannot be worked out over these entities: {reason}.") from failure


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is bound to a query's statement, and what the statement depends on.

    `edm_types`: of all that the rows are sorted by; `nulls`: which of the skip token's values are, None
    without one.
    """

    tables: Mapping[str, SetTable]
    slot: tuple[Hashable, ...]
    values: Mapping[str, Any]
    edm_types: Sequence[str]
    nulls: tuple[bool, ...] | None


def _plan(query: Query, tables: Mapping[str, SetTable]) -> _Plan | None:
    """None for what can have no answer. ODataError for a bad skip token."""
    literals: list[Any] = []
    filtered = None if query.filter is None else shape(query.filter, literals)
    ordered = tuple((shape(order.expression, literals), order.descending) for order in query.orderby)
    values = {f"v{index}": value for index, value in enumerate(literals)}
    within = None
    if query.within is not None:
        if not can_hold_key(query.within.key):
            return None
        within = (query.within.source.name, query.within.relationship.name)
        values |= {f"k{index}": value for index, (_, value) in enumerate(query.within.key)}
    edm_types = [order.expression.type for order in sorting(query)]
    edm_types += key_types(tables[query.entity_set.name])
    nulls = None
    if query.after is not None or query.behind is not None:
        last = _last(query, edm_types)
        values |= {f"p{index}": value for index, value in enumerate(last)}
        nulls = tuple(value is None for value in last)
    slot = (*tables.values(), filtered, ordered, within, nulls, query.behind is None)
    return _Plan(tables, slot, values, edm_types, nulls)


def _last(query: Query, edm_types: Sequence[str]) -> Sequence[Any]:
    """The values that the page follows. ODataError for a bad skip token."""
    if query.behind is None:
        return read_token(edm_types, query.after or "")
    sorted_by = len(list(sorting(query)))
    keys = zip(query.entity_set.entity_type.key, query.behind[sorted_by:], strict=True)
    properties = query.entity_set.entity_type.properties
    # Text in a key is sorted twice: as it compares, and exactly.
    doubled = [value for name, value in keys for _ in range(1 + (properties[name].type == "Edm.String"))]
    return [*query.behind[:sorted_by], *doubled]


def _found(
    table: SetTable, edm_types: Sequence[str], rows: Sequence[Row], wanted: int, total: int | None = None
) -> Found:
    """Rows of HELD, the key and what is sorted by; one more than wanted says that there are more."""
    parts = table.entity_set.entity_type.key
    start, end = len(HELD), len(HELD) + len(parts)
    stored = [
        as_stored(tuple(zip(parts, map(_plain, row[start:end]), strict=True)), row[:start])
        for row in rows[:wanted]
    ]
    token = write_token(edm_types, rows[wanted - 1][end:]) if len(rows) > wanted else None
    return Found(stored, total, token)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _ends(relationship: Relationship) -> list[EntitySet]:
    """The sets that a relationship's far end lies in, and that show its pairs."""
    pairs = [] if relationship.intersect is None else [relationship.intersect.entity_set]
    return [relationship.target, *pairs]
