"""What accounts and contacts and the rows of their addresses do to each other (field manual, 7.3).

A record has two addresses from its creation on, shown as Address1_* and Address2_* on the record and as
entities of their own; a write to one side shows on the other. It is so for the sets whose policy declares it:
an effect on the addresses' set by way of `Address1_AddressId`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxy.odata.bound import Comparison, Constant, Path, key_condition
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.relationships import logical_name
from proxy.reconcile.local_rules import Values, unexpected
from proxy.reconcile.ports import Query

if TYPE_CHECKING:
    from proxy.reconcile.local_entities import LocalEntities

_SUFFIX = "AddressId"
_PARENT, _NUMBER = "ParentId", "AddressNumber"


@dataclass(frozen=True, slots=True)
class Half:
    """One of a record's addresses. `owner`: the records' set; `rows`: the addresses'; `via`: the property
    that holds the row's key; `shared`: property of the row -> property of the record that shows it."""

    owner: EntitySet
    rows: EntitySet
    via: str
    number: int
    shared: Mapping[str, str]

    def key_of(self, identity: Any) -> EntityKey:
        return ((self.rows.entity_type.key[0], identity),)


class Addresses:
    """The rules, around one write."""

    def __init__(self, entities: LocalEntities) -> None:
        self._entities = entities

    def _halves_of(self, owner: EntitySet) -> Iterator[Half]:
        """What a record of the set shows of rows of its own."""
        sets = self._entities.model.entity_sets
        for effect in self._entities.sets.policy(owner).effects:
            rows = sets.get(effect.entity_set)
            if rows is None or _PARENT not in rows.entity_type.properties or not self._are_ours(owner, rows):
                continue
            for number, via in enumerate((each for each in effect.via if each.endswith(f"_{_SUFFIX}")), 1):
                prefix = via.removesuffix(_SUFFIX)
                shared = {
                    name: prefix + name
                    for name in rows.entity_type.properties
                    if prefix + name in owner.entity_type.properties
                }
                yield Half(owner, rows, via, number, shared)

    def _are_ours(self, owner: EntitySet, rows: EntitySet) -> bool:
        return self._entities.is_ours(owner) and self._entities.is_ours(rows)

    def _halves_in(self, rows: EntitySet) -> Iterator[Half]:
        """What rows of the set may be half of."""
        if _PARENT in rows.entity_type.properties:
            for owner in self._entities.model.entity_sets.values():
                yield from (half for half in self._halves_of(owner) if half.rows is rows)

    async def before_create(self, entity_set: EntitySet, values: Values) -> None:
        """Give a record the keys of its rows. Refuse a row without a parent (ODataError); number one that
        has."""
        for half in self._halves_of(entity_set):
            values[half.via] = uuid.uuid4()
        halves = list(self._halves_in(entity_set))
        if not halves:
            return
        parent = values[_PARENT]
        if parent.get("Id") is None:
            raise unexpected("A customer address must be parented by an account or a contact.")
        if values.get(_NUMBER) is None:
            values[_NUMBER] = await self._next_number(entity_set, parent["Id"])
        if "ObjectTypeCode" in values:
            values["ObjectTypeCode"] = parent["LogicalName"]

    async def _next_number(self, rows: EntitySet, parent: Any) -> int:
        held = Path((), (_PARENT, "Id"), "Edm.Guid")
        condition = Comparison("eq", held, Constant("Edm.Guid", parent), "Edm.Guid")
        page = await self._entities.transaction.find(Query(rows, condition, page=5000))
        numbers = [self._entities.values_of(row, rows).get(_NUMBER) or 0 for row in page.rows]
        return max(2, *numbers, 0) + 1

    async def after_create(self, entity_set: EntitySet, key: EntityKey, values: Values) -> None:
        """A new record gets its rows."""
        for half in self._halves_of(entity_set):
            await self._add(half, key, values, values[half.via])

    async def _add(self, half: Half, key: EntityKey, owner: Values, identity: Any) -> None:
        row = {name: owner[shown] for name, shown in half.shared.items()}
        parent = {"Id": key[0][1], "LogicalName": logical_name(half.owner), "Name": None}
        row |= {_PARENT: parent, _NUMBER: half.number, **dict(half.key_of(identity))}
        await self._entities.create(half.rows, row, None, trusted=True)

    async def after_update(
        self, entity_set: EntitySet, key: EntityKey, values: Values, changed: Mapping[str, Any]
    ) -> None:
        """Show what has changed on the other side."""
        for half in self._halves_of(entity_set):
            moved = {name: changed[shown] for name, shown in half.shared.items() if shown in changed}
            if moved and values.get(half.via) is None:
                identity = uuid.uuid4()
                await self._add(half, key, values, identity)
                await self._entities.change(entity_set, key, {half.via: identity}, None, moves="nothing")
            elif moved and half.via not in changed:
                await self._write_through(half, values[half.via], moved)
        for half in self._halves_in(entity_set):
            shown = {half.shared[name]: value for name, value in changed.items() if name in half.shared}
            owner = await self._owner(half, key) if shown else None
            if owner is not None:
                # The record itself is not written: no stamp of it moves.
                await self._entities.change(half.owner, owner, shown, None, moves="nothing")

    async def _write_through(self, half: Half, identity: Any, moved: Mapping[str, Any]) -> None:
        held = await self._entities.require(half.rows, half.key_of(identity))
        current = self._entities.values_of(held, half.rows)
        if any(current[name] != value for name, value in moved.items()):
            await self._entities.change(half.rows, half.key_of(identity), moved, None)

    async def _owner(self, half: Half, key: EntityKey) -> EntityKey | None:
        """The record that shows a row as this half of it."""
        condition = key_condition(half.owner, ((half.via, key[0][1]),))
        page = await self._entities.transaction.find(Query(half.owner, condition, page=1))
        return page.rows[0].key if page.rows else None

    async def before_delete(self, entity_set: EntitySet, key: EntityKey) -> None:
        """A deleted row empties its half of the record; the other half stays."""
        for half in self._halves_in(entity_set):
            owner = await self._owner(half, key)
            if owner is not None:
                emptied = {name: self._null(half.owner, name) for name in half.shared.values()}
                emptied[half.via] = None
                await self._entities.change(half.owner, owner, emptied, None, moves="nothing")

    def _null(self, entity_set: EntitySet, name: str) -> Any:
        declared = entity_set.entity_type.properties[name]
        complex_type = self._entities.model.complex_type(declared.type)
        return None if complex_type is None else dict.fromkeys(complex_type.properties)
