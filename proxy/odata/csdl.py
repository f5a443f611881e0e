"""The metadata document: EDMX bytes in, a `Model` out.

Reads CSDL 1.0 to 2.0 as WCF Data Services writes it (the CSDL namespaces of 2006/04, 2007/05, 2008/09
and 2009/08; field manual, section 10), several schemas, aliases and base types included. Elements,
attributes and annotations that say nothing about names and types are passed over.

Names are identifiers (CSDL 2.0, SimpleIdentifier), or the document is refused: with a slash, a comma or a
bracket in it a name could not be told from the syntax around it in paths and queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from lxml import etree

from proxy.odata.edm import (
    ComplexType,
    EntitySet,
    EntityType,
    Model,
    Multiplicity,
    NavigationProperty,
    Property,
    ReferentialConstraint,
)
from proxy.odata.errors import ODataError
from proxy.odata.xml import parse_xml

CSDL_NAMESPACES = (
    "http://schemas.microsoft.com/ado/2006/04/edm",
    "http://schemas.microsoft.com/ado/2007/05/edm",
    "http://schemas.microsoft.com/ado/2008/09/edm",
    "http://schemas.microsoft.com/ado/2009/08/edm",
    "http://schemas.microsoft.com/ado/2009/11/edm",
)
_DEFAULT_CONTAINER = (
    "{http://schemas.microsoft.com/ado/2007/08/dataservices/metadata}IsDefaultEntityContainer"
)
_SCHEMA_TAGS = {f"{{{namespace}}}Schema" for namespace in CSDL_NAMESPACES}
_MULTIPLICITIES = ("0..1", "1", "*")
_LONGEST_NAME = 480  # CSDL 2.0, TSimpleIdentifier
# Of all types together, inherited ones again for each: a chain of base types multiplies what it declares.
MAX_PROPERTIES = 1_000_000

_Member = TypeVar("_Member")


@dataclass(slots=True)
class _Schema:
    """One Schema element with the means to spell the names in it in full."""

    element: Any
    namespace: str
    csdl: str  # the element namespace, in braces
    aliases: Mapping[str, str]

    def children(self, parent: Any, tag: str) -> Iterator[Any]:
        return cast("Iterator[Any]", parent.iterchildren(self.csdl + tag))

    def qualify(self, name: str) -> str:
        """The name with its namespace: aliases replaced, a bare name taken as the schema's own."""
        prefix, dot, local = name.rpartition(".")
        if not dot:
            return f"{self.namespace}.{name}"
        return f"{self.aliases.get(prefix, prefix)}.{local}"


@dataclass(slots=True)
class _Structure:
    """A complex or entity type before its base type is looked up."""

    name: str
    namespace: str
    base: str | None
    key: tuple[str, ...]
    properties: dict[str, Property]
    navigation_properties: dict[str, NavigationProperty]


@dataclass(slots=True)
class _Association:
    """The ends of an association by role: (qualified entity type, multiplicity); and what ties them."""

    ends: dict[str, tuple[str, Multiplicity]]
    constraint: ReferentialConstraint | None


@dataclass(slots=True)
class _Container:
    name: str = ""
    entity_sets: dict[str, EntitySet] = field(default_factory=dict)
    # (association, role here, entity set here, role there) -> entity set there
    bindings: dict[tuple[str, str, str, str], str] = field(default_factory=dict)
    function_imports: dict[str, str] = field(default_factory=dict)


def parse_metadata(document: bytes) -> Model:
    """Read a metadata document.

    Raises ODataError for what is no EDMX, for a document type declaration, and for a name that refers
    to nothing: half a model would make the rest of the proxy guess.
    """
    schemas = _schemas(_root(document))
    associations = dict(_associations(schemas))
    complex_types = _types(_complex_types(schemas))
    entity_types = _types(_entity_types(schemas, associations))
    types = {name: _entity_type(found) for name, found in entity_types.items()}
    container = _container(schemas, types, associations)
    return Model(
        container=container.name,
        entity_types=types,
        complex_types={
            name: ComplexType(found.name, found.namespace, found.properties)
            for name, found in complex_types.items()
        },
        entity_sets=container.entity_sets,
        navigation_targets=dict(_navigation_targets(container)),
        function_imports=container.function_imports,
        constraints={
            name: found.constraint for name, found in associations.items() if found.constraint is not None
        },
    )


def _root(document: bytes) -> Any:
    try:
        return parse_xml(document)
    except ODataError as error:
        raise ODataError(f"The metadata document cannot be read: {error.message}") from error


def _schemas(root: Any) -> list[_Schema]:
    elements = list(root.iter(*_SCHEMA_TAGS))
    if not elements:
        raise ODataError("The metadata document has no Schema in a CSDL namespace of version 1.0 to 3.0.")
    everywhere = {
        alias: element.get("Namespace", "") for element in elements if (alias := element.get("Alias"))
    }
    schemas = []
    for element in elements:
        csdl = element.tag[: -len("Schema")]
        used = {
            using.get("Alias"): using.get("Namespace", "") for using in element.iterchildren(csdl + "Using")
        }
        schemas.append(_Schema(element, _required(element, "Namespace"), csdl, {**everywhere, **used}))
    return schemas


def _required(element: Any, attribute: str) -> str:
    value = element.get(attribute)
    if not value:
        tag = etree.QName(element).localname
        raise ODataError(
            f"The metadata document has a {tag} without {attribute} in line {element.sourceline}."
        )
    return cast("str", value)


def _name(element: Any) -> str:
    """The element's own name. Raises ODataError for what is no identifier."""
    name = _required(element, "Name")
    if not name.isidentifier() or len(name) > _LONGEST_NAME:
        raise ODataError(
            f"The metadata document has the name {name[:60]!r} in line {element.sourceline}, which is no"
            " identifier."
        )
    return name


def _properties(schema: _Schema, owner: Any) -> dict[str, Property]:
    found = {}
    for element in schema.children(owner, "Property"):
        name, type_name = _name(element), _required(element, "Type")
        if not type_name.startswith("Edm."):
            type_name = _type_name(schema, type_name)
        found[name] = Property(name, type_name, element.get("Nullable", "true") != "false")
    return found


def _type_name(schema: _Schema, name: str) -> str:
    if "(" in name:  # Collection(…), of version 3: kept as written, no value of it is ever read
        return name
    if "." not in name:  # CSDL allows primitive types without their namespace
        return f"Edm.{name}"
    return schema.qualify(name)


def _complex_types(schemas: Iterable[_Schema]) -> Iterator[_Structure]:
    for schema in schemas:
        for element in schema.children(schema.element, "ComplexType"):
            yield _Structure(
                name=_name(element),
                namespace=schema.namespace,
                base=schema.qualify(base) if (base := element.get("BaseType")) else None,
                key=(),
                properties=_properties(schema, element),
                navigation_properties={},
            )


def _entity_types(
    schemas: Iterable[_Schema], associations: Mapping[str, _Association]
) -> Iterator[_Structure]:
    for schema in schemas:
        for element in schema.children(schema.element, "EntityType"):
            yield _Structure(
                name=_name(element),
                namespace=schema.namespace,
                base=schema.qualify(base) if (base := element.get("BaseType")) else None,
                key=tuple(
                    name for key in schema.children(element, "Key") for name in _references(schema, key)
                ),
                properties=_properties(schema, element),
                navigation_properties={
                    found.name: found for found in _navigation_properties(schema, element, associations)
                },
            )


def _navigation_properties(
    schema: _Schema, owner: Any, associations: Mapping[str, _Association]
) -> Iterator[NavigationProperty]:
    for element in schema.children(owner, "NavigationProperty"):
        name = _name(element)
        relationship = schema.qualify(_required(element, "Relationship"))
        from_role, to_role = _required(element, "FromRole"), _required(element, "ToRole")
        association = associations.get(relationship)
        if association is None or to_role not in association.ends:
            raise ODataError(
                f"The navigation property {name} in line {element.sourceline} of the metadata document"
                f" refers to {relationship}, role {to_role}, which is not declared."
            )
        target, multiplicity = association.ends[to_role]
        yield NavigationProperty(name, relationship, from_role, to_role, target, multiplicity)


def _associations(schemas: Iterable[_Schema]) -> Iterator[tuple[str, _Association]]:
    for schema in schemas:
        for element in schema.children(schema.element, "Association"):
            ends: dict[str, tuple[str, Multiplicity]] = {}
            for end in schema.children(element, "End"):
                target = schema.qualify(_required(end, "Type"))
                multiplicity = end.get("Multiplicity", "*")
                if multiplicity not in _MULTIPLICITIES:
                    raise ODataError(f"The metadata document has the multiplicity {multiplicity!r}.")
                # An end without Role is named after its type.
                ends[end.get("Role") or target.rpartition(".")[2]] = target, multiplicity
            name = schema.qualify(_name(element))
            yield name, _Association(ends, _constraint(schema, element))


def _constraint(schema: _Schema, owner: Any) -> ReferentialConstraint | None:
    """None for a constraint that pairs nothing: a relationship can do without one."""
    for element in schema.children(owner, "ReferentialConstraint"):
        for principal in schema.children(element, "Principal"):
            for dependent in schema.children(element, "Dependent"):
                names = tuple(_references(schema, principal)), tuple(_references(schema, dependent))
                if names[0] and len(names[0]) == len(names[1]):
                    roles = principal.get("Role", ""), dependent.get("Role", "")
                    return ReferentialConstraint(roles[0], names[0], roles[1], names[1])
    return None


def _references(schema: _Schema, owner: Any) -> Iterator[str]:
    for reference in schema.children(owner, "PropertyRef"):
        yield _required(reference, "Name")


def _types(structures: Iterable[_Structure]) -> dict[str, _Structure]:
    """The types by qualified name, each with what it inherits: inherited members come first."""
    declared = {f"{found.namespace}.{found.name}": found for found in structures}
    complete: dict[str, _Structure] = {}
    room = MAX_PROPERTIES

    def inherit(name: str, descendants: frozenset[str]) -> _Structure:
        nonlocal room
        if name in complete:
            return complete[name]
        if name in descendants:
            raise ODataError(f"The type {name} of the metadata document is its own base type.")
        if name not in declared:
            raise ODataError(f"The metadata document refers to the type {name}, which is not declared.")
        own = declared[name]
        if own.base is not None:
            base = inherit(own.base, descendants | {name})
            own.key = own.key or base.key
            own.properties = _joined(base.properties, own.properties)
            own.navigation_properties = _joined(base.navigation_properties, own.navigation_properties)
        room -= len(own.properties) + len(own.navigation_properties)
        if room < 0:
            raise ODataError(f"The metadata document has more than {MAX_PROPERTIES} properties.")
        complete[name] = own
        return own

    try:
        return {name: inherit(name, frozenset()) for name in declared}
    except RecursionError as error:
        raise ODataError("The metadata document nests base types too deeply.") from error


def _joined(inherited: Mapping[str, _Member], own: Mapping[str, _Member]) -> dict[str, _Member]:
    return {**inherited, **own}


def _entity_type(found: _Structure) -> EntityType:
    missing = [name for name in found.key if name not in found.properties]
    if missing:
        raise ODataError(f"The key of the entity type {found.name} names {missing[0]}, which is no property.")
    return EntityType(found.name, found.namespace, found.key, found.properties, found.navigation_properties)


def _container(
    schemas: Iterable[_Schema], types: Mapping[str, EntityType], associations: Mapping[str, _Association]
) -> _Container:
    """The default container: the sets of any other are not addressed by their bare names."""
    found = [
        (schema, element)
        for schema in schemas
        for element in schema.children(schema.element, "EntityContainer")
    ]
    if not found:
        return _Container()
    schema, element = next(
        (pair for pair in found if pair[1].get(_DEFAULT_CONTAINER, "").lower() == "true"), found[0]
    )
    entity_sets = {}
    for entity_set in schema.children(element, "EntitySet"):
        name, type_name = _name(entity_set), schema.qualify(_required(entity_set, "EntityType"))
        if type_name not in types:
            raise ODataError(f"The entity set {name} is of the type {type_name}, which is not declared.")
        entity_sets[name] = EntitySet(name, types[type_name])
    return _Container(
        name=element.get("Name", ""),
        entity_sets=entity_sets,
        bindings=dict(_bindings(schema, element, entity_sets, associations)),
        function_imports={
            _name(function): function.get("EntitySet", "")
            for function in schema.children(element, "FunctionImport")
        },
    )


def _bindings(
    schema: _Schema,
    container: Any,
    entity_sets: Mapping[str, EntitySet],
    associations: Mapping[str, _Association],
) -> Iterator[tuple[tuple[str, str, str, str], str]]:
    for element in schema.children(container, "AssociationSet"):
        relationship = schema.qualify(_required(element, "Association"))
        if relationship not in associations:
            raise ODataError(f"The metadata document binds {relationship}, which is not declared.")
        ends = []
        for end in schema.children(element, "End"):
            entity_set = entity_sets.get(_required(end, "EntitySet"))
            if entity_set is None:
                raise ODataError(
                    f"{relationship} is bound to {end.get('EntitySet')}, which is no entity set."
                )
            role = end.get("Role") or _role_of(associations[relationship], entity_set)
            ends.append((role, entity_set.name))
        if len(ends) != 2:
            continue
        (role, here), (other_role, there) = ends
        yield (relationship, role, here, other_role), there
        yield (relationship, other_role, there, role), here


def _role_of(association: _Association, entity_set: EntitySet) -> str:
    """The role that an end without one plays: the one whose type is that of its set."""
    of_type = entity_set.entity_type.qualified_name
    return next((role for role, (target, _) in association.ends.items() if target == of_type), "")


def _navigation_targets(container: _Container) -> Iterator[tuple[tuple[str, str], str]]:
    for entity_set in container.entity_sets.values():
        for found in entity_set.entity_type.navigation_properties.values():
            bound = (found.relationship, found.from_role, entity_set.name, found.to_role)
            if bound in container.bindings:
                yield (entity_set.name, found.name), container.bindings[bound]
