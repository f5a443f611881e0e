"""The skip token: a FetchXML paging cookie in disguise (field manual 4.2).

`1,'name','Zed','Adam','accountid','%7BLAST%7D','%7BFIRST%7D'`: the number of the page served, then for each
sort column its logical name and the values of the page's last and first record, the key's column last.
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

_TOKEN = re.compile(r"\s*(\d{1,9})((?:\s*,\s*(?:'(?:[^']|'')*'|null))*)\s*")
_ELEMENT = re.compile(r"'((?:[^']|'')*)'|null")


@dataclass(frozen=True, slots=True)
class Cookie:
    """`page` is the number of the page served; `last` its last record's values, the key's at the end."""

    page: int
    last: tuple[Any, ...]


def write_cookie(page: int, columns: Sequence[str], last: Sequence[Any], first: Sequence[Any]) -> str:
    """The token as it stands in a link. `columns` are logical names."""
    parts = [str(page)]
    for column, last_value, first_value in zip(columns, last, first, strict=True):
        parts += [f"'{column}'", _text(last_value), _text(first_value)]
    return quote(",".join(parts), safe="',-_.~:() ").replace(" ", "%20")


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, uuid.UUID):
        text = f"{{{value}}}".upper()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, datetime):
        text = value.isoformat()
    elif isinstance(value, float):
        text = repr(value)
    else:
        text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return "'" + text.replace("'", "''") + "'"


def read_cookie(token: str, columns: Sequence[tuple[str, str]]) -> Cookie:
    """Read a decoded token. `columns`: (logical name, EDM type) as the query sorts, the key last.

    Raises ODataError for what is no token, or one of another query.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ODataError("Error in skip token: bad syntax.")
    elements = [
        None if found[0] == "null" else found[1].replace("''", "'") for found in _ELEMENT.finditer(match[2])
    ]
    if len(elements) != 3 * len(columns):
        raise ODataError("Error in skip token: it does not belong to this query.")
    last = []
    for index, (name, type_name) in enumerate(columns):
        column, last_value, _ = elements[3 * index : 3 * index + 3]
        if column != name:
            raise ODataError("Error in skip token: it does not belong to this query.")
        last.append(None if last_value is None else _value(last_value, type_name))
    if last[-1] is None:
        raise ODataError("Error in skip token: the key is missing.")
    return Cookie(int(match[1]), tuple(last))


def _value(text: str, type_name: str) -> Any:
    return PRIMITIVES[type_name].from_atom(text)
