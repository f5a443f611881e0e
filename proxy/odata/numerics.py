"""The numeric primitive types: integers of all widths, Decimal, Double and Single."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from typing import Any

from proxy.odata.primitive import Primitive, unfit, unrecognized

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPECIAL_REALS = {"INF": math.inf, "-INF": -math.inf, "NaN": math.nan}
# .NET's decimal has 28 to 29 digits; the lower bound only keeps a hostile exponent from filling memory.
_MAX_DECIMAL_EXPONENT = 28
_MIN_DECIMAL_EXPONENT = -400


# The integers


def integer(name: str, bits: int, *, signed: bool = True) -> Primitive:
    """An integer type of this width. 64 bits are a string in JSON, since JavaScript has no such number."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    suffix = "L" if bits == 64 else ""

    def from_text(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= (value := int(text)) <= high:
            raise unfit(name, text)
        return value

    def from_json(value: Any) -> int:
        if isinstance(value, str):  # Int64 always; an option set's value now and then (field manual 6.5)
            return from_text(value)
        if type(value) is not int or not low <= value <= high:
            raise unfit(name, value)
        return value

    def from_literal(text: str) -> int:
        digits = text[:-1] if suffix and text[-1:] in ("L", "l") else text
        if digits.startswith("+"):
            raise unrecognized(name, text)
        return from_text(digits)

    return Primitive(
        name,
        from_json,
        (lambda value: f'"{value}"') if bits == 64 else str,
        lambda text: from_text(text.strip()),
        str,
        from_literal,
        lambda value: f"{value}{suffix}",
    )


# Edm.Decimal


def _decimal(text: str) -> Decimal:
    if len(text) > 100 or not _DECIMAL.fullmatch(text):
        raise unfit("Edm.Decimal", text)
    return _bounded(Decimal(text))


def _bounded(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    if (
        not isinstance(exponent, int)
        or value.adjusted() > _MAX_DECIMAL_EXPONENT
        or exponent < _MIN_DECIMAL_EXPONENT
    ):
        raise unfit("Edm.Decimal", value)
    return value


def _decimal_from_json(value: Any) -> Decimal:
    if isinstance(value, str):
        return _decimal(value)
    if isinstance(value, Decimal):
        return _bounded(value)
    if isinstance(value, float):
        return _bounded(Decimal(repr(value)))
    if type(value) is int:
        return _bounded(Decimal(value))
    raise unfit("Edm.Decimal", value)


def _decimal_from_literal(text: str) -> Decimal:
    return _decimal(text[:-1] if text[-1:] in ("M", "m") else text)


def _decimal_to_text(value: Decimal) -> str:
    return format(value, "f")


DECIMAL = Primitive(
    "Edm.Decimal",
    _decimal_from_json,
    lambda value: f'"{_decimal_to_text(value)}"',
    lambda text: _decimal(text.strip()),
    _decimal_to_text,
    _decimal_from_literal,
    lambda value: _decimal_to_text(value) + "M",
)


# Edm.Double and Edm.Single


def real(name: str, bits: int) -> Primitive:
    """Double or Single; finite values are JSON numbers, the others the strings NaN, INF and -INF."""
    suffix, digits = ("D", 15) if bits == 64 else ("F", 7)

    def narrowed(value: float) -> float:
        if bits == 64:
            return value
        try:
            single: float = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            raise unfit(name, value) from None
        return single

    def from_text(text: str) -> float:
        special = _SPECIAL_REALS.get(text)
        if special is not None:
            return special
        if len(text) > 800 or not _REAL.fullmatch(text) or math.isinf(value := float(text)):
            raise unfit(name, text)
        return narrowed(value)

    def from_json(value: Any) -> float:
        if isinstance(value, str):
            return from_text(value)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise unfit(name, value)
        try:
            return narrowed(float(value))
        except (OverflowError, ValueError):
            raise unfit(name, value) from None

    def to_text(value: float) -> str:
        # .NET's "R": the short form where it reads back as the same number, else all digits.
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "INF" if value > 0 else "-INF"
        short = f"{value:.{digits}g}"
        text = short if narrowed(float(short)) == value else f"{value:.{digits + 2}g}"
        return text.upper()

    def to_json_text(value: float) -> str:
        return to_text(value) if math.isfinite(value) else f'"{to_text(value)}"'

    def from_literal(text: str) -> float:
        if text.startswith("+"):
            raise unrecognized(name, text)
        if text in _SPECIAL_REALS or text[-1:].upper() != suffix:
            return from_text(text)
        return from_text(text[:-1])

    return Primitive(
        name,
        from_json,
        to_json_text,
        lambda text: from_text(text.strip()),
        to_text,
        from_literal,
        lambda value: to_text(value) + (suffix if math.isfinite(value) else ""),
    )
