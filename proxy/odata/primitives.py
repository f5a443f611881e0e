"""The primitive types of OData v2: one table from EDM name to the spellings of a value.

A value is spelt in verbose JSON ([MS-ODATA] 2.2.6.3.1), in Atom (2.2.6.2.2) and as a URI literal (OData v2
Overview, 6). `PRIMITIVES` reads and writes all three, between text and these Python values:

    Edm.String            str                    Edm.Byte .SByte .Int16 .Int32 .Int64   int
    Edm.Boolean           bool                   Edm.Decimal                            Decimal (scale kept)
    Edm.Guid              uuid.UUID              Edm.Single .Double                     float
    Edm.DateTime          datetime, naive UTC    Edm.Time                               timedelta
    Edm.DateTimeOffset    datetime, aware        Edm.Binary                             bytes

Null belongs to the caller: no function here takes or returns None. Everything that reads raises ODataError
and nothing else. What is read is wider than what is written, since clients post more spellings than the
server ever sends.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from proxy.odata import times
from proxy.odata.errors import ODataError
from proxy.odata.expressions import Literal
from proxy.odata.numerics import DECIMAL, integer, real
from proxy.odata.primitive import Primitive, shown, unfit, unrecognized

_GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_STRING_LITERAL = re.compile(r"'(?>[^']*(?:''[^']*)*)'")
_PREFIXED_LITERAL = re.compile(r"([A-Za-z]+)'([^']*)'")
_SPECIAL_LITERAL = re.compile(r"(?:-?INF|NaN)([DdFf]?)")
_NUMBER_LITERAL = re.compile(r"(-?[0-9]+)(\.[0-9]+)?([eE][+-]?[0-9]+)?([LlMmDdFf]?)")
# What no Postgres text and no XML document can hold; a URI has no business with it either.
_UNREPRESENTABLE = re.compile("[\x00\ud800-\udfff]")

_PREFIX_TYPES = {
    "guid": "Edm.Guid",
    "datetime": "Edm.DateTime",
    "datetimeoffset": "Edm.DateTimeOffset",
    "time": "Edm.Time",
    "binary": "Edm.Binary",
    "x": "Edm.Binary",
}
_SUFFIX_TYPES = {"L": "Edm.Int64", "M": "Edm.Decimal", "D": "Edm.Double", "F": "Edm.Single"}


def parse_literal(text: str, position: int = 0) -> Literal:
    """Read one URI literal in any of its forms (OData v2 Overview, 6; field manual 2.4).

    Prefixes are taken in any case. Numbers without a suffix are Int32, or Int64 where they do not fit, or
    Decimal where that does not either; with a point or an exponent they are Double. `position` is where
    `text` stands in the whole, for the ODataError.
    """
    try:
        type_name, value = _literal_value(text)
    except ODataError as error:
        raise ODataError(error.message, position=position, token=text) from None
    return Literal(type_name, value, text, position)


def _literal_value(text: str) -> tuple[str, Any]:
    if text.startswith("'"):
        return "Edm.String", _string_from_literal(text)
    if text.endswith("'"):
        return _prefixed_value(text)
    if text == "null":
        return "null", None
    if text in ("true", "false"):
        return "Edm.Boolean", text == "true"
    number = _NUMBER_LITERAL.fullmatch(text)
    if number:
        return _number_value(text, number)
    special = _SPECIAL_LITERAL.fullmatch(text)
    if special:
        type_name = _SUFFIX_TYPES[special[1].upper() or "D"]
        return type_name, PRIMITIVES[type_name].from_literal(text)
    raise ODataError(f"Unrecognized literal '{shown(text)}'.")


def _prefixed_value(text: str) -> tuple[str, Any]:
    match = _PREFIXED_LITERAL.fullmatch(text)
    type_name = _PREFIX_TYPES.get(match[1].lower()) if match else None
    if type_name is None:
        raise ODataError(f"Unrecognized literal '{shown(text)}'.")
    return type_name, PRIMITIVES[type_name].from_literal(text)


def _number_value(text: str, number: re.Match[str]) -> tuple[str, Any]:
    _, fraction, exponent, suffix = number.groups()
    if suffix:
        type_name = _SUFFIX_TYPES[suffix.upper()]
    elif fraction or exponent:
        type_name = "Edm.Double"
    else:
        type_name = _narrowest_integer(text)
    return type_name, PRIMITIVES[type_name].from_literal(text)


def _narrowest_integer(digits: str) -> str:
    # 19 digits and a sign: longer ones cannot be Int64, and int() of a very long text is slow.
    if len(digits) > 20:
        return "Edm.Decimal"
    value = int(digits)
    if -(2**31) <= value < 2**31:
        return "Edm.Int32"
    return "Edm.Int64" if -(2**63) <= value < 2**63 else "Edm.Decimal"


def _unquoted(type_name: str, text: str) -> str:
    """The text between the quotes of a prefixed literal of this type."""
    match = _PREFIXED_LITERAL.fullmatch(text)
    if match is None or _PREFIX_TYPES.get(match[1].lower()) != type_name:
        raise unrecognized(type_name, text)
    return match[2]


# Edm.String


def _string_from_json(value: Any) -> str:
    if not isinstance(value, str):
        raise unfit("Edm.String", value)
    return value


def _string_from_literal(text: str) -> str:
    if not _STRING_LITERAL.fullmatch(text):
        raise ODataError(f"Unterminated string literal '{shown(text)}'.")
    if _UNREPRESENTABLE.search(text):
        raise ODataError("A string literal holds a character that no document can hold.")
    return text[1:-1].replace("''", "'")


def _string_to_literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _same(text: str) -> str:
    return text


# Edm.Boolean


def _boolean_from_json(value: Any) -> bool:
    if not isinstance(value, bool):
        raise unfit("Edm.Boolean", value)
    return value


def _boolean_from_atom(text: str) -> bool:
    value = {"true": True, "1": True, "false": False, "0": False}.get(text.strip())
    if value is None:
        raise unfit("Edm.Boolean", text)
    return value


def _boolean_from_literal(text: str) -> bool:
    if text not in ("true", "false"):
        raise unrecognized("Edm.Boolean", text)
    return text == "true"


def _boolean_to_text(value: bool) -> str:
    return "true" if value else "false"


# Edm.Guid


@lru_cache(maxsize=4096)  # the same owners and currencies stand in thousands of entities
def _guid(text: str) -> uuid.UUID:
    digits = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    if not _GUID.fullmatch(digits):
        raise unfit("Edm.Guid", text)
    return uuid.UUID(int=int(digits.replace("-", ""), 16))


def _guid_from_json(value: Any) -> uuid.UUID:
    if not isinstance(value, str):
        raise unfit("Edm.Guid", value)
    return _guid(value)


def _guid_from_atom(text: str) -> uuid.UUID:
    return _guid(text.strip())


def _guid_from_literal(text: str) -> uuid.UUID:
    try:
        return _guid(_unquoted("Edm.Guid", text))
    except ODataError:
        raise unrecognized("Edm.Guid", text) from None


# Edm.Binary


def _binary_from_json(value: Any) -> bytes:
    if not isinstance(value, str):
        raise unfit("Edm.Binary", value)
    return _base64(value)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise unfit("Edm.Binary", text) from None


def _binary_from_literal(text: str) -> bytes:
    digits = _unquoted("Edm.Binary", text)
    if not _HEX.fullmatch(digits):
        raise unrecognized("Edm.Binary", text)
    return bytes.fromhex(digits)


def _binary_to_text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


# The temporal types: their texts are `times`, their quoting is here


def _temporal_from_json(name: str, parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def from_json(value: Any) -> Any:
        if not isinstance(value, str):
            raise unfit(name, value)
        try:
            return parse(value)
        except (ValueError, OverflowError):
            raise unfit(name, value) from None

    return from_json


def _temporal(
    name: str,
    prefix: str,
    from_json: Callable[[str], Any],
    to_json_text: Callable[[Any], str],
    from_atom: Callable[[str], Any],
    to_text: Callable[[Any], str],
    from_quoted: Callable[[str], Any],
    to_quoted: Callable[[Any], str],
) -> Primitive:
    def from_literal(text: str) -> Any:
        quoted = _unquoted(name, text)
        try:
            return from_quoted(quoted)
        except (ValueError, OverflowError):
            raise unrecognized(name, text) from None

    checked_atom = _temporal_from_json(name, from_atom)
    return Primitive(
        name,
        _temporal_from_json(name, from_json),
        to_json_text,
        lambda text: checked_atom(text.strip()),
        to_text,
        from_literal,
        lambda value: f"{prefix}'{to_quoted(value)}'",
    )


def _duration_to_json_text(value: timedelta) -> str:
    return f'"{times.duration_text(value)}"'


PRIMITIVES: Mapping[str, Primitive] = {
    primitive.name: primitive
    for primitive in (
        Primitive(
            "Edm.String",
            _string_from_json,
            encode_basestring_ascii,
            _same,
            _same,
            _string_from_literal,
            _string_to_literal,
        ),
        Primitive(
            "Edm.Boolean",
            _boolean_from_json,
            _boolean_to_text,
            _boolean_from_atom,
            _boolean_to_text,
            _boolean_from_literal,
            _boolean_to_text,
        ),
        Primitive(
            "Edm.Guid",
            _guid_from_json,
            lambda value: f'"{value}"',
            _guid_from_atom,
            str,
            _guid_from_literal,
            lambda value: f"guid'{value}'",
        ),
        integer("Edm.Byte", 8, signed=False),
        integer("Edm.SByte", 8),
        integer("Edm.Int16", 16),
        integer("Edm.Int32", 32),
        integer("Edm.Int64", 64),
        DECIMAL,
        real("Edm.Double", 64),
        real("Edm.Single", 32),
        Primitive(
            "Edm.Binary",
            _binary_from_json,
            lambda value: f'"{_binary_to_text(value)}"',
            _base64,
            _binary_to_text,
            _binary_from_literal,
            lambda value: f"X'{value.hex().upper()}'",
        ),
        _temporal(
            "Edm.DateTime",
            "datetime",
            times.parse_posted_datetime,
            times.datetime_json_text,
            times.parse_datetime,
            times.datetime_text,
            times.parse_unzoned_datetime,
            times.datetime_literal_text,
        ),
        _temporal(
            "Edm.DateTimeOffset",
            "datetimeoffset",
            times.parse_posted_offset_datetime,
            times.offset_datetime_json_text,
            times.parse_offset_datetime,
            times.offset_datetime_text,
            times.parse_offset_datetime,
            times.offset_datetime_text,
        ),
        _temporal(
            "Edm.Time",
            "time",
            times.parse_duration,
            _duration_to_json_text,
            times.parse_duration,
            times.duration_text,
            times.parse_duration,
            times.duration_text,
        ),
    )
}
