"""The skip token of Dynamics 2011: a FetchXML paging cookie in disguise (field manual, 4.2).

`1,'name','Zed','Adam','accountid','%7BLAST%7D','%7BFIRST%7D'`: the number of the page just served, then for
each sort column its logical name and the values of the page's last and first record, the key's column last.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES

_TOKEN = re.compile(r"\s*(\d{1,9})((?:\s*,\s*(?:'(?>[^']*(?:''[^']*)*)'|null))*)\s*")
_ELEMENT = re.compile(r"'((?>[^']*(?:''[^']*)*))'|null")
_FOREIGN = "Error in skip token: it does not belong to this query."


@dataclass(frozen=True, slots=True)
class Column:
    """A sort column: the path of its property, `PrimaryContactId/Id`, and its EDM type."""

    path: str
    edm_type: str


@dataclass(frozen=True, slots=True)
class PagingCookie:
    """`page`: the number of the page served; `last`: the values of its last record."""

    page: int
    last: tuple[Any, ...]


def write_cookie(page: int, columns: Sequence[Column], last: Sequence[Any], first: Sequence[Any]) -> str:
    """The token as it stands in a link."""
    parts = [str(page)]
    for column, last_value, first_value in zip(columns, last, first, strict=True):
        parts += [f"'{column.path.lower()}'", _text(last_value), _text(first_value)]
    return quote(",".join(parts), safe="',-_.~:()")


def read_cookie(token: str, columns: Sequence[Column]) -> PagingCookie:
    """Read a decoded token for a query that sorts by these columns, the key's last.

    Raises ODataError for what is no token, or one of another query.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ODataError("Error in skip token: bad syntax.")
    elements = [
        None if found[0] == "null" else found[1].replace("''", "'") for found in _ELEMENT.finditer(match[2])
    ]
    names = [column.path.lower() for column in columns]
    if len(elements) != 3 * len(columns) or elements[::3] != names:
        raise ODataError(_FOREIGN)
    last = tuple(
        None if value is None else PRIMITIVES[column.edm_type].from_atom(value)
        for column, value in zip(columns, elements[1::3], strict=True)
    )
    return PagingCookie(int(match[1]), last)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    match value:
        case uuid.UUID():
            text = f"{{{value}}}".upper()
        case bool():
            text = "true" if value else "false"
        case datetime():
            text = value.isoformat()
        case float():
            text = repr(value)
        case Decimal():
            text = f"{value:f}"
        case _:
            text = str(value)
    return "'" + text.replace("'", "''") + "'"
