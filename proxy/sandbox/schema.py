"""What the metadata document does not say: logical names, titles, and which lookup a relationship uses.

No referential constraint ties a lookup property to its navigation property (field manual, section 10), so
the pairs are worked out from their names, as the platform's naming habits allow.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from proxy.odata.edm import EntitySet, Model, NavigationProperty, Property

_TITLES = ("FullName", "Name", "Subject", "Title", "DisplayName")

# Lookup properties that relationship names point at without containing them: (part of the name, property).
_HABITS = (
    ("createdonbehalfby", "CreatedOnBehalfBy"),
    ("modifiedonbehalfby", "ModifiedOnBehalfBy"),
    ("createdby", "CreatedBy"),
    ("modifiedby", "ModifiedBy"),
    ("customer_accounts", "ParentCustomerId"),
    ("customer_contacts", "ParentCustomerId"),
    ("_customeraddress", "ParentId"),
    ("_annotation", "ObjectId"),
)
_OWNERS = {
    "systemuser": ("OwningUser",),
    "businessunit": ("OwningBusinessUnit", "BusinessUnitId"),
    "team": ("OwningTeam",),
}
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


@dataclass(frozen=True, slots=True)
class Relationship:
    """A navigation property from `source` to `target`.

    `kind`: "lookup": the source's property `lookup` holds the one target; "referrers": the targets' property
    `lookup` holds the source; "links": pairs are kept under `association`, the source first if `first`.
    """

    name: str
    source: EntitySet
    target: EntitySet
    many: bool
    kind: Literal["lookup", "referrers", "links"]
    association: str
    lookup: str = ""
    first: bool = True


@dataclass(frozen=True, slots=True)
class Intersect:
    """The set that shows a many-to-many relationship as rows: `first` and `second` hold the ends' keys."""

    entity_set: EntitySet
    first: str
    second: str


def is_reference(property_: Property) -> bool:
    return property_.type.endswith(".EntityReference")


def logical_name(entity_set: EntitySet) -> str:
    """The entity's name inside the platform: the schema name in lower case."""
    return entity_set.entity_type.name.lower()


class Schema:
    """A model with what was worked out from its names."""

    def __init__(self, model: Model) -> None:
        self.model = model
        entity_sets = model.entity_sets.values()
        self.sets_by_logical_name = {logical_name(entity_set): entity_set for entity_set in entity_sets}
        self._set_of_type: dict[str, EntitySet] = {}
        for entity_set in entity_sets:
            entity_type = entity_set.entity_type
            key = entity_type.key
            if len(key) != 1 or entity_type.properties[key[0]].type != "Edm.Guid":
                raise ValueError(f"the sandbox serves types with one Edm.Guid key, not {entity_type.name}")
            self._set_of_type.setdefault(entity_type.qualified_name, entity_set)
        self._ends: dict[tuple[str, str], NavigationProperty] = {}
        for entity_set in entity_sets:
            for navigation in entity_set.entity_type.navigation_properties.values():
                self._ends[navigation.relationship, navigation.from_role] = navigation
        self._keys = {entity_set.entity_type.key[0]: entity_set for entity_set in entity_sets}
        self._relationships: dict[tuple[str, str], Relationship | None] = {}
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

    def relationship(self, entity_set: EntitySet, navigation_name: str) -> Relationship | None:
        """What `navigation_name` of this set leads to; None if it is not declared or leads nowhere."""
        slot = (entity_set.name, navigation_name)
        if slot not in self._relationships:
            self._relationships[slot] = self._work_out(entity_set, navigation_name)
        return self._relationships[slot]

    def relationships(self, entity_set: EntitySet) -> Iterator[Relationship]:
        for name in entity_set.entity_type.navigation_properties:
            relationship = self.relationship(entity_set, name)
            if relationship is not None:
                yield relationship

    def _work_out(self, entity_set: EntitySet, navigation_name: str) -> Relationship | None:
        navigation = entity_set.entity_type.navigation_properties.get(navigation_name)
        if navigation is None:
            return None
        target = self.model.navigation_target(entity_set, navigation_name) or self._set_of_type.get(
            navigation.target
        )
        if target is None:
            return None
        partner = self._ends.get((navigation.relationship, navigation.to_role))
        far_many = navigation.multiplicity == "*"
        near_many = partner.multiplicity == "*" if partner is not None else not far_many
        association = navigation.relationship.rpartition(".")[2]
        lookup = None
        if far_many != near_many:
            lookup = self._lookup(
                entity_set if near_many else target, target if near_many else entity_set, association
            )
        if lookup is None:
            # Which end is the first is arbitrary, but both must agree on it.
            return Relationship(
                navigation_name,
                entity_set,
                target,
                far_many,
                "links",
                association,
                first=navigation.from_role < navigation.to_role,
            )
        kind: Literal["lookup", "referrers"] = "lookup" if near_many else "referrers"
        return Relationship(navigation_name, entity_set, target, far_many, kind, association, lookup)

    def _lookup(self, holder: EntitySet, target: EntitySet, association: str) -> str | None:
        """The lookup property of `holder` that `association` uses."""
        lookups = {
            name: stem
            for name, declared in holder.entity_type.properties.items()
            if is_reference(declared) and (stem := _stem(name))
        }
        spelled = association.lower()
        for part, name in _HABITS:
            if part in spelled and name in lookups:
                return name
        if spelled in (f"{logical_name(target)}_{logical_name(holder)}s",) and "RegardingObjectId" in lookups:
            return "RegardingObjectId"
        squeezed = spelled.replace("_", "")
        contained = [
            name for name, stem in lookups.items() if stem in squeezed and stem != logical_name(holder)
        ]
        if contained:
            return max(contained, key=len)
        for name in _OWNERS.get(logical_name(target), ()):
            if name in lookups:
                return name
        similar = [name for name, stem in lookups.items() if logical_name(target).rpartition("_")[2] in stem]
        return similar[0] if similar else None

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
            for relationship in self.relationships(entity_set):
                if relationship.kind == "lookup":
                    slot = (entity_set.name, relationship.lookup)
                    name = logical_name(relationship.target)
                    if name not in found.get(slot, ()):
                        found[slot] = (*found.get(slot, ()), name)
        return found

    def is_polymorphic(self, entity_set: EntitySet, property_name: str) -> bool:
        return property_name in _POLYMORPHIC or len(self.targets(entity_set, property_name)) != 1

    @functools.cache  # noqa: B019
    def intersect(self, association: str, first: str, second: str) -> Intersect | None:
        """The set whose rows are the pairs of a many-to-many relationship between two sets' types."""
        names = [self.key_name(self.model.entity_sets[name]) for name in (first, second)]
        if names[0] == names[1]:
            return None
        wanted = {*names}
        for entity_set in self.model.entity_sets.values():
            entity_type = entity_set.entity_type
            guids = {name for name, declared in entity_type.properties.items() if declared.type == "Edm.Guid"}
            rest = guids - {entity_type.key[0]}
            stem = entity_type.name.lower()
            if (
                rest == wanted
                and len(entity_type.properties) <= 4
                and stem in association.lower().replace("_", "")
            ):
                return Intersect(entity_set, names[0], names[1])
        return None

    @functools.cache  # noqa: B019
    def is_intersect(self, entity_set_name: str) -> bool:
        """Rows of a many-to-many relationship: a key, two other guids, no stamp but VersionNumber."""
        properties = self.model.entity_sets[entity_set_name].entity_type.properties
        kinds = [declared.type for declared in properties.values()]
        return kinds.count("Edm.Guid") == 3 and len(kinds) <= 4 and "ModifiedOn" not in properties


def _stem(property_name: str) -> str:
    """`optevia_SectorNatureOfInterest` -> `sectornatureofinterest`, `ParentAccountId` -> `parentaccount`."""
    return property_name.lower().rpartition("_")[2].removesuffix("id")
