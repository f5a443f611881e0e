"""Which queries of a client the mirror answers just as upstream would; pure.

What Dynamics 2011 refuses is upstream's to refuse (field manual, 3.1 and 3.4), and what nobody knows it to do
(docs/decisions/0005-comparisons-in-sql.md) is upstream's to show: what depends on the order of strings, on
characters beyond ASCII or like wildcards in a literal, on `not` before an order. Such queries have no answer
here, and neither has what a page would need a next link for that is not known to lead on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from proxy.odata.bound import (
    BoundExpression,
    BoundOrder,
    Comparison,
    Constant,
    Invocation,
    IsNull,
    Junction,
    Not,
    OneOf,
    Path,
)
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.query_options import QueryOptions
from proxy.odata.relationships import Relationships
from proxy.odata.skiptoken import read_skiptoken, write_skiptoken
from proxy.reconcile.ports import Query, Stored
from proxy.reconcile.questions import query_of

PAGE = 50  # upstream's own, fixed (field manual 4.1)
_OPTIONS = frozenset({"$filter", "$orderby", "$top", "$skip", "$skiptoken", "$select"})
# What upstream keeps of a query in its next link (field manual 4.2).
_KEPT_IN_LINK = frozenset({"$filter", "$orderby", "$select"})
_MOST_ORDERS = 12
_ORDERED = frozenset(
    {
        "Edm.Byte",
        "Edm.DateTime",
        "Edm.Decimal",
        "Edm.Double",
        "Edm.Int16",
        "Edm.Int32",
        "Edm.Int64",
        "Edm.Single",
    }
)
_COMPARED = _ORDERED | {"Edm.Boolean", "Edm.Guid", "Edm.String"}


@dataclass(frozen=True, slots=True)
class CertainQuery:
    """A query that has one answer, and the number of the page that it asks for, from one."""

    query: Query
    number: int

    def next_query(self, options: QueryOptions, rows: tuple[Stored, ...]) -> str | None:
        """The raw query of the link behind a page of these; None where upstream's own is not known."""
        if self.query.orderby or options.top is not None or options.skip is not None or not rows:
            return None
        ((name, last),), ((_, first),) = rows[-1].key, rows[0].key
        if not isinstance(last, UUID) or not isinstance(first, UUID):
            return None
        token = write_skiptoken(self.number, name, last, first)
        kept = [item.raw for item in options.items if item.name in _KEPT_IN_LINK]
        return "&".join((*kept, f"$skiptoken={token}"))


def certain_query(
    options: QueryOptions, entity_set: EntitySet, model: Model, relationships: Relationships
) -> CertainQuery | None:
    """What a request for a collection asks; None where its answer is upstream's to give."""
    if not options.names <= _OPTIONS or options.duplicates:
        return None
    types = [entity_set.entity_type.properties[name].type for name in entity_set.entity_type.key]
    if types != ["Edm.Guid"]:
        return None  # in which order upstream shows them is not known
    try:
        query = query_of(
            replace(options, items=tuple(item for item in options.items if item.name != "$skiptoken")),
            entity_set,
            model,
            relationships,
            page=PAGE,
            page_limit=2**31,
        )
    except ODataError:
        return None
    if options.top == 0 or not all(map(_has_order, query.orderby)) or len(query.orderby) > _MOST_ORDERS:
        return None
    if query.filter is not None and not _is_certain(query.filter):
        return None
    query = replace(query, page=PAGE)
    if options.skiptoken is None:
        return CertainQuery(query, 1)
    return continued(query, options)


def continued(query: Query, options: QueryOptions) -> CertainQuery | None:
    """The query behind the page that a token of upstream's names; None where its meaning is not known."""
    (name,) = query.entity_set.entity_type.key
    token = read_skiptoken(options.skiptoken or "", name)
    if token is None or query.orderby or options.top is not None or options.skip is not None:
        return None
    number, last = token
    behind = Comparison("gt", Path((), (name,), "Edm.Guid"), Constant("Edm.Guid", last), "Edm.Guid")
    both = behind if query.filter is None else Junction("and", (query.filter, behind))
    return CertainQuery(replace(query, filter=both), number + 1)


def _has_order(order: BoundOrder) -> bool:
    path = order.expression
    return isinstance(path, Path) and not path.steps and len(path.members) == 1 and path.type in _ORDERED


def _is_certain(condition: BoundExpression) -> bool:
    match condition:
        case Junction(operands=operands):
            return all(map(_is_certain, operands))
        case Not(operand=operand):
            # Whether `not (X gt 5)` finds what has no X is not known.
            is_order = isinstance(operand, Comparison) and operand.operator not in ("eq", "ne")
            return not is_order and not isinstance(operand, Junction | Not) and _is_certain(operand)
        case IsNull(operand=operand):
            return _is_own(operand)
        case OneOf(operand=operand, values=values):
            return _is_own(operand) and all(map(_is_plain, values))
        case Comparison(operator=operator, left=left, right=Constant(value=value), operand_type=type_name):
            kinds = _COMPARED if operator in ("eq", "ne") else _ORDERED
            return _is_own(left) and type_name in kinds and value is not None and _is_plain(value)
        case Invocation(name="substringof", arguments=(Constant(value=part), Path() as path)):
            return _is_own(path) and _is_pattern(part)
        case Invocation(name="startswith" | "endswith", arguments=(Path() as path, Constant(value=part))):
            return _is_own(path) and _is_pattern(part)
        case _:
            return False


def _is_own(path: BoundExpression) -> bool:
    """A property of the entity itself, or what a lookup, an option set or money holds. Not the name in a
    lookup, which changes without the entity."""
    if not isinstance(path, Path) or path.steps or path.type not in _COMPARED:
        return False
    return len(path.members) == 1 or path.members[1:] in (("Id",), ("Value",))


def _is_plain(value: object) -> bool:
    return not isinstance(value, str) or (value.isascii() and value.strip() != "")


def _is_pattern(value: object) -> bool:
    return isinstance(value, str) and _is_plain(value) and not set(value) & set("%_[")
