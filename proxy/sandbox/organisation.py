"""The organisation: what happens to its records when they are created, changed, deleted, tied and untied."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from proxy.odata.edm import EntitySet
from proxy.sandbox import faultcodes
from proxy.sandbox.addresses import Addresses
from proxy.sandbox.clock import Clock
from proxy.sandbox.data import derive, new_key
from proxy.sandbox.plugins import Plugins
from proxy.sandbox.schema import Relationship, Schema, is_reference, logical_name
from proxy.sandbox.switches import Switches
from proxy.sandbox.tables import Tables, Values
from proxy.sandbox.values import is_server_kept, stored

_NO_KEY = uuid.UUID(int=0)
# Lookups through which a record dies with its parent; any other is emptied (7.3).
_PARENTAL = frozenset({"ParentCustomerId", "RegardingObjectId", "ParentId", "ObjectId"})
_DEFAULTS: Values = {
    "StateCode": {"Value": 0},
    "statecode": {"Value": 0},
    "StatusCode": {"Value": 1},
    "statuscode": {"Value": 1},
    "PreferredContactMethodCode": {"Value": 1},
    "Merged": False,
    "ExchangeRate": Decimal("1.0000000000"),
}

ModifiedOn = Literal["move", "keep"] | datetime | None
Version = Literal["move", "keep"]


class Organisation:
    """Records and the platform's rules for them (field manual, sections 6 and 7).

    Everything that refuses raises ODataError with the status and code that a client gets. Writes of clients
    go through `create` and `update`; `insert`, `change` and `remove` are for whoever plays another user, a
    workflow or an administrator in a test.
    """

    def __init__(self, schema: Schema, tables: Tables, clock: Clock, switches: Switches, seed: int) -> None:
        self.schema = schema
        self.tables = tables
        self._clock = clock
        self._switches = switches
        self._random = random.Random(seed ^ 0x5EED)  # noqa: S311
        self._addresses = Addresses(self)
        self._plugins = Plugins(switches.plugins, clock)
        self.stamps_stand_still = False  # while set, updates leave ModifiedOn and VersionNumber alone

    # For tests and tools

    def entity(self, set_name: str, key: uuid.UUID) -> Values | None:
        """The record's values with lookup names; null complex values are None. None: no such record."""
        if self.tables.get(set_name, key) is None:
            return None
        return self.tables.shown(self.entity_set(set_name), key)

    def keys(self, set_name: str) -> list[uuid.UUID]:
        """The keys of a set in the server's default order."""
        return list(self.tables.ordered(set_name))

    def insert(self, set_name: str, values: Mapping[str, Any]) -> uuid.UUID:
        """Create a record; values that clients cannot set (stamps, owners, state) are kept too."""
        return self.create(self.entity_set(set_name), values, trusted=True)

    def change(
        self,
        set_name: str,
        key: uuid.UUID,
        values: Mapping[str, Any],
        *,
        modified_on: ModifiedOn = "move",
        version: Version = "move",
    ) -> None:
        """Change a record behind the endpoint's back, with what follows from it for other records.

        `modified_on`: "move" as an update would (the switch decides), "keep", or the value to show.
        """
        entity_set = self.entity_set(set_name)
        self.update(entity_set, key, values, trusted=True, modified_on=modified_on, version=version)

    def remove(self, set_name: str, key: uuid.UUID) -> None:
        self.delete(self.entity_set(set_name), key)

    def entity_set(self, set_name: str) -> EntitySet:
        return self.schema.model.entity_sets[set_name]

    # What requests do

    def require(self, entity_set: EntitySet, key: uuid.UUID) -> None:
        """Raise the platform's 404 unless the record exists."""
        if self.tables.get(entity_set.name, key) is None:
            raise faultcodes.does_not_exist(entity_set, key)

    def create(self, entity_set: EntitySet, values: Mapping[str, Any], *, trusted: bool = False) -> uuid.UUID:
        """Create a record and what comes with it; returns its key."""
        if not trusted and self.schema.is_intersect(entity_set.name):
            raise faultcodes.invalid_argument(f"{logical_name(entity_set)} is written through $links only.")
        key = values.get(self.schema.key_name(entity_set)) or _NO_KEY
        if key == _NO_KEY:
            key = self.new_key()
        if self.tables.get(entity_set.name, key) is not None:
            raise faultcodes.duplicate_key(entity_set)
        accepted = self._accepted(entity_set, values, creating=True, trusted=trusted)
        row = self._blank(entity_set, key)
        row.update(accepted)
        if not trusted and row.get("OverriddenCreatedOn") is not None:
            row["CreatedOn"] = row["OverriddenCreatedOn"]
        derive(row)
        if self.tables.hides_modified_on(key) and "ModifiedOn" in row:
            row["ModifiedOn"] = None
        self._addresses.before_create(entity_set, row)
        self.tables.put(entity_set.name, key, row)
        self._addresses.after_create(entity_set, key)
        if not trusted:
            self._plugins.saved(entity_set.name, row)
        return key

    def update(
        self,
        entity_set: EntitySet,
        key: uuid.UUID,
        values: Mapping[str, Any],
        *,
        trusted: bool = False,
        reset: bool = False,
        modified_on: ModifiedOn = "move",
        version: Version = "move",
    ) -> None:
        """Change what `values` name; with `reset` all else that clients can set becomes null (PUT, 6.3)."""
        self.require(entity_set, key)
        if not trusted and self.schema.is_intersect(entity_set.name):
            raise faultcodes.invalid_argument(f"{logical_name(entity_set)} is written through $links only.")
        accepted = self._accepted(entity_set, values, creating=False, trusted=trusted)
        if reset:
            accepted = self._settable_nulls(entity_set) | accepted
        current = self.tables.rows(entity_set.name)[key].values
        merged = {**current, **accepted}
        derive(merged)
        changed = {name: value for name, value in merged.items() if value != current[name]}
        written = changed | accepted
        self._stamp(entity_set, key, written, bool(changed), modified_on, version, values)
        self.tables.change(entity_set.name, key, written)
        self._addresses.after_update(entity_set, key, changed)
        if not trusted:
            self._plugins.saved(entity_set.name, merged)

    def run_plugins(self) -> None:
        """Do what plug-ins meant to do by now; a record that has gone meanwhile is passed over."""
        for touch in self._plugins.due():
            entity_set = self.schema.sets_by_logical_name.get(touch.logical_name)
            if entity_set is not None and self.tables.get(entity_set.name, touch.key) is not None:
                self.change(entity_set.name, touch.key, touch.values)

    def delete(self, entity_set: EntitySet, key: uuid.UUID) -> None:
        """Delete a record, its children, and the lookups and links that held it (7.3)."""
        self.require(entity_set, key)
        self._addresses.before_delete(entity_set, key)
        self._bring_children(entity_set)
        self.tables.drop(entity_set.name, key)
        self.tables.forget_links(entity_set.name, key)
        logical = logical_name(entity_set)
        for holders, name, holder in self._holders(logical, key):
            if self.tables.get(holders.name, holder) is None:
                continue
            if name in _PARENTAL:
                self.delete(holders, holder)
            else:
                # The platform removes the link without counting it as somebody's update.
                self.tables.change(holders.name, holder, {name: None, **self._new_version(holders)})

    def associate(
        self, entity_set: EntitySet, key: uuid.UUID, relationship: Relationship, other: uuid.UUID
    ) -> None:
        """`$links`: tie two records. Through a lookup it is an update of the one that holds it (6.6)."""
        self.require(entity_set, key)
        self.require(relationship.target, other)
        if relationship.kind == "links":
            self.tables.link(key, relationship, other, self.new_key())
        elif relationship.kind == "lookup":
            held = {"Id": other, "LogicalName": logical_name(relationship.target)}
            self.update(entity_set, key, {relationship.lookup: held}, trusted=True)
        else:
            held = {"Id": key, "LogicalName": logical_name(entity_set)}
            self.update(relationship.target, other, {relationship.lookup: held}, trusted=True)

    def disassociate(
        self, entity_set: EntitySet, key: uuid.UUID, relationship: Relationship, other: uuid.UUID | None
    ) -> None:
        """Untie; `other` is None for the one record that a single-valued link leads to."""
        self.require(entity_set, key)
        tied = self.tables.related(key, relationship)
        if other is None and tied:
            other = tied[0]
        if other is None or other not in tied:
            raise faultcodes.does_not_exist(relationship.target, other or _NO_KEY)
        if relationship.kind == "links":
            self.tables.unlink(key, relationship, other)
        elif relationship.kind == "lookup":
            self.update(entity_set, key, {relationship.lookup: None}, trusted=True)
        else:
            self.update(relationship.target, other, {relationship.lookup: None}, trusted=True)

    def new_key(self) -> uuid.UUID:
        return new_key(self._random)

    # Filling in

    def _accepted(
        self, entity_set: EntitySet, values: Mapping[str, Any], *, creating: bool, trusted: bool
    ) -> Values:
        """What is kept of the given values, in the form it is kept in."""
        if not trusted:
            values = self._plugins.rewritten(entity_set.name, dict(values))
        accepted = {}
        wart = self._switches.modified_on == "wart" and not creating
        for name, value in values.items():
            if name not in entity_set.entity_type.properties:
                continue
            if (
                not trusted
                and is_server_kept(entity_set, name, creating=creating)
                and not (wart and name == "ModifiedOn")
            ):
                continue
            kept = stored(self.schema, entity_set, name, value)
            if isinstance(kept, dict) and "LogicalName" in kept:
                self._require_target(kept)
            accepted[name] = kept
        accepted.pop(self.schema.key_name(entity_set), None)
        return accepted

    def _require_target(self, reference: Values) -> None:
        target = self.schema.sets_by_logical_name.get(reference["LogicalName"])
        if target is not None:
            self.require(target, reference["Id"])

    def _blank(self, entity_set: EntitySet, key: uuid.UUID) -> Values:
        """A new record as the platform fills it before looking at what was sent (7.1)."""
        now = self._clock.second()
        user = self.caller()
        filled: Values = {
            **_DEFAULTS,
            "CreatedOn": now,
            "ModifiedOn": now,
            "CreatedBy": user,
            "ModifiedBy": user,
            "OwnerId": user,
            "OwningUser": user,
            "OwningBusinessUnit": self._business_unit(),
            "ActivityTypeCode": logical_name(entity_set),
            "VersionNumber": self.tables.next_version(),
        }
        row: Values = {}
        for name, declared in entity_set.entity_type.properties.items():
            row[name] = filled.get(name)
            if name.startswith("DoNot") and declared.type == "Edm.Boolean":
                row[name] = False
        row[self.schema.key_name(entity_set)] = key
        return row

    def caller(self) -> Values | None:
        """The user that every request acts as: the set's first."""
        return self._first_of("systemuser")

    def _business_unit(self) -> Values | None:
        return self._first_of("businessunit")

    def _first_of(self, logical: str) -> Values | None:
        entity_set = self.schema.sets_by_logical_name.get(logical)
        keys = self.tables.ordered(entity_set.name) if entity_set is not None else []
        return {"Id": keys[0], "LogicalName": logical} if keys else None

    def _settable_nulls(self, entity_set: EntitySet) -> Values:
        return {
            name: None
            for name in entity_set.entity_type.properties
            if not is_server_kept(entity_set, name, creating=False)
        }

    def _stamp(
        self,
        entity_set: EntitySet,
        key: uuid.UUID,
        written: Values,
        changes: bool,
        modified_on: ModifiedOn,
        version: Version,
        sent: Mapping[str, Any],
    ) -> None:
        """Add stamp and author to what an update writes (7.2)."""
        properties = entity_set.entity_type.properties
        if self.stamps_stand_still:
            written.pop("ModifiedOn", None)
            return
        if version == "move":
            written.update(self._new_version(entity_set))
        if "ModifiedOn" not in properties:
            return
        if modified_on == "move":
            behaviour = self._switches.modified_on
            moves = behaviour != "wart" and (changes or behaviour != "moves_on_value")
            if moves and not self.tables.hides_modified_on(key) and "ModifiedOn" not in written:
                written["ModifiedOn"] = self._clock.second()
            if moves and "ModifiedBy" in properties and "ModifiedBy" not in sent:
                written["ModifiedBy"] = self.caller()
        elif modified_on != "keep":
            written["ModifiedOn"] = modified_on

    def _new_version(self, entity_set: EntitySet) -> Values:
        if "VersionNumber" not in entity_set.entity_type.properties:
            return {}
        return {"VersionNumber": self.tables.next_version()}

    def _bring_children(self, entity_set: EntitySet) -> None:
        """See that the rows exist that die with a record of this set."""
        logical = logical_name(entity_set)
        for holders in self.schema.model.entity_sets.values():
            for name in _PARENTAL & holders.entity_type.properties.keys():
                if logical in self.schema.targets(holders, name):
                    self.tables.rows(holders.name)

    def _holders(self, logical: str, key: uuid.UUID) -> list[tuple[EntitySet, str, uuid.UUID]]:
        """The lookups that hold a record: (set, property, key of the row)."""
        found = []
        for entity_set in list(self.tables.sets_in_use()):
            lookups = [
                name for name, declared in entity_set.entity_type.properties.items() if is_reference(declared)
            ]
            for row_key, row in self.tables.rows(entity_set.name).items():
                for name in lookups:
                    reference = row.values[name]
                    if (
                        reference is not None
                        and reference["Id"] == key
                        and reference["LogicalName"] == logical
                    ):
                        found.append((entity_set, name, row_key))
        return found
