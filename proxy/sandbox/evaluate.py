"""`$filter` over rows in Python, by SQL Server's rules: the judge of any SQL that claims to say the same.

Truth has three values: a comparison with null is unknown (None), `eq null` and `ne null` test for it, and a
row counts only where the whole is True. Strings compare by `collation.fold_trimmed`, LIKE-like functions by
`collation.fold`; wildcards in their literals are plain characters.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.expressions import Binary, Call, Expression, Literal, Logical, PropertyPath, Unary
from proxy.odata.relationships import is_reference
from proxy.sandbox.collation import comparable
from proxy.sandbox.functions import FUNCTIONS, family_of
from proxy.sandbox.tables import Tables, Values

Evaluator = Callable[[Values], Any]
_STRING_FUNCTIONS = frozenset({"substringof", "startswith", "endswith"})
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A function of a row, and the family of types it gives; `constant` where the row does not matter."""

    evaluate: Evaluator
    family: str
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What paths in an expression may name: a set's properties, and one expanded entity's."""

    entity_set: EntitySet
    tables: Tables
    expanded: frozenset[str]
    language: str


def compile_filter(expression: Expression, scope: Scope) -> Callable[[Values], bool]:
    """A predicate over rows' stored values. Raises ODataError for what the language does not have."""
    if scope.language == "2011":
        _require_2011(expression)
        _require_one_group(expression, scope)
    compiled = compile_expression(expression, scope)
    if compiled.family not in ("boolean", "null"):
        raise ODataError("The $filter expression must evaluate to a single boolean value.")
    evaluate = compiled.evaluate
    return lambda row: evaluate(row) is True


def compile_expression(expression: Expression, scope: Scope) -> Compiled:
    if isinstance(expression, Literal):
        value = expression.value
        return Compiled(lambda row: value, family_of(expression.type), constant=True)
    if isinstance(expression, PropertyPath):
        return compile_path(expression, scope)
    if isinstance(expression, Logical):
        return _logical(expression, scope)
    if isinstance(expression, Unary):
        return _unary(expression, scope)
    if isinstance(expression, Binary):
        return _binary(expression, scope)
    return _call(expression, scope)


# Paths


def compile_path(path: PropertyPath, scope: Scope) -> Compiled:
    """A property, a member of a complex one, or the same of an expanded entity."""
    entity_type = scope.entity_set.entity_type
    name, *rest = path.segments
    declared = entity_type.properties.get(name)
    if declared is None:
        if name in entity_type.navigation_properties:
            return _navigated(path, scope)
        raise no_property(name, entity_type.qualified_name, path.position)
    if not rest:
        if not declared.type.startswith("Edm."):
            raise ODataError(
                f"The property '{name}' is complex: name a member of it.", position=path.position
            )
        return Compiled(operator.itemgetter(name), family_of(declared.type))
    complex_type = scope.tables.schema.model.complex_type(declared.type)
    if complex_type is None or len(rest) > 1 or rest[0] not in complex_type.properties:
        raise no_property(rest[0], declared.type, path.position)
    member = rest[0]
    family = family_of(complex_type.properties[member].type)
    if member == "Name" and is_reference(declared):
        name_of = scope.tables.name_of
        return Compiled(lambda row: None if row[name] is None else name_of(row[name]), family)
    return Compiled(lambda row: None if row[name] is None else row[name].get(member), family)


def _navigated(path: PropertyPath, scope: Scope) -> Compiled:
    """A path through a navigation property, which must be expanded and lead to one entity (3.1)."""
    name, *rest = path.segments
    tables = scope.tables
    relationship = tables.schema.relationships.of(scope.entity_set, name)
    if relationship is None or not rest:
        raise ODataError(f"The navigation property '{name}' cannot be compared.", position=path.position)
    if name not in scope.expanded and scope.language == "2011":
        raise ODataError(
            f"The navigation property '{name}' must be named in $expand.", position=path.position
        )
    if relationship.many:
        raise ODataError(f"The navigation property '{name}' leads to many entities.", position=path.position)
    target = relationship.target
    inner = compile_path(
        PropertyPath(tuple(rest), path.position), Scope(target, tables, frozenset(), scope.language)
    )
    key_name = tables.schema.key_name(scope.entity_set)

    def evaluate(row: Values) -> Any:
        found = tables.related(row[key_name], relationship)
        return inner.evaluate(tables.rows(target.name)[found[0]].values) if found else None

    return Compiled(evaluate, inner.family)


def no_property(name: str, type_name: str, position: int = -1) -> ODataError:
    return ODataError(f"Could not find a property named '{name}' on type '{type_name}'.", position=position)


# Operators


def _logical(expression: Logical, scope: Scope) -> Compiled:
    operands = [_boolean(compile_expression(each, scope)).evaluate for each in expression.operands]
    decisive = expression.operator == "or"

    def evaluate(row: Values) -> bool | None:
        result: bool | None = not decisive
        for operand in operands:
            value: bool | None = operand(row)
            if value is decisive:
                return decisive
            if value is None:
                result = None
        return result

    return Compiled(evaluate, "boolean")


def _boolean(compiled: Compiled) -> Compiled:
    if compiled.family not in ("boolean", "null"):
        raise ODataError("A boolean expression was expected.")
    return compiled


def _unary(expression: Unary, scope: Scope) -> Compiled:
    operand = compile_expression(expression.operand, scope)
    evaluate = operand.evaluate
    if expression.operator == "not":
        _boolean(operand)
        return Compiled(lambda row: None if (value := evaluate(row)) is None else not value, "boolean")
    if operand.family != "number":
        raise ODataError("Only a number can be negated.")
    return Compiled(lambda row: None if (value := evaluate(row)) is None else -value, "number")


def _binary(expression: Binary, scope: Scope) -> Compiled:
    left, right = compile_expression(expression.left, scope), compile_expression(expression.right, scope)
    if left.family != right.family and "null" not in (left.family, right.family):
        raise ODataError(
            f"Operator '{expression.operator}' incompatible with operand types"
            f" '{left.family}' and '{right.family}'."
        )
    if expression.operator in _COMPARISONS:
        return _comparison(expression.operator, left, right)
    if left.family != "number" or right.family != "number":
        raise ODataError(f"Operator '{expression.operator}' takes numbers.")
    return Compiled(_arithmetic(expression.operator, left.evaluate, right.evaluate), "number")


def _comparison(name: str, left: Compiled, right: Compiled) -> Compiled:
    first, second = left.evaluate, right.evaluate
    if "null" in (left.family, right.family):
        if name not in ("eq", "ne"):
            raise ODataError(f"Operator '{name}' cannot compare with null.")
        tested = first if right.family == "null" else second
        wanted = name == "eq"
        return Compiled(lambda row: (tested(row) is None) is wanted, "boolean")
    compare = _COMPARISONS[name]
    ordering = name not in ("eq", "ne")
    first, second = _comparand(left, ordering), _comparand(right, ordering)

    def evaluate(row: Values) -> bool | None:
        one, other = first(row), second(row)
        return None if one is None or other is None else bool(compare(one, other))

    return Compiled(evaluate, "boolean")


def _comparand(compiled: Compiled, ordering: bool) -> Evaluator:
    """The operand in a form that Python compares as SQL Server would; constants are converted once."""
    evaluate = compiled.evaluate
    if compiled.family == "guid" and not ordering:
        return evaluate
    convert = _number if compiled.family == "number" else comparable
    if compiled.constant:
        value = convert(evaluate({}))
        return lambda row: value
    return lambda row: None if (value := evaluate(row)) is None else convert(value)


def _number(value: Any) -> Any:
    """Decimal and float meet as numbers do in a database: by their decimal texts."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def _arithmetic(name: str, first: Evaluator, second: Evaluator) -> Evaluator:
    def evaluate(row: Values) -> Any:
        one, other = first(row), second(row)
        if one is None or other is None:
            return None
        if name in _ARITHMETIC:
            return _ARITHMETIC[name](_number(one), _number(other))
        if other == 0:
            raise ODataError("Division by zero.", status=500)
        if isinstance(one, int) and isinstance(other, int):
            quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
            return quotient if name == "div" else one - other * quotient
        dividend, divisor = Decimal(_number(one)), Decimal(_number(other))
        return dividend / divisor if name == "div" else dividend % divisor

    return evaluate


# Functions


def _call(expression: Call, scope: Scope) -> Compiled:
    function = FUNCTIONS.get(expression.name)
    if function is None:
        raise ODataError(f"The function '{expression.name}' is not served.", status=501)
    arguments = [compile_expression(each, scope) for each in expression.arguments]
    for argument, family in zip(arguments, function.families, strict=False):
        if argument.family not in (family, "null"):
            raise ODataError(
                f"No applicable function found for '{expression.name}' with these arguments.",
                position=expression.position,
            )
    evaluators = [argument.evaluate for argument in arguments]

    def evaluate(row: Values) -> Any:
        values = [argument(row) for argument in evaluators]
        return None if None in values else function.apply(*values)

    return Compiled(evaluate, function.family)


# What Dynamics 2011 does not understand


def _require_2011(expression: Expression) -> None:
    """Refuse arithmetic and all functions but three (3.1)."""
    if isinstance(expression, Call) and expression.name not in _STRING_FUNCTIONS:
        raise ODataError(
            "Invalid 'where' condition. An entity member is invoking an invalid property or method.",
            position=expression.position,
        )
    if _is_arithmetic(expression):
        raise ODataError("Invalid 'where' condition. Arithmetic is not supported.")
    for operand in operands_of(expression):
        _require_2011(operand)


def _is_arithmetic(expression: Expression) -> bool:
    if isinstance(expression, Unary):
        return expression.operator == "-"
    return isinstance(expression, Binary) and expression.operator not in _COMPARISONS


def _require_one_group(expression: Expression, scope: Scope) -> None:
    """Conditions concern the root entity, or all of them one expanded entity (3.1)."""
    groups = {
        path.segments[0] if path.segments[0] in scope.entity_set.entity_type.navigation_properties else ""
        for path in paths_of(expression)
    }
    if len(groups) > 1:
        raise ODataError("Invalid 'where' condition. It may test the root entity or one expanded entity.")


def operands_of(expression: Expression) -> tuple[Expression, ...]:
    if isinstance(expression, Logical):
        return expression.operands
    if isinstance(expression, Binary):
        return (expression.left, expression.right)
    if isinstance(expression, Unary):
        return (expression.operand,)
    return expression.arguments if isinstance(expression, Call) else ()


def paths_of(expression: Expression) -> list[PropertyPath]:
    if isinstance(expression, PropertyPath):
        return [expression]
    return [path for operand in operands_of(expression) for path in paths_of(operand)]
