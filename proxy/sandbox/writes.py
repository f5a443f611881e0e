"""POST, MERGE, PUT, DELETE: from a request's body to the organisation, and back (field manual, section 6)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from proxy.odata import atom, media, verbose_json
from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationship, logical_name
from proxy.odata.uri import ResourcePath, parse_resource_path
from proxy.sandbox import faultcodes
from proxy.sandbox.messages import ATOM, JSON, Answer, Incoming, Roots, negotiated, not_allowed
from proxy.sandbox.organisation import Organisation
from proxy.sandbox.reads import Found
from proxy.sandbox.render import Projection, Renderer
from proxy.sandbox.switches import Switches

_WHOLE = Projection()


class Writes:
    """Answers to everything that changes something."""

    def __init__(self, organisation: Organisation, renderer: Renderer, switches: Switches) -> None:
        self._organisation = organisation
        self._schema = organisation.schema
        self._renderer = renderer
        self._switches = switches

    def write(self, found: Found, method: str, request: Incoming, roots: Roots) -> Answer:
        """A write to a collection or an entity. ODataError 405 where the method does not belong."""
        if found.key is None:
            if method != "POST":
                raise not_allowed("GET", "POST")
            return self._create(found, request, roots)
        if method == "DELETE":
            self._organisation.delete(found.entity_set, found.key)
            return Answer(204, applied=True)
        if method not in ("MERGE", "PUT"):
            raise not_allowed("GET", "MERGE", "PUT", "DELETE")
        # A missing record is noticed before what was sent for it is read.
        self._organisation.require(found.entity_set, found.key)
        values, nested = self._posted(found.entity_set, request)
        if nested:
            raise ODataError("Deep updates are not supported in PUT or MERGE requests.")
        reset = method == "PUT" and self._switches.put == "reset"
        self._organisation.update(found.entity_set, found.key, values, reset=reset)
        return Answer(204, applied=True)

    def _posted(self, entity_set: EntitySet, request: Incoming) -> tuple[dict[str, Any], dict[str, Any]]:
        """The properties sent, and the nested entities by navigation property."""
        content_type = request.headers.get("Content-Type")
        entity_type, model = entity_set.entity_type, self._schema.model
        if not request.body.strip():
            raise ODataError("The request has no body.")
        if media.is_json(content_type):
            posted = verbose_json.parse_posted(request.body, entity_type, model)
        elif media.is_atom(content_type) or media.media_type(content_type) == "application/xml":
            posted = atom.parse_entry_body(request.body, entity_type, model)
        else:
            raise ODataError("Unsupported media type requested.", status=415)
        nested = {name: value for name, value in posted.items() if name in entity_type.navigation_properties}
        return {name: value for name, value in posted.items() if name not in nested}, nested

    # Creating

    def _create(self, found: Found, request: Incoming, roots: Roots) -> Answer:
        entity_set = found.entity_set
        chosen = negotiated(request.accept, self._switches)
        values, nested = self._posted(entity_set, request)
        children = {name: self._children(entity_set, name, value) for name, value in nested.items()}
        made: list[tuple[EntitySet, uuid.UUID]] = []
        try:
            key = self._create_tree(entity_set, values, children, made)
            if found.parent is not None:
                self._organisation.associate(*found.parent, key)
        except ODataError:
            # All or nothing: the platform's create is one transaction.
            for made_set, made_key in reversed(made):
                self._organisation.delete(made_set, made_key)
            raise
        location = self._renderer.links(entity_set, [key], roots)[0]
        if chosen == "json":
            text, content_type = self._renderer.entity_json(entity_set, key, _WHOLE, roots), JSON
            text = verbose_json.write_d(text)
        else:
            text, content_type = self._renderer.entry(entity_set, key, _WHOLE, roots), ATOM
        return Answer(201, text.encode(), content_type, headers={"Location": location}, applied=True)

    def _children(
        self, entity_set: EntitySet, name: str, value: Any
    ) -> tuple[Relationship, list[dict[str, Any]]]:
        """The entities nested under a navigation property, read but not yet made (6.6)."""
        relationship = self._schema.relationships.of(entity_set, name)
        if relationship is None:
            raise ODataError(f"The navigation property '{name}' leads to no entity set.")
        if relationship.many and isinstance(value, Mapping) and isinstance(value.get("results"), list):
            value = value["results"]
        items = value if relationship.many else [value] if value is not None else []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ODataError(f"The value of the navigation property '{name}' is no entity.")
        target = relationship.target.entity_type
        children = []
        for item in items:
            child = verbose_json.parse_posted(json.dumps(item).encode(), target, self._schema.model)
            if child.keys() & target.navigation_properties.keys():
                raise ODataError("Entities can be nested one level deep.")
            children.append(child)
        return relationship, children

    def _create_tree(
        self,
        entity_set: EntitySet,
        values: dict[str, Any],
        children: Mapping[str, tuple[Relationship, list[dict[str, Any]]]],
        made: list[tuple[EntitySet, uuid.UUID]],
    ) -> uuid.UUID:
        """Make the parents, the entity, then its children; each lands in `made` as soon as it exists."""
        organisation = self._organisation
        values = dict(values)
        for relationship, items in children.values():
            if relationship.kind == "lookup":
                for item in items:
                    parent = organisation.create(relationship.target, item)
                    made.append((relationship.target, parent))
                    logical = logical_name(relationship.target)
                    values[relationship.lookup] = {"Id": parent, "LogicalName": logical}
        key = organisation.create(entity_set, values)
        made.append((entity_set, key))
        for relationship, items in children.values():
            for item in items if relationship.kind != "lookup" else []:
                if relationship.kind == "referrers":
                    item[relationship.lookup] = {"Id": key, "LogicalName": logical_name(entity_set)}
                child = organisation.create(relationship.target, item)
                made.append((relationship.target, child))
                if relationship.kind == "links":
                    organisation.associate(entity_set, key, relationship, child)
        return key

    # Single properties

    def write_property(self, found: Found, resource: ResourcePath, method: str, request: Incoming) -> Answer:
        """PUT or MERGE of one property: `{"Name":"x"}`, or its bare text at `$value` (6.3)."""
        if method not in ("PUT", "MERGE") or found.key is None or not resource.property_path:
            raise not_allowed("GET", "PUT", "MERGE")
        name, *members = resource.property_path
        self._organisation.require(found.entity_set, found.key)
        entity_type = found.entity_set.entity_type
        if resource.value:
            declared = entity_type.properties[name]
            primitive = PRIMITIVES.get(declared.type)
            if primitive is None or members:
                raise ODataError("Only a primitive property has a raw value to be written.")
            values: dict[str, Any] = {name: primitive.from_atom(request.body.decode("utf-8", "replace"))}
        else:
            values = self._posted_property(found, request, name, members)
        self._organisation.update(found.entity_set, found.key, values)
        return Answer(204, applied=True)

    def _posted_property(
        self, found: Found, request: Incoming, name: str, members: list[str]
    ) -> dict[str, Any]:
        if not media.is_json(request.headers.get("Content-Type")):
            raise ODataError("Unsupported media type requested.", status=415)
        entity_type, model = found.entity_set.entity_type, self._schema.model
        if not members:
            values = verbose_json.parse_posted(request.body, entity_type, model)
            if values.keys() != {name}:
                raise ODataError(f"The request body must hold the property '{name}' and nothing else.")
            return values
        # A member is written by writing the complex value with the member replaced.
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        if not isinstance(body, dict) or body.keys() != {members[-1]} or found.key is None:
            raise ODataError(f"The request body must hold the member '{members[-1]}' and nothing else.")
        current = self._organisation.tables.rows(found.entity_set.name)[found.key].values[name] or {}
        wrapped = json.dumps({name: body}).encode()
        return {name: current | verbose_json.parse_posted(wrapped, entity_type, model)[name]}

    # Links

    def write_links(
        self,
        source: EntitySet,
        key: uuid.UUID,
        relationship: Relationship,
        target_key: uuid.UUID | None,
        method: str,
        request: Incoming,
        roots: Roots,
    ) -> Answer:
        """POST and PUT tie, DELETE unties (6.6)."""
        self._organisation.require(source, key)
        if method == "DELETE":
            if relationship.many and target_key is None:
                raise not_allowed("GET", "POST")
            self._organisation.disassociate(source, key, relationship, target_key)
        elif (method == "POST" and relationship.many) or (
            method in ("PUT", "POST") and not relationship.many
        ):
            if target_key is not None:
                raise not_allowed("GET", "DELETE")
            other = self._linked_key(request, relationship, roots)
            self._organisation.associate(source, key, relationship, other)
        else:
            raise not_allowed("GET", "POST", "DELETE")
        return Answer(204, applied=True)

    def _linked_key(self, request: Incoming, relationship: Relationship, roots: Roots) -> uuid.UUID:
        """The key in a posted URL, which must lie below the service root: another host's is refused."""
        if media.is_json(request.headers.get("Content-Type")):
            try:
                body = json.loads(request.body.decode("utf-8-sig"))
            except ValueError:
                raise ODataError("The request body is not valid JSON.") from None
            uri = body.get("uri") if isinstance(body, dict) else None
        else:
            uri = atom.parse_links_body(request.body)
        if not isinstance(uri, str):
            raise ODataError("The request body is no link.")
        for root in (roots.own, roots.requested):
            if uri[: len(root)].lower() == root.lower():
                path = parse_resource_path(uri[len(root) :], self._schema.model)
                if path.entity_set is not relationship.target or path.key is None or path.navigation:
                    raise faultcodes.invalid_argument(f"The link must lead to {relationship.target.name}.")
                key: uuid.UUID = path.key[0][1]
                return key
        raise ODataError(f"The URI '{uri}' is not valid because it is not based on '{roots.requested}/'.")
