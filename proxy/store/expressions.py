"""Bound expressions as SQL, and what of an expression the SQL depends on.

A comparison may come out null where it means false: so Postgres can use an index for it. Only where the
difference would show (`not`, a comparison of comparisons) is it put right.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from sqlalchemy import (
    Boolean,
    FromClause,
    Text,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.bound import (
    Arithmetic,
    BoundExpression,
    Comparison,
    Constant,
    Invocation,
    IsNull,
    Junction,
    Negation,
    Not,
    OneOf,
    Path,
)
from proxy.odata.errors import UnsupportedConstruct
from proxy.odata.relationships import Relationship
from proxy.store.columns import SQL_TYPES
from proxy.store.functions import FUNCTIONS, Sql, arithmetic, comparable
from proxy.store.set_table import SetTable

_WHOLE = frozenset({"Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64"})
_ORDERINGS: Mapping[str, Callable[[Sql, Sql], Sql]] = {
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
}


def shape(expression: BoundExpression, values: list[Any]) -> Hashable:
    """What the SQL of an expression depends on; its literals are appended to `values` in their order."""
    match expression:
        case Constant(type=type_name, value=value):
            values.append(value)
            return (type_name, value is None)
        case Path(steps=steps, members=members):
            return (*(step.name for step in steps), members)
        case Comparison(operator=operator, left=left, right=right, operand_type=type_name):
            return (operator, type_name, shape(left, values), shape(right, values))
        case Junction(operator=operator, operands=operands):
            return (operator, *(shape(operand, values) for operand in operands))
        case OneOf(operand=operand, values=several, operand_type=type_name):
            inner = shape(operand, values)
            values.append(list(several))
            return ("one of", type_name, inner)
        case IsNull(operand=operand, negated=negated):
            return ("null", negated, shape(operand, values))
        case Invocation(name=name, arguments=arguments):
            return (name, *(shape(argument, values) for argument in arguments))
        case Arithmetic(operator=operator, left=left, right=right, type=type_name):
            return (operator, type_name, shape(left, values), shape(right, values))
        case Negation(operand=operand, type=type_name):
            return ("-", type_name, shape(operand, values))
        case Not(operand=operand):
            return ("not", shape(operand, values))


def parameter(name: str, type_name: str) -> Sql:
    """A bound value of this type; psycopg2 writes values out, and not all tell their own."""
    return cast(bindparam(name), SQL_TYPES.get(type_name, Text()))


class Expressions:
    """Turns expressions over one set into SQL, and gathers the joins that their paths need.

    Literals become the parameters v0, v1, … in the order of `shape`. `rows` is the root's table or an alias
    of it; `tables` are by name of the set.
    """

    def __init__(self, root: SetTable, rows: FromClause, tables: Mapping[str, SetTable]) -> None:
        self._root = root
        self._rows = rows
        self._tables = tables
        self._joined: dict[tuple[str, ...], FromClause] = {}
        self._joins: list[tuple[FromClause, Sql]] = []
        self._parameters = 0

    def joined(self, source: FromClause) -> FromClause:
        """The source with what the paths need beside it; as many rows as before."""
        for joined, condition in self._joins:
            source = source.outerjoin(joined, condition)
        return source

    def condition(self, expression: BoundExpression) -> Sql:
        """For WHERE, where null counts as false."""
        match expression:
            case Comparison():
                return self._comparison(expression)
            case OneOf():
                return self._one_of(expression)
            case Junction(operator=operator, operands=operands):
                return (and_ if operator == "and" else or_)(*map(self.condition, operands))
            case _:
                return self.value(expression)

    def value(self, expression: BoundExpression) -> Sql:
        """The exact value."""
        match expression:
            case Constant(type=type_name):
                return parameter(self._next(), type_name)
            case Path():
                return self._column(expression)
            case Invocation(name=name, arguments=arguments, type=type_name):
                return self._invoked(name, arguments, type_name)
            case Arithmetic(operator=operator, left=left, right=right, type=type_name):
                operands = self._typed(left, type_name), self._typed(right, type_name)
                return arithmetic(operator, *operands, type_name)
            case Negation(operand=operand, type=type_name):
                return -self._typed(operand, type_name)
            case IsNull(operand=operand, negated=negated):
                tested = self.value(operand)
                return tested.is_not(None) if negated else tested.is_(None)
            case Not(operand=operand):
                # Not NOT: null becomes true, and what stands around needs no brackets.
                return case((self.condition(operand), false()), else_=true())
            case _:
                return _certain(self.condition(expression))

    def _next(self) -> str:
        self._parameters += 1
        return f"v{self._parameters - 1}"

    def _typed(self, expression: BoundExpression, type_name: str) -> Sql:
        found = self.value(expression)
        return found if expression.type == type_name else cast(found, SQL_TYPES[type_name])

    def _invoked(self, name: str, arguments: tuple[BoundExpression, ...], type_name: str) -> Sql:
        if name not in ("round", "floor", "ceiling"):
            return FUNCTIONS[name](*map(self.value, arguments))
        number = self._typed(arguments[0], type_name)
        return number if type_name in _WHOLE else FUNCTIONS[name](number)

    def _comparison(self, comparison: Comparison) -> Sql:
        left, right, type_name = comparison.left, comparison.right, comparison.operand_type
        if {left.type, right.type} <= _WHOLE or type_name == "null":
            first, second = self.value(left), self.value(right)  # no cast that would keep an index out
        else:
            first, second = self._typed(left, type_name), self._typed(right, type_name)
        ordered = comparison.operator in _ORDERINGS
        first, second = (comparable(each, type_name, ordered=ordered) for each in (first, second))
        if ordered:
            return _ORDERINGS[comparison.operator](first, second)
        if comparison.operator == "ne":
            return first.is_distinct_from(second)
        if isinstance(right, Constant) and right.value is not None:
            return first == second
        return first.is_not_distinct_from(second)

    def _one_of(self, test: OneOf) -> Sql:
        if {test.operand.type, test.operand_type} <= _WHOLE:
            operand = self.value(test.operand)
        else:
            operand = self._typed(test.operand, test.operand_type)
        values = cast(bindparam(self._next()), ARRAY(SQL_TYPES[test.operand_type]))
        if test.operand_type != "Edm.String":
            return operand == func.any(values)
        listed = func.unnest(values).column_valued("listed")
        return comparable(operand, "Edm.String").in_(select(comparable(listed, "Edm.String")))

    # Paths

    def _column(self, path: Path) -> Sql:
        table, source = self._root, self._rows
        for count, step in enumerate(path.steps, 1):
            target, taken = self._tables[step.target.name], tuple(each.name for each in path.steps[:count])
            if taken not in self._joined:
                self._join(step, (table, source), taken)
            table, source = target, self._joined[taken]
        return table.column_in(source, path.members)

    def _join(self, step: Relationship, near: tuple[SetTable, FromClause], taken: tuple[str, ...]) -> None:
        target, name = self._tables[step.target.name], f"s{len(self._joined)}"
        if step.kind == "links":
            raise UnsupportedConstruct(
                f"A path through '{step.name}' is not supported: no property ties its two ends.",
                token=step.name,
            )
        joined: FromClause = target.table.alias(name)
        condition = tied(step, near, (target, joined))
        if step.kind == "referrers":  # several rows may claim to be the one that there can be
            joined = select(joined).where(condition).limit(1).lateral(f"{name}_one")
            condition = true()
        self._joined[taken] = joined
        self._joins.append((joined, condition))


def tied(step: Relationship, near: tuple[SetTable, FromClause], far: tuple[SetTable, FromClause]) -> Sql:
    """True where the far row is an entity that the step leads to from the near one. Not for links."""
    (near_table, near_rows), (far_table, far_rows) = near, far
    conditions = [
        near_table.column_in(near_rows, here) == far_table.column_in(far_rows, there)
        for here, there in step.ties
    ]
    if step.logical_name:
        holder = near if step.kind == "lookup" else far
        named = holder[0].column_in(holder[1], (step.lookup, "LogicalName"))
        # A literal, since Core would call a parameter after the column, whose name may be anything.
        conditions.append(named == literal(step.logical_name))
    return and_(*conditions, far_rows.c.document.is_not(None))


def _certain(condition: Sql) -> Sql:
    return func.coalesce(condition, false(), type_=Boolean)
