"""The OData service: one request in, one answer out, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.odata import atom, verbose_json
from proxy.odata.errors import ODataError
from proxy.odata.query_options import parse_query
from proxy.odata.uri import ResourcePath, parse_resource_path, split_target
from proxy.sandbox import faultcodes
from proxy.sandbox.batch import Batches
from proxy.sandbox.messages import (
    JSON,
    XML,
    Answer,
    Incoming,
    Roots,
    check_headers,
    meant_method,
    negotiated,
    not_allowed,
    not_found,
    refusal,
)
from proxy.sandbox.organisation import Organisation
from proxy.sandbox.query import Queries
from proxy.sandbox.reads import Found, Reads
from proxy.sandbox.render import Renderer
from proxy.sandbox.switches import Switches
from proxy.sandbox.writes import Writes

_FOREIGN_ORIGIN = "https://crm.example.org"
_VIRTUAL_DIRECTORY = re.compile("/xrmservices/", re.IGNORECASE)
_METHODS = frozenset({"GET", "POST", "MERGE", "PUT", "DELETE"})


class Service:
    """Answers everything at and below the service root."""

    def __init__(
        self,
        document: bytes,
        organisation: Organisation,
        queries: Queries,
        renderer: Renderer,
        switches: Switches,
        root_path: str,
    ) -> None:
        self._document = document
        self._organisation = organisation
        self._model = organisation.schema.model
        self._switches = switches
        self._root_path = root_path.rstrip("/")
        # The server spells its virtual directory in lower case, whatever the request says (section 1, 4).
        self._own_path = _VIRTUAL_DIRECTORY.sub("/xrmservices/", self._root_path)
        self._reads = Reads(organisation, queries, renderer, switches)
        self._writes = Writes(organisation, renderer, switches)
        self._batches = Batches(self._answer_one, organisation.tables)
        self._reader: Callable[[], Service] | None = None

    def covers(self, target: str) -> bool:
        """Whether a raw target lies at or below the service root, whose case does not matter (2.1)."""
        path = split_target(target)[0]
        length = len(self._root_path)
        return path[:length].lower() == self._root_path.lower() and path[length : length + 1] in ("", "/")

    def answer(
        self,
        request: Incoming,
        *,
        stamps_stand_still: bool = False,
        reader: Callable[[], Service] | None = None,
    ) -> Answer:
        """Carry a request out. Never raises ODataError: a refusal is an answer.

        `stamps_stand_still`: a write leaves ModifiedOn and VersionNumber as they are. `reader`: gives what
        answers reads, those within a batch too.
        """
        self._reader = reader
        self._organisation.run_plugins()
        self._organisation.stamps_stand_still = stamps_stand_still
        try:
            return self._answer_one(request)
        except ODataError as error:
            return refusal(error, request.accept)
        finally:
            self._organisation.stamps_stand_still = False
            self._reader = None

    def _answer_one(self, request: Incoming) -> Answer:
        is_read = meant_method(request) == "GET"
        service = self._reader() if is_read and self._reader is not None else self
        return service._answer(request)

    def _answer(self, request: Incoming) -> Answer:
        path, query = split_target(request.target)
        method = meant_method(request)
        if method not in _METHODS:
            raise not_allowed("GET", "POST", "MERGE", "PUT", "DELETE")
        check_headers(request)
        resource = parse_resource_path(path[len(self._root_path) :], self._model)
        options = parse_query(query)
        origin = _FOREIGN_ORIGIN if self._switches.root == "foreign_origin" else request.origin
        roots = Roots(origin + self._own_path, request.origin + path[: len(self._root_path)])
        if resource.entity_set is None:
            return self._special(resource, method, request, roots)
        self._check_rights(resource)
        if len(resource.navigation) > 1:
            raise ODataError("Only one navigation property may be followed.")
        if resource.links:
            return self._links(resource, method, request, roots)
        found = self._resolve(resource)
        if resource.property_path or resource.value:
            if method == "GET":
                return self._reads.property(found, resource, request)
            return self._writes.write_property(found, resource, method, request)
        if method != "GET":
            return self._writes.write(found, method, request, roots)
        if resource.count:
            return self._reads.count(found, options)
        return self._reads.read(found, options, request, roots, request.origin + path)

    def _check_rights(self, resource: ResourcePath) -> None:
        for entity_set in (resource.entity_set, *(step.target for step in resource.navigation)):
            if entity_set is not None and entity_set.name in self._switches.forbidden_sets:
                raise faultcodes.no_privilege(entity_set)

    def _special(self, resource: ResourcePath, method: str, request: Incoming, roots: Roots) -> Answer:
        """The service document, `$metadata`, and what is not served."""
        if resource.special == "batch":
            if self._switches.batch == "refuse":
                raise not_found("$batch")
            return self._batches.answer(request, roots)
        if resource.special == "function":
            raise ODataError("Service operations are not served.", status=501)
        if method != "GET":
            raise not_allowed("GET")
        if resource.special == "metadata":
            return Answer(200, self._document, XML)
        names = list(self._model.entity_sets)
        if negotiated(request.accept, self._switches) == "json":
            return Answer(200, verbose_json.write_service_document(names).encode(), JSON)
        subtype = "atomsvc+xml" if "atomsvc" in (request.accept or "") else "xml"
        text = atom.write_service_document(roots.own, names)
        return Answer(200, text.encode(), f"application/{subtype};charset=utf-8")

    def _resolve(self, resource: ResourcePath) -> Found:
        """Follow the path to its entity or collection; ODataError 404 where a step leads nowhere."""
        entity_set = resource.entity_set
        key = resource.key[0][1] if resource.key is not None else None
        if entity_set is None:
            raise not_found("")
        if not resource.navigation:
            return Found(entity_set, key)
        step = resource.navigation[0]
        relationship = self._organisation.schema.relationships.of(entity_set, step.name)
        if relationship is None or key is None:
            raise not_found(step.name)
        self._organisation.require(entity_set, key)
        related = self._organisation.tables.related(key, relationship)
        parent = (entity_set, key, relationship)
        if relationship.many and step.key is None:
            return Found(relationship.target, None, tuple(related), parent)
        wanted = step.key[0][1] if step.key is not None else next(iter(related), None)
        if wanted is None or wanted not in related:
            raise not_found(step.name)
        return Found(relationship.target, wanted, None, parent)

    def _links(self, resource: ResourcePath, method: str, request: Incoming, roots: Roots) -> Answer:
        step = resource.navigation[0]
        source = resource.entity_set
        relationship = self._organisation.schema.relationships.of(source, step.name) if source else None
        if source is None or relationship is None or resource.key is None:
            raise not_found(step.name)
        if resource.count:
            raise ODataError("Links are not counted.")
        key = resource.key[0][1]
        target_key = step.key[0][1] if step.key is not None else None
        if method == "GET":
            return self._reads.links(source, key, relationship, target_key, request, roots)
        return self._writes.write_links(source, key, relationship, target_key, method, request, roots)
