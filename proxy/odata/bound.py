"""The tree of `$filter` and `$orderby` with every name resolved and every type known; made by `binding`.

Types are names of primitive types, or "null" for what is null whatever the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.relationships import Relationship


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal, in the type that its place demands."""

    type: str
    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """A primitive value: `steps` through navigation properties that lead to one entity, then `members`, a
    property there or a member of a complex one. Null where a step leads nowhere."""

    steps: tuple[Relationship, ...]
    members: tuple[str, ...]
    type: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`operator` is add sub mul div mod; both operands are numbers to be taken as `type`."""

    operator: str
    left: BoundExpression
    right: BoundExpression
    type: str


@dataclass(frozen=True, slots=True)
class Negation:
    """The number with its sign turned."""

    operand: BoundExpression
    type: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is eq ne gt ge lt le; both operands are to be taken as `operand_type`."""

    type: ClassVar[str] = "Edm.Boolean"
    operator: str
    left: BoundExpression
    right: BoundExpression
    operand_type: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """`eq null`, or with `negated` `ne null`: true or false for every row."""

    type: ClassVar[str] = "Edm.Boolean"
    operand: BoundExpression
    negated: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """What an `or` of many `eq` comes to; operand and values are to be taken as `operand_type`."""

    type: ClassVar[str] = "Edm.Boolean"
    operand: BoundExpression
    values: tuple[Any, ...]
    operand_type: str


@dataclass(frozen=True, slots=True)
class Not:
    """True becomes false and the reverse; unknown stays unknown."""

    type: ClassVar[str] = "Edm.Boolean"
    operand: BoundExpression


@dataclass(frozen=True, slots=True)
class Junction:
    """`operator` is "and" or "or"; two or more operands."""

    type: ClassVar[str] = "Edm.Boolean"
    operator: str
    operands: tuple[BoundExpression, ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function call; the arguments are of the types that the function takes, or null."""

    name: str
    arguments: tuple[BoundExpression, ...]
    type: str


BoundExpression = (
    Constant | Path | Arithmetic | Negation | Comparison | IsNull | OneOf | Not | Junction | Invocation
)


@dataclass(frozen=True, slots=True)
class BoundOrder:
    """One item of `$orderby`."""

    expression: BoundExpression
    descending: bool = False


def paths_in(expression: BoundExpression) -> Iterator[Path]:
    """All paths of an expression, as often as they occur."""
    match expression:
        case Path():
            yield expression
        case Arithmetic(left=left, right=right) | Comparison(left=left, right=right):
            yield from paths_in(left)
            yield from paths_in(right)
        case (
            Negation(operand=operand)
            | IsNull(operand=operand)
            | OneOf(operand=operand)
            | Not(operand=operand)
        ):
            yield from paths_in(operand)
        case Junction(operands=operands) | Invocation(arguments=operands):
            for operand in operands:
                yield from paths_in(operand)


def key_condition(entity_set: EntitySet, key: EntityKey) -> BoundExpression:
    """The condition that only the entity with this key passes."""
    types = {name: entity_set.entity_type.properties[name].type for name, _ in key}
    tests = tuple(
        Comparison("eq", Path((), (name,), types[name]), Constant(types[name], value), types[name])
        for name, value in key
    )
    return tests[0] if len(tests) == 1 else Junction("and", tests)
