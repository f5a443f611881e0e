"""GET: entities, collections, counts, properties and links."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntitySet, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.query_options import QueryOptions
from proxy.odata.relationships import Relationship
from proxy.odata.uri import ResourcePath
from proxy.sandbox.evaluate import no_property
from proxy.sandbox.messages import (
    ATOM,
    JSON,
    XML,
    Answer,
    Incoming,
    Roots,
    check_client_version,
    negotiated,
    not_found,
)
from proxy.sandbox.organisation import Organisation
from proxy.sandbox.query import Queries, check_options
from proxy.sandbox.render import Renderer
from proxy.sandbox.switches import Switches


@dataclass(frozen=True, slots=True)
class Found:
    """What a path addresses: one entity (`key`), the entities of a set, or those of it in `within`.

    `parent` is the entity that a navigation step started from, with the relationship followed.
    """

    entity_set: EntitySet
    key: uuid.UUID | None
    within: tuple[uuid.UUID, ...] | None = None
    parent: tuple[EntitySet, uuid.UUID, Relationship] | None = None


class Reads:
    """Answers to GET."""

    def __init__(
        self, organisation: Organisation, queries: Queries, renderer: Renderer, switches: Switches
    ) -> None:
        self._organisation = organisation
        self._schema = organisation.schema
        self._queries = queries
        self._renderer = renderer
        self._switches = switches

    def read(self, found: Found, options: QueryOptions, request: Incoming, roots: Roots, url: str) -> Answer:
        """An entity or a page of a collection. `url`: the request's own, without its query."""
        check_options(options, collection=found.key is None, switches=self._switches)
        projection = self._renderer.projection(found.entity_set, options)
        chosen = negotiated(request.accept, self._switches)
        if found.key is not None:
            self._organisation.require(found.entity_set, found.key)
            if chosen == "json":
                text = self._renderer.entity_json(found.entity_set, found.key, projection, roots)
                return Answer(200, verbose_json.write_d(text).encode(), JSON)
            text = self._renderer.entry(found.entity_set, found.key, projection, roots)
            return Answer(200, text.encode(), ATOM)
        check_client_version(request)
        expanded = frozenset(options.expand or ())
        page = self._queries.page(found.entity_set, options, expanded=expanded, within=found.within)
        next_link = None if page.next_query is None else f"{url}?{page.next_query}"
        write = self._renderer.collection_json if chosen == "json" else self._renderer.feed
        text = write(found.entity_set, page, projection, roots, next_link)
        return Answer(
            200,
            text.encode(),
            JSON if chosen == "json" else ATOM,
            version="2.0;",
            delay_s=self._queries.delay_s(options),
        )

    def count(self, found: Found, options: QueryOptions) -> Answer:
        """`/$count` (3.6)."""
        if self._switches.count == "refuse":
            raise ODataError("The ability of the data service to return row count information is disabled.")
        check_options(options, collection=True, switches=self._switches)
        counted = self._queries.count(found.entity_set, options, within=found.within)
        return Answer(200, str(counted).encode(), "text/plain;charset=utf-8", version="2.0;")

    def property(self, found: Found, resource: ResourcePath, request: Incoming) -> Answer:
        """One property, a member of a complex one, or the raw value (2.3)."""
        if found.key is None or not resource.property_path:
            raise not_found("$value")
        self._organisation.require(found.entity_set, found.key)
        name, declared, value = self._property_value(found, found.key, resource.property_path)
        primitive = PRIMITIVES.get(declared.type)
        if resource.value:
            if primitive is None or value is None:
                raise not_found("$value")
            return Answer(200, primitive.to_atom(value).encode(), "text/plain;charset=utf-8")
        model = self._schema.model
        chosen = negotiated(request.accept, self._switches)
        if chosen == "json":
            return Answer(200, verbose_json.write_property(name, value, declared, model).encode(), JSON)
        raw = json.loads(verbose_json.write_value(value, declared, model))
        return Answer(200, atom.write_property(name, raw, declared, model).encode(), XML)

    def _property_value(
        self, found: Found, key: uuid.UUID, path: tuple[str, ...]
    ) -> tuple[str, Property, Any]:
        value: Any = self._organisation.tables.shown(found.entity_set, key)
        properties = found.entity_set.entity_type.properties
        declared = Property("", "")
        for name in path:
            if name not in properties:
                raise no_property(name, found.entity_set.entity_type.qualified_name)
            declared = properties[name]
            value = None if value is None else value.get(name)
            complex_type = self._schema.model.complex_type(declared.type)
            properties = complex_type.properties if complex_type is not None else {}
        return declared.name, declared, value

    def links(
        self,
        source: EntitySet,
        key: uuid.UUID,
        relationship: Relationship,
        target_key: uuid.UUID | None,
        request: Incoming,
        roots: Roots,
    ) -> Answer:
        """`$links`: entity URLs."""
        self._organisation.require(source, key)
        keys = self._organisation.tables.related(key, relationship)
        if target_key is not None:
            keys = [other for other in keys if other == target_key]
        many = relationship.many and target_key is None
        if not keys and not many:
            raise not_found(relationship.name)
        uris = self._renderer.links(relationship.target, keys, roots)
        if negotiated(request.accept, self._switches) == "json":
            return Answer(200, verbose_json.write_links(uris, many=many).encode(), JSON)
        return Answer(200, atom.write_links(uris, many=many).encode(), XML)
