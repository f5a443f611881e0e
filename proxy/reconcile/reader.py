"""The driver of reads: one entity, or a page of a set, by the checked-read rule (rules 1 to 4).

A GET arrives at `read`. It is served from the mirror when a check confirmed what is held; what moved is
fetched; and wherever the proxy cannot promise upstream's own bytes, the client's own request goes through.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import datetime

from cachetools import LRUCache

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection, ReadEntity
from proxy.odata.query_options import with_select
from proxy.odata.uri import format_key
from proxy.reconcile.assembly import JSON_TYPE, Shape, entity_body, follows_select, page_body
from proxy.reconcile.bounded import BoundedPages
from proxy.reconcile.errors import SyncConflict
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, Forwarded, FromMirror, Relayed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.freshness import (
    Need,
    Serve,
    age_of,
    allowed_age,
    decide_entity_read,
    in_sync,
    is_servable,
)
from proxy.reconcile.mirror import Mirror, read_json
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import (
    Fetched,
    Reply,
    Source,
    Stored,
    StoreUnavailable,
    Upstream,
    UpstreamCut,
    UpstreamFailure,
)
from proxy.reconcile.visibility import Visibility

Settle = Callable[[EntitySet, EntityKey, Ask, Model], Awaitable[None]]

_CHECKED = CacheStatus(hit=True, detail="checked")
_AGED = CacheStatus(hit=True, detail="age-allowed")
_STALE = CacheStatus(hit=True, detail="stale-if-error")
# Upstream's word on the entity; any other refusal is one of the query.
_NOT_SHOWN = (401, 403, 404, 410)

# What answers a GET where the mirror is the authority: `LocalService.answer`.
LocalRead = Callable[[Ask, Model], Awaitable[Answer | None]]


class Reader:
    """Answers reads. `now`: aware UTC. `draw`: uniform in [0, 1), chooses the hits to audit.

    `settle`: what ends the open intents of an entity that a caller's fetch has shown (`Settler.settle_seen`),
    where nobody looks for them in the background.
    """

    def __init__(
        self,
        mirror: Mirror,
        upstream: Upstream,
        feeder: Feeder,
        observe: Observe,
        now: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
        settle: Settle | None = None,
        local: LocalRead | None = None,
    ) -> None:
        self._local = local
        self._mirror = mirror
        self._store = mirror.store
        self._sets = mirror.sets
        self._upstream = upstream
        self._feeder = feeder
        self._observe = observe
        self._now = now
        self._draw = draw
        self._settle = settle
        self.visibility = Visibility(mirror.rules, mirror.sets, now)
        self._bounded = BoundedPages(mirror, now)
        self._confirmed: LRUCache[tuple[str, EntityKey], tuple[int, datetime]] = LRUCache(maxsize=100_000)

    async def read(self, operation: ReadEntity | ReadCollection, ask: Ask, model: Model) -> Answer:
        """Answer a GET. Raises SyncError where the sync rule demands it, and UpstreamFailure."""
        is_mirrors = self._sets.policy(operation.entity_set).mode is Mode.MIRROR
        if is_mirrors and self._local is not None and (answer := await self._local(ask, model)) is not None:
            return answer
        if ask.directives.no_store:
            return await self.forward(ask, CacheStatus(fwd="request", detail="no-store"))
        if not self._sets.may_store(operation.entity_set):
            return await self.forward(ask, CacheStatus(fwd="bypass", detail="secured-not-stated"))
        try:
            if ask.is_login:
                return await self._forward(operation, ask, model, "bypass", "login")
            if await self._sets.is_forwarded(operation.entity_set):
                return await self._forward(operation, ask, model, "bypass", "forward-mode")
            shape = await self._shape(operation, ask, model)
            if shape is None:
                return await self._forward(operation, ask, model, "bypass", "not-assembled")
            if isinstance(operation, ReadEntity):
                return await self._read_entity(operation, ask, shape)
            return await self._read_page(operation, ask, shape)
        except StoreUnavailable as error:
            self._observe(StoreFailed("read", str(error)))
            return await self.forward(ask, CacheStatus(fwd="bypass", detail="store-unavailable"))

    async def forward(self, ask: Ask, status: CacheStatus) -> Relayed:
        """Send the client's own request and pass its answer on, a cut one included."""
        try:
            return Relayed(await self._upstream.send(ask.request), status)
        except UpstreamCut as cut:
            return Relayed(cut.reply, status, cut=True)

    async def _forward(
        self,
        operation: ReadEntity | ReadCollection,
        ask: Ask,
        model: Model,
        fwd: Forwarded,
        detail: str,
        moved: frozenset[EntityKey] = frozenset(),
    ) -> Answer:
        """Forward, and let the mirror have what the answer shows once the client has it."""
        number = await self._store.next_fetch_number()
        answer = await self.forward(ask, CacheStatus(fwd=fwd, detail=detail))
        if not answer.cut and answer.reply.status == 200:
            self._feeder.feed(operation, answer.reply, ask, model, number, moved)
        elif not answer.cut and isinstance(operation, ReadEntity):
            await self._note_absence(operation, ask, number, answer.reply)
        return answer

    async def _shape(self, operation: ReadEntity | ReadCollection, ask: Ask, model: Model) -> Shape | None:
        """The form of an answer from stored entities; None where it could not be byte for byte the same."""
        entity_set, options = operation.entity_set, operation.options
        if options.expand is not None or "$format" in options.names or ask.format is None:
            return None
        if options.select is not None and not set(options.select) <= entity_set.entity_type.properties.keys():
            return None
        title = ""
        if ask.format == "atom":
            if options.inlinecount is not None:
                return None  # where upstream writes the count in a feed was never proven
            form = "entry" if isinstance(operation, ReadEntity) else "feed"
            learned = await self._sets.title(entity_set)
            if learned is None or form not in (await self._sets.state(entity_set)).proven:
                return None
            title = learned
        return Shape(
            entity_set,
            model,
            ask.format,
            options.select,
            title,
            ask.query,
            ask.origin,
            self._mirror.root_path,
            self._mirror.secured(entity_set, options.select),
        )

    # One entity

    async def _read_entity(self, operation: ReadEntity, ask: Ask, shape: Shape) -> Answer:
        entity_set, key = operation.entity_set, operation.key
        held = (await self._store.get(entity_set, [key])).get(key)
        try:
            answer = await self._entity(operation, ask, shape, held)
        except UpstreamFailure:
            if stale := self._stale(held, shape, ask):
                return stale
            raise
        if isinstance(answer, Relayed) and (answer.cut or answer.reply.status >= 500):
            return self._stale(held, shape, ask) or answer
        return answer

    async def _entity(self, operation: ReadEntity, ask: Ask, shape: Shape, held: Stored | None) -> Answer:
        entity_set, key = operation.entity_set, operation.key
        if ask.directives.no_cache:
            return await self._fetch(operation, ask, shape, held, "request")
        if held is not None and (followed := await self._sets.followed_at(entity_set, held)):
            self._confirm(entity_set, held, followed)
        allowed = self.visibility.allowed_age(ask, entity_set, key, self._lifetime_s(entity_set))
        need = decide_entity_read(held, self._confirmed_at(entity_set, held), allowed, self._now())
        if isinstance(need, Serve) and held is not None:
            answer = self._from_held(held, shape, _AGED)
            return answer or await self._forward(operation, ask, shape.model, "bypass", "not-assembled")
        if need is Need.CHECK and held is not None:
            return await self._check(operation, ask, shape, held)
        return await self._fetch(operation, ask, shape, held, "stale" if held else "uri-miss")

    async def _check(self, operation: ReadEntity, ask: Ask, shape: Shape, held: Stored) -> Answer:
        names = (*self._mirror.stamp_names(operation.entity_set), *shape.secured)
        check = ask.own_read(f"{ask.path}?{with_select(ask.query, names)}")
        try:
            reply = await self._upstream.send(check, joinable=True)
        except UpstreamCut:
            return await self._forward(operation, ask, shape.model, "stale", "check-refused")
        if reply.status >= 500 and (stale := self._stale(held, shape, ask)):
            return stale
        try:
            around = read_json(reply)
            raw = around[1].values[0] if around[1].kind == "entity" else {}
            if self._mirror.key_of(raw, operation.entity_set) != operation.key:
                raise ODataError("The check shows another entity.")
            seen = self._mirror.stamp_of(raw, operation.entity_set)
        except ODataError:
            return await self._forward(operation, ask, shape.model, "stale", "check-refused")
        self._sets.follows_select = follows_select(raw, names)
        if not in_sync(held, seen) or self._is_audited():
            return await self._fetch(operation, ask, shape, held, "stale")
        self._confirm(operation.entity_set, held, reply.sent_at)
        self.visibility.seen(ask, operation.entity_set, [held.key], reply.sent_at)
        text = None
        if self._may_slice(shape):
            text = entity_body(held.document or "", around, shape, self._now())
        if text is None:
            return await self._forward(operation, ask, shape.model, "bypass", "not-assembled")
        return FromMirror(text.encode(), shape.content_type, reply, _CHECKED)

    async def _fetch(
        self, operation: ReadEntity, ask: Ask, shape: Shape, held: Stored | None, why: Forwarded
    ) -> Answer:
        """Fetch the whole entity, let it into the mirror, and show what was fetched."""
        entity_set, key = operation.entity_set, operation.key
        if not self._may_slice(shape):
            return await self._forward(operation, ask, shape.model, why, "select-unproven", frozenset({key}))
        is_own = shape.format == "json" and ask.query is None and not ask.request.body
        try:
            look = await self._mirror.fetch(entity_set, key, shape.model, ask, ask.path)
        except UpstreamCut as cut:
            return (
                Relayed(cut.reply, CacheStatus(fwd=why), cut=True) if is_own else await self._again(ask, why)
            )
        if held is not None and held.intents and self._settle is not None:
            await self._settle(entity_set, key, ask, shape.model)
        if look.fetched is None:
            if look.reply.status >= 500 and (stale := self._stale(held, shape, ask)):
                return stale
            await self._note_absence(operation, ask, look.number, look.reply)
            return Relayed(look.reply, CacheStatus(fwd=why)) if is_own else await self._again(ask, why)
        self.visibility.seen(ask, entity_set, [key], look.reply.sent_at)
        status = CacheStatus(fwd=why, stored=await self._let_in(entity_set, look.fetched, ask, held))
        if is_own:
            return Relayed(look.reply, status)
        text = entity_body(look.fetched.document or "", read_json(look.reply), shape, self._now())
        if text is None:
            return await self._again(ask, why)
        return FromMirror(text.encode(), shape.content_type, look.reply, status)

    async def _again(self, ask: Ask, why: Forwarded) -> Relayed:
        """The fetch made for the client brought no answer for it: send the client's own request."""
        return await self.forward(ask, CacheStatus(fwd=why))

    async def _let_in(self, entity_set: EntitySet, fetched: Fetched, ask: Ask, held: Stored | None) -> bool:
        """Store what was fetched; True where the mirror has it now. Raises SyncConflict.

        Postgres being down does not keep the client from what upstream has already said.
        """
        try:
            absorbed = await self._mirror.absorb(
                entity_set, [fetched], ask.provenance(Source.UPSTREAM_REFRESH)
            )
        except StoreUnavailable as error:
            self._observe(StoreFailed("refresh", str(error)))
            return False
        for key, conflict in absorbed.conflicts.items():
            raise SyncConflict(entity_set.name, format_key(key), conflict)
        return absorbed.stored

    async def _note_absence(self, operation: ReadEntity, ask: Ask, number: int, reply: Reply) -> None:
        if reply.status in _NOT_SHOWN:
            self.visibility.refused(ask, operation.entity_set, operation.key)
        if self._mirror.is_gone(reply, ask):
            try:
                provenance = ask.provenance(Source.UPSTREAM_REFRESH)
                await self._store.bury(operation.entity_set, operation.key, number, provenance)
            except StoreUnavailable as error:
                self._observe(StoreFailed("refresh", str(error)))

    def _may_slice(self, shape: Shape) -> bool:
        """False where upstream may show what `$select` names in another order than the client's."""
        return shape.select is None or bool(self._sets.follows_select)

    def _is_audited(self) -> bool:
        return self._draw() < self._mirror.rules.audit_share

    # Answers that may be older than the request

    def _lifetime_s(self, entity_set: EntitySet) -> float:
        policy = self._sets.policy(entity_set)
        return policy.max_age_s if policy.mode is Mode.BOUNDED else 0.0

    def _confirm(self, entity_set: EntitySet, held: Stored, at: datetime) -> None:
        """Upstream showed at this moment that the row is as held."""
        before = self._confirmed_at(entity_set, held)
        self._confirmed[entity_set.name, held.key] = (held.fetch_number, max(at, before or at))

    def _confirmed_at(self, entity_set: EntitySet, held: Stored | None) -> datetime | None:
        """When this process last saw upstream confirm the row in the state held."""
        if held is None:
            return None
        number, at = self._confirmed.get((entity_set.name, held.key), (None, None))
        return at if number == held.fetch_number else None

    def _from_held(self, held: Stored, shape: Shape, status: CacheStatus) -> FromMirror | None:
        text = None
        if self._may_slice(shape):
            text = entity_body(held.document or "", None, shape, self._now())
        if text is None:
            return None
        age = age_of(held, self._confirmed_at(shape.entity_set, held), self._now())
        return FromMirror(text.encode(), shape.content_type or JSON_TYPE, None, status, int(age))

    def _stale(self, held: Stored | None, shape: Shape, ask: Ask) -> FromMirror | None:
        """What is held, where upstream fails and the set's policy lets it stand in (RFC 5861)."""
        if held is None or not is_servable(held):
            return None
        if not self.visibility.may_stand_in(ask.caller, shape.entity_set, held.key):
            return None
        answer = self._from_held(held, shape, _STALE)
        limit = self._sets.policy(shape.entity_set).stale_if_error_s
        return answer if answer and (answer.age or 0) < limit else None

    # A page

    async def _read_page(self, operation: ReadCollection, ask: Ask, shape: Shape) -> Answer:
        entity_set = operation.entity_set
        names = (*self._mirror.stamp_names(entity_set), *shape.secured)
        target = f"{ask.path}?{with_select(ask.query, names)}"
        if ask.directives.no_cache:
            return await self._forward(operation, ask, shape.model, "request", "no-cache")
        if self._may_slice(shape) and self.visibility.may_list(entity_set, ask.caller):
            allowed = allowed_age(ask.directives, self._lifetime_s(entity_set))
            if aged := await self._bounded.page(operation, ask, shape, allowed):
                return aged
        if not await self._sets.worth_a_check(entity_set, target):
            return await self._forward(operation, ask, shape.model, "miss", "little-held")
        try:
            reply = await self._upstream.send(ask.own_read(target), joinable=True)
        except UpstreamCut:
            return await self._forward(operation, ask, shape.model, "stale", "check-refused")
        try:
            around = read_json(reply)
            rows = around[1].values
            if around[1].kind != "collection":
                raise ODataError("The check shows no collection.")
            keys = [self._mirror.key_of(raw, entity_set) for raw in rows]
            stamps = [self._mirror.stamp_of(raw, entity_set) for raw in rows]
        except ODataError:
            return await self._forward(operation, ask, shape.model, "stale", "check-refused")
        held = await self._store.get(entity_set, keys)
        synced = [in_sync(held.get(key), seen) for key, seen in zip(keys, stamps, strict=True)]
        self._sets.page_seen(entity_set, len(keys), sum(synced))
        if not all(synced) or (rows and self._is_audited()):
            moved = frozenset(key for key, same in zip(keys, synced, strict=True) if not same)
            return await self._forward(operation, ask, shape.model, "stale", "rows-moved", moved)
        text = None
        follows = all(follows_select(raw, names) for raw in rows)
        if rows:
            self._sets.follows_select = follows
        if shape.select is None or follows:
            documents = [held[key].document or "" for key in keys]
            text = page_body(documents, around, names, shape, self._now())
        if text is None:
            return await self._forward(operation, ask, shape.model, "bypass", "not-assembled")
        self.visibility.seen(ask, entity_set, keys, reply.sent_at)
        for key in keys:
            self._confirm(entity_set, held[key], reply.sent_at)
        return FromMirror(text.encode(), shape.content_type, reply, _CHECKED)
