"""Entities as the mirror itself makes, changes and deletes them, in one transaction (field manual, 6 and 7).

What follows from a write is done with it: lookups show the names that are in the mirror, the addresses of a
record are rows of their own, and what is deleted leaves nothing that refers to it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.relationships import Relationship, is_reference, logical_name
from proxy.reconcile.current_names import CurrentNames
from proxy.reconcile.local import does_not_exist
from proxy.reconcile.local_addresses import Addresses
from proxy.reconcile.local_pairs import pairs
from proxy.reconcile.local_rules import (
    PARENTAL,
    Author,
    Rules,
    Values,
    derive,
    duplicate_key,
    invalid_argument,
    is_intersect,
)
from proxy.reconcile.local_store import LocalTransaction
from proxy.reconcile.policy import Mode, SyncRules
from proxy.reconcile.ports import Fetched, Provenance, Query, Related, Stored
from proxy.reconcile.sets import Sets
from proxy.reconcile.stamp import Stamp

_ORIGIN = "http://upstream"  # of documents while they are written; they keep a placeholder
_NO_KEY = uuid.UUID(int=0)
_AT_ONCE = 1000

Moves = Literal["stamp", "version", "nothing"]


@dataclass(frozen=True, slots=True)
class LocalEntities:
    """One transaction's hands. `own_path`: the service root's path as upstream's documents spell it,
    `root_path`: as the settings do. `now`: aware UTC."""

    transaction: LocalTransaction
    names: CurrentNames
    sets: Sets
    rules: Rules
    sync: SyncRules
    author: Author
    provenance: Provenance
    now: Callable[[], datetime]
    own_path: str
    root_path: str

    @property
    def model(self) -> Model:
        return self.rules.model

    def is_ours(self, entity_set: EntitySet) -> bool:
        """Whether the mirror is the authority of the set; of others it may hold a part only."""
        return self.sets.policy(entity_set).mode is Mode.MIRROR

    async def require(self, entity_set: EntitySet, key: EntityKey) -> Stored:
        """The entity, which nobody else changes before the transaction ends. ODataError 404 without one."""
        await self.transaction.lock(entity_set, [key])
        held = await self.names.get(entity_set, key)
        if held is None:
            raise does_not_exist(logical_name(entity_set), key[0][1])
        return held

    def values_of(self, held: Stored, entity_set: EntitySet) -> Values:
        """What a document shows."""
        raw = json.loads(verbose_json.restore_origins(held.document or "", _ORIGIN))
        return verbose_json.parse_entity(raw, entity_set.entity_type, self.model)

    # Creating

    async def create(
        self,
        entity_set: EntitySet,
        posted: Mapping[str, Any],
        operation: str | None,
        *,
        trusted: bool = False,
    ) -> EntityKey:
        """Make an entity and what comes with it; its key. `trusted`: what is posted is the platform's own.

        Raises ODataError for what the platform refuses.
        """
        if is_intersect(entity_set) and not trusted:
            raise invalid_argument(f"{logical_name(entity_set)} is written through $links only.")
        (part,) = entity_set.entity_type.key
        identity = posted.get(part) or _NO_KEY
        key: EntityKey = ((part, uuid.uuid4() if identity == _NO_KEY else identity),)
        await self.transaction.lock(entity_set, [key])
        if await self.names.get(entity_set, key) is not None:
            raise duplicate_key(entity_set)
        version = await self.transaction.next_version(None, creating=True)
        initial = self.sets.policy(entity_set).initial
        values = self.rules.blank(entity_set, self.author, self._second(), version, initial)
        if not trusted:
            posted = self.rules.accepted(posted, entity_set, creating=True)
            await self._check_targets(posted, entity_set)
        values |= {**posted, **dict(key)}
        if values.get("OverriddenCreatedOn") is not None and not trusted:
            values["CreatedOn"] = values["OverriddenCreatedOn"]
        derive(values)
        addresses = Addresses(self)
        await addresses.before_create(entity_set, values)
        await self._name_lookups(values, entity_set, values.keys())
        document = verbose_json.write_entity(values, entity_set, self.model, _ORIGIN + self.own_path)
        await self._put(entity_set, key, document, values, operation)
        await addresses.after_create(entity_set, key, values)
        return key

    async def _check_targets(self, values: Mapping[str, Any], entity_set: EntitySet) -> None:
        """What a lookup names exists, as far as that is ours to know. Raises ODataError, 404."""
        by_name = {logical_name(each): each for each in self.model.entity_sets.values()}
        for name, declared in entity_set.entity_type.properties.items():
            held = values.get(name)
            if not is_reference(declared) or not held or held.get("Id") is None:
                continue
            target = by_name.get(held["LogicalName"] or "")
            if target is None or len(target.entity_type.key) != 1 or not self.is_ours(target):
                continue
            key: EntityKey = ((target.entity_type.key[0], held["Id"]),)
            await self.transaction.keep(target, key)
            if await self.names.get(target, key) is None:
                raise does_not_exist(logical_name(target), held["Id"])

    # Changing

    async def update(
        self, entity_set: EntitySet, key: EntityKey, posted: Mapping[str, Any], operation: str | None
    ) -> None:
        """Change what a client posts. Raises ODataError for what the platform refuses."""
        await self.require(entity_set, key)
        if is_intersect(entity_set):
            raise invalid_argument(f"{logical_name(entity_set)} is written through $links only.")
        accepted = self.rules.accepted(posted, entity_set, creating=False)
        await self._check_targets(accepted, entity_set)
        await self.change(entity_set, key, accepted, operation)

    async def change(
        self,
        entity_set: EntitySet,
        key: EntityKey,
        accepted: Mapping[str, Any],
        operation: str | None,
        *,
        moves: Moves = "stamp",
    ) -> None:
        """Change an entity, with what follows. `moves`: whether that is somebody's update, a change of the
        row that is nobody's, or shown on the row only (7.2)."""
        held = await self.require(entity_set, key)
        current = self.values_of(held, entity_set)
        values = {**current, **accepted}
        derive(values)
        changed = {name: value for name, value in values.items() if not _same(value, current.get(name))}
        if not changed and operation is None:
            return
        await self._name_lookups(values, entity_set, changed)
        shown = {name: values[name] for name in changed} | await self._stamps(values, entity_set, moves)
        values |= shown
        properties = entity_set.entity_type.properties
        texts = {name: verbose_json.write_value(values[name], properties[name], self.model) for name in shown}
        document = verbose_json.put_members(held.document or "", texts) if texts else held.document or ""
        await self._put(entity_set, key, document, values, operation)
        await Addresses(self).after_update(entity_set, key, values, changed)

    async def _stamps(self, values: Values, entity_set: EntitySet, moves: Moves) -> Values:
        """Stamp and author of a change; ModifiedOn never goes back."""
        properties = entity_set.entity_type.properties
        stamps: Values = {}
        version = self.sync.version_property
        if version in properties and moves != "nothing":
            stamps[version] = await self.transaction.next_version(values.get(version), creating=False)
        modified = self.sync.modified_property
        if moves == "stamp" and modified in properties:
            before = values.get(modified)
            now = self._second()
            stamps[modified] = now if before is None else max(now, before)
            if "ModifiedBy" in properties and self.author.user is not None:
                stamps["ModifiedBy"] = {**(values["ModifiedBy"] or {}), **self.author.user}
                await self._name_lookups(stamps, entity_set, ("ModifiedBy",))
        return stamps

    # Deleting

    async def delete(self, entity_set: EntitySet, key: EntityKey, operation: str | None) -> None:
        """Delete an entity, its children, and the lookups and links that held it (7.3)."""
        await self.require(entity_set, key)
        await Addresses(self).before_delete(entity_set, key)
        # What refers to it is found through it, so before it goes.
        holders = [
            (relationship, await self._holders(entity_set, key, relationship))
            for relationship in self.rules.relationships.each(entity_set)
            if self._is_followed(relationship)
        ]
        await self.drop(entity_set, key, operation)
        for relationship, rows in holders:
            for row in rows:
                await self._let_go(relationship, row)

    def _is_followed(self, relationship: Relationship) -> bool:
        """Whether what refers to an entity through it is ours to change."""
        if relationship.intersect is not None:
            return self.is_ours(relationship.intersect.entity_set)
        return relationship.kind == "referrers" and self.is_ours(relationship.target)

    async def _holders(
        self, entity_set: EntitySet, key: EntityKey, relationship: Relationship
    ) -> list[EntityKey]:
        """Keys of what refers to an entity: of the far end's, or of the rows that pair them."""
        if relationship.intersect is not None:
            return await pairs(self.transaction, key, relationship)
        within = Related(entity_set, key, relationship)
        found: list[EntityKey] = []
        query: Query | None = Query(relationship.target, page=_AT_ONCE, within=within)
        while query is not None:
            page = await self.transaction.find(query)
            found += [row.key for row in page.rows]
            query = None if page.next is None else replace(query, after=page.next)
        return found

    async def _let_go(self, relationship: Relationship, key: EntityKey) -> None:
        """What referred to an entity that has gone: goes too, or refers to nothing."""
        if relationship.intersect is not None:
            await self.drop(relationship.intersect.entity_set, key, None)
            return
        target = relationship.target
        if await self.names.get(target, key) is None:
            return  # gone with another
        if relationship.lookup in PARENTAL:
            await self.delete(target, key, None)
            return
        declared = target.entity_type.properties[relationship.lookup]
        members = self.model.complex_types[declared.type].properties
        # Nobody's update: no stamp moves but the row's version.
        emptied = {relationship.lookup: dict.fromkeys(members)}
        await self.change(target, key, emptied, None, moves="version")

    async def drop(self, entity_set: EntitySet, key: EntityKey, operation: str | None) -> None:
        """Put a tombstone in the place of an entity."""
        number = await self.transaction.next_fetch_number()
        gone = Fetched(key, None, {}, Stamp(), b"", True, number, self.now())
        await self.transaction.put_local(entity_set, gone, self.provenance, operation)

    # Their parts

    async def _put(
        self,
        entity_set: EntitySet,
        key: EntityKey,
        document: str,
        values: Mapping[str, Any],
        operation: str | None,
    ) -> None:
        entity_type = entity_set.entity_type
        modified, version = self.sync.modified_property, self.sync.version_property
        leave_out = self.sets.policy(entity_set).volatile | {modified, version}
        state = Fetched(
            key=key,
            document=verbose_json.hold_origins(document, self.root_path),
            values=values,
            stamp=Stamp(values.get(modified), values.get(version)),
            digest=verbose_json.content_digest(values, entity_type, self.model, leave_out=leave_out),
            settled=True,
            fetch_number=await self.transaction.next_fetch_number(),
            fetched_at=self.now(),
        )
        await self.transaction.put_local(entity_set, state, self.provenance, operation)

    async def _name_lookups(self, values: Values, entity_set: EntitySet, names: Iterable[str]) -> None:
        """Give the lookups of these names the name of what they hold."""
        held = {
            name: values[name]
            for name in names
            if is_reference(entity_set.entity_type.properties[name]) and values[name].get("Id") is not None
        }
        references = {name: (each["LogicalName"] or "", str(each["Id"])) for name, each in held.items()}
        found = await self.names.names(references.values())
        for name, each in held.items():
            text = found.get(references[name])
            values[name] = {**each, "Name": None if text is None else json.loads(text)}

    def _second(self) -> datetime:
        """Naive UTC, whole seconds, as the platform counts (7.2)."""
        return self.now().replace(microsecond=0, tzinfo=None)


def _same(value: Any, other: Any) -> bool:
    """Whether a property shows the same; the name in a lookup goes with its id."""
    if isinstance(value, dict) and isinstance(other, dict) and "Name" in value and "Id" in value:
        return {**value, "Name": None} == {**other, "Name": None}
    return bool(value == other)
