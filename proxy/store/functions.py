"""Operators and functions of `$filter` as SQL over operands that are SQL already.

Each decision is in docs/decisions/0005-comparisons-in-sql.md. What cannot be worked out (a division by zero,
an overflow) fails in Postgres, and never quietly gives another value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Integer, Numeric, Text, cast, extract, func
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

Sql = ColumnElement[Any]

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
# Digits behind the point of a quotient: as many as .NET's decimal can have.
_QUOTIENT_SCALE = 28
# What .NET's Trim takes away.
_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def comparable(operand: Sql, edm_type: str, *, ordered: bool = True) -> Sql:
    """The operand in a form that compares, with `ordered` also sorts, as SQL Server would have it."""
    if edm_type == "Edm.String":
        return func.syncpoint.fold(operand, type_=Text).collate("C")
    if edm_type == "Edm.Guid" and ordered:
        return func.syncpoint.guid_order(operand)
    return operand


def arithmetic(operator: str, left: Sql, right: Sql, edm_type: str) -> Sql:
    """`add`, `sub`, `mul`, `div` or `mod` of two operands of this type."""
    if operator == "mod":
        if edm_type == "Edm.Double":  # Postgres has none for floating point
            return cast(func.mod(_digits(left), _digits(right)), DOUBLE_PRECISION)
        return func.mod(left, right, type_=left.type)
    if operator == "div" and edm_type == "Edm.Decimal":
        quotient = func.round(left, _QUOTIENT_SCALE, type_=Numeric).op("/")(right)
        return func.round(quotient, _QUOTIENT_SCALE, type_=Numeric)
    return left.op(_SYMBOLS[operator])(right)


def _digits(real: Sql) -> Sql:
    """The number that a Double spells; a plain cast would keep 15 digits of it."""
    return cast(cast(real, Text), Numeric)


def _folded(text: Sql) -> Sql:
    return func.syncpoint.fold_all(text, type_=Text).collate("C")


def _substringof(part: Sql, text: Sql) -> Sql:
    return func.strpos(_folded(text), _folded(part)) > 0


def _startswith(text: Sql, part: Sql) -> Sql:
    return func.starts_with(_folded(text), _folded(part), type_=Boolean)


def _endswith(text: Sql, part: Sql) -> Sql:
    end = func.right(_folded(text), func.char_length(_folded(part)), type_=Text)
    return end.collate("C") == _folded(part)


def _substring(text: Sql, start: Sql, length: Sql | None = None) -> Sql:
    if length is None:
        return func.substr(text, _position(start) + 1, type_=Text)
    return func.substr(text, _position(start) + 1, _position(length), type_=Text)


def _position(number: Sql) -> Sql:
    """A number of characters: what is negative counts as none."""
    # A function, since its argument must stand there once: nested calls would grow without bounds.
    return func.syncpoint.position(cast(number, BigInteger), type_=Integer)


def _part_of_time(part: str) -> Callable[[Sql], Sql]:
    return lambda moment: cast(func.floor(extract(part, moment)), Integer)


def _round(number: Sql) -> Sql:
    if isinstance(number.type, DOUBLE_PRECISION):
        return cast(func.round(_digits(number)), DOUBLE_PRECISION)
    return func.round(number, type_=number.type)


FUNCTIONS: Mapping[str, Callable[..., Sql]] = {
    "substringof": _substringof,
    "startswith": _startswith,
    "endswith": _endswith,
    "length": lambda text: func.char_length(text, type_=Integer),
    "indexof": lambda text, part: func.strpos(_folded(text), _folded(part), type_=Integer) - 1,
    "replace": lambda text, old, new: func.replace(text, old, new, type_=Text),
    "substring": _substring,
    "tolower": lambda text: func.syncpoint.lower_case(text, type_=Text),
    "toupper": lambda text: func.syncpoint.upper_case(text, type_=Text),
    "trim": lambda text: func.btrim(text, _BLANKS, type_=Text),
    "concat": lambda first, second: first.concat(second),
    **{part: _part_of_time(part) for part in ("year", "month", "day", "hour", "minute", "second")},
    "round": _round,
    "floor": lambda number: func.floor(number, type_=number.type),
    "ceiling": lambda number: func.ceil(number, type_=number.type),
}
