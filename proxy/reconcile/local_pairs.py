"""The rows by which an entity set shows a relationship of many to many."""

from __future__ import annotations

from typing import Any

from proxy.odata.bound import Junction, key_condition
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.errors import UnsupportedConstruct
from proxy.odata.relationships import Intersect, Relationship
from proxy.reconcile.local_store import LocalTransaction
from proxy.reconcile.ports import Query

_AT_ONCE = 5000


def shown_by(relationship: Relationship) -> Intersect:
    """Where its pairs are. Raises UnsupportedConstruct where no entity set shows them."""
    if relationship.intersect is None:
        raise UnsupportedConstruct(f"No entity set shows the pairs of '{relationship.name}'.")
    return relationship.intersect


async def pairs(
    transaction: LocalTransaction, key: EntityKey, relationship: Relationship, other: EntityKey | None = None
) -> list[EntityKey]:
    """Keys of the rows that pair an entity with another, or with any."""
    intersect = shown_by(relationship)
    condition = _equals(intersect.entity_set, intersect.first, key[0][1])
    if other is not None:
        second = _equals(intersect.entity_set, intersect.second, other[0][1])
        condition = Junction("and", (condition, second))
    page = await transaction.find(Query(intersect.entity_set, condition, page=_AT_ONCE))
    return [row.key for row in page.rows]


def _equals(entity_set: EntitySet, name: str, value: Any) -> Any:
    return key_condition(entity_set, ((name, value),))
