"""Whether a caller of the main listener may ask what it asks; pure.

What is answered there is upstream's, or just as upstream's: nothing in it is masked. So a caller with limited
rights is let through where everything that a request touches is known from it, and may be read or written as
a whole. What names no entity set (SOAP, function imports, web resources), and what cannot be read here, is
for callers who may read and write everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from proxy.odata.atom.writers import ATOM, DATA, METADATA
from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.bound import BoundExpression, paths_in
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.headers import effective_method
from proxy.odata.media import is_atom, is_json
from proxy.odata.multipart import Part, parse_parts
from proxy.odata.operation import (
    ChangeLinks,
    CreateEntity,
    MergeEntity,
    Operation,
    SendBatch,
    UpdateEntity,
    Write,
)
from proxy.odata.projection import Projection, parse_projection
from proxy.odata.query_options import parse_query
from proxy.odata.reading import Read, parse_read
from proxy.odata.relationships import Relationship, Relationships
from proxy.odata.uri import ResourcePath, parse_resource_path, split_target
from proxy.odata.xml import parse_xml
from proxy.reconcile.batches import read_batch
from proxy.reconcile.errors import RightMissing
from proxy.reconcile.ports import Request
from proxy.reconcile.rights import Rights

_RELATED = f"{DATA}/related/"
_INLINE = f"{{{METADATA}}}inline"
_ENTRY, _FEED, _LINK = (f"{{{ATOM}}}{name}" for name in ("entry", "feed", "link"))
# The first is OData's own (MS-ODATA 2.2.5.8), for POST; of the others a server may make what it likes.
_OVERRIDES = ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override"]
_OPTIONS_OF_WRITES = {"$format", "$select"}
# Nothing beside the boundary, within which another could stand.
_MULTIPART = re.compile(r'(?i:multipart/mixed; *boundary=)(?:"[^"\\;]{1,70}"|[^\s"\\;]{1,70})')
_LONE_RETURN = re.compile(rb"\r(?!\n)")
_CHARSET = re.compile(r'charset(?:="?([^\s;"]*))?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Permission:
    """What one caller may do under one metadata document. `root_path`: of the service root."""

    rights: Rights
    model: Model
    relationships: Relationships
    root_path: str

    def require(self, operation: Operation, request: Request) -> None:
        """Judge a request by all but its body. Raises RightMissing."""
        if self.rights.is_whole or isinstance(operation, SendBatch):
            return
        overrides = [name for name in _OVERRIDES if name in request.headers]
        if overrides and (overrides != _OVERRIDES[:1] or not _is_tunnelled(request)):
            self._refuse("which method it means is upstream's to say")
        if request.method in ("GET", "HEAD"):
            self._require_read(request.target)
        elif isinstance(operation, Write):
            self._require_write(operation, request.target)
        else:
            self._refuse("it names no entity set")

    def require_body(self, operation: Operation, request: Request) -> None:
        """Judge what a write posts besides, or each request of a batch. Raises RightMissing."""
        if self.rights.is_whole:
            return
        try:
            if isinstance(operation, SendBatch):
                self._require_batch(request)
            elif isinstance(operation, CreateEntity | MergeEntity | UpdateEntity) and request.body:
                self._require_posted(operation, request)
        except (ODataError, ValueError, RecursionError):
            self._refuse("its body cannot be read")

    # Reads

    def _require_read(self, target: str) -> None:
        path, query = self._below(target)
        try:
            read = parse_read(path, query, self.model)
            if read.kind in ("service", "metadata"):
                return
            ways = [*self._path_ways(read.path), *self._query_ways(read)]
        except ODataError as error:
            self._refuse(error.message)
        assert read.path.entity_set is not None  # of any other kind
        self._require_shown(read.path.entity_set)
        for way in ways:
            self.rights.require_way(way)
            self._require_shown(way.target)

    def _path_ways(self, path: ResourcePath) -> Iterator[Relationship]:
        assert path.entity_set is not None
        entity_set = path.entity_set
        for segment in path.navigation:
            way = self._way(entity_set, segment.name)
            yield way
            entity_set = way.target

    def _query_ways(self, read: Read) -> Iterator[Relationship]:
        """Those that expansions, the filter and the order go. Raises ODataError."""
        options, entity_set = read.options, self._end_of(read.path)
        select, expand = options.get("$select"), options.get("$expand")
        projection = parse_projection(select, expand, entity_set.entity_type, self.model)
        yield from self._expanded(projection, entity_set)
        bound = (entity_set, self.model, self.relationships)
        expressions: list[BoundExpression] = []
        if options.filter:
            expressions.append(bind_filter(parse_filter(options.filter), *bound))
        if options.orderby:
            expressions += [each.expression for each in bind_orderby(parse_orderby(options.orderby), *bound)]
        for expression in expressions:
            for path in paths_in(expression):
                yield from path.steps

    def _expanded(self, projection: Projection, entity_set: EntitySet) -> Iterator[Relationship]:
        for name, below in projection.expanded.items():
            way = self._way(entity_set, name)
            yield way
            yield from self._expanded(below, way.target)

    def _end_of(self, path: ResourcePath) -> EntitySet:
        *_, last = (path.entity_set, *(way.target for way in self._path_ways(path)))
        assert last is not None
        return last

    def _require_shown(self, entity_set: EntitySet) -> None:
        self.rights.require_read(entity_set.name)
        if self.rights.hidden(entity_set):
            message = f"read {entity_set.name} where nothing is masked: ask /mirror/ on the services listener"
            raise RightMissing(self.rights.who, message)

    # Writes

    def _require_write(self, operation: Write, target: str) -> None:
        self._require_written(operation.entity_set)
        path, query = self._below(target)
        try:
            if parse_query(query).names - _OPTIONS_OF_WRITES:
                self._refuse("what an option means to a write is upstream's to say")
            for way in self._path_ways(parse_resource_path(path, self.model)):
                self._require_way_written(way)
        except ODataError as error:
            self._refuse(error.message)
        if isinstance(operation, ChangeLinks):
            self._require_way_written(self._way(operation.entity_set, operation.navigation))

    def _require_way_written(self, way: Relationship) -> None:
        """What is put at the end of a way changes which entities both ends belong to."""
        self.rights.require_way(way)
        self._require_written(way.source)
        self._require_written(way.target)

    def _require_written(self, entity_set: EntitySet) -> None:
        self.rights.require_write(entity_set.name)
        self._require_shown(entity_set)

    def _require_posted(self, operation: CreateEntity | MergeEntity | UpdateEntity, request: Request) -> None:
        """Entities posted inside another, and links to others, are writes of their sets too."""
        entity_set, new = operation.entity_set, isinstance(operation, CreateEntity)
        body, content_type = request.body, request.headers.get("Content-Type")
        if "Content-Encoding" in request.headers:
            self._refuse("its body is coded")
        if {each.lower() for each in _CHARSET.findall(content_type or "")} - {"utf-8"}:
            self._refuse("its body may be read in another charset")
        if is_json(content_type):
            raw = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_no_name_twice)
            inner = raw.get("d") if isinstance(raw, dict) else None
            if isinstance(inner, dict) and len(raw) > 1:
                self._refuse("its body may be either of two entities")
            self._require_json(inner if isinstance(inner, dict) else raw, entity_set, new=new)
        elif is_atom(content_type) or (content_type or "").lower().startswith("application/xml"):
            self._require_entry(parse_xml(body), entity_set, new=new)
        else:
            self._refuse("its body is neither JSON nor Atom")

    def _require_json(self, raw: object, entity_set: EntitySet, *, new: bool) -> None:
        if not isinstance(raw, dict):
            self._refuse("its body is no entity")
        for name in raw.keys() & entity_set.entity_type.navigation_properties.keys():
            value = raw[name]
            deferred = value.get("__deferred") if isinstance(value, dict) and len(value) == 1 else None
            if not new and isinstance(deferred, dict) and _is_own_url(deferred.get("uri"), name):
                continue
            way = self._way(entity_set, name)
            self._require_way_written(way)
            if isinstance(value, dict):
                value = value.get("results", [value])
            for each in value if isinstance(value, list) else ():
                self._require_json(each, way.target, new=new)

    def _require_entry(self, entry: Any, entity_set: EntitySet, *, new: bool) -> None:
        if entry.tag != _ENTRY:
            self._refuse("its body is no entry")
        for link in entry.iterchildren(_LINK):
            rel = link.get("rel", "")
            if not rel.lower().startswith(_RELATED):
                continue
            name = rel[len(_RELATED) :]
            inside = any(True for _ in link.iterdescendants(_ENTRY))
            if not new and not inside and _is_own_url(link.get("href"), name):
                continue
            way = self._way(entity_set, name)
            self._require_way_written(way)
            inner = [*link.iterfind(f"{_INLINE}/{_ENTRY}"), *link.iterfind(f"{_INLINE}/{_FEED}/{_ENTRY}")]
            if inside and not inner:
                self._refuse("its body has an entry where none belongs")
            for each in inner:
                self._require_entry(each, way.target, new=new)

    def _require_batch(self, request: Request) -> None:
        self._require_one_reading(request)
        root = request.target[: len(self.root_path)]
        batch = read_batch(request.body, request.headers.get("Content-Type"), root, self.model)
        for step in batch.steps:
            part = Request(step.part.method, step.target, step.part.headers, step.part.body)
            if isinstance(step.operation, SendBatch):
                self._refuse("a batch is in it")
            self.require(step.operation, part)
            self.require_body(step.operation, part)

    def _require_one_reading(self, request: Request) -> None:
        """What another reader of multipart may find other requests in than ours does. Raises ODataError."""
        content_type = request.headers.get("Content-Type", "")
        if "Content-Encoding" in request.headers or _LONE_RETURN.search(request.body):
            self._refuse("its body may be read in two ways")
        if not _MULTIPART.fullmatch(content_type):
            self._refuse("its boundary may be read in two ways")
        parts = parse_parts(request.body, content_type)
        for part in (*parts, *(inner for each in parts for inner in each.parts or ())):
            if not _has_one_reading(part):
                self._refuse("a header in it may be read in two ways")

    # What requests name

    def _below(self, target: str) -> tuple[str, str | None]:
        """The raw path below the service root, and the raw query."""
        path, query = split_target(target)
        root = self.root_path.rstrip("/")
        if path[: len(root)].lower() != root.lower() or path[len(root) : len(root) + 1] not in ("", "/"):
            self._refuse("it names no entity set")
        return path[len(root) :], query

    def _way(self, entity_set: EntitySet, name: str) -> Relationship:
        way = self.relationships.of(entity_set, name)
        if way is None:
            self._refuse(f"where '{name}' leads is not known")
        return way

    def _refuse(self, why: str) -> NoReturn:
        message = f"send a request that cannot be judged ({why.rstrip('.')}); who may read and write * has"
        raise RightMissing(self.rights.who, message)


def _is_own_url(url: object, navigation: str) -> bool:
    """True for the navigation property's own URL, as it was read before; another's would be a link."""
    return isinstance(url, str) and split_target(url)[0].endswith(f")/{navigation}")


def _is_tunnelled(request: Request) -> bool:
    """True for a POST that says once what it is, and something that is no read."""
    said = request.headers.getall(_OVERRIDES[0])
    return len(said) == 1 and effective_method(request.method, request.headers) != request.method


def _has_one_reading(part: Part) -> bool:
    """False where a field stands twice, or a changeset's boundary beside something else."""
    for fields in (part.fields, part.inner or ()):
        if len({field.name.lower() for field in fields}) < len(fields):
            return False
    types = [field.value for field in part.fields if field.name.lower() == "content-type"]
    return part.parts is None or all(map(_MULTIPART.fullmatch, types))


def _no_name_twice(pairs: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    """Which of two members counts, upstream decides."""
    listed = list(pairs)
    found = dict(listed)
    if len(found) < len(listed):
        raise ValueError("a member twice")
    return found
