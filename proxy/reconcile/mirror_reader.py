"""The driver of reads that the mirror answers by itself, from what it holds and nothing else.

A GET arrives at `read` and is carried out by a `_Reading`: the path is followed to an entity or to a query,
the query is put to the store, expansions are fetched level by level, and the answer is written. What upstream
would say is not asked, so an answer is as old as `Age` tells: as the oldest entity it shows.

With `asof` the same is done over what the history says of a moment; such an answer has no age, and
`detail=gap` where something shown may have been otherwise at that moment, `detail=incomplete` where a list is
of a time before the set was first loaded as a whole.

An entity whose write is under way is not shown by its key (504), nor is one with an open conflict (409). In
lists both are shown as held, and Cache-Status says `detail=unsettled`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from proxy.odata import verbose_json
from proxy.odata.bound import key_condition
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError, UnsupportedConstruct
from proxy.odata.headers import protocol_version
from proxy.odata.media import negotiated_format
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.projection import Projection, parse_projection
from proxy.odata.reading import AS_OF, Read, moment_of, parse_read
from proxy.odata.relationships import Relationships
from proxy.odata.uri import format_key
from proxy.reconcile.entities import PAGE, Entities, names_target
from proxy.reconcile.errors import NotInMirror, ReadRefused, SyncConflict
from proxy.reconcile.exchange import CacheStatus, FromMirror, MirrorAsk
from proxy.reconcile.freshness import age_of, is_servable
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.ports import Answers, Found, Query, Related, Stored, StoreUnavailable
from proxy.reconcile.progress import LifecycleStore, Stage
from proxy.reconcile.questions import next_query, query_of
from proxy.reconcile.representation import TEXT, XML, Body, Representation
from proxy.reconcile.restricted import Restricted
from proxy.reconcile.sets import Sets


class MirrorReader:
    """Answers GETs by itself. `page_limit`: entities in one page at most. `now`: aware UTC. `past`: the
    mirror as it was at a moment, None where that is not kept."""

    def __init__(
        self,
        store: LifecycleStore,
        sets: Sets,
        observe: Observe,
        now: Callable[[], datetime],
        *,
        root_path: str,
        page_limit: int,
        past: Callable[[datetime], Answers] | None = None,
    ) -> None:
        self._store = store
        self._past = past
        self._sets = sets
        self._observe = observe
        self._now = now
        self._root_path = root_path
        self._page_limit = page_limit
        self._relationships: tuple[Model, Relationships] | None = None

    async def read(self, ask: MirrorAsk, model: Model | None) -> FromMirror:
        """Answer a GET. Raises ReadRefused for what is wrong with the request or not there, NotInMirror where
        the mirror cannot answer, SyncConflict for an entity that has one, RightMissing."""
        if model is None:
            raise NotInMirror("No metadata document is known yet.")
        try:
            return await self._reading(ask, model).answer()
        except ODataError as error:
            raise ReadRefused(error, allow="POST") from error  # a 405 of a GET is that of `$batch`
        except StoreUnavailable as error:
            self._observe(StoreFailed("read", str(error)))
            raise NotInMirror("The mirror's database is not available.") from error

    def _reading(self, ask: MirrorAsk, model: Model) -> _Reading:
        _check_versions(ask.headers)
        read = parse_read(ask.path, ask.query, model)
        if self._relationships is None or self._relationships[0] is not model:
            self._relationships = (model, Relationships(model))
        origin = ask.root[: len(ask.root) - len(self._root_path)]
        restore = (
            partial(verbose_json.restore_origins, origin=origin)
            if ask.only_if_cached
            else partial(verbose_json.restore_roots, root_path=self._root_path, root=ask.root)
        )
        # `$count` and `$value` are text whatever is accepted, and the metadata document is XML.
        is_fixed = read.kind in ("count", "value", "metadata")
        chosen = "json" if is_fixed else negotiated_format(ask.accept, read.options.format)
        now = self._now()
        as_of = None if ask.only_if_cached else moment_of(read, now)
        answers: Answers = self._store
        if as_of is not None:
            if self._past is None:
                raise UnsupportedConstruct("asof is answered below /mirror/ only.", token=AS_OF)
            answers = self._past(as_of)
        rights = self._sets.shown_to(ask.rights, model.entity_sets)
        if not rights.sees_all:
            answers = Restricted(answers, rights, model)
        kept = [item.raw for item in read.options.items if item.name == AS_OF and as_of is not None]
        return _Reading(
            ask,
            read,
            model,
            self._relationships[1],
            Representation(chosen, model, ask.root, restore, now.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Entities(answers, model, self._relationships[1], ask.root, self._page_limit, kept),
            self._store,
            answers,
            self._sets,
            self._page_limit,
            now,
            as_of,
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """One GET being answered, out of `answers`."""

    ask: MirrorAsk
    read: Read
    model: Model
    relationships: Relationships
    representation: Representation
    entities: Entities
    store: LifecycleStore
    answers: Answers
    sets: Sets
    page_limit: int
    now: datetime
    as_of: datetime | None

    async def answer(self) -> FromMirror:
        """Raises ODataError, NotInMirror, SyncConflict, RightMissing and StoreUnavailable."""
        kind = self.read.kind
        if kind == "service":
            names = [name for name in self.model.entity_sets if self.ask.rights.may_read(name)]
            return await self._answered(self.representation.service(names, self.ask.accept or ""))
        if kind == "metadata":
            return await self._answered(await self._metadata())
        place = await self._followed()
        match kind:
            case "count":
                body = await self._count(place)
            case "collection":
                body = await self._collection(place)
            case "links":
                body = await self._links(place)
            case "entity":
                body = await self._entity(place)
            case _:
                body = self._property(place)
        return await self._answered(body, place.entity_set)

    async def _answered(self, body: Body, entity_set: EntitySet | None = None) -> FromMirror:
        shown, followed_at = self.entities.shown, self.sets.followed_at
        if self.as_of is not None:
            status = CacheStatus(hit=True, detail=await self._doubt(entity_set))
            return self._said(body, status, None, entity_set)
        is_settled = all(is_servable(row) for _, row in shown)
        ages = [age_of(row, await followed_at(of, row), self.now) for of, row in shown]
        status = CacheStatus(hit=True, detail=None if is_settled else "unsettled")
        return self._said(body, status, int(max(ages)) if ages else None, entity_set)

    def _said(
        self, body: Body, status: CacheStatus, age: int | None, entity_set: EntitySet | None
    ) -> FromMirror:
        return FromMirror(
            body.content if isinstance(body.content, bytes) else body.content.encode(),
            body.content_type,
            None,
            status,
            age,
            body.version,
            entity_set.name if entity_set else None,
        )

    async def _doubt(self, entity_set: EntitySet | None) -> str | None:
        """What the history does not know of what is said of a moment."""
        if self.read.many and entity_set is not None and self.as_of is not None:
            loaded = await self.store.walk(Stage.BACKFILL, entity_set)
            if loaded is None or loaded.finished_at is None or self.as_of < loaded.finished_at:
                return "incomplete"
        return None if all(row.settled for _, row in self.entities.shown) else "gap"

    async def _metadata(self) -> Body:
        document = await self.store.latest_metadata()
        if document is None:
            raise NotInMirror("No metadata document is kept.")
        return Body(document, XML)

    # Following the path

    async def _followed(self) -> _Place:
        """Where the path leads. Raises ODataError, NotInMirror, SyncConflict."""
        path = self.read.path
        entity_set = path.entity_set
        assert entity_set is not None  # `Read` of any other kind
        await self._vouch_for(entity_set)
        if path.key is None:
            return _Place(entity_set)
        held = (await self.answers.get(entity_set, [path.key])).get(path.key)
        place = _Place(entity_set, self._usable(held, entity_set, path.key))
        for step in path.navigation:
            place = await self._stepped(place, step.name, step.key)
        return place

    async def _stepped(self, place: _Place, name: str, key: EntityKey | None) -> _Place:
        """One navigation step from the entity at `place`."""
        assert place.row is not None  # a path goes on from entities only
        relationship = self.entities.relationship(place.entity_set, name)
        target = relationship.target
        await self._vouch_for(target)
        within = Related(place.entity_set, place.row.key, relationship)
        if relationship.many and key is None:
            return _Place(target, None, within)
        condition = None if key is None else key_condition(target, key)
        found = await self.answers.find(Query(target, condition, page=1, within=within))
        if found.rows:
            row = found.rows[0]
            return _Place(target, self._usable(row, target, row.key))
        if key is None and not names_target(place.row, relationship):
            raise _not_found(name)
        raise self._absent(name)

    async def _vouch_for(self, entity_set: EntitySet) -> None:
        """Raises NotInMirror where the main listener would never answer from the mirror for this set."""
        if self.ask.only_if_cached and await self.sets.is_forwarded(entity_set):
            raise NotInMirror(f"{entity_set.name} is not answered from the mirror.")
        if self.ask.only_if_cached and self.sets.secured(entity_set):
            raise NotInMirror(f"The mirror does not hold all of {entity_set.name}: some of it is secured.")

    def _usable(self, held: Stored | None, entity_set: EntitySet, key: EntityKey) -> Stored:
        """The row, where it may stand for its entity."""
        named = f"{entity_set.name}({format_key(key, entity_set.entity_type)})"
        if held is not None and held.intents:
            raise NotInMirror(f"A write of {named} is under way, or its outcome is not known yet.")
        if held is not None and held.deleted_at is not None and self.as_of is not None:
            raise _not_found(named, f"it was gone since {_shown(held.deleted_at)}")
        if held is None or held.document is None:
            raise self._absent(named)
        if held.conflict is not None:
            raise SyncConflict(entity_set.name, format_key(key, entity_set.entity_type), held.conflict)
        return held

    def _absent(self, segment: str) -> Exception:
        """What the mirror does not hold may exist; only who asks the mirror for its own view is told 404."""
        if self.as_of is not None:
            return _not_found(
                segment, f"no state of it is known that held at {self.as_of:%Y-%m-%dT%H:%M:%SZ}"
            )
        if self.ask.only_if_cached:
            return NotInMirror(f"The mirror does not hold '{segment}'.")
        return _not_found(segment)

    # The answers

    async def _entity(self, place: _Place) -> Body:
        projection = await self._projection(place.entity_set)
        assert place.row is not None  # `Read` of this kind
        (text,) = await self.entities.texts(
            [place.row], place.entity_set, projection, self.representation.select(projection)
        )
        title = await self._title(place.entity_set)
        return self.representation.entity(text, place.entity_set, projection, title)

    async def _collection(self, place: _Place) -> Body:
        accepted = protocol_version(self.ask.headers.get("MaxDataServiceVersion"))
        if accepted is not None and accepted < (2, 0):
            raise ODataError("The reply needs data service version 2.0, which the client does not take.")
        projection = await self._projection(place.entity_set)
        found = await self.answers.find(self._query(place, PAGE))
        texts = await self.entities.texts(
            found.rows, place.entity_set, projection, self.representation.select(projection)
        )
        return self.representation.page(
            texts,
            place.entity_set,
            projection,
            await self._title(place.entity_set),
            next_link=self._next_link(found),
            count=found.total,
        )

    async def _links(self, place: _Place) -> Body:
        if place.row is not None:
            found = Found([place.row])
        else:
            found = await self.answers.find(self._query(place, self.page_limit))
        self.entities.show(found.rows, place.entity_set)
        return self.representation.links(
            [row.document or "" for row in found.rows],
            many=self.read.many,
            next_link=self._next_link(found),
            count=found.total,
        )

    async def _count(self, place: _Place) -> Body:
        counted = await self.answers.count_of(self._query(place, PAGE))
        options = self.read.options
        counted = max(0, counted - (options.skip or 0))
        return Body(str(counted if options.top is None else min(counted, options.top)), TEXT, "2.0;")

    def _property(self, place: _Place) -> Body:
        """A property, a member of a complex one, or the raw value of either."""
        assert place.row is not None  # `Read` of this kind
        self.entities.show([place.row], place.entity_set)
        path = self.read.path.property_path
        declared = self.model.property_at(place.entity_set.entity_type, path)
        text = verbose_json.value_at(place.row.document or "", path)
        if self.read.kind == "property":
            return self.representation.property(path[-1], text, declared)
        primitive = PRIMITIVES.get(declared.type)
        value = json.loads(text or "null")
        if primitive is None or value is None:
            raise _not_found("$value")
        native = primitive.from_json(value)
        if isinstance(native, bytes):
            return Body(native, "application/octet-stream")
        return Body(primitive.to_atom(native), TEXT)

    async def _title(self, entity_set: EntitySet) -> str:
        """The property that Atom titles show; "" also while it is not known."""
        return await self.sets.title(entity_set) or ""

    # Queries

    async def _projection(self, entity_set: EntitySet) -> Projection:
        options = self.read.options
        projection = parse_projection(
            options.get("$select"), options.get("$expand"), entity_set.entity_type, self.model
        )
        await self._vouch_for_expansions(projection, entity_set)
        return projection

    async def _vouch_for_expansions(self, projection: Projection, entity_set: EntitySet) -> None:
        for name, below in projection.expanded.items():
            target = self.entities.relationship(entity_set, name).target
            await self._vouch_for(target)
            await self._vouch_for_expansions(below, target)

    def _query(self, place: _Place, page: int) -> Query:
        """What the options ask for, pages of `page` where they do not say how long. Raises ODataError."""
        bound = (place.entity_set, self.model, self.relationships)
        query = query_of(self.read.options, *bound, page=page, page_limit=self.page_limit)
        return replace(query, within=place.within)

    def _next_link(self, found: Found) -> str | None:
        if found.next is None:
            return None
        return f"{self.ask.root}{self.ask.path}?{next_query(self.read.options, found.next)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path leads: to one entity, `row`, or to many, all of the set or those `within`."""

    entity_set: EntitySet
    row: Stored | None = None
    within: Related | None = None


def _check_versions(headers: Mapping[str, str]) -> None:
    asked = protocol_version(headers.get("DataServiceVersion"))
    if asked is not None and asked > (2, 0):
        raise ODataError("The version of the request is higher than this data service supports.")


def _not_found(segment: str, why: str = "") -> ODataError:
    message = f"Resource not found for the segment '{segment}'{why and ': '}{why}."
    return ODataError(message, status=404, token=segment)


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
