"""The entity data model: what a metadata document says, as plain frozen values.

Names are those of CSDL 1.1 to 2.0. Everything is looked up by name; order is the document's, since
upstream writes properties in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Multiplicity = Literal["0..1", "1", "*"]

# An entity key: (property name, value) pairs in the order of the entity type's key, values as
# `primitives` makes them. Hashable, so it serves as a dictionary key.
EntityKey = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Property:
    """A structural property. `type` is `Edm.X` or a complex type's qualified name."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ComplexType:
    """A complex type; `properties` in document order."""

    name: str
    namespace: str
    properties: Mapping[str, Property]

    @property
    def qualified_name(self) -> str:
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True)
class NavigationProperty:
    """A navigation property with its target resolved through the association.

    `target` is the qualified name of the entity type at the far end, `multiplicity` the far end's.
    """

    name: str
    relationship: str
    from_role: str
    to_role: str
    target: str
    multiplicity: Multiplicity


@dataclass(frozen=True, slots=True)
class EntityType:
    """An entity type; `properties` and `navigation_properties` in document order."""

    name: str
    namespace: str
    key: tuple[str, ...]
    properties: Mapping[str, Property]
    navigation_properties: Mapping[str, NavigationProperty]

    @property
    def qualified_name(self) -> str:
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True)
class EntitySet:
    """An entity set and the type of its entities."""

    name: str
    entity_type: EntityType


@dataclass(frozen=True, slots=True)
class ReferentialConstraint:
    """Which properties of the dependent end name the principal: pairwise equal to its key properties."""

    principal_role: str
    principal: tuple[str, ...]
    dependent_role: str
    dependent: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """One metadata document.

    `navigation_targets` maps (entity set name, navigation property name) to the name of the entity
    set that the association set binds it to; `function_imports` names the set that each returns entities
    of, "" for none; `constraints` are by the association's qualified name.
    """

    container: str
    entity_types: Mapping[str, EntityType]  # by qualified name
    complex_types: Mapping[str, ComplexType]  # by qualified name
    entity_sets: Mapping[str, EntitySet]  # by name
    navigation_targets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    function_imports: Mapping[str, str] = field(default_factory=dict)
    constraints: Mapping[str, ReferentialConstraint] = field(default_factory=dict)
    _derived: dict[tuple[object, str], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def derived(self, what: object, name: str, derive: Callable[[], T]) -> T:
        """`what` of the type or set `name`, derived once for each model: it never changes."""
        try:
            found: T = self._derived[what, name]
        except KeyError:
            found = self._derived[what, name] = derive()
        return found

    def complex_type(self, qualified_name: str) -> ComplexType | None:
        return self.complex_types.get(qualified_name)

    def property_at(self, entity_type: EntityType, path: Sequence[str]) -> Property:
        """The property, or member of a complex one, that a path of declared names leads to."""
        properties = entity_type.properties
        for name in path[:-1]:
            properties = self.complex_types[properties[name].type].properties
        return properties[path[-1]]

    def navigation_target(self, entity_set: EntitySet, navigation: str) -> EntitySet | None:
        """The entity set that `navigation` leads to from `entity_set`; None where unbound."""
        name = self.navigation_targets.get((entity_set.name, navigation))
        return self.entity_sets.get(name) if name else None
