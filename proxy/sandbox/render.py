"""Entities as reply text, in verbose JSON and in Atom; JSON is kept with the row until it changes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.projection import Projection as Tree
from proxy.odata.projection import parse_projection
from proxy.odata.query_options import QueryOptions, parse_query
from proxy.odata.relationships import Relationship
from proxy.odata.uri import format_key
from proxy.sandbox import faultcodes
from proxy.sandbox.clock import Clock
from proxy.sandbox.evaluate import no_property
from proxy.sandbox.messages import Roots
from proxy.sandbox.query import Page, Queries
from proxy.sandbox.schema import Schema
from proxy.sandbox.switches import Switches
from proxy.sandbox.tables import Tables

_MAX_EXPANSIONS = 6
_TEXTS_PER_ROW = 12
_ATOM_TEXTS = 100
# Stands for the moment of rendering in Atom that is kept; no text of a record can hold it.
_UPDATED = "\x00"
_NO_OPTIONS = parse_query(None)


@dataclass(frozen=True, slots=True)
class Projection:
    """What `$select` and `$expand` say: names in the order asked for (None: all), and for each expanded
    navigation property its relationship and what is shown of its entities. `query`: the options, encoded,
    that ask for it in a link."""

    select: tuple[str, ...] | None = None
    expanded: Mapping[str, tuple[Relationship, Projection]] = field(default_factory=dict)
    query: tuple[str, ...] = ()


class Renderer:
    """Writes what rows show."""

    def __init__(
        self, schema: Schema, tables: Tables, queries: Queries, clock: Clock, switches: Switches
    ) -> None:
        self._schema = schema
        self._tables = tables
        self._queries = queries
        self._clock = clock
        self._switches = switches
        self._written: dict[Hashable, str] = {}

    def projection(self, entity_set: EntitySet, options: QueryOptions) -> Projection:
        """Read `$select` and `$expand` (3.2, 3.3). Raises ODataError, 400 or 403."""
        if self._switches.language == "v2":
            select, expand = options.get("$select"), options.get("$expand")
            model = self._schema.model
            return self._bound(entity_set, parse_projection(select, expand, entity_set.entity_type, model))
        return self._projection_2011(entity_set, options)

    def _bound(self, entity_set: EntitySet, tree: Tree) -> Projection:
        expanded = {}
        for name, below in tree.expanded.items():
            relationship = self._expandable(entity_set, name)
            expanded[name] = relationship, self._bound(relationship.target, below)
        return Projection(tree.select, expanded, tree.query())

    def _projection_2011(self, entity_set: EntitySet, options: QueryOptions) -> Projection:
        """One level of expansions."""
        entity_type = entity_set.entity_type
        expand = tuple(name for name in options.expand or () if name)
        if len(expand) > _MAX_EXPANSIONS:
            raise ODataError(
                f"The request includes {len(expand)} $expand segment(s),"
                f" but the maximum allowed is {_MAX_EXPANSIONS}."
            )
        relationships = {name: self._expandable(entity_set, name) for name in expand}
        names = tuple(dict.fromkeys(name for name in options.select or () if name))
        if not names:
            return Projection(None, {name: (found, Projection()) for name, found in relationships.items()})
        select: list[str] = []
        inner: dict[str, list[str] | None] = {}
        for name in names:
            if name == "*":
                select += entity_type.properties
                continue
            first, _, rest = name.partition("/")
            if first in entity_type.properties and not rest:
                select.append(first)
            elif first in entity_type.navigation_properties:
                select.append(first)
                self._note(inner, entity_set, first, rest)
            else:
                raise no_property(name, entity_type.qualified_name)
        expanded = {
            name: (found, _selecting(inner[name])) for name, found in relationships.items() if name in inner
        }
        return Projection(tuple(dict.fromkeys(select)), expanded)

    def _expandable(self, entity_set: EntitySet, name: str) -> Relationship:
        relationship = self._schema.relationships.of(entity_set, name)
        if relationship is None:
            raise no_property(name, entity_set.entity_type.qualified_name)
        if relationship.target.name in self._switches.forbidden_sets:
            raise faultcodes.no_privilege(relationship.target)
        return relationship

    def _note(
        self, inner: dict[str, list[str] | None], entity_set: EntitySet, navigation: str, rest: str
    ) -> None:
        """Note a name asked of an expanded entity; the whole entity outweighs single names."""
        if not rest:
            inner[navigation] = None
            return
        target = self._expandable(entity_set, navigation).target.entity_type
        if rest not in target.properties:
            raise no_property(rest, target.qualified_name)
        chosen = inner.setdefault(navigation, [])
        if chosen is not None:
            chosen.append(rest)

    # Verbose JSON

    def entity_json(self, entity_set: EntitySet, key: uuid.UUID, projection: Projection, roots: Roots) -> str:
        """One entity's object, without the wrapper `d`."""
        row = self._tables.rows(entity_set.name)[key]
        slot = (roots.own, projection.select)
        if not projection.expanded:
            text = row.texts.get(slot)
            if text is not None:
                return text
        expanded = {
            name: self._expanded_json(entity_set, key, relationship, below, roots)
            for name, (relationship, below) in projection.expanded.items()
        }
        text = verbose_json.write_entity(
            self._tables.shown(entity_set, key),
            entity_set,
            self._schema.model,
            roots.own,
            select=projection.select,
            expanded=expanded,
        )
        if not projection.expanded:
            if len(row.texts) >= _TEXTS_PER_ROW:
                row.texts.clear()
            row.texts[slot] = text
        return text

    def _expanded_json(
        self,
        entity_set: EntitySet,
        key: uuid.UUID,
        relationship: Relationship,
        projection: Projection,
        roots: Roots,
    ) -> str:
        """What stands in the place of `__deferred`: an entity, null, or the first page of many (3.3)."""
        target = relationship.target
        found = self._tables.related(key, relationship)
        if not relationship.many:
            return self.entity_json(target, found[0], projection, roots) if found else "null"
        page = self._queries.page(target, _NO_OPTIONS, within=found)
        texts = [self.entity_json(target, other, projection, roots) for other in page.keys]
        next_link = None
        if page.next_query is not None:
            asked = "".join(f"{option}&" for option in projection.query)
            predicate = format_key(((self._schema.key_name(entity_set), key),))
            path = f"{entity_set.name}({predicate})/{relationship.name}"
            next_link = f"{roots.requested}/{path}?{asked}{page.next_query}"
        return verbose_json.write_collection(texts, next_link)

    def collection_json(
        self,
        entity_set: EntitySet,
        page: Page,
        projection: Projection,
        roots: Roots,
        next_link: str | None,
    ) -> str:
        texts = [self.entity_json(entity_set, key, projection, roots) for key in page.keys]
        return verbose_json.write_d(verbose_json.write_collection(texts, next_link, page.count))

    # Atom

    def entry(self, entity_set: EntitySet, key: uuid.UUID, projection: Projection, roots: Roots) -> str:
        """A standalone entry."""
        document = self._document(entity_set, key, projection, roots)
        slot = (entity_set.name, document, projection.select)
        return self._atom(
            slot,
            lambda: atom.entry_from_document(
                document,
                entity_set,
                self._schema.model,
                title=self._schema.title_property(entity_set.name) or "",
                updated=_UPDATED,
                select=projection.select,
            ),
        )

    def feed(
        self,
        entity_set: EntitySet,
        page: Page,
        projection: Projection,
        roots: Roots,
        next_link: str | None,
    ) -> str:
        documents = tuple(self._document(entity_set, key, projection, roots) for key in page.keys)
        slot = (entity_set.name, documents, projection.select, next_link, roots.own, page.count)
        return self._atom(
            slot,
            lambda: atom.feed_from_documents(
                documents,
                entity_set,
                self._schema.model,
                title=self._schema.title_property(entity_set.name) or "",
                updated=_UPDATED,
                select=projection.select,
                next_link=next_link,
                root=roots.own,
                count=page.count,
            ),
        )

    def _atom(self, slot: Hashable, write: Callable[[], str]) -> str:
        """What `write` gave for the same documents before, with the moment of this rendering."""
        text = self._written.get(slot)
        if text is None:
            if len(self._written) >= _ATOM_TEXTS:
                self._written.clear()
            text = self._written[slot] = write()
        return text.replace(_UPDATED, self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))

    def _document(self, entity_set: EntitySet, key: uuid.UUID, projection: Projection, roots: Roots) -> str:
        # Whole, because the title shows the primary attribute whether it is selected or not.
        return self.entity_json(entity_set, key, Projection(None, projection.expanded), roots)

    def links(self, target: EntitySet, keys: Sequence[uuid.UUID], roots: Roots) -> list[str]:
        """Entity URLs in the server's own spelling."""
        key_name = self._schema.key_name(target)
        return [f"{roots.own}/{target.name}({format_key(((key_name, key),))})" for key in keys]


def _selecting(names: list[str] | None) -> Projection:
    return Projection() if names is None else Projection(tuple(names), query=(f"$select={','.join(names)}",))
