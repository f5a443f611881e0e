"""What the mirror takes from forwarded replies, after the client has its answer (rule 4).

A reply that shows whole entities is stored as it is. One that shows parts of them (`$select`,
`$expand`, Atom) names entities, and those the mirror lacks are fetched. An Atom reply also teaches how
upstream writes Atom: from the day our rendering equals it byte for byte, it is made from the mirror.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from proxy.odata import atom
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection, ReadEntity
from proxy.odata.query_options import with_select
from proxy.odata.uri import parse_resource_path
from proxy.odata.verbose_json import entity_uri, restore_origins
from proxy.reconcile.background import Background
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import is_servable
from proxy.reconcile.history import ShadowLog
from proxy.reconcile.mirror import KEYS_PER_REQUEST, Mirror, read_json
from proxy.reconcile.observations import AtomProven, Observe, StoreFailed, UpstreamFailed
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import (
    Reply,
    Source,
    Stored,
    StoreUnavailable,
    UpstreamFailure,
)
from proxy.reconcile.shadowing import Shadowing

_AT_ONCE = 2  # refreshing gives way to clients
_DUE = 1_000  # entities that wait to be refreshed; what is beyond is fetched when next read
_LESSONS = 50  # attempts per set to learn how upstream writes Atom


class Feeder:
    """Feeds the mirror beside the requests."""

    def __init__(
        self,
        mirror: Mirror,
        background: Background,
        observe: Observe,
        shadow_log: ShadowLog | None = None,
    ) -> None:
        self._mirror = mirror
        self._shadowing = Shadowing(mirror, shadow_log)
        self._background = background
        self._observe = observe
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._due: set[tuple[str, EntityKey]] = set()
        self._lessons: dict[str, int] = {}
        self._titles: dict[str, frozenset[str]] = {}

    def feed(
        self,
        operation: ReadEntity | ReadCollection,
        reply: Reply,
        ask: Ask,
        model: Model,
        number: int,
        moved: frozenset[EntityKey] = frozenset(),
    ) -> None:
        """Take from the reply to `ask` what it shows; `number` was drawn before it was sent.

        `moved`: entities that a check has just shown to be other than held.
        """
        self._background.spawn("feed", self._quietly(self._feed(operation, reply, ask, model, number, moved)))

    def refresh(self, entity_set: EntitySet, keys: Sequence[EntityKey], ask: Ask, model: Model) -> None:
        """Fetch these entities and store them."""
        if keys and self._mirror.sets.may_store(entity_set):
            self._background.spawn("refresh", self._quietly(self._refresh(entity_set, keys, ask, model)))

    async def _quietly(self, work: object) -> None:
        """A failed refresh loses nothing: what was not refreshed is asked for when next read."""
        try:
            await work  # type: ignore[misc]
        except StoreUnavailable as error:
            self._observe(StoreFailed("feed", str(error)))
        except (UpstreamFailure, ODataError) as error:  # whose text can quote a value
            self._observe(UpstreamFailed("feed", type(error).__name__))

    async def _feed(
        self,
        operation: ReadEntity | ReadCollection,
        reply: Reply,
        ask: Ask,
        model: Model,
        number: int,
        moved: frozenset[EntityKey],
    ) -> None:
        entity_set, options = operation.entity_set, operation.options
        is_whole = options.select is None and options.expand is None
        if reply.media_type == "application/json" and is_whole:
            fetched = self._mirror.read_entities(reply, entity_set, model, number)
            keys = [state.key for state in fetched]
            held = await self._mirror.store.get(entity_set, keys)
            await self._shadowing.note(operation, reply, held, ask, model, number)
            await self._mirror.absorb(entity_set, fetched, ask.provenance(Source.UPSTREAM_REFRESH))
        elif self._mirror.sets.policy(entity_set).mode in (Mode.FORWARD, Mode.MIRROR):
            return
        else:
            keys = self._keys_shown(reply, entity_set, model)
            held = await self._mirror.store.get(entity_set, keys)
            await self._shadowing.note(operation, reply, held, ask, model, number)
            lacking = [key for key in keys if key in moved or not _is_good(held.get(key))]
            await self._refresh_shown(entity_set, lacking, number, ask, model)
        if isinstance(operation, ReadCollection):
            self._mirror.sets.page_seen(entity_set, len(keys), sum(_is_good(held.get(key)) for key in keys))
            names = (*self._mirror.stamp_names(entity_set), *self._mirror.secured(entity_set, options.select))
            self._mirror.sets.page_fed(f"{ask.path}?{with_select(ask.query, names)}")
        if ask.format == "atom" and is_whole:
            form = "feed" if isinstance(operation, ReadCollection) else "entry"
            await self._learn(form, reply, entity_set, keys, model)

    def _keys_shown(self, reply: Reply, entity_set: EntitySet, model: Model) -> list[EntityKey]:
        """The keys of the entities in a reply of either format. Raises ODataError."""
        if reply.media_type == "application/json":
            uris = [entity_uri(raw) for raw in read_json(reply)[1].values]
        else:
            uris = [entry.id for entry in atom.entry_heads(reply.body)]
        return [key for uri in uris if (key := self._key_in(uri, entity_set, model)) is not None]

    def key_made(self, reply: Reply, entity_set: EntitySet, model: Model) -> EntityKey | None:
        """The key of what a create has made, by the Location in its answer; None where that names none."""
        try:
            return self._key_in(reply.headers.get("Location"), entity_set, model)
        except ODataError:
            return None

    def _key_in(self, uri: str | None, entity_set: EntitySet, model: Model) -> EntityKey | None:
        at = (uri or "").lower().find(self._mirror.root_path.lower())
        if uri is None or at < 0:
            return None
        path = parse_resource_path(uri[at + len(self._mirror.root_path) :], model)
        return path.key if path.entity_set == entity_set else None

    async def _refresh_shown(
        self, entity_set: EntitySet, keys: Sequence[EntityKey], number: int, ask: Ask, model: Model
    ) -> None:
        """Refresh what a reply with this number shows, each entity once however many replies show it."""
        room = _DUE - len(self._due)
        due = [(entity_set.name, key) for key in keys if (entity_set.name, key) not in self._due][:room]
        self._due.update(due)
        try:
            await self._refresh(entity_set, [key for _, key in due], ask, model, after=number)
        finally:
            self._due.difference_update(due)

    async def _refresh(
        self,
        entity_set: EntitySet,
        keys: Sequence[EntityKey],
        ask: Ask,
        model: Model,
        *,
        after: int | None = None,
    ) -> None:
        """Fetch and store; not what a fetch with a number over `after` has brought while this waited."""
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            some = keys[start : start + KEYS_PER_REQUEST]
            async with self._at_once:
                if after is not None:
                    held = await self._mirror.store.get(entity_set, some)
                    some = [key for key in some if key not in held or held[key].fetch_number <= after]
                if not some:
                    continue
                fetched = await self._mirror.fetch_some(entity_set, some, model, ask)
            await self._mirror.absorb(entity_set, fetched, ask.provenance(Source.UPSTREAM_REFRESH))

    # How upstream writes Atom

    async def _learn(
        self, form: str, reply: Reply, entity_set: EntitySet, keys: Sequence[EntityKey], model: Model
    ) -> None:
        """Compare our Atom of what upstream just showed with what it wrote."""
        state = await self._mirror.sets.state(entity_set)
        tried = self._lessons.get(entity_set.name, 0)
        if form in state.proven or not keys or tried >= _LESSONS:
            return
        held = await self._mirror.store.get(entity_set, keys)
        if not all(_is_good(held.get(key)) for key in keys):
            return
        self._lessons[entity_set.name] = tried + 1
        text = reply.body.decode("utf-8-sig")
        origin = atom.origin_of(text)
        documents = [restore_origins(held[key].document or "", origin) for key in keys]
        title = await self._mirror.sets.title(entity_set)
        if title is None:
            title = self._title_shown(entity_set, text, documents)
        if title is None:
            return
        updated = "2000-01-01T00:00:00Z"
        if form == "entry":
            ours = atom.entry_from_document(documents[0], entity_set, model, title=title, updated=updated)
        else:
            ours = atom.feed_from_documents(
                documents, entity_set, model, title=title, updated=updated, next_link=atom.next_link(text)
            )
        if atom.mask_updated(ours) == atom.mask_updated(text):
            await self._mirror.sets.learn(entity_set, title=title, proven=state.proven | {form})
            self._observe(AtomProven(entity_set.name, form, title))

    def _title_shown(self, entity_set: EntitySet, text: str, documents: Sequence[str]) -> str | None:
        """The one string property whose values the titles have shown so far; None while that is open."""
        strings = [p.name for p in entity_set.entity_type.properties.values() if p.type == "Edm.String"]
        candidates = self._titles.get(entity_set.name, frozenset(strings))
        heads = atom.entry_heads(text.encode())
        for head, document in zip(heads, documents, strict=True):
            values = atom.string_values(document)
            candidates &= {name for name in strings if (values.get(name) or "") == head.title}
        self._titles[entity_set.name] = candidates
        return next(iter(candidates)) if len(candidates) == 1 else None


def _is_good(held: Stored | None) -> bool:
    return held is not None and is_servable(held) and held.settled
