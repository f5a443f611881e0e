"""What the metadata document does not say: primary attributes, and what a lookup may hold."""

from __future__ import annotations

import functools

from proxy.odata.edm import EntitySet, Model
from proxy.odata.relationships import Relationships, logical_name

_TITLES = ("FullName", "Name", "Subject", "Title", "DisplayName")

_KNOWN_TARGETS = {
    "createdby": "systemuser",
    "modifiedby": "systemuser",
    "createdonbehalfby": "systemuser",
    "modifiedonbehalfby": "systemuser",
    "ownerid": "systemuser",
    "owninguser": "systemuser",
    "owningteam": "team",
    "owningbusinessunit": "businessunit",
}
# Lookups that may hold records of several types, so that an Id alone does not say which (6.5).
_POLYMORPHIC = frozenset(
    {"ParentCustomerId", "CustomerId", "OwnerId", "RegardingObjectId", "ParentId", "ObjectId"}
)


class Schema:
    """A model with what was worked out from its names."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.relationships = Relationships(model)
        entity_sets = model.entity_sets.values()
        self.sets_by_logical_name = {logical_name(entity_set): entity_set for entity_set in entity_sets}
        for entity_set in entity_sets:
            entity_type = entity_set.entity_type
            key = entity_type.key
            if len(key) != 1 or entity_type.properties[key[0]].type != "Edm.Guid":
                raise ValueError(f"the sandbox serves types with one Edm.Guid key, not {entity_type.name}")
        self._keys = {entity_set.entity_type.key[0]: entity_set for entity_set in entity_sets}
        self._targets: dict[tuple[str, str], tuple[str, ...]] | None = None

    def key_name(self, entity_set: EntitySet) -> str:
        return entity_set.entity_type.key[0]

    def set_by_key_name(self, property_name: str) -> EntitySet | None:
        """The set whose key bears this name: what a bare Guid property refers to, if anything."""
        return self._keys.get(property_name)

    @functools.cache  # noqa: B019 - as many as there are sets, and the schema lives as long
    def title_property(self, entity_set_name: str) -> str | None:
        """The primary attribute: what Atom titles and lookups show (5.3); None for types without one."""
        entity_type = self.model.entity_sets[entity_set_name].entity_type
        prefix = entity_type.name.partition("_")[0]
        for name in (*_TITLES, f"{prefix}_name", f"{prefix}_Name"):
            declared = entity_type.properties.get(name)
            if declared is not None and declared.type == "Edm.String":
                return name
        return None

    def targets(self, entity_set: EntitySet, property_name: str) -> tuple[str, ...]:
        """Logical names of the records that a lookup may hold, by relationships and by its name."""
        if self._targets is None:
            self._targets = self._collect_targets()
        related = self._targets.get((entity_set.name, property_name), ())
        if related:
            return related
        spelled = property_name.lower()
        known = _KNOWN_TARGETS.get(spelled)
        stem = spelled.removesuffix("id")
        prefix = entity_set.entity_type.name.partition("_")[0].lower()
        for candidate in (known, stem, spelled, f"{prefix}_{stem}"):
            if candidate and candidate in self.sets_by_logical_name:
                return (candidate,)
        return ()

    def _collect_targets(self) -> dict[tuple[str, str], tuple[str, ...]]:
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for entity_set in self.model.entity_sets.values():
            for relationship in self.relationships.each(entity_set):
                if relationship.kind == "lookup":
                    slot = (entity_set.name, relationship.lookup)
                    name = logical_name(relationship.target)
                    if name not in found.get(slot, ()):
                        found[slot] = (*found.get(slot, ()), name)
        return found

    def is_polymorphic(self, entity_set: EntitySet, property_name: str) -> bool:
        return property_name in _POLYMORPHIC or len(self.targets(entity_set, property_name)) != 1

    @functools.cache  # noqa: B019
    def is_intersect(self, entity_set_name: str) -> bool:
        """Rows of a many-to-many relationship: a key, two other guids, no stamp but VersionNumber."""
        properties = self.model.entity_sets[entity_set_name].entity_type.properties
        kinds = [declared.type for declared in properties.values()]
        return kinds.count("Edm.Guid") == 3 and len(kinds) <= 4 and "ModifiedOn" not in properties
