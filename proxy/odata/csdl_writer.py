"""A metadata document for a model of our own, in CSDL 2.0 as `csdl` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from proxy.odata.edm import EntitySet, EntityType, Model, NavigationProperty, Property

_EDMX = "http://schemas.microsoft.com/ado/2007/06/edmx"
_CSDL = "http://schemas.microsoft.com/ado/2008/09/edm"
_METADATA = "http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"


def write_metadata(model: Model, namespace: str) -> bytes:
    """The document of a model whose types all lie in `namespace` and are of primitive properties, and whose
    navigation properties lead one way, each with the constraint that ties it."""
    return "".join(_document(model, namespace)).encode()


def _document(model: Model, namespace: str) -> Iterator[str]:
    yield (
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
        f'<edmx:Edmx Version="1.0" xmlns:edmx="{_EDMX}">'
        f'<edmx:DataServices m:DataServiceVersion="2.0" xmlns:m="{_METADATA}">'
        f'<Schema Namespace={quoteattr(namespace)} xmlns="{_CSDL}">'
    )
    for entity_type in model.entity_types.values():
        yield from _entity_type(entity_type)
    for entity_type in model.entity_types.values():
        for navigation in entity_type.navigation_properties.values():
            yield from _association(entity_type, navigation, model)
    yield f'<EntityContainer Name={quoteattr(model.container)} m:IsDefaultEntityContainer="true">'
    for entity_set in model.entity_sets.values():
        type_name = quoteattr(entity_set.entity_type.qualified_name)
        yield f"<EntitySet Name={quoteattr(entity_set.name)} EntityType={type_name} />"
    for entity_set in model.entity_sets.values():
        for navigation in entity_set.entity_type.navigation_properties.values():
            yield from _association_set(entity_set, navigation, model)
    yield "</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>"


def _entity_type(entity_type: EntityType) -> Iterator[str]:
    yield f"<EntityType Name={quoteattr(entity_type.name)}><Key>"
    yield from _references(entity_type.key)
    yield "</Key>"
    for declared in entity_type.properties.values():
        yield _property(declared)
    for navigation in entity_type.navigation_properties.values():
        yield (
            f"<NavigationProperty Name={quoteattr(navigation.name)}"
            f" Relationship={quoteattr(navigation.relationship)}"
            f" FromRole={quoteattr(navigation.from_role)} ToRole={quoteattr(navigation.to_role)} />"
        )
    yield "</EntityType>"


def _property(declared: Property) -> str:
    nullable = "true" if declared.nullable else "false"
    return (
        f'<Property Name={quoteattr(declared.name)} Type={quoteattr(declared.type)} Nullable="{nullable}" />'
    )


def _association(entity_type: EntityType, navigation: NavigationProperty, model: Model) -> Iterator[str]:
    constraint = model.constraints[navigation.relationship]
    yield (
        f"<Association Name={quoteattr(navigation.relationship.rpartition('.')[2])}>"
        f"<End Role={quoteattr(navigation.from_role)} Type={quoteattr(entity_type.qualified_name)}"
        ' Multiplicity="*" />'
        f"<End Role={quoteattr(navigation.to_role)} Type={quoteattr(navigation.target)}"
        f' Multiplicity="{navigation.multiplicity}" />'
        f"<ReferentialConstraint><Principal Role={quoteattr(constraint.principal_role)}>"
    )
    yield from _references(constraint.principal)
    yield f"</Principal><Dependent Role={quoteattr(constraint.dependent_role)}>"
    yield from _references(constraint.dependent)
    yield "</Dependent></ReferentialConstraint></Association>"


def _association_set(entity_set: EntitySet, navigation: NavigationProperty, model: Model) -> Iterator[str]:
    target = model.navigation_targets[entity_set.name, navigation.name]
    yield (
        f"<AssociationSet Name={quoteattr(navigation.relationship.rpartition('.')[2])}"
        f" Association={quoteattr(navigation.relationship)}>"
        f"<End Role={quoteattr(navigation.from_role)} EntitySet={quoteattr(entity_set.name)} />"
        f"<End Role={quoteattr(navigation.to_role)} EntitySet={quoteattr(target)} /></AssociationSet>"
    )


def _references(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield f"<PropertyRef Name={quoteattr(name)} />"
