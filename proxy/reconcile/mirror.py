"""Between what upstream says and the store: fetch entities, and let them in by the rules.

Shared by every driver. Nothing else in this package stores an entity, but the writer's settlement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachetools import TTLCache

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.uri import entity_path, format_key, key_test
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import Storing, decide_storing, is_settled, lied
from proxy.reconcile.observations import (
    ConflictFound,
    ContentChangedUnderStamp,
    EntitiesStored,
    EntityUnreadable,
    Observe,
)
from proxy.reconcile.policy import OnConflict, SyncRules
from proxy.reconcile.ports import (
    Fetched,
    NewConflict,
    Provenance,
    Reply,
    Stored,
    Upstream,
)
from proxy.reconcile.progress import LifecycleStore, Walk
from proxy.reconcile.sets import Sets
from proxy.reconcile.stamp import Stamp

_WON_S = 3600.0  # conflicts that upstream won within this time look like a restored upstream together
KEYS_PER_REQUEST = 20  # longer or-chains may exceed what IIS takes as a query string


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What became of fetched states: `conflicts` by key, the others are stored or were overtaken."""

    conflicts: Mapping[EntityKey, int] = field(default_factory=dict)
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A fetch of one entity; `fetched` is None where the reply is not that entity."""

    number: int
    reply: Reply
    fetched: Fetched | None


@dataclass(frozen=True, slots=True)
class Page:
    """The whole entities of a reply that could be read; `next_link` as upstream wrote it."""

    fetched: Sequence[Fetched]
    next_link: str | None

    @property
    def keys(self) -> Sequence[EntityKey]:
        return [state.key for state in self.fetched]


class Mirror:
    """Reads upstream's replies into `Fetched`, and lets those into the store. `suspect_drift` is called where
    an entity shows other properties than the metadata document declares."""

    def __init__(
        self,
        store: LifecycleStore,
        upstream: Upstream,
        sets: Sets,
        rules: SyncRules,
        root_path: str,
        observe: Observe,
        suspect_drift: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.sets = sets
        self.rules = rules
        self._upstream = upstream
        self.root_path = root_path
        self._observe = observe
        self._suspect_drift = suspect_drift
        self._won: TTLCache[int, str] = TTLCache(maxsize=10_000, ttl=_WON_S)

    def stamp_names(self, entity_set: EntitySet) -> tuple[str, ...]:
        """What a check selects: the stamp's properties that the type declares, and the key.

        The stamp comes first, unlike in most documents, so that a reply in this order shows that
        upstream follows `$select`.
        """
        entity_type = entity_set.entity_type
        stamp = (self.rules.version_property, self.rules.modified_property)
        return (
            *(name for name in stamp if name in entity_type.properties and name not in entity_type.key),
            *entity_type.key,
        )

    def secured(self, entity_set: EntitySet, select: Collection[str] | None) -> tuple[str, ...]:
        """What a check selects beside: the secured properties that `select`, the client's, shows."""
        secured = self.sets.secured(entity_set)
        asked = secured if select is None else secured.intersection(select)
        return tuple(name for name in entity_set.entity_type.properties if name in asked)

    def may_keep(self, entity_set: EntitySet, posted: Callable[[], Mapping[str, Any] | None]) -> bool:
        """False where what a write posted, read by property, may hold what is never stored (rule 8)."""
        secured = self.sets.secured(entity_set)
        if not secured and not self.rules.per_caller:
            return True
        read = posted() if self.sets.may_store(entity_set) else None
        return read is not None and read.keys() <= entity_set.entity_type.properties.keys() - secured

    def stamp_of(self, raw: Mapping[str, Any], entity_set: EntitySet) -> Stamp:
        """The stamp in an entity's JSON. Raises ODataError."""
        return Stamp(
            modified_on=self._member(raw, entity_set, self.rules.modified_property, "Edm.DateTime"),
            version_number=self._member(raw, entity_set, self.rules.version_property, "Edm.Int64"),
            etag=verbose_json.etag(raw),
        )

    def _member(self, raw: Mapping[str, Any], entity_set: EntitySet, name: str, wanted: str) -> Any:
        declared = entity_set.entity_type.properties.get(name)
        value = raw.get(name)
        if declared is None or declared.type != wanted or value is None:
            return None
        return PRIMITIVES[wanted].from_json(value)

    def key_of(self, raw: Mapping[str, Any], entity_set: EntitySet) -> EntityKey:
        """The entity's key from its key properties. Raises ODataError."""
        pairs = []
        for name in entity_set.entity_type.key:
            declared = entity_set.entity_type.properties[name]
            if raw.get(name) is None:
                raise ODataError(f"The entity does not show its key property '{name}'.")
            pairs.append((name, PRIMITIVES[declared.type].from_json(raw[name])))
        return tuple(pairs)

    def read_entities(
        self, reply: Reply, entity_set: EntitySet, model: Model, fetch_number: int
    ) -> list[Fetched]:
        """The whole entities in a verbose JSON reply, for storing.

        Raises ODataError where the reply is anything else: rule 11, what looks wrong is not data.
        """
        text, sliced = read_json(reply)
        if sliced.kind not in ("entity", "collection"):
            raise ODataError("The reply holds no entities.")
        return [
            self._fetched(text[start:end], raw, entity_set, model, reply, fetch_number)
            for (start, end), raw in zip(sliced.spans, sliced.values, strict=True)
        ]

    def read_page(self, reply: Reply, entity_set: EntitySet, model: Model, fetch_number: int) -> Page:
        """As `read_entities`, but an entity that cannot be read is told and left out, not the whole page."""
        text, sliced = read_json(reply)
        if sliced.kind != "collection":
            raise ODataError("The reply is no collection.")
        fetched = []
        for (start, end), raw in zip(sliced.spans, sliced.values, strict=True):
            try:
                fetched.append(self._fetched(text[start:end], raw, entity_set, model, reply, fetch_number))
            except ODataError as error:
                uri = verbose_json.entity_uri(raw) or ""
                key = uri.rpartition("(")[2].rstrip(")")
                self._observe(EntityUnreadable(entity_set.name, key, type(error).__name__))
        return Page(fetched, next_link(text, sliced))

    def _fetched(
        self,
        text: str,
        raw: Mapping[str, Any],
        entity_set: EntitySet,
        model: Model,
        reply: Reply,
        fetch_number: int,
    ) -> Fetched:
        entity_type = entity_set.entity_type
        missing = entity_type.properties.keys() - raw.keys()
        if missing or len(raw) > len(entity_type.properties) + len(entity_type.navigation_properties) + 1:
            self._suspect_drift()  # one more is `__metadata`
        if missing:
            raise ODataError(f"The entity does not show its property '{min(missing)}'.")
        values = verbose_json.parse_entity(raw, entity_type, model)
        stamp = self.stamp_of(raw, entity_set)
        secured = self.sets.secured(entity_set)
        if secured:
            text = verbose_json.null_members(text, secured)
            values = values | dict.fromkeys(secured & values.keys())
        stamp_names = {self.rules.modified_property, self.rules.version_property}
        leave_out = self.sets.policy(entity_set).volatile | secured | stamp_names
        return Fetched(
            key=verbose_json.entity_key(values, entity_type),
            document=verbose_json.hold_origins(text, self.root_path),
            values=values,
            stamp=stamp,
            digest=verbose_json.content_digest(values, entity_type, model, leave_out=leave_out),
            settled=is_settled(stamp, reply.upstream_sent_at, self.rules.settle_s),
            fetch_number=fetch_number,
            fetched_at=reply.sent_at,
        )

    async def fetch(self, entity_set: EntitySet, key: EntityKey, model: Model, ask: Ask, target: str) -> Look:
        """Fetch one whole entity for `ask`'s caller. Raises StoreUnavailable, UpstreamFailure."""
        number, reply = await self.ask_upstream(target, ask)
        return Look(number, reply, self.read_one(reply, entity_set, key, model, number))

    async def fetch_key(self, entity_set: EntitySet, key: EntityKey, model: Model, ask: Ask) -> Look:
        """`fetch` by the canonical path of the entity."""
        target = f"{ask.path[: len(self.root_path)]}/{entity_path(entity_set, key)}"
        return await self.fetch(entity_set, key, model, ask, target)

    async def ask_upstream(self, target: str, ask: Ask) -> tuple[int, Reply]:
        """GET `target` for `ask`'s caller: the fetch's number, and the reply. Raises like `fetch`."""
        number = await self.store.next_fetch_number()
        return number, await self._upstream.send(ask.own_read(target), joinable=True)

    async def fetch_some(
        self, entity_set: EntitySet, keys: Sequence[EntityKey], model: Model, ask: Ask
    ) -> list[Fetched]:
        """Fetch whole entities, `KEYS_PER_REQUEST` at most, by an or-chain of their keys; missing ones are
        left out. Raises StoreUnavailable, UpstreamFailure, ODataError for a reply that shows no entities."""
        root = ask.path[: len(self.root_path)]
        target = f"{root}/{entity_path(entity_set, keys[0])}"
        if len(keys) > 1:
            tests = (key_test(entity_set, key) for key in keys)
            target = f"{root}/{entity_set.name}?$filter={'%20or%20'.join(tests)}"
        number, reply = await self.ask_upstream(target, ask)
        return self.read_entities(reply, entity_set, model, number)

    def is_gone(self, reply: Reply, ask: Ask, *, was_deleted: bool = False) -> bool:
        """True for the 404 by which upstream says that an entity does not exist (rule 11).

        A caller's own credentials may hide an entity, so only the proxy's identity can tell, or a DELETE
        of the caller's before.
        """
        may_tell = was_deleted or (ask.caller.credentials is None and not self.rules.per_caller)
        return (
            reply.status == 404
            and may_tell
            and self.rules.deleted_code in reply.body.decode("utf-8", "replace")
        )

    def read_one(
        self, reply: Reply, entity_set: EntitySet, key: EntityKey | None, model: Model, number: int
    ) -> Fetched | None:
        """The whole entity that `reply` shows; None where it is not that entity."""
        try:
            fetched = self.read_entities(reply, entity_set, model, number)
        except ODataError:
            return None
        if len(fetched) != 1 or (key is not None and fetched[0].key != key):
            return None
        return fetched[0]

    async def absorb(
        self,
        entity_set: EntitySet,
        fetched: Sequence[Fetched],
        provenance: Provenance,
        *,
        held_before: Mapping[EntityKey, Stored] | None = None,
        walk: Walk | None = None,
    ) -> Absorbed:
        """Let fetched states into the mirror, each by the rule for its row; with them save the `walk` that
        shows them.

        Raises StoreUnavailable; then nothing of it is known to be stored.
        """
        if not self.sets.may_store(entity_set):
            return Absorbed()
        held = await self.store.get(entity_set, [state.key for state in fetched])
        puts, touches, conflicts = [], [], {}
        lies = set()
        for state in fetched:
            row = held.get(state.key)
            if lied((held_before or held).get(state.key), state):
                lies.add(state.key)
            match decide_storing(row, state):
                case Storing.PUT:
                    puts.append(state)
                case Storing.TOUCH:
                    touches.append(state)
                case Storing.CONFLICT:
                    conflict = row and await self._conflict(entity_set, row, state, provenance)
                    if self.sets.policy(entity_set).on_conflict is OnConflict.UPSTREAM_WINS:
                        puts.append(state)
                    elif conflict:
                        conflicts[state.key] = conflict
                case Storing.IGNORE:
                    pass
        if touches:
            await self.store.touch(entity_set, touches)
        if puts or walk is not None:
            result = await self.store.put(entity_set, puts, provenance, walk)
            self._observe(EntitiesStored(entity_set.name, len(result.stored), len(result.changed)))
            # Of all the readers that see one change, a single one records it.
            for key in lies & result.changed:
                await self._count_lie(entity_set, key)
        return Absorbed(conflicts, stored=bool(puts or touches))

    async def _conflict(
        self, entity_set: EntitySet, held: Stored, seen: Fetched, provenance: Provenance
    ) -> int | None:
        conflict = await self.store.record_conflict(
            NewConflict(entity_set, held, seen, seen.fetched_at, provenance.request_id)
        )
        if conflict is None:
            return None
        if held.conflict is None:
            self._observe(ConflictFound(entity_set.name, format_key(held.key), conflict))
        if self.sets.policy(entity_set).on_conflict is OnConflict.UPSTREAM_WINS:
            self._won[conflict] = entity_set.name  # settled at once, so that no count of open ones grows
            count = list(self._won.values()).count(entity_set.name)
        else:
            count = await self.store.conflict_count(entity_set)
        if count > self.rules.conflict_trip:
            await self.sets.forward_from_now_on(entity_set, "conflicts: upstream looks restored")
            return None
        return conflict

    async def _count_lie(self, entity_set: EntitySet, key: EntityKey) -> None:
        self._observe(ContentChangedUnderStamp(entity_set.name, format_key(key)))
        if await self.sets.count_lie(entity_set) > self.rules.lie_limit:
            await self.sets.forward_from_now_on(entity_set, "content changed under an unmoved stamp")


def next_link(text: str, sliced: verbose_json.Sliced) -> str | None:
    """The link to the next page; None on the last one."""
    return None if sliced.next_span is None else str(json.loads(text[slice(*sliced.next_span)]))


def read_json(reply: Reply) -> tuple[str, verbose_json.Sliced]:
    """The text and the spans of a successful verbose JSON reply. Raises ODataError for any other."""
    if reply.status not in (200, 201) or reply.media_type != "application/json" or reply.is_coded:
        raise ODataError("The reply is no JSON entity.")
    try:
        text = reply.body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ODataError("The reply is not UTF-8.") from error
    return text, verbose_json.slice_reply(text)
