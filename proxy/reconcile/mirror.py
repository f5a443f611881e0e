"""Between what upstream says and the store: fetch entities, and let them in by the rules.

Shared by every driver. Nothing else in this package stores an entity, but the writer's settlement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.uri import entity_path, format_key
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import Storing, decide_storing, is_settled, lied
from proxy.reconcile.observations import (
    ConflictFound,
    ContentChangedUnderStamp,
    EntitiesStored,
    Observe,
)
from proxy.reconcile.policy import OnConflict, SyncRules
from proxy.reconcile.ports import (
    Fetched,
    NewConflict,
    Provenance,
    Reply,
    Store,
    Stored,
    Upstream,
)
from proxy.reconcile.sets import Sets
from proxy.reconcile.stamp import Stamp


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


class Mirror:
    """Reads upstream's replies into `Fetched`, and lets those into the store."""

    def __init__(
        self, store: Store, upstream: Upstream, sets: Sets, rules: SyncRules, root_path: str, observe: Observe
    ) -> None:
        self.store = store
        self.sets = sets
        self.rules = rules
        self._upstream = upstream
        self.root_path = root_path
        self._observe = observe

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
    ) -> Absorbed:
        """Let fetched states into the mirror, each by the rule for its row.

        Raises StoreUnavailable; then nothing of it is known to be stored.
        """
        if not self.sets.may_store(entity_set):
            return Absorbed()
        held = await self.store.get(entity_set, [state.key for state in fetched])
        puts, touches, conflicts = [], [], {}
        for state in fetched:
            row = held.get(state.key)
            if lied((held_before or held).get(state.key), state):
                await self._count_lie(entity_set, state.key)
            match decide_storing(row, state):
                case Storing.PUT:
                    puts.append(state)
                case Storing.TOUCH:
                    touches.append(state)
                case Storing.CONFLICT:
                    if self.sets.policy(entity_set).on_conflict is OnConflict.UPSTREAM_WINS:
                        puts.append(state)
                    elif row and (conflict := await self._conflict(entity_set, row, state, provenance)):
                        conflicts[state.key] = conflict
                case Storing.IGNORE:
                    pass
        if touches:
            await self.store.touch(entity_set, touches)
        if puts:
            result = await self.store.put(entity_set, puts, provenance)
            self._observe(EntitiesStored(entity_set.name, len(result.stored), len(result.changed)))
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
        if await self.store.conflict_count(entity_set) > self.rules.conflict_trip:
            await self.sets.forward_from_now_on(entity_set, "conflicts: upstream looks restored")
            return None
        return conflict

    async def _count_lie(self, entity_set: EntitySet, key: EntityKey) -> None:
        self._observe(ContentChangedUnderStamp(entity_set.name, format_key(key)))
        lies = (await self.sets.state(entity_set)).lies + 1
        await self.sets.learn(entity_set, lies=lies)
        if lies > self.rules.lie_limit:
            await self.sets.forward_from_now_on(entity_set, "content changed under an unmoved stamp")


def read_json(reply: Reply) -> tuple[str, verbose_json.Sliced]:
    """The text and the spans of a successful verbose JSON reply. Raises ODataError for any other."""
    if reply.status not in (200, 201) or reply.media_type != "application/json":
        raise ODataError("The reply is no JSON entity.")
    try:
        text = reply.body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ODataError("The reply is not UTF-8.") from error
    return text, verbose_json.slice_reply(text)
