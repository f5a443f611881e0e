"""Where a page of the mirror's own begins and ends, said in upstream's paging cookies (field manual, 4.2).

A query that is sorted by anything but properties has no cookie of that form, and gets the store's own token;
Dynamics 2011 refuses such queries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from proxy.odata import verbose_json
from proxy.odata.bound import BoundOrder, Constant, Path
from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.paging_cookies import Column, PagingCookie, read_cookie, write_cookie
from proxy.odata.primitives import PRIMITIVES
from proxy.reconcile.ports import Found, Query, Stored

_FIRST = PagingCookie(0, ())


def resumed(query: Query, token: str | None) -> tuple[Query, PagingCookie]:
    """The query from where a decoded skip token says. Raises ODataError for one that is not the query's."""
    if token is None:
        return query, _FIRST
    columns = _columns(query)
    if columns is None:
        return replace(query, after=token), _FIRST
    cookie = read_cookie(token, columns)
    (key,) = query.entity_set.entity_type.key
    identity = cookie.last[[column.path for column in columns].index(key)]
    if identity is None:
        raise ODataError("Error in skip token: the key is missing.")
    return replace(query, behind=(*cookie.last[: len(_sorted_by(query))], identity)), cookie


def cookie_after(query: Query, found: Found, page: int) -> str | None:
    """The cookie behind a page that is not empty, as it stands in a link; None where the query has none."""
    columns = _columns(query)
    if columns is None:
        return None
    first, last = (_values(row, columns) for row in (found.rows[0], found.rows[-1]))
    return write_cookie(page, columns, last, first)


def first_cookie(entity_set: EntitySet, found: Found) -> str | None:
    """What leads on from the first page of expanded entities; None from the last."""
    return None if found.next is None else cookie_after(Query(entity_set), found, 1)


def _sorted_by(query: Query) -> list[BoundOrder]:
    return [order for order in query.orderby if not isinstance(order.expression, Constant)]


def _columns(query: Query) -> list[Column] | None:
    """The sort columns, the key's last unless it is among them; None where one of them is no property."""
    columns = []
    for order in _sorted_by(query):
        path = order.expression
        if not isinstance(path, Path) or path.steps:
            return None
        columns.append(Column("/".join(path.members), path.type))
    (key,) = query.entity_set.entity_type.key
    if key not in {column.path for column in columns}:
        columns.append(Column(key, query.entity_set.entity_type.properties[key].type))
    return columns


def _values(row: Stored, columns: Sequence[Column]) -> list[Any]:
    values = []
    for column in columns:
        value = json.loads(verbose_json.value_at(row.document or "", column.path.split("/")) or "null")
        values.append(None if value is None else PRIMITIVES[column.edm_type].from_json(value))
    return values
