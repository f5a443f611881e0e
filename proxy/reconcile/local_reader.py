"""The driver of reads of sets whose authority is the mirror: upstream's answers without upstream.

Beside `mirror_reader`, which speaks all of OData v2 on a root of the mirror's own: here a GET is answered,
and refused, as Dynamics 2011 did (`odata.dialect`), in pages of 50 whose links carry its paging cookies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from proxy.odata import dialect, verbose_json
from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.bound import key_condition
from proxy.odata.dialect import Dialect
from proxy.odata.dialect_expressions import Judge
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.origins import rewrite_origins
from proxy.odata.paging_cookies import PagingCookie
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.projection import Projection
from proxy.odata.query_options import QueryOptions, parse_query
from proxy.odata.relationships import Relationships, logical_name
from proxy.odata.uri import ResourcePath, entity_path, parse_resource_path, split_target
from proxy.reconcile.current_names import CurrentNames
from proxy.reconcile.entities import Entities
from proxy.reconcile.local import LocalAnswer, LocalAsk, does_not_exist
from proxy.reconcile.local_pages import cookie_after, first_cookie, resumed
from proxy.reconcile.local_store import NamedAnswers
from proxy.reconcile.ports import Found, Query, Related, Store, Stored
from proxy.reconcile.representation import TEXT, XML, Body, Representation
from proxy.reconcile.sets import Sets

_AT_ONCE = 5000  # entities that one statement for expansions may bring


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: to one entity, `key`, or to many: all of the set, or those `within`.

    `parent`: the entity and the relationship that a navigation step came from.
    """

    entity_set: EntitySet
    key: EntityKey | None = None
    within: Related | None = None
    parent: Related | None = None


class MirrorStore(NamedAnswers, Store, Protocol):
    """The mirror, with all that its own answers need."""


class LocalReader:
    """Answers GETs. `now`: aware UTC."""

    def __init__(
        self, store: MirrorStore, sets: Sets, spoken: Dialect, now: Callable[[], datetime], *, root_path: str
    ) -> None:
        self._store = store
        self._answers: NamedAnswers = store
        self._sets = sets
        self._dialect = spoken
        self._now = now
        self._root_path = root_path
        self._own_path: str | None = None
        self._relationships: tuple[Model, Relationships] | None = None

    def over(self, answers: NamedAnswers) -> LocalReader:
        """The same reader of what a transaction sees."""
        other = copy(self)
        other._answers = answers
        return other

    def relationships(self, model: Model) -> Relationships:
        if self._relationships is None or self._relationships[0] is not model:
            self._relationships = (model, Relationships(model))
        return self._relationships[1]

    async def own_path(self, model: Model) -> str:
        """The service root's path as upstream spells it in its documents, as far as there are any."""
        if self._own_path is None:
            self._own_path = await self._spelling(model)
        return self._own_path or self._root_path

    async def _spelling(self, model: Model) -> str | None:
        for entity_set in model.entity_sets.values():
            for row in (await self._store.find(Query(entity_set, page=1))).rows:
                text = verbose_json.value_at(row.document or "", ("__metadata", "uri")) or '""'
                return str(json.loads(verbose_json.restore_origins(text, "")))[: len(self._root_path)]
        return None

    async def read(self, ask: LocalAsk, model: Model) -> LocalAnswer:
        """Raises ODataError where the endpoint would refuse, UnsupportedConstruct for what the mirror cannot
        know, and StoreUnavailable."""
        dialect.check_headers(ask.headers)
        path = parse_resource_path(ask.path, model)
        options = parse_query(ask.query)
        if path.entity_set is None:
            return await self._special(path, ask, model)
        reading = await self._reading(ask, model)
        return await reading.answer(path, options)

    async def made(self, entity_set: EntitySet, key: EntityKey, ask: LocalAsk, model: Model) -> LocalAnswer:
        """The answer to the request that made an entity: the whole of it (6.1)."""
        reading = await self._reading(ask, model)
        chosen = dialect.chosen_format(ask.accept)
        shown = await reading.entity(Place(entity_set, key), Projection(), chosen)
        location = f"{reading.own_root}/{entity_path(entity_set, key)}"
        return replace(shown, status=201, headers={"Location": location})

    async def followed(self, path: ResourcePath, ask: LocalAsk, model: Model) -> Place:
        """Where a path leads. Raises ODataError, 404 where a step leads nowhere."""
        return await (await self._reading(ask, model)).followed(path)

    async def _reading(self, ask: LocalAsk, model: Model) -> _Reading:
        own_root = ask.origin + await self.own_path(model)
        rows = CurrentNames(self._answers, self._sets, model)
        relationships = self.relationships(model)
        entities = Entities(rows, model, relationships, ask.root, _AT_ONCE, token=first_cookie, is_whole=True)
        return _Reading(ask, model, relationships, rows, entities, self._dialect, own_root, self._now())

    async def _special(self, path: ResourcePath, ask: LocalAsk, model: Model) -> LocalAnswer:
        """The service document, the metadata document, and what is not there."""
        if path.special == "batch":
            raise dialect.not_allowed("POST") if self._dialect.batches else dialect.not_found("$batch")
        if path.special == "metadata":
            document = await self._store.latest_metadata() or b""
            return LocalAnswer(200, rewrite_origins(document, XML, self._root_path, ask.origin), XML)
        chosen = dialect.chosen_format(ask.accept)
        own_root = ask.origin + await self.own_path(model)
        representation = Representation(chosen, model, own_root, str, "")
        return _answered(representation.service(model.entity_sets, ask.accept or ""))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One GET being answered. `own_root`: the service root in upstream's spelling."""

    ask: LocalAsk
    model: Model
    relationships: Relationships
    rows: CurrentNames
    entities: Entities
    dialect: Dialect
    own_root: str
    now: datetime

    async def answer(self, path: ResourcePath, options: QueryOptions) -> LocalAnswer:
        if len(path.navigation) > 1:
            raise ODataError("Only one navigation property may be followed.")
        if path.links:
            return await self._links(path)
        place = await self.followed(path)
        if path.property_path or path.value:
            return await self._property(place, path)
        if path.count:
            return await self._count(place, options)
        dialect.check_options(options, self.dialect, collection=place.key is None)
        shown = dialect.projection(options, place.entity_set, self.model, self.relationships, self.dialect)
        chosen = dialect.chosen_format(self.ask.accept)
        if place.key is not None:
            return await self.entity(place, shown, chosen)
        dialect.check_takes_pages(self.ask.headers)
        return await self._page(place, options, shown, self._representation(chosen))

    async def followed(self, path: ResourcePath) -> Place:
        """ODataError 404 where a step leads nowhere; an entity that a path ends in is not looked up."""
        assert path.entity_set is not None  # a path of any other kind is answered before
        if not path.navigation:
            return Place(path.entity_set, path.key)
        step = path.navigation[0]
        relationship = self.relationships.of(path.entity_set, step.name)
        if relationship is None or path.key is None:
            raise dialect.not_found(step.name)
        await self._require(path.entity_set, path.key)
        parent = Related(path.entity_set, path.key, relationship)
        if relationship.many and step.key is None:
            return Place(relationship.target, None, parent, parent)
        found = await self._linked(parent, step.key)
        if not found:
            raise dialect.not_found(step.name)
        return Place(relationship.target, found[0].key, None, parent)

    async def _linked(self, parent: Related, key: EntityKey | None) -> Sequence[Stored]:
        """Those that a relationship leads to, or the one of them with this key."""
        target = parent.relationship.target
        if key is None:
            return (await self.rows.find(Query(target, page=_AT_ONCE, within=parent))).rows
        behind = Query(target, key_condition(target, key), page=1, within=parent)
        return (await self.rows.find(behind)).rows

    async def _require(self, entity_set: EntitySet, key: EntityKey) -> Stored:
        row = await self.rows.get(entity_set, key)
        if row is None:
            raise does_not_exist(logical_name(entity_set), key[0][1])
        return row

    def _representation(self, chosen: Any) -> Representation:
        restore = partial(verbose_json.restore_origins, origin=self.ask.origin)
        updated = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return Representation(chosen, self.model, self.own_root, restore, updated)

    # The answers

    async def entity(self, place: Place, shown: Projection, chosen: Any) -> LocalAnswer:
        """Raises ODataError, 404, where it does not exist."""
        assert place.key is not None  # whoever calls looked
        row = await self._require(place.entity_set, place.key)
        representation = self._representation(chosen)
        select = representation.select(shown)
        (text,) = await self.entities.texts([row], place.entity_set, shown, select)
        title = await self.rows.title(place.entity_set)
        return _answered(representation.entity(text, place.entity_set, shown, title))

    async def _page(
        self, place: Place, options: QueryOptions, shown: Projection, representation: Representation
    ) -> LocalAnswer:
        query, cookie = self._query(place, options)
        found = await self.rows.find(query)
        select = representation.select(shown)
        texts = await self.entities.texts(found.rows, place.entity_set, shown, select)
        body = representation.page(
            texts,
            place.entity_set,
            shown,
            await self.rows.title(place.entity_set),
            next_link=self._next_link(options, query, cookie, found),
            count=found.total,
        )
        return _answered(body)

    async def _count(self, place: Place, options: QueryOptions) -> LocalAnswer:
        dialect.check_counts(self.dialect)
        dialect.check_options(options, self.dialect, collection=True)
        query, _ = self._query(place, options)
        return _answered(Body(str(await self.rows.count_of(query)), TEXT, "2.0;"))

    async def _property(self, place: Place, path: ResourcePath) -> LocalAnswer:
        """A property, a member of a complex one, or the raw value of either."""
        if place.key is None or not path.property_path:
            raise dialect.not_found("$value")
        row = await self._require(place.entity_set, place.key)
        declared = self.model.property_at(place.entity_set.entity_type, path.property_path)
        text = verbose_json.value_at(row.document or "", path.property_path)
        if not path.value:
            representation = self._representation(dialect.chosen_format(self.ask.accept))
            return _answered(representation.property(path.property_path[-1], text, declared))
        primitive = PRIMITIVES.get(declared.type)
        value = json.loads(text or "null")
        if primitive is None or value is None:
            raise dialect.not_found("$value")
        return _answered(Body(primitive.to_atom(primitive.from_json(value)), TEXT))

    async def _links(self, path: ResourcePath) -> LocalAnswer:
        step = path.navigation[0]
        assert path.entity_set is not None  # only a path with a set has links
        relationship = self.relationships.of(path.entity_set, step.name)
        if relationship is None or path.key is None:
            raise dialect.not_found(step.name)
        if path.count:
            raise ODataError("Links are not counted.")
        await self._require(path.entity_set, path.key)
        found = await self._linked(Related(path.entity_set, path.key, relationship), step.key)
        many = relationship.many and step.key is None
        if not found and not many:
            raise dialect.not_found(relationship.name)
        documents = [row.document or "" for row in found]
        representation = self._representation(dialect.chosen_format(self.ask.accept))
        return _answered(representation.links(documents, many=many, next_link=None, count=None))

    # Pages

    def _query(self, place: Place, options: QueryOptions) -> tuple[Query, PagingCookie]:
        """What the options ask for, and where the page begins. Raises ODataError."""
        top, skip = options.top, options.skip or 0
        expanded = frozenset(options.expand or ())
        judge = Judge(place.entity_set, self.model, self.relationships, expanded, self.dialect)
        bound = (place.entity_set, self.model, self.relationships)
        items = parse_orderby(options.orderby) if options.orderby else ()
        judge.check_orderby(items)
        order = bind_orderby(items, *bound)
        condition = None
        if options.filter:
            expression = parse_filter(options.filter)
            judge.check_filter(expression)
            condition = bind_filter(expression, *bound)
        query = Query(
            place.entity_set,
            condition,
            order,
            skip=skip,
            top=top,
            page=dialect.PAGE,
            count=options.inlinecount == "allpages",
            within=place.within,
        )
        return resumed(query, options.skiptoken)

    def _next_link(
        self, options: QueryOptions, query: Query, cookie: PagingCookie, found: Found
    ) -> str | None:
        if found.next is None:
            return None
        left = None if query.top is None else query.top - len(found.rows)
        token = cookie_after(query, found, cookie.page + 1) or found.next
        url = self.ask.origin + split_target(self.ask.target)[0]
        return f"{url}?{dialect.next_query(options, left, token)}"


def _answered(body: Body) -> LocalAnswer:
    content = body.content if isinstance(body.content, bytes) else body.content.encode()
    return LocalAnswer(200, content, body.content_type, body.version)
