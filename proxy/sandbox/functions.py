"""The functions of `$filter` (OData v2 URI conventions, 4.5) over Python values; null is never passed in."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.sandbox.collation import fold, one_to_one
from proxy.sandbox.numbers import KINDS, ceiling, floor, kind_of, rounded

_FAMILIES = {
    "Edm.String": "string",
    "Edm.Boolean": "boolean",
    "Edm.Guid": "guid",
    "Edm.DateTime": "datetime",
    "Edm.DateTimeOffset": "datetimeoffset",
    "Edm.Time": "time",
    "Edm.Binary": "binary",
    "null": "null",
}
_LINE_ENDS = frozenset("\t\n\v\f\r\x85")


def family_of(type_name: str) -> str:
    """Types that can be compared with each other; numeric ones by their kind."""
    return _FAMILIES.get(type_name) or kind_of(type_name)


@dataclass(frozen=True, slots=True)
class Function:
    """`families` that each argument may be of, and of the result; None: that of the argument."""

    families: tuple[tuple[str, ...], ...]
    family: str | None
    apply: Callable[..., Any]


def _substring(text: str, start: int, length: int | None = None) -> str:
    """What is negative counts as none."""
    start = max(start, 0)
    return text[start:] if length is None else text[start : start + max(length, 0)]


def _replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new) if old else text


def _trim(text: str) -> str:
    """Without the white space of .NET's Char.IsWhiteSpace at both ends."""
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while end > start and _is_blank(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_blank(character: str) -> bool:
    return character in _LINE_ENDS or unicodedata.category(character) in ("Zs", "Zl", "Zp")


_TEXT, _DATE, _WHOLE = ("string",), ("datetime",), ("int32", "int64")
FUNCTIONS: dict[str, Function] = {
    "substringof": Function((_TEXT, _TEXT), "boolean", lambda part, text: fold(part) in fold(text)),
    "startswith": Function((_TEXT, _TEXT), "boolean", lambda text, part: fold(text).startswith(fold(part))),
    "endswith": Function((_TEXT, _TEXT), "boolean", lambda text, part: fold(text).endswith(fold(part))),
    "length": Function((_TEXT,), "int32", len),
    "indexof": Function((_TEXT, _TEXT), "int32", lambda text, part: fold(text).find(fold(part))),
    "replace": Function((_TEXT, _TEXT, _TEXT), "string", _replace),
    "substring": Function((_TEXT, _WHOLE, _WHOLE), "string", _substring),
    "tolower": Function((_TEXT,), "string", lambda text: one_to_one(text, str.lower)),
    "toupper": Function((_TEXT,), "string", lambda text: one_to_one(text, str.upper)),
    "trim": Function((_TEXT,), "string", _trim),
    "concat": Function((_TEXT, _TEXT), "string", lambda first, second: first + second),
    "year": Function((_DATE,), "int32", lambda moment: moment.year),
    "month": Function((_DATE,), "int32", lambda moment: moment.month),
    "day": Function((_DATE,), "int32", lambda moment: moment.day),
    "hour": Function((_DATE,), "int32", lambda moment: moment.hour),
    "minute": Function((_DATE,), "int32", lambda moment: moment.minute),
    "second": Function((_DATE,), "int32", lambda moment: moment.second),
    "round": Function((KINDS,), None, rounded),
    "floor": Function((KINDS,), None, floor),
    "ceiling": Function((KINDS,), None, ceiling),
}
