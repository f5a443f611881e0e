"""What accounts and contacts and their CustomerAddress rows do to each other (field manual 7.3).

A record has two addresses from its creation on, shown as Address1_* and Address2_* on the record and as rows
of their own; a write to one side shows on the other.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from proxy.odata.edm import EntitySet
from proxy.odata.relationships import logical_name
from proxy.sandbox import faultcodes

if TYPE_CHECKING:
    from proxy.sandbox.organisation import Organisation

_SET = "CustomerAddressSet"
_OWNERS = ("AccountSet", "ContactSet")


class Addresses:
    """The rules, called by the organisation around its writes."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._rows = organisation.schema.model.entity_sets.get(_SET)

    def before_create(self, entity_set: EntitySet, values: dict[str, Any]) -> None:
        """Refuse an address without a parent; number one that has."""
        if entity_set is not self._rows or entity_set is None:
            return
        parent = values.get("ParentId")
        if parent is None:
            raise faultcodes.unexpected("A customer address must be parented by an account or a contact.")
        if values.get("AddressNumber") is None:
            values["AddressNumber"] = max(2, *self._numbers(parent["Id"]), 0) + 1
        if "ObjectTypeCode" in values:
            values["ObjectTypeCode"] = parent["LogicalName"]

    def _numbers(self, parent: uuid.UUID) -> list[int]:
        rows = self._organisation.tables.rows(_SET).values()
        return [
            row.values["AddressNumber"] or 0
            for row in rows
            if row.values["ParentId"] is not None and row.values["ParentId"]["Id"] == parent
        ]

    def after_create(self, entity_set: EntitySet, key: uuid.UUID) -> None:
        if self._owns_addresses(entity_set):
            for number in (1, 2):
                self._add(entity_set, key, number)

    def _owns_addresses(self, entity_set: EntitySet) -> bool:
        properties = entity_set.entity_type.properties
        return self._rows is not None and entity_set.name in _OWNERS and "Address1_AddressId" in properties

    def _add(self, entity_set: EntitySet, key: uuid.UUID, number: int) -> None:
        """Make the row of one of a record's addresses, and show its key on the record."""
        tables = self._organisation.tables
        id_name = f"Address{number}_AddressId"
        if id_name not in entity_set.entity_type.properties:
            return
        owner = tables.rows(entity_set.name)[key].values
        values = {name: owner[shown] for name, shown in self._shared(entity_set, number).items()}
        values["ParentId"] = {"Id": key, "LogicalName": logical_name(entity_set)}
        values["AddressNumber"] = number
        tables.change(entity_set.name, key, {id_name: self._organisation.insert(_SET, values)})

    def _shared(self, entity_set: EntitySet, number: int) -> dict[str, str]:
        """Property of the address row -> property of the record that shows it."""
        assert self._rows is not None
        prefix = f"Address{number}_"
        return {
            name: f"{prefix}{name}"
            for name in self._rows.entity_type.properties
            if f"{prefix}{name}" in entity_set.entity_type.properties
        }

    def after_update(self, entity_set: EntitySet, key: uuid.UUID, changed: dict[str, Any]) -> None:
        if entity_set is self._rows:
            self._show_on_owner(key, changed)
        elif self._owns_addresses(entity_set):
            for number in (1, 2):
                self._write_through(entity_set, key, number, changed)

    def _write_through(
        self, entity_set: EntitySet, key: uuid.UUID, number: int, changed: dict[str, Any]
    ) -> None:
        moved = {
            name: changed[shown]
            for name, shown in self._shared(entity_set, number).items()
            if shown in changed
        }
        if not moved:
            return
        address = self._organisation.tables.rows(entity_set.name)[key].values.get(
            f"Address{number}_AddressId"
        )
        if address is None:
            self._add(entity_set, key, number)
            return
        current = self._organisation.tables.rows(_SET)[address].values
        if any(current[name] != value for name, value in moved.items()):
            self._organisation.change(_SET, address, moved)

    def _show_on_owner(self, key: uuid.UUID, changed: dict[str, Any]) -> None:
        """The record shows what its address row says. The record itself is not written: no stamp moves."""
        owner = self._owner(key)
        if owner is None:
            return
        entity_set, owner_key, number = owner
        shared = self._shared(entity_set, number)
        shown = {shared[name]: value for name, value in changed.items() if name in shared}
        if shown:
            self._organisation.tables.change(entity_set.name, owner_key, shown)

    def _owner(self, key: uuid.UUID) -> tuple[EntitySet, uuid.UUID, int] | None:
        """The record that shows an address row, its key, and as which of its addresses."""
        tables = self._organisation.tables
        parent = tables.rows(_SET)[key].values["ParentId"]
        entity_set = (
            self._organisation.schema.sets_by_logical_name.get(parent["LogicalName"]) if parent else None
        )
        if entity_set is None or not self._owns_addresses(entity_set):
            return None
        row = tables.get(entity_set.name, parent["Id"])
        if row is None:
            return None
        for number in (1, 2):
            if row.values.get(f"Address{number}_AddressId") == key:
                return entity_set, parent["Id"], number
        return None

    def before_delete(self, entity_set: EntitySet, key: uuid.UUID) -> None:
        """A deleted address empties its half of the record; the other half stays."""
        owner = self._owner(key) if entity_set is self._rows else None
        if owner is None:
            return
        owners, owner_key, number = owner
        emptied = dict.fromkeys(self._shared(owners, number).values())
        emptied[f"Address{number}_AddressId"] = None
        self._organisation.tables.change(owners.name, owner_key, emptied)
