"""The functions of `$filter` (OData v2 URI conventions, 4.5) over Python values; null is never passed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from proxy.odata.errors import ODataError
from proxy.sandbox.collation import fold

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


def family_of(type_name: str) -> str:
    """Types that can be compared with each other; all numeric ones are one family."""
    return _FAMILIES.get(type_name, "number")


@dataclass(frozen=True, slots=True)
class Function:
    """`families` of the arguments, as far as they are checked, and of the result."""

    families: tuple[str, ...]
    family: str
    apply: Callable[..., Any]


def _substring(text: str, start: int, length: int | None = None) -> str:
    if start < 0 or (length is not None and length < 0):
        raise ODataError("substring takes no negative positions.")
    return text[start:] if length is None else text[start : start + length]


def _round(value: Any) -> Any:
    return (
        Decimal(repr(value)).quantize(Decimal(1), ROUND_HALF_EVEN)
        if isinstance(value, float)
        else round(value)
    )


def _replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new) if old else text


_TEXT = ("string",)
FUNCTIONS: dict[str, Function] = {
    "substringof": Function(_TEXT * 2, "boolean", lambda part, text: fold(part) in fold(text)),
    "startswith": Function(_TEXT * 2, "boolean", lambda text, part: fold(text).startswith(fold(part))),
    "endswith": Function(_TEXT * 2, "boolean", lambda text, part: fold(text).endswith(fold(part))),
    "length": Function(_TEXT, "number", len),
    "indexof": Function(_TEXT * 2, "number", lambda text, part: fold(text).find(fold(part))),
    "replace": Function(_TEXT * 3, "string", _replace),
    "substring": Function(("string", "number", "number"), "string", _substring),
    "tolower": Function(_TEXT, "string", str.lower),
    "toupper": Function(_TEXT, "string", str.upper),
    "trim": Function(_TEXT, "string", str.strip),
    "concat": Function(_TEXT * 2, "string", lambda first, second: first + second),
    "year": Function(("datetime",), "number", lambda moment: moment.year),
    "month": Function(("datetime",), "number", lambda moment: moment.month),
    "day": Function(("datetime",), "number", lambda moment: moment.day),
    "hour": Function(("datetime",), "number", lambda moment: moment.hour),
    "minute": Function(("datetime",), "number", lambda moment: moment.minute),
    "second": Function(("datetime",), "number", lambda moment: moment.second),
    "round": Function(("number",), "number", _round),
    "floor": Function(("number",), "number", math.floor),
    "ceiling": Function(("number",), "number", math.ceil),
}
