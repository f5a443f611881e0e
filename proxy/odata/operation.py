"""What a request means: one of the operations of OData v2, or something to pass on.

`parse_operation` is the only door. It never raises, because a failure to understand is never the client's
error: what lies below the service root and is not understood, or is left to upstream by design, is Forwarded;
all else is Opaque.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.headers import effective_method
from proxy.odata.query_options import QueryOptions, parse_query
from proxy.odata.uri import ResourcePath, parse_resource_path, split_target

_ENTITY_OPTIONS = frozenset({"$select", "$expand", "$format"})
_COLLECTION_OPTIONS = _ENTITY_OPTIONS | {
    "$filter",
    "$orderby",
    "$top",
    "$skip",
    "$skiptoken",
    "$inlinecount",
}
_PARTIAL = frozenset({"MERGE", "PATCH"})  # PATCH is later than the standard, and what clients of others send
_WRITES = frozenset({"POST", "PUT", "DELETE"}) | _PARTIAL


@dataclass(frozen=True, slots=True)
class ReadEntity:
    """GET of one entity by its key. `options` hold at most `$select`, `$expand`, `$format`, custom ones."""

    entity_set: EntitySet
    key: EntityKey
    options: QueryOptions


@dataclass(frozen=True, slots=True)
class ReadCollection:
    """GET of an entity set. `options` hold known ones, each once; their values are not judged yet."""

    entity_set: EntitySet
    options: QueryOptions


@dataclass(frozen=True, slots=True)
class CreateEntity:
    """POST to an entity set, or to a navigation property that leads to many of it."""

    entity_set: EntitySet


@dataclass(frozen=True, slots=True)
class MergeEntity:
    """MERGE or PATCH of one entity: the properties sent change, the others stay."""

    entity_set: EntitySet
    key: EntityKey


@dataclass(frozen=True, slots=True)
class UpdateEntity:
    """PUT of one entity: what is not sent goes back to its default, by the standard."""

    entity_set: EntitySet
    key: EntityKey


@dataclass(frozen=True, slots=True)
class DeleteEntity:
    """DELETE of one entity."""

    entity_set: EntitySet
    key: EntityKey


@dataclass(frozen=True, slots=True)
class UpdateProperty:
    """PUT, MERGE or DELETE of a property, a member of a complex one, or its `$value`."""

    entity_set: EntitySet
    key: EntityKey
    property_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeLinks:
    """POST, PUT, MERGE or DELETE of `$links`.

    `target` is None where the container binds no set; `target_key` is given where one link of many is named.
    """

    entity_set: EntitySet
    key: EntityKey
    navigation: str
    target: EntitySet | None
    target_key: EntityKey | None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A request below the service root that upstream answers; `entity_set` is the first of its path."""

    reason: str
    entity_set: EntitySet | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A request that is none of OData's."""

    reason: str


Operation = (
    ReadEntity
    | ReadCollection
    | CreateEntity
    | MergeEntity
    | UpdateEntity
    | DeleteEntity
    | UpdateProperty
    | ChangeLinks
    | Forwarded
    | Opaque
)


def parse_operation(
    method: str, raw_target: str, headers: Mapping[str, str], root_path: str, model: Model
) -> Operation:
    """Read a request. `headers` must look names up without case; `root_path` is the service root's path.

    The root is matched without case, as IIS does (field manual 2.1). Never raises.
    """
    path, query = split_target(raw_target)
    root = root_path.rstrip("/")
    if path[: len(root)].lower() != root.lower() or path[len(root) : len(root) + 1] not in ("", "/"):
        return Opaque("not below the service root")
    meant = effective_method(method, headers)
    if meant != "GET" and meant not in _WRITES:
        return Opaque(f"the method {method} is none of OData's")
    try:
        resource = parse_resource_path(path[len(root) :], model)
        if meant == "GET":
            return _read(resource, query, headers)
    except ODataError as error:
        return Forwarded(error.message)
    return _write(meant, resource)


def _read(resource: ResourcePath, query: str | None, headers: Mapping[str, str]) -> Operation:
    entity_set = resource.entity_set
    if entity_set is None:
        return Forwarded(resource.special or "service document")
    if resource.navigation or resource.property_path or resource.value or resource.count:
        return Forwarded("not an entity or an entity set", entity_set)
    if "X-HTTP-Method" in headers:
        return Forwarded("X-HTTP-Method on a GET", entity_set)
    try:
        options = parse_query(query)
    except ODataError as error:
        return Forwarded(error.message, entity_set)
    known = _COLLECTION_OPTIONS if resource.key is None else _ENTITY_OPTIONS
    if not options.names <= known:
        return Forwarded("an option that does not belong here", entity_set)
    if options.duplicates:
        return Forwarded("an option given twice", entity_set)
    if resource.key is None:
        return ReadCollection(entity_set, options)
    return ReadEntity(entity_set, resource.key, options)


def _write(meant: str, resource: ResourcePath) -> Operation:
    entity_set = resource.entity_set
    if entity_set is None:
        return Forwarded(resource.special or "service document")
    if resource.count or (resource.value and not resource.property_path):
        return Forwarded("no write is known here", entity_set)
    operation: Operation | None
    if resource.links:
        operation = _change_links(resource)
    elif meant == "POST":
        operation = _create(resource)
    else:
        operation = _change_entity(meant, resource)
    return operation or Forwarded("no write is known here", entity_set)


def _addressed(resource: ResourcePath, steps: int) -> tuple[EntitySet, EntityKey] | None:
    """The entity reached after that many navigation steps, where its set and key stand in the path."""
    if steps == 0:
        entity_set, key = resource.entity_set, resource.key
    else:
        segment = resource.navigation[steps - 1]
        entity_set, key = segment.target, segment.key
    return (entity_set, key) if entity_set is not None and key is not None else None


def _change_links(resource: ResourcePath) -> ChangeLinks | None:
    source = _addressed(resource, len(resource.navigation) - 1)
    if source is None:
        return None
    link = resource.navigation[-1]
    return ChangeLinks(*source, link.name, link.target, link.key)


def _create(resource: ResourcePath) -> CreateEntity | None:
    if resource.property_path:
        return None
    if not resource.navigation:
        return CreateEntity(resource.entity_set) if resource.entity_set and resource.key is None else None
    last = resource.navigation[-1]
    return CreateEntity(last.target) if last.target and last.many and last.key is None else None


def _change_entity(meant: str, resource: ResourcePath) -> Operation | None:
    entity = _addressed(resource, len(resource.navigation))
    if entity is None:
        return None
    if resource.property_path:
        return UpdateProperty(*entity, resource.property_path)
    if meant == "DELETE":
        return DeleteEntity(*entity)
    return MergeEntity(*entity) if meant in _PARTIAL else UpdateEntity(*entity)
