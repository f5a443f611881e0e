"""Tying entities and untying them, as `$links` asks for it (field manual, 6.6)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from proxy.odata.bound import key_condition
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.relationships import Relationship, logical_name
from proxy.reconcile.local import does_not_exist
from proxy.reconcile.local_entities import LocalEntities
from proxy.reconcile.local_pairs import pairs, shown_by
from proxy.reconcile.local_rules import Values
from proxy.reconcile.ports import Query, Related

_NO_KEY = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Links:
    """One transaction's links. Where a lookup ties two entities, it is an update of the one that holds it;
    `operation` is what the client did."""

    entities: LocalEntities
    operation: str

    async def tie(
        self, entity_set: EntitySet, key: EntityKey, relationship: Relationship, other: EntityKey
    ) -> None:
        """Raises ODataError, 404, where either does not exist."""
        await self.entities.require(entity_set, key)
        await self.entities.require(relationship.target, other)
        if relationship.kind == "lookup":
            held = self._lookup(entity_set, relationship, other, relationship.target)
            await self.entities.change(entity_set, key, held, self.operation)
        elif relationship.kind == "referrers":
            held = self._lookup(relationship.target, relationship, key, entity_set)
            await self.entities.change(relationship.target, other, held, self.operation)
        elif not await pairs(self.entities.transaction, key, relationship, other):
            intersect = shown_by(relationship)
            pair = {intersect.first: key[0][1], intersect.second: other[0][1]}
            await self.entities.create(intersect.entity_set, pair, self.operation, trusted=True)

    async def untie(
        self, entity_set: EntitySet, key: EntityKey, relationship: Relationship, other: EntityKey | None
    ) -> None:
        """`other` is None for the one that a link to one leads to. Raises ODataError, 404, if not tied."""
        await self.entities.require(entity_set, key)
        tied = await self._tied(Related(entity_set, key, relationship), other)
        if tied is None:
            identity = _NO_KEY if other is None else other[0][1]
            raise does_not_exist(logical_name(relationship.target), identity)
        if relationship.kind == "lookup":
            emptied = self._lookup(entity_set, relationship, None, entity_set)
            await self.entities.change(entity_set, key, emptied, self.operation)
        elif relationship.kind == "referrers":
            emptied = self._lookup(relationship.target, relationship, None, entity_set)
            await self.entities.change(relationship.target, tied, emptied, self.operation)
        else:
            for pair in await pairs(self.entities.transaction, key, relationship, tied):
                await self.entities.drop(shown_by(relationship).entity_set, pair, self.operation)

    async def _tied(self, within: Related, other: EntityKey | None) -> EntityKey | None:
        target = within.relationship.target
        condition = None if other is None else key_condition(target, other)
        page = await self.entities.transaction.find(Query(target, condition, page=1, within=within))
        return page.rows[0].key if page.rows else None

    def _lookup(
        self, holder: EntitySet, relationship: Relationship, key: EntityKey | None, held: EntitySet
    ) -> Values:
        declared = holder.entity_type.properties[relationship.lookup]
        value: Values = dict.fromkeys(self.entities.model.complex_types[declared.type].properties)
        if key is not None:
            value |= {"Id": key[0][1], "LogicalName": logical_name(held)}
        return {relationship.lookup: value}
