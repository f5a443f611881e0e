"""Models: entity sets under names that new services chose, mapped to upstream's own (the seed's migrators).

A model names an entity set and gives names to some of its properties, each of one of the seed's kinds; what
names no property of the set, and a model that names no set, only the mirror keeps. `derive` makes of the
definitions an entity data model of its own, in which everything that reads OData works as in any other.

A foreign key `parent` becomes the property `parent_id`, and the navigation property `parent` to its model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proxy.odata.edm import (
    EntityKey,
    EntitySet,
    EntityType,
    Model,
    NavigationProperty,
    Property,
    ReferentialConstraint,
)
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import logical_name
from proxy.odata.verbose_json import write_value

NAMESPACE = "Syncpoint.Model"
CONTAINER = "Models"
Kind = Literal["string", "boolean", "integer", "datetime", "reference", "foreign key"]

_INTEGERS = ("Edm.Int32", "Edm.Int16", "Edm.Int64", "Edm.Byte", "Edm.SByte")
_KEYS = ("Edm.Guid", "Edm.String", *_INTEGERS)
# EDM types that a kind may stand for. The first is that of a property which only the mirror keeps.
_TYPES: Mapping[Kind, Sequence[str]] = {
    "string": ("Edm.String",),
    "boolean": ("Edm.Boolean",),
    "integer": _INTEGERS,
    "datetime": ("Edm.DateTime",),
    "reference": ("Edm.Guid",),
}
# The member that a kind means where the property is a complex one: an option set's, a lookup's.
_MEMBERS: Mapping[Kind, str] = {
    "boolean": "Value",
    "integer": "Value",
    "reference": "Id",
    "foreign key": "Id",
}
_NAME = re.compile(r"[A-Za-z]\w{0,62}", re.ASCII)  # fits an EDM name and a Postgres identifier


class MappingError(Exception):
    """The definitions cannot be used. `problems`: every one of them, a sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class PropertyDefinition:
    """`of`: the property of the entity set, "" for one that only the mirror keeps; `model`: where a foreign
    key leads."""

    kind: Kind
    of: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class ModelDefinition:
    """`set`: the entity set, "" for a type that only the mirror keeps; `key`: the name of its key."""

    set: str
    key: str
    properties: Mapping[str, PropertyDefinition]


@dataclass(frozen=True, slots=True)
class MappedProperty:
    """A property of a model. `path`: where the set's entities have it; empty where only the mirror keeps it.

    `declared`: what the model says of it. `target`: the logical name that a lookup of several types must say
    for the foreign key to hold, "" where there is none.
    """

    declared: Property
    path: tuple[str, ...] = ()
    target: str = ""

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def never_null(self) -> bool:
        """Null counts as empty, as in the seed's string fields."""
        return not self.declared.nullable and self.declared.type == "Edm.String"

    @property
    def kept_as(self) -> str:
        """The member of the mirror's own values: a change of type loses no value, and meets none."""
        return f"{self.name}:{self.declared.type}"

    def value_in(self, raw: Mapping[str, Any]) -> Any:
        """The value in a parsed entity of the set."""
        value: Any = raw
        for depth, name in enumerate(self.path):
            if not isinstance(value, Mapping):
                break  # a null complex value
            if depth and self.target and value.get("LogicalName") != self.target:
                return None
            value = value.get(name)
        return self._read(value)

    def own_value(self, kept: Mapping[str, Any]) -> Any:
        """The value among those that the mirror keeps."""
        return self._read(kept.get(self.kept_as))

    def _read(self, value: Any) -> Any:
        if value is None:
            return "" if self.never_null else None
        return PRIMITIVES[self.declared.type].from_json(value)


@dataclass(frozen=True, slots=True)
class MappedSet:
    """A model as an entity set. `source`: the set of upstream's that it maps, None where there is none;
    `properties`: the key first."""

    entity_set: EntitySet
    source: EntitySet | None
    properties: tuple[MappedProperty, ...]

    @property
    def key(self) -> MappedProperty:
        return self.properties[0]

    @property
    def own(self) -> tuple[MappedProperty, ...]:
        """The properties that only the mirror keeps."""
        return tuple(each for each in self.properties[1:] if not each.path)

    @property
    def kept_under(self) -> str:
        """Where the mirror files what it alone keeps of these: in another set, keys mean other entities."""
        return self.entity_set.name + (f"/{self.source.name}" if self.source else "")

    def source_key(self, key: EntityKey) -> EntityKey:
        """The key of the entity that is mapped."""
        ((_, value),) = key
        return ((self.key.path[0], value),)

    def values(self, raw: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
        """By name, from an entity of the set as parsed JSON and what the mirror keeps. Raises ODataError."""
        return {
            each.name: each.value_in(raw) if each.path else each.own_value(kept) for each in self.properties
        }

    def source_body(self, posted: Mapping[str, Any], model: Model, *, new: bool) -> str:
        """What is posted, as verbose JSON of the set; `model` is upstream's. "" for nothing of the set's.

        The key is said of a new entity only.
        """
        assert self.source is not None
        declared = self.source.entity_type.properties
        members = [
            f'"{each.path[0]}":{_source_value(each, posted[each.name], declared[each.path[0]], model)}'
            for each in self.properties[0 if new else 1 :]
            if each.path and each.name in posted
        ]
        return f"{{{','.join(members)}}}" if members else ""

    def own_values(self, posted: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """What is posted and only the mirror keeps: (EDM type, value) by the member that keeps it."""
        return {
            each.kept_as: (each.declared.type, posted[each.name]) for each in self.own if each.name in posted
        }


@dataclass(frozen=True, slots=True)
class Mapped:
    """All models: their entity data model, and by name what each maps. `source`: upstream's model."""

    model: Model
    sets: Mapping[str, MappedSet]
    source: Model


def _source_value(mapped: MappedProperty, value: Any, declared: Property, model: Model) -> str:
    if value == "" or value is None:
        return write_value(None, declared, model)
    text = PRIMITIVES[mapped.declared.type].to_json_text(value)
    if len(mapped.path) == 1:
        return text
    named = f',"LogicalName":"{mapped.target}"' if mapped.target else ""
    return f'{{"{mapped.path[1]}":{text}{named}}}'


def check(definitions: Mapping[str, ModelDefinition]) -> None:
    """Find what is wrong whatever upstream's metadata document says. Raises MappingError."""
    _raise(_problems_of_names(definitions))


def derive(definitions: Mapping[str, ModelDefinition], source: Model) -> Mapped:
    """Raises MappingError with all that is wrong, names included."""
    problems = list(_problems_of_names(definitions))
    keys = {name: _key(name, each, source, problems) for name, each in definitions.items()}
    found = {
        name: list(_properties(name, each, definitions, keys, source, problems))
        for name, each in definitions.items()
    }
    _raise(problems)
    mapped_keys = {name: key for name, key in keys.items() if key is not None}
    types = {
        name: _entity_type(name, definitions[name], mapped_keys[name], found[name]) for name in definitions
    }
    sets = {
        name: MappedSet(
            EntitySet(name, types[name]),
            source.entity_sets.get(definition.set),
            (mapped_keys[name], *found[name]),
        )
        for name, definition in definitions.items()
    }
    return Mapped(_model(definitions, types), sets, source)


def _raise(problems: Iterable[str]) -> None:
    listed = tuple(problems)
    if listed:
        raise MappingError(listed)


def _place(model: str, name: str) -> str:
    return f"models.{model}.properties.{name}"


def _problems_of_names(definitions: Mapping[str, ModelDefinition]) -> Iterator[str]:
    for model, definition in definitions.items():
        if not _NAME.fullmatch(model):
            yield f"models.{model}: the name must be a letter and at most 62 letters, digits and underscores"
        taken = {definition.key: "the key"}
        if not _NAME.fullmatch(definition.key):
            yield f"models.{model}.key: '{definition.key}' is no name of a property"
        mapped: dict[str, str] = {}
        for name, each in definition.properties.items():
            place = _place(model, name)
            if not _NAME.fullmatch(name) or len(name) > 60:
                yield f"{place}: the name must be a letter and at most 59 letters, digits and underscores"
            for shown in _names_of(name, each):
                if shown in taken:
                    yield f"{place}: '{shown}' is the name of {taken[shown]} already"
                own = "" if each.of else ", which only the mirror keeps"
                taken.setdefault(shown, f"the property '{name}'{own}")
            if each.of and not definition.set:
                yield f"{place}: '{each.of}' is a property of no set, since models.{model}.set is not given"
            if each.of and each.of in mapped:
                yield f"{place}: '{each.of}' is mapped already, as '{mapped[each.of]}'"
            mapped.setdefault(each.of, name)
            if each.kind == "foreign key" and each.model not in definitions:
                yield f"{place}: there is no model '{each.model}'"
            elif each.kind != "foreign key" and each.model:
                yield f"{place}: only a foreign key leads to a model"


def _names_of(name: str, definition: PropertyDefinition) -> tuple[str, ...]:
    return (name, f"{name}_id") if definition.kind == "foreign key" else (name,)


def _key(name: str, definition: ModelDefinition, source: Model, problems: list[str]) -> MappedProperty | None:
    if not definition.set:
        return MappedProperty(Property(definition.key, "Edm.Guid", nullable=False))
    entity_set = source.entity_sets.get(definition.set)
    if entity_set is None:
        problems.append(f"models.{name}.set: upstream has no entity set '{definition.set}'")
        return None
    declared = [entity_set.entity_type.properties[part] for part in entity_set.entity_type.key]
    if len(declared) != 1 or declared[0].type not in _KEYS:
        problems.append(f"models.{name}.set: the key of {definition.set} is not one Guid, string or integer")
        return None
    (key,) = declared
    return MappedProperty(Property(definition.key, key.type, nullable=False), (key.name,))


def _properties(
    model: str,
    definition: ModelDefinition,
    definitions: Mapping[str, ModelDefinition],
    keys: Mapping[str, MappedProperty | None],
    source: Model,
    problems: list[str],
) -> Iterator[MappedProperty]:
    entity_set = source.entity_sets.get(definition.set)
    for name, each in definition.properties.items():
        if each.kind == "foreign key":
            key = keys.get(each.model)
            if key is None:
                continue  # told already
            types: Sequence[str] = (key.declared.type,)
            target = source.entity_sets.get(definitions[each.model].set)
        else:
            types, target = _TYPES[each.kind], None
        shown = _names_of(name, each)[-1]
        if not each.of:
            yield MappedProperty(Property(shown, types[0], each.kind != "string"))
        elif entity_set is not None:
            found = _found(each, entity_set, source)
            if found is None:
                problems.append(f"{_place(model, name)}: {definition.set} has no property '{each.of}'")
            elif found[1] not in types or found[0] == entity_set.entity_type.key:
                what = "the key" if found[0] == entity_set.entity_type.key else f"of type {found[1]}"
                problems.append(
                    f"{_place(model, name)}: {definition.set}'s '{each.of}' is {what}, which is not for"
                    f" the kind '{each.kind}'"
                )
            else:
                path, edm_type, is_lookup = found
                wanted = logical_name(target) if target is not None and is_lookup else ""
                yield MappedProperty(Property(shown, edm_type, each.kind != "string"), path, wanted)


def _found(
    definition: PropertyDefinition, entity_set: EntitySet, source: Model
) -> tuple[tuple[str, ...], str, bool] | None:
    """Path and EDM type of what a property is of, and whether it is a lookup; None where there is none."""
    declared = entity_set.entity_type.properties.get(definition.of)
    if declared is None:
        return None
    complex_type = source.complex_type(declared.type)
    member = complex_type and complex_type.properties.get(_MEMBERS.get(definition.kind, ""))
    if not complex_type or not member:
        return (definition.of,), declared.type, False
    return (definition.of, member.name), member.type, "LogicalName" in complex_type.properties


def _entity_type(
    name: str, definition: ModelDefinition, key: MappedProperty, properties: Iterable[MappedProperty]
) -> EntityType:
    navigation = {
        each: NavigationProperty(
            each, f"{NAMESPACE}.{name}_{each}", "source", "target", f"{NAMESPACE}.{defined.model}", "0..1"
        )
        for each, defined in definition.properties.items()
        if defined.kind == "foreign key"
    }
    declared = {each.name: each.declared for each in (key, *properties)}
    return EntityType(name, NAMESPACE, (key.name,), declared, navigation)


def _model(definitions: Mapping[str, ModelDefinition], types: Mapping[str, EntityType]) -> Model:
    targets = {
        (name, each): defined.model
        for name, definition in definitions.items()
        for each, defined in definition.properties.items()
        if defined.kind == "foreign key"
    }
    return Model(
        CONTAINER,
        {entity_type.qualified_name: entity_type for entity_type in types.values()},
        {},
        {name: EntitySet(name, entity_type) for name, entity_type in types.items()},
        navigation_targets=targets,
        constraints={
            f"{NAMESPACE}.{name}_{each}": ReferentialConstraint(
                "target", types[to].key, "source", (f"{each}_id",)
            )
            for (name, each), to in targets.items()
        },
    )
