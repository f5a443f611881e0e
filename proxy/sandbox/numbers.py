"""Numbers as .NET reckons with them: what two kinds come to, and sums that fail rather than lie.

Kinds, from narrow to wide: int32, int64, decimal, double. Decimals are exact but for quotients, which have 28
digits behind the point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from proxy.odata.errors import ODataError

KINDS = ("int32", "int64", "decimal", "double")
_KIND_OF = {"Edm.Int64": "int64", "Edm.Decimal": "decimal", "Edm.Double": "double", "Edm.Single": "double"}
_BITS = {"int32": 31, "int64": 63}
# Enough for every product that an expression can make of decimals.
_EXACT = Context(prec=4000, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999)
_QUOTIENT_STEP = Decimal(1).scaleb(-28)


def kind_of(type_name: str) -> str:
    """The kind of a numeric EDM type; int32 for what is narrower."""
    return _KIND_OF.get(type_name, "int32")


def converter(kind: str) -> Callable[[Any], Any]:
    """What makes a number of a narrower kind one of this."""
    if kind == "double":
        return float
    return Decimal if kind == "decimal" else int


def operation(name: str, kind: str) -> Callable[[Any, Any], Any]:
    """`add`, `sub`, `mul`, `div` or `mod` of two numbers of one kind. The function raises ODataError."""
    if kind == "double":
        return lambda one, other: _double(name, one, other)
    if kind == "decimal":
        return lambda one, other: _decimal(name, one, other)
    limit = 1 << _BITS[kind]
    return lambda one, other: in_range(_whole(name, one, other), limit)


def negation(kind: str) -> Callable[[Any], Any]:
    """The number with its sign turned."""
    if kind in _BITS:
        limit = 1 << _BITS[kind]
        return lambda number: in_range(-number, limit)
    return lambda number: _EXACT.minus(number) if kind == "decimal" else -number


def in_range(number: int, limit: int) -> int:
    if not -limit <= number < limit:
        raise ODataError("Arithmetic overflow.")
    return number


def _whole(name: str, one: int, other: int) -> int:
    if name == "add":
        return one + other
    if name == "sub":
        return one - other
    if name == "mul":
        return one * other
    if other == 0:
        raise ODataError("Division by zero.")
    quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
    return quotient if name == "div" else one - other * quotient


def _decimal(name: str, one: Decimal, other: Decimal) -> Decimal:
    if name == "add":
        return _EXACT.add(one, other)
    if name == "sub":
        return _EXACT.subtract(one, other)
    if name == "mul":
        return _EXACT.multiply(one, other)
    if other == 0:
        raise ODataError("Division by zero.")
    if name == "mod":
        return _EXACT.remainder(one, other)
    return _EXACT.divide(one, other).quantize(_QUOTIENT_STEP, context=_EXACT)


def _double(name: str, one: float, other: float) -> float:
    if name in ("div", "mod") and other == 0:
        raise ODataError("Division by zero.")
    if name == "mod":
        return _remainder(one, other)
    if name == "add":
        result = one + other
    elif name == "sub":
        result = one - other
    else:
        result = one * other if name == "mul" else one / other
    vanished = result == 0 and name in ("mul", "div") and one != 0 and other != 0 and math.isfinite(other)
    if vanished or (math.isinf(result) and math.isfinite(one) and math.isfinite(other)):
        raise ODataError("Arithmetic overflow.")
    return result


def _remainder(one: float, other: float) -> float:
    """Of the numbers that the doubles spell: 0.3 mod 0.1 is 0."""
    if math.isinf(one) or math.isnan(one) or math.isnan(other):
        return math.nan
    if math.isinf(other):
        return one
    return float(_EXACT.remainder(Decimal(repr(one)), Decimal(repr(other))))


def rounded(number: Any) -> Any:
    """To the nearest whole number, halves away from zero, as SQL Server's ROUND and OData v4 have it."""
    if isinstance(number, Decimal):
        return number.quantize(Decimal(1), context=_EXACT)
    if isinstance(number, float) and math.isfinite(number):
        return float(Decimal(repr(number)).quantize(Decimal(1), context=_EXACT))
    return number


def floor(number: Any) -> Any:
    """The next whole number below, in the number's own kind."""
    if isinstance(number, int) or (isinstance(number, float) and not math.isfinite(number)):
        return number
    return type(number)(math.floor(number))


def ceiling(number: Any) -> Any:
    """The next whole number above, in the number's own kind."""
    if isinstance(number, int) or (isinstance(number, float) and not math.isfinite(number)):
        return number
    return type(number)(math.ceil(number))
