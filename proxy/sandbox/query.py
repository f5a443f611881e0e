"""Collections: which rows, in which order, which page of them, and the link to the next (manual, 3 and 4)."""

from __future__ import annotations

import bisect
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.expressions import OrderItem, PropertyPath
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.query_options import QueryOptions
from proxy.sandbox import faultcodes
from proxy.sandbox.collation import sort_key
from proxy.sandbox.cookies import read_cookie, write_cookie
from proxy.sandbox.evaluate import Scope, compile_expression, compile_filter, compile_path, no_property
from proxy.sandbox.switches import Switches
from proxy.sandbox.tables import Tables, Values

_KNOWN = frozenset(
    {"$filter", "$select", "$expand", "$orderby", "$top", "$skip", "$skiptoken", "$inlinecount"}
)
_OF_COLLECTIONS = _KNOWN - {"$select", "$expand"}
# What a next link keeps of the query (4.2); `$top` is kept with what is left of it.
_KEPT_IN_LINK = frozenset({"$filter", "$expand", "$orderby", "$inlinecount", "$select"})
_MAX_ORDER_COLUMNS = 12
_DISTINCT_LIMIT = 5000
_CACHED_QUERIES = 256
# Types of computed values, by their family, as far as they are not text.
_EDM_TYPES = {
    "boolean": "Edm.Boolean",
    "int32": "Edm.Int32",
    "int64": "Edm.Int64",
    "decimal": "Edm.Decimal",
    "double": "Edm.Double",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its keys, the raw query of the link to the next (None: no more), and the whole count."""

    keys: Sequence[uuid.UUID]
    next_query: str | None
    count: int | None


@dataclass(frozen=True, slots=True)
class _Column:
    """A sort column: its logical name, EDM type, and how to get its value out of a row."""

    name: str
    type: str
    value: Callable[[Values], Any]
    descending: bool


def check_options(options: QueryOptions, *, collection: bool, switches: Switches) -> None:
    """Refuse what section 3.5 says is refused."""
    for name in options.names:
        if name not in _KNOWN:
            raise ODataError(
                f"The query parameter '{name}' begins with a system-reserved '$' character"
                " but is not recognized."
            )
    for name in sorted(options.duplicates):
        raise ODataError(f"Query parameter '{name}' is specified, but it should be specified exactly once.")
    if not collection and options.names & _OF_COLLECTIONS:
        raise ODataError(
            "Query options $filter, $orderby, $inlinecount, $skip and $top"
            " cannot be applied to the requested resource."
        )
    inlinecount = options.inlinecount
    if inlinecount is not None:
        if switches.count == "refuse":
            raise ODataError("The ability of the data service to return row count information is disabled.")
        if inlinecount not in ("allpages", "none"):
            raise ODataError(
                f"Unknown $inlinecount option '{inlinecount}', only 'allpages' and 'none' are known."
            )


class Queries:
    """Runs queries over the tables; remembers which keys a query found until something changes."""

    def __init__(self, tables: Tables, switches: Switches) -> None:
        self._tables = tables
        self._switches = switches
        self._found: OrderedDict[tuple[Any, ...], tuple[int, list[uuid.UUID]]] = OrderedDict()

    def page(
        self,
        entity_set: EntitySet,
        options: QueryOptions,
        *,
        expanded: frozenset[str] = frozenset(),
        within: Sequence[uuid.UUID] | None = None,
    ) -> Page:
        """The page that the options ask for, out of the set or out of `within` (in default order).

        Raises ODataError for options that do not parse or are not supported.
        """
        top, skip = options.top, options.skip or 0
        if self._switches.deep_skip == "fails" and skip and skip + (top or 0) > _DISTINCT_LIMIT:
            raise faultcodes.paging_cookie_required()
        columns = self._columns(entity_set, options, expanded)
        keys = self._matching(entity_set, options, columns, expanded, within)
        start, page_number = 0, 0
        token = options.skiptoken
        if token is not None:
            names = [(column.name, column.type) for column in columns]
            cookie = read_cookie(token, names)
            page_number = cookie.page
            start = self._after(entity_set, keys, columns, cookie.last)
        start += skip
        end = min(len(keys), start + self._switches.page_size)
        if top is not None:
            end = min(end, start + top)
        shown = keys[start:end]
        left = None if top is None else top - len(shown)
        next_query = None
        if shown and end < len(keys) and (left is None or left > 0):
            token = self._token(entity_set, columns, page_number + 1, shown)
            next_query = _next_query(options, left, token)
        count = len(keys) if options.inlinecount == "allpages" else None
        return Page(shown, next_query, count)

    def count(
        self, entity_set: EntitySet, options: QueryOptions, *, within: Sequence[uuid.UUID] | None = None
    ) -> int:
        """How many entities pass the filter, in the set or within these."""
        columns = self._columns(entity_set, options, frozenset())
        return len(self._matching(entity_set, options, columns, frozenset(), within))

    def delay_s(self, options: QueryOptions) -> float:
        """How long a deep skip keeps the server busy (4.3)."""
        skip = options.skip or 0
        if self._switches.deep_skip != "slow" or skip <= _DISTINCT_LIMIT:
            return 0.0
        return min(2.0, skip / 50_000)

    def _columns(
        self, entity_set: EntitySet, options: QueryOptions, expanded: frozenset[str]
    ) -> list[_Column]:
        """The sort columns, the key's last: equal values come in the order of keys (3.4)."""
        items = parse_orderby(options.orderby) if options.orderby else ()
        if len(items) > _MAX_ORDER_COLUMNS and self._switches.language == "2011":
            raise ODataError(f"At most {_MAX_ORDER_COLUMNS} columns can be sorted by.")
        columns = [self._column(entity_set, item, index, expanded) for index, item in enumerate(items)]
        key_name = self._tables.schema.key_name(entity_set)
        if key_name.lower() not in {column.name for column in columns}:
            columns.append(_Column(key_name.lower(), "Edm.Guid", lambda row: row[key_name], descending=False))
        return columns

    def _column(
        self, entity_set: EntitySet, item: OrderItem, index: int, expanded: frozenset[str]
    ) -> _Column:
        path, language = item.expression, self._switches.language
        scope = Scope(entity_set, self._tables, expanded, language)
        if not isinstance(path, PropertyPath):
            if language == "2011":
                raise ODataError("Only properties can be sorted by.")
            compiled = compile_expression(path, scope)
            type_name = _EDM_TYPES.get(compiled.family, "Edm.String")
            return _Column(f"expression{index}", type_name, compiled.evaluate, item.descending)
        if path.segments[0] in entity_set.entity_type.navigation_properties and language == "2011":
            raise ODataError("Only properties of the root entity can be sorted by.", position=path.position)
        return _Column(
            "/".join(path.segments).lower(),
            self._type_of(entity_set, path.segments),
            compile_path(path, scope).evaluate,
            item.descending,
        )

    def _type_of(self, entity_set: EntitySet, segments: tuple[str, ...]) -> str:
        schema = self._tables.schema
        name, *rest = segments
        declared = entity_set.entity_type.properties.get(name)
        if declared is None:
            relationship = schema.relationships.of(entity_set, name)
            if relationship is None:
                raise no_property(name, entity_set.entity_type.qualified_name)
            return self._type_of(relationship.target, tuple(rest))
        complex_type = schema.model.complex_type(declared.type)
        return complex_type.properties[rest[0]].type if complex_type is not None else declared.type

    def _matching(
        self,
        entity_set: EntitySet,
        options: QueryOptions,
        columns: list[_Column],
        expanded: frozenset[str],
        within: Sequence[uuid.UUID] | None,
    ) -> list[uuid.UUID]:
        """The keys that pass the filter, sorted."""
        if within is not None:
            return self._select(entity_set, options, columns, expanded, list(within))
        if not options.filter and not options.orderby:
            return self._tables.ordered(entity_set.name)
        slot = (entity_set.name, options.filter, options.orderby, expanded)
        cached = self._found.get(slot)
        if cached is not None and cached[0] == self._tables.generation:
            self._found.move_to_end(slot)
            return cached[1]
        ordered = self._tables.ordered(entity_set.name)
        keys = self._select(entity_set, options, columns, expanded, ordered)
        self._found[slot] = (self._tables.generation, keys)
        if len(self._found) > _CACHED_QUERIES:
            self._found.popitem(last=False)
        return keys

    def _select(
        self,
        entity_set: EntitySet,
        options: QueryOptions,
        columns: list[_Column],
        expanded: frozenset[str],
        keys: list[uuid.UUID],
    ) -> list[uuid.UUID]:
        rows = self._tables.rows(entity_set.name)
        if options.filter:
            scope = Scope(entity_set, self._tables, expanded, self._switches.language)
            matches = compile_filter(parse_filter(options.filter), scope)
            keys = [key for key in keys if matches(rows[key].values)]
        if options.orderby:
            keys = sorted(keys, key=lambda key: _sort_key(columns, rows[key].values))
        return keys

    def _after(
        self, entity_set: EntitySet, keys: list[uuid.UUID], columns: list[_Column], last: tuple[Any, ...]
    ) -> int:
        """The index of the first key behind the cookie's last values, which may have gone meanwhile."""
        rows = self._tables.rows(entity_set.name)
        mark = tuple(
            sort_key(value, descending=column.descending) for column, value in zip(columns, last, strict=True)
        )
        return bisect.bisect_right(keys, mark, key=lambda key: _sort_key(columns, rows[key].values))

    def _token(
        self, entity_set: EntitySet, columns: list[_Column], page: int, keys: Sequence[uuid.UUID]
    ) -> str:
        rows = self._tables.rows(entity_set.name)
        first, last = rows[keys[0]].values, rows[keys[-1]].values
        return write_cookie(
            page,
            [column.name for column in columns],
            [column.value(last) for column in columns],
            [column.value(first) for column in columns],
        )


def _sort_key(columns: list[_Column], row: Values) -> tuple[Any, ...]:
    return tuple(sort_key(column.value(row), descending=column.descending) for column in columns)


def _next_query(options: QueryOptions, top: int | None, token: str) -> str:
    """The request's own segments in their order and spelling, without what a link drops."""
    segments = []
    for item in options.items:
        if item.name in _KEPT_IN_LINK:
            segments.append(item.raw)
        elif item.name == "$top" and top is not None:
            segments.append(f"{item.raw.partition('=')[0]}={top}")
    return "&".join([*segments, f"$skiptoken={token}"])
