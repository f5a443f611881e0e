"""Names resolved and types worked out: an `Expression` becomes a `BoundExpression`, or an ODataError.

Numbers are promoted as [MS-ODATA] 2.2.3.6.1.1 has it, with two simplifications: Single counts as Double, and
types narrower than Int32 as Int32. A Double literal beside a Decimal is the decimal number that it spells, as
the literals of WCF Data Services are. A null literal has whatever type its place demands.

Everything refused names the token and its position: 400 for what the language or the metadata document does
not have and for types that do not go together, 501 for what is valid and not supported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from proxy.odata.bound import (
    Arithmetic,
    BoundExpression,
    BoundOrder,
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
from proxy.odata.edm import EntitySet, Model, Property
from proxy.odata.errors import ODataError, UnsupportedConstruct
from proxy.odata.expressions import (
    Binary,
    Call,
    Expression,
    Literal,
    Logical,
    OrderItem,
    PropertyPath,
    Unary,
)
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationship, Relationships

_BOOLEAN, _STRING, _INTEGER = "Edm.Boolean", "Edm.String", "Edm.Int32"
_NULL = Constant("null", None)
_COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})
_EQUALITY = frozenset({"eq", "ne"})
_MIRRORED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_UNORDERED = frozenset({_BOOLEAN, "Edm.Binary"})
# Every numeric type as one that is reckoned in, and those from narrow to wide.
_RECKONED = {
    "Edm.Byte": "Edm.Int32",
    "Edm.SByte": "Edm.Int32",
    "Edm.Int16": "Edm.Int32",
    "Edm.Int32": "Edm.Int32",
    "Edm.Int64": "Edm.Int64",
    "Edm.Decimal": "Edm.Decimal",
    "Edm.Single": "Edm.Double",
    "Edm.Double": "Edm.Double",
}
_WIDTHS = ("Edm.Int32", "Edm.Int64", "Edm.Decimal", "Edm.Double")
_WHOLE = frozenset({"Edm.Int32", "Edm.Int64"})
_UNSUPPORTED = frozenset({"isof", "cast"})
# Types of the arguments, and of the result. "whole" and "number" stand for several.
_SIGNATURES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "substringof": ((_STRING, _STRING), _BOOLEAN),
    "startswith": ((_STRING, _STRING), _BOOLEAN),
    "endswith": ((_STRING, _STRING), _BOOLEAN),
    "length": ((_STRING,), _INTEGER),
    "indexof": ((_STRING, _STRING), _INTEGER),
    "replace": ((_STRING, _STRING, _STRING), _STRING),
    "substring": ((_STRING, "whole", "whole"), _STRING),
    "tolower": ((_STRING,), _STRING),
    "toupper": ((_STRING,), _STRING),
    "trim": ((_STRING,), _STRING),
    "concat": ((_STRING, _STRING), _STRING),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "second"), (("Edm.DateTime",), _INTEGER)),
    **dict.fromkeys(("round", "floor", "ceiling"), (("number",), "number")),
}


def bind_filter(
    expression: Expression, entity_set: EntitySet, model: Model, relationships: Relationships
) -> BoundExpression:
    """A condition on the entities of the set. Raises ODataError as the module says."""
    binder = _Binder(entity_set, model, relationships)
    return binder.condition(expression)


def bind_orderby(
    items: Sequence[OrderItem], entity_set: EntitySet, model: Model, relationships: Relationships
) -> tuple[BoundOrder, ...]:
    """What the entities of the set are sorted by. Raises ODataError as the module says."""
    binder = _Binder(entity_set, model, relationships)
    return tuple(BoundOrder(binder.bind(item.expression), item.descending) for item in items)


@dataclass(frozen=True, slots=True)
class _Binder:
    entity_set: EntitySet
    model: Model
    relationships: Relationships

    def bind(self, expression: Expression) -> BoundExpression:
        if isinstance(expression, PropertyPath):
            return self._path(expression)
        if isinstance(expression, Literal):
            return Constant(expression.type, expression.value)
        if isinstance(expression, Binary):
            if expression.operator in _COMPARISONS:
                return self._comparison(expression)
            return self._arithmetic(expression)
        if isinstance(expression, Logical):
            operands = [self.condition(operand) for operand in expression.operands]
            return _junction(expression.operator, operands)
        if isinstance(expression, Unary):
            return self._unary(expression)
        return self._call(expression)

    def condition(self, expression: Expression) -> BoundExpression:
        bound = self.bind(expression)
        if bound.type == "null":
            return Constant(_BOOLEAN, None)
        if bound.type != _BOOLEAN:
            token, position = _token(expression)
            raise ODataError(
                f"No condition at position {position}: '{token[:60]}' is of type '{bound.type}'.",
                position=position,
                token=token,
            )
        return bound

    # Paths

    def _path(self, path: PropertyPath) -> Path:
        steps, entity_set, rest = self._steps(path)
        if not rest:
            raise self._refused(
                path, len(steps) - 1, "is a navigation property, which only null can be compared with"
            )
        declared = entity_set.entity_type.properties.get(rest[0])
        owner = entity_set.entity_type.qualified_name
        index = len(steps)
        for name in rest[1:]:
            complex_type = self.model.complex_type(declared.type) if declared else None
            if declared is None or complex_type is None:
                break
            declared, owner = complex_type.properties.get(name), complex_type.qualified_name
            index += 1
        if declared is None:
            raise self._no_property(path, index, owner)
        if index < len(path.segments) - 1:
            raise self._no_property(path, index + 1, declared.type)
        return Path(steps, rest, self._primitive(path, declared))

    def _steps(self, path: PropertyPath) -> tuple[tuple[Relationship, ...], EntitySet, tuple[str, ...]]:
        """The navigation at the beginning of a path, where it leads, and the rest of the path."""
        steps: list[Relationship] = []
        entity_set = self.entity_set
        for index, name in enumerate(path.segments):
            entity_type = entity_set.entity_type
            if name not in entity_type.navigation_properties or name in entity_type.properties:
                return tuple(steps), entity_set, path.segments[index:]
            relationship = self.relationships.of(entity_set, name)
            if relationship is None:
                raise UnsupportedConstruct(
                    f"The navigation property '{name}' leads to no entity set.",
                    position=_position(path, index),
                    token=name,
                )
            if relationship.many:
                raise self._refused(path, index, "leads to many entities, and no path goes through them")
            steps.append(relationship)
            entity_set = relationship.target
        return tuple(steps), entity_set, ()

    def _primitive(self, path: PropertyPath, declared: Property) -> str:
        if declared.type in PRIMITIVES:
            return declared.type
        if self.model.complex_type(declared.type) is not None:
            raise self._refused(path, len(path.segments) - 1, "is complex: name a member of it")
        raise UnsupportedConstruct(
            f"The type '{declared.type}' of '{declared.name}' is not supported.",
            position=path.position,
            token="/".join(path.segments),
        )

    def _refused(self, path: PropertyPath, index: int, why: str) -> ODataError:
        name, position = path.segments[index], _position(path, index)
        return ODataError(f"'{name}' at position {position} {why}.", position=position, token=name)

    def _no_property(self, path: PropertyPath, index: int, owner: str) -> ODataError:
        name, position = path.segments[index], _position(path, index)
        return ODataError(
            f"Could not find a property named '{name[:60]}' on type '{owner}' at position {position}.",
            position=position,
            token=name,
        )

    # Operators

    def _comparison(self, expression: Binary) -> BoundExpression:
        left, right = expression.left, expression.right
        if expression.operator in _EQUALITY:
            for one, other in ((left, right), (right, left)):
                if isinstance(other, Literal) and other.type == "null":
                    return IsNull(self._tested_for_null(one), expression.operator == "ne")
        first, second = self.bind(left), self.bind(right)
        type_name = _common_type(first, second)
        if type_name is None or (type_name in _UNORDERED and expression.operator not in _EQUALITY):
            raise _mismatch(expression.operator, expression.position, first, second)
        first, second = _as_type(first, left, type_name), _as_type(second, right, type_name)
        if isinstance(first, Constant) and not isinstance(second, Constant):
            operator = _MIRRORED.get(expression.operator, expression.operator)
            return Comparison(operator, second, first, type_name)
        return Comparison(expression.operator, first, second, type_name)

    def _tested_for_null(self, expression: Expression) -> BoundExpression:
        """An entity at the end of a path is null where its key is."""
        if isinstance(expression, PropertyPath):
            steps, entity_set, rest = self._steps(expression)
            if not rest:
                key = entity_set.entity_type.key[0]
                return Path(steps, (key,), entity_set.entity_type.properties[key].type)
        return self.bind(expression)

    def _arithmetic(self, expression: Binary) -> BoundExpression:
        left, right = self.bind(expression.left), self.bind(expression.right)
        type_name = _common_type(left, right)
        if type_name == "null":
            return _NULL
        if type_name not in _WIDTHS:
            raise _mismatch(expression.operator, expression.position, left, right)
        return Arithmetic(
            expression.operator,
            _as_type(left, expression.left, type_name),
            _as_type(right, expression.right, type_name),
            type_name,
        )

    def _unary(self, expression: Unary) -> BoundExpression:
        if expression.operator == "not":
            return Not(self.condition(expression.operand))
        operand = self.bind(expression.operand)
        if operand.type == "null":
            return _NULL
        if operand.type not in _RECKONED:
            raise _mismatch("-", expression.position, operand)
        return Negation(operand, _RECKONED[operand.type])

    # Functions

    def _call(self, call: Call) -> BoundExpression:
        if call.name in _UNSUPPORTED:
            raise UnsupportedConstruct(
                f"The function '{call.name}' at position {call.position} is not supported.",
                position=call.position,
                token=call.name,
            )
        wanted, result = _SIGNATURES[call.name]
        arguments = tuple(self.bind(argument) for argument in call.arguments)
        types = [_RECKONED.get(argument.type, argument.type) for argument in arguments]
        if not all(_fits(type_name, slot) for type_name, slot in zip(types, wanted, strict=False)):
            raise _no_function(call, types)
        if result == "number":
            result = types[0]
        if "null" in types:  # null in, null out
            return Constant(result, None)
        return Invocation(call.name, arguments, result)


def _fits(type_name: str, slot: str) -> bool:
    if slot == "whole":
        return type_name in _WHOLE or type_name == "null"
    if slot == "number":
        return type_name in _WIDTHS or type_name == "null"
    return type_name in (slot, "null")


# Types


def _common_type(left: BoundExpression, right: BoundExpression) -> str | None:
    """The type in which both operands are taken; None where there is none."""
    first, second = left.type, right.type
    if first == "null":
        return _RECKONED.get(second, second)
    if second == "null":
        return _RECKONED.get(first, first)
    one, other = _RECKONED.get(first), _RECKONED.get(second)
    if one is None or other is None:
        return first if first == second else None
    if {one, other} == {"Edm.Decimal", "Edm.Double"}:
        real = left if one == "Edm.Double" else right
        return "Edm.Decimal" if _spells_a_decimal(real) else "Edm.Double"
    return max(one, other, key=_WIDTHS.index)


def _spells_a_decimal(operand: BoundExpression) -> bool:
    return isinstance(operand, Constant) and operand.value is not None and abs(operand.value) < 1e28


def _as_type(bound: BoundExpression, expression: Expression, type_name: str) -> BoundExpression:
    """A constant in the type asked for; anything else is left to whoever evaluates it."""
    if not isinstance(bound, Constant) or bound.type == type_name:
        return bound
    value = bound.value
    if value is not None and type_name == "Edm.Double":
        value = float(value)
    elif value is not None and type_name == "Edm.Decimal":
        value = _decimal(value, expression)
    return Constant(type_name, value)


def _decimal(value: Any, expression: Expression) -> Decimal:
    if isinstance(value, float) and isinstance(expression, Literal):
        try:
            return Decimal(expression.text.rstrip("dDfF"))
        except InvalidOperation:
            return Decimal(repr(value))
    return Decimal(value)


def _junction(operator: str, operands: list[BoundExpression]) -> BoundExpression:
    """Tests of one path for many values become one test: a multi-get may have a thousand of them."""
    if operator == "or":
        operands = list(_gathered(operands))
    return operands[0] if len(operands) == 1 else Junction(operator, tuple(operands))


def _gathered(operands: Iterable[BoundExpression]) -> Iterable[BoundExpression]:
    groups: dict[Any, list[Comparison]] = {}
    rest: list[BoundExpression] = []
    for operand in operands:
        if (
            isinstance(operand, Comparison)
            and operand.operator == "eq"
            and isinstance(operand.left, Path)
            and isinstance(operand.right, Constant)
        ):
            path = operand.left
            slot = (*(step.name for step in path.steps), path.members, operand.operand_type)
            groups.setdefault(slot, []).append(operand)
        else:
            rest.append(operand)
    for group in groups.values():
        first = group[0]
        if len(group) == 1:
            yield first
        else:
            values = tuple(each.right.value for each in group if isinstance(each.right, Constant))
            yield OneOf(first.left, values, first.operand_type)
    yield from rest


# Refusals


def _position(path: PropertyPath, index: int) -> int:
    return path.position + sum(len(segment) + 1 for segment in path.segments[:index])


def _token(expression: Expression) -> tuple[str, int]:
    if isinstance(expression, PropertyPath):
        return "/".join(expression.segments), expression.position
    if isinstance(expression, Literal):
        return expression.text, expression.position
    if isinstance(expression, Call):
        return expression.name, expression.position
    return expression.operator, expression.position


def _mismatch(operator: str, position: int, *operands: BoundExpression) -> ODataError:
    types = " and ".join(f"'{operand.type}'" for operand in operands)
    return ODataError(
        f"Operator '{operator}' incompatible with operand types {types} at position {position}.",
        position=position,
        token=operator,
    )


def _no_function(call: Call, types: Sequence[str]) -> ODataError:
    return ODataError(
        f"No applicable function found for '{call.name}' at position {call.position} with arguments of types"
        f" {', '.join(types)}.",
        position=call.position,
        token=call.name,
    )
