"""The tree of `$filter` and `$orderby`: frozen data, made by `filter`, read by whoever evaluates it.

`and` and `or` hold any number of operands, so that a chain of a thousand terms is one flat node. `position`
is where a node's own token (the first of several `and`s) stands in the text, counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal as the client wrote it. `type` is an Edm type name, or "null"."""

    type: str
    value: Any
    text: str
    position: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class PropertyPath:
    """`Name`, `PrimaryContactId/Id`, `account_primary_contact/FullName`."""

    segments: tuple[str, ...]
    position: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """`operator` is "not" or "-"."""

    operator: str
    operand: Expression
    position: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """`operator` is eq ne gt ge lt le add sub mul div mod."""

    operator: str
    left: Expression
    right: Expression
    position: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Logical:
    """`operator` is "and" or "or"; two or more `operands`, none of them the same Logical operator."""

    operator: str
    operands: tuple[Expression, ...]
    position: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; `name` as the standard spells it."""

    name: str
    arguments: tuple[Expression, ...]
    position: int = field(default=-1, compare=False)


Expression = Literal | PropertyPath | Unary | Binary | Logical | Call


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One item of `$orderby`."""

    expression: Expression
    descending: bool = False
