"""Where navigation properties lead, and by which properties the entities at both ends are tied.

A referential constraint says so where the metadata document has one. Dynamics declares none that tie a lookup
to its navigation property (field manual, section 10); there the pairs are worked out from their names, as the
platform's naming habits allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from proxy.odata.edm import EntitySet, Model, NavigationProperty, Property

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

# Paths of properties whose values are equal at both ends: the source's, and the target's.
Tie = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Intersect:
    """The set that shows a many-to-many relationship as rows: `first` holds the source's key, `second` the
    target's."""

    entity_set: EntitySet
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Relationship:
    """A navigation property from `source` to `target`.

    `kind`: "lookup": properties of the source name the one target; "referrers": properties of the targets
    name the source; "links": neither does. `lookup` is the property that does. `ties` are what is equal at
    both ends; `logical_name`, where not empty, what the lookup's LogicalName says besides. Of "links",
    `intersect` is the set that shows the pairs, if there is one; `first` tells the two ends apart.
    """

    name: str
    source: EntitySet
    target: EntitySet
    many: bool
    kind: Literal["lookup", "referrers", "links"]
    association: str
    lookup: str = ""
    first: bool = True
    ties: tuple[Tie, ...] = ()
    logical_name: str = ""
    intersect: Intersect | None = None


def is_reference(property_: Property) -> bool:
    """Whether the property is a lookup: it names a record by Id and LogicalName."""
    return property_.type.endswith(".EntityReference")


def logical_name(entity_set: EntitySet) -> str:
    """The entity's name inside the platform: the schema name in lower case."""
    return entity_set.entity_type.name.lower()


class Relationships:
    """The relationships of a model, each worked out when it is first asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._set_of_type: dict[str, EntitySet] = {}
        self._ends: dict[tuple[str, str], NavigationProperty] = {}
        for entity_set in model.entity_sets.values():
            self._set_of_type.setdefault(entity_set.entity_type.qualified_name, entity_set)
            for navigation in entity_set.entity_type.navigation_properties.values():
                self._ends[navigation.relationship, navigation.from_role] = navigation
        self._known: dict[tuple[str, str], Relationship | None] = {}

    def of(self, entity_set: EntitySet, navigation_name: str) -> Relationship | None:
        """What `navigation_name` of this set leads to; None if it is not declared or leads nowhere."""
        slot = (entity_set.name, navigation_name)
        if slot not in self._known:
            self._known[slot] = self._work_out(entity_set, navigation_name)
        return self._known[slot]

    def each(self, entity_set: EntitySet) -> Iterator[Relationship]:
        """All that start from this set."""
        for name in entity_set.entity_type.navigation_properties:
            relationship = self.of(entity_set, name)
            if relationship is not None:
                yield relationship

    def _work_out(self, entity_set: EntitySet, navigation_name: str) -> Relationship | None:
        navigation = entity_set.entity_type.navigation_properties.get(navigation_name)
        if navigation is None:
            return None
        target = self._model.navigation_target(entity_set, navigation_name) or self._set_of_type.get(
            navigation.target
        )
        if target is None:
            return None
        return (
            self._constrained(navigation, entity_set, target)
            or self._by_lookup(navigation, entity_set, target)
            or self._linked(navigation, entity_set, target)
        )

    def _constrained(
        self, navigation: NavigationProperty, source: EntitySet, target: EntitySet
    ) -> Relationship | None:
        constraint = self._model.constraints.get(navigation.relationship)
        if constraint is None:
            return None
        holds = constraint.dependent_role == navigation.from_role
        here, there = constraint.dependent, constraint.principal
        if not holds:
            here, there = there, here
        if not (
            {*here} <= source.entity_type.properties.keys()
            and {*there} <= target.entity_type.properties.keys()
        ):
            return None
        return Relationship(
            navigation.name,
            source,
            target,
            navigation.multiplicity == "*",
            "lookup" if holds else "referrers",
            navigation.relationship.rpartition(".")[2],
            constraint.dependent[0],
            ties=tuple(((near,), (far,)) for near, far in zip(here, there, strict=True)),
        )

    def _by_lookup(
        self, navigation: NavigationProperty, source: EntitySet, target: EntitySet
    ) -> Relationship | None:
        partner = self._ends.get((navigation.relationship, navigation.to_role))
        far_many = navigation.multiplicity == "*"
        near_many = partner.multiplicity == "*" if partner is not None else not far_many
        if far_many == near_many:
            return None
        association = navigation.relationship.rpartition(".")[2]
        holder, held = (source, target) if near_many else (target, source)
        if len(held.entity_type.key) != 1:
            return None
        lookup = _lookup(holder, held, association)
        if lookup is None:
            return None
        tie: Tie = ((lookup, "Id"), held.entity_type.key)
        return Relationship(
            navigation.name,
            source,
            target,
            far_many,
            "lookup" if near_many else "referrers",
            association,
            lookup,
            ties=(tie if near_many else (tie[1], tie[0]),),
            logical_name=logical_name(held),
        )

    def _linked(self, navigation: NavigationProperty, source: EntitySet, target: EntitySet) -> Relationship:
        association = navigation.relationship.rpartition(".")[2]
        return Relationship(
            navigation.name,
            source,
            target,
            navigation.multiplicity == "*",
            "links",
            association,
            # Which end is the first is arbitrary, but both must agree on it.
            first=navigation.from_role < navigation.to_role,
            intersect=self._intersect(association, source, target),
        )

    def _intersect(self, association: str, source: EntitySet, target: EntitySet) -> Intersect | None:
        """The set whose rows are the pairs of a many-to-many relationship between two sets' types."""
        keys = [*source.entity_type.key, *target.entity_type.key]
        wanted = {*keys}
        if len(keys) != 2 or len(wanted) != 2:
            return None
        for entity_set in self._model.entity_sets.values():
            entity_type = entity_set.entity_type
            guids = {name for name, declared in entity_type.properties.items() if declared.type == "Edm.Guid"}
            stem = entity_type.name.lower()
            if (
                guids - {*entity_type.key} == wanted
                and len(entity_type.properties) <= 4
                and stem in association.lower().replace("_", "")
            ):
                return Intersect(entity_set, *keys)
        return None


def _lookup(holder: EntitySet, target: EntitySet, association: str) -> str | None:
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
    contained = [name for name, stem in lookups.items() if stem in squeezed and stem != logical_name(holder)]
    if contained:
        return max(contained, key=len)
    for name in _OWNERS.get(logical_name(target), ()):
        if name in lookups:
            return name
    similar = [name for name, stem in lookups.items() if logical_name(target).rpartition("_")[2] in stem]
    return similar[0] if similar else None


def _stem(property_name: str) -> str:
    """`optevia_SectorNatureOfInterest` -> `sectornatureofinterest`, `ParentAccountId` -> `parentaccount`."""
    return property_name.lower().rpartition("_")[2].removesuffix("id")
