"""The order of a query's rows, where a page of it ended, and how to go on from there.

The key comes last in every order, so no two rows are equal in it, and a page is found by the values of the
row before it: rows that come or go meanwhile shift nothing. Nulls come first ascending, as in SQL Server.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, false, or_

from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.reconcile.ports import SkipToken
from proxy.store.expressions import parameter
from proxy.store.functions import Sql, comparable


@dataclass(frozen=True, slots=True)
class OrderColumn:
    """One thing that rows are sorted by.

    `value` is what a token says of the last row, of the type `edm_type`. With `exact`, text is compared byte
    by byte: in a key 'a' and 'A' are two. `folds`: what is bound to is as an entity shows it, and not as a
    token does.
    """

    value: Sql
    edm_type: str
    descending: bool = False
    exact: bool = False
    folds: bool = False

    @property
    def sorted(self) -> Sql:
        """What Postgres sorts by."""
        key = self._sortable(self.value)
        return key.desc().nulls_last() if self.descending else key.asc().nulls_first()

    @property
    def shown(self) -> Sql:
        """What the token says: of text no more than what is compared."""
        return self._sortable(self.value) if self.edm_type == "Edm.String" else self.value

    def _sortable(self, value: Sql) -> Sql:
        return value.collate("C") if self.exact else comparable(value, self.edm_type)

    def _bound(self, name: str) -> Sql:
        value = parameter(name, self.edm_type)
        is_shown = self.edm_type == "Edm.String" and not self.folds
        return value.collate("C") if is_shown else self._sortable(value)

    def same(self, name: str, null: bool) -> Sql:
        """Equal to the parameter, which is null or not."""
        key = self._sortable(self.value)
        return key.is_(None) if null else key == self._bound(name)

    def after(self, name: str, null: bool) -> Sql:
        """Behind the parameter."""
        key = self._sortable(self.value)
        if null:
            return false() if self.descending else key.is_not(None)
        if self.descending:
            return or_(key < self._bound(name), key.is_(None))
        return key > self._bound(name)

    def not_before(self, name: str, null: bool) -> Sql | None:
        """A bound that an index can use, beside the whole condition; None where there is none."""
        if null or self.descending:
            return None
        return self._sortable(self.value) >= self._bound(name)


def key_order(columns: Iterable[tuple[Sql, str]]) -> Iterator[OrderColumn]:
    """The order of keys, of their columns and types. Texts that are equal but not the same are two keys."""
    for column, edm_type in columns:
        yield OrderColumn(column, edm_type)
        if edm_type == "Edm.String":
            yield OrderColumn(column, edm_type, exact=True)


def beyond(order: Sequence[OrderColumn], nulls: Sequence[bool]) -> Sql:
    """True for the rows behind those with the values p0, p1, … of which these are null."""
    ways = []
    same: list[Sql] = []
    for index, (column, null) in enumerate(zip(order, nulls, strict=True)):
        name = f"p{index}"
        ways.append(and_(*same, column.after(name, null)))
        same.append(column.same(name, null))
    bound = order[0].not_before("p0", nulls[0])
    return or_(*ways) if bound is None else and_(bound, or_(*ways))


def write_token(edm_types: Sequence[str], values: Sequence[Any]) -> SkipToken:
    """The last row's values in an order of these types."""
    literals = [
        None if value is None else _literal(edm_type, value)
        for edm_type, value in zip(edm_types, values, strict=True)
    ]
    text = json.dumps(literals, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(edm_types: Sequence[str], token: SkipToken) -> list[Any]:
    """The values in a token for an order of these types. ODataError for what is no such token."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        literals = json.loads(text)
        return [
            None if literal is None else PRIMITIVES[edm_type].from_literal(literal)
            for edm_type, literal in zip(edm_types, literals, strict=True)
        ]
    except (ValueError, TypeError, AttributeError, RecursionError, ODataError):
        raise ODataError("The $skiptoken is none that was given for this query.", token=token) from None


def _literal(edm_type: str, value: Any) -> str:
    return PRIMITIVES[edm_type].to_literal(bytes(value) if edm_type == "Edm.Binary" else value)
