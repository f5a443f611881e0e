"""`$filter` over rows in Python: the judge of any SQL that claims to say the same.

Every condition is true or false: null equals null and nothing else, is neither less nor greater, and where a
condition is expected counts as false. That is what WCF Data Services makes of an expression (C#'s lifted
operators), and what the platform's own NotEqual does. Strings compare by `collation.fold_trimmed`, LIKE-like
functions by `collation.fold`; wildcards in their literals are plain characters. Numbers of two kinds meet as
[MS-ODATA] 2.2.3.6.1.1 has it.
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
from proxy.sandbox.numbers import KINDS, converter, negation, operation
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


@dataclass(frozen=True, slots=True)
class Compiled:
    """A function of a row, and the family of types it gives; `literal` where it is one."""

    evaluate: Evaluator
    family: str
    literal: Literal | None = None


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
    return _condition(compiled)


def compile_expression(expression: Expression, scope: Scope) -> Compiled:
    if isinstance(expression, Literal):
        value = expression.value
        return Compiled(lambda row: value, family_of(expression.type), expression)
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


def _entity(path: PropertyPath, scope: Scope) -> Compiled | None:
    """The key of the one entity that a path of navigation properties alone leads to."""
    entity_set = scope.entity_set
    for name in path.segments:
        relationship = scope.tables.schema.relationships.of(entity_set, name)
        if relationship is None:
            return None
        entity_set = relationship.target
    key_name = scope.tables.schema.key_name(entity_set)
    return compile_path(PropertyPath((*path.segments, key_name), path.position), scope)


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
    operands = [_condition(compile_expression(each, scope)) for each in expression.operands]
    joined = any if expression.operator == "or" else all
    return Compiled(lambda row: joined(operand(row) for operand in operands), "boolean")


def _condition(compiled: Compiled) -> Callable[[Values], bool]:
    if compiled.family not in ("boolean", "null"):
        raise ODataError("A boolean expression was expected.")
    evaluate = compiled.evaluate
    return lambda row: evaluate(row) is True


def _unary(expression: Unary, scope: Scope) -> Compiled:
    operand = compile_expression(expression.operand, scope)
    if expression.operator == "not":
        holds = _condition(operand)
        return Compiled(lambda row: not holds(row), "boolean")
    if operand.family == "null":
        return operand
    if operand.family not in KINDS:
        raise ODataError("Only a number can be negated.")
    return Compiled(_unless_null(negation(operand.family), operand.evaluate), operand.family)


def _unless_null(apply: Callable[..., Any], *operands: Evaluator) -> Evaluator:
    """Null where an operand is."""

    def evaluate(row: Values) -> Any:
        values = [operand(row) for operand in operands]
        return None if any(value is None for value in values) else apply(*values)

    return evaluate


def _binary(expression: Binary, scope: Scope) -> Compiled:
    comparing = expression.operator in _COMPARISONS
    if comparing and (tested := _tested_for_null(expression, scope)) is not None:
        evaluate, wanted = tested.evaluate, expression.operator == "eq"
        return Compiled(lambda row: (evaluate(row) is None) is wanted, "boolean")
    left, right = compile_expression(expression.left, scope), compile_expression(expression.right, scope)
    family = _common_family(left, right)
    if family is None:
        raise ODataError(
            f"Operator '{expression.operator}' incompatible with operand types"
            f" '{_named(left)}' and '{_named(right)}'.",
            position=expression.position,
        )
    if comparing:
        return _comparison(expression.operator, left, right, family)
    if family not in (*KINDS, "null"):
        raise ODataError(f"Operator '{expression.operator}' takes numbers.", position=expression.position)
    if family == "null":
        return Compiled(lambda row: None, "null")
    apply = operation(expression.operator, family)
    return Compiled(_unless_null(apply, _operand(left, family), _operand(right, family)), family)


def _tested_for_null(expression: Binary, scope: Scope) -> Compiled | None:
    """The other operand of `eq null` and `ne null`."""
    for tested, other in ((expression.left, expression.right), (expression.right, expression.left)):
        if isinstance(other, Literal) and other.type == "null":
            if expression.operator not in ("eq", "ne"):
                if scope.language == "2011":
                    raise ODataError(f"Operator '{expression.operator}' cannot compare with null.")
                return None
            if isinstance(tested, PropertyPath) and scope.language == "v2":
                return _entity(tested, scope) or compile_path(tested, scope)
            return compile_expression(tested, scope)
    return None


def _common_family(left: Compiled, right: Compiled) -> str | None:
    """What both operands are taken as; None where they do not go together."""
    families = {left.family, right.family} - {"null"}
    if len(families) == 1:
        return families.pop()
    if not families:
        return "null"
    if not families <= {*KINDS}:
        return None
    if families == {"decimal", "double"}:
        real = left if left.family == "double" else right
        # A literal spells a decimal number as well, unless it is none or too large for one.
        return "decimal" if real.literal is not None and abs(real.literal.value) < 1e28 else "double"
    return max(families, key=KINDS.index)


def _named(compiled: Compiled) -> str:
    return "number" if compiled.family in KINDS else compiled.family


def _operand(compiled: Compiled, family: str) -> Evaluator:
    """The operand as one of the family; a literal is converted once."""
    if compiled.family == family or family not in KINDS:
        return compiled.evaluate
    literal = compiled.literal
    if literal is not None and literal.value is not None:
        spelt = isinstance(literal.value, float) and family == "decimal"
        value = Decimal(literal.text.rstrip("dDfF")) if spelt else converter(family)(literal.value)
        return lambda row: value
    return _unless_null(converter(family), compiled.evaluate)


def _comparison(name: str, left: Compiled, right: Compiled, family: str) -> Compiled:
    ordering = name not in ("eq", "ne")
    if ordering and family in ("boolean", "binary"):
        raise ODataError(f"Operator '{name}' incompatible with operand types '{family}' and '{family}'.")
    compare = _COMPARISONS[name]
    first, second = (_comparand(operand, family, ordering) for operand in (left, right))

    def evaluate(row: Values) -> bool:
        one, other = first(row), second(row)
        if ordering and (one is None or other is None):
            return False
        return bool(compare(one, other))

    return Compiled(evaluate, "boolean")


def _comparand(compiled: Compiled, family: str, ordering: bool) -> Evaluator:
    """The operand in a form that Python compares as SQL Server would; literals are converted once."""
    evaluate = _operand(compiled, family)
    if family != "string" and not (family == "guid" and ordering):
        return evaluate
    if compiled.literal is not None:
        value = comparable(compiled.literal.value)
        return lambda row: value
    return _unless_null(comparable, evaluate)


# Functions


def _call(expression: Call, scope: Scope) -> Compiled:
    function = FUNCTIONS.get(expression.name)
    if function is None:
        raise ODataError(f"The function '{expression.name}' is not served.", status=501)
    arguments = [compile_expression(each, scope) for each in expression.arguments]
    for argument, families in zip(arguments, function.families, strict=False):
        if argument.family not in (*families, "null"):
            raise ODataError(
                f"No applicable function found for '{expression.name}' with these arguments.",
                position=expression.position,
            )
    evaluators = [argument.evaluate for argument in arguments]
    return Compiled(_unless_null(function.apply, *evaluators), function.family or arguments[0].family)


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
