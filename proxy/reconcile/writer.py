"""The driver of writes (rules 5 and 6): intent, upstream, read back, one transaction.

A write leaves exactly once. What upstream answered is the client's answer, whatever fails here
afterwards; what could not be settled stays an open intent, and the settler ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ChangeLinks, CreateEntity, DeleteEntity, Write
from proxy.odata.query_options import with_select
from proxy.odata.uri import entity_path
from proxy.reconcile.authority import Epochs
from proxy.reconcile.background import Background
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, Relayed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.freshness import in_sync
from proxy.reconcile.mirror import Look, Mirror, read_json
from proxy.reconcile.outcomes import (
    chosen_key,
    outcome_of,
    read_posted,
    requested_changes,
    sets_written,
    shows,
    touched_by,
)
from proxy.reconcile.ports import (
    Fetched,
    Intent,
    NewIntent,
    Outcome,
    Reply,
    Settlement,
    Source,
    Stored,
    StoreUnavailable,
    Touched,
    Upstream,
    UpstreamFailure,
)
from proxy.reconcile.sending import Local, Sender, not_upstreams


@dataclass(frozen=True, slots=True)
class Before:
    """The target as upstream showed it just before the write; empty where nothing is known of it."""

    digest: bytes | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Writer:
    """Carries out writes of one request each."""

    def __init__(
        self,
        mirror: Mirror,
        upstream: Upstream,
        sender: Sender,
        feeder: Feeder,
        background: Background,
        now: Callable[[], datetime],
        local: Local = not_upstreams,
    ) -> None:
        self._mirror = mirror
        self._store = mirror.store
        self._upstream = upstream
        self._sender = sender
        self._feeder = feeder
        self._background = background
        self._now = now
        self._local = local

    async def write(self, operation: Write, ask: Ask, model: Model) -> Answer:
        """Carry out a write, to its end even if the client leaves.

        Raises WritesRefused, AuthorityMoving (not sent), OutcomeUnknown (sent, not answered),
        UpstreamFailure (not sent).
        """
        return await self._background.finish("write", self._on_its_side(operation, ask, model))

    async def _on_its_side(self, operation: Write, ask: Ask, model: Model) -> Answer:
        content_type = ask.request.headers.get("Content-Type", "")
        names = sets_written(operation, ask.request.body, content_type, model)
        try:
            return await self._mirror.sets.authorities.on_its_side(
                names,
                lambda epochs: self._write(operation, ask, model, epochs),
                lambda epochs: self._local(ask, model, epochs),
            )
        except StoreUnavailable as error:
            raise self._sender.refused(error) from error

    async def _write(self, operation: Write, ask: Ask, model: Model, epochs: Epochs) -> Answer:
        target = key_of(operation)
        try:
            before = await self._read_before(operation.entity_set, target, ask, model)
            new = replace(self._intent(operation, target, before, ask, model), epochs=epochs)
            intent = await self._sender.open(new)
        except StoreUnavailable as error:
            raise self._sender.refused(error) from error
        with self._sender.under_way(intent):
            return await self._send(operation, intent, before, ask, model)

    async def _send(self, operation: Write, intent: Intent, before: Before, ask: Ask, model: Model) -> Answer:
        reply, cut = await self._sender.send(intent, ask.request)
        settling = self._settle(operation, intent, before, reply, ask, model)
        outcome = await self._sender.end(intent, settling)
        return Relayed(reply, CacheStatus(fwd="method", stored=outcome is Outcome.APPLIED), cut)

    # Before

    async def _read_before(
        self, entity_set: EntitySet, key: EntityKey | None, ask: Ask, model: Model
    ) -> Before:
        """Upstream's current state of the target; if it moved, the mirror records that first.

        A failed look never stops a write. Raises StoreUnavailable.
        """
        if key is None:
            return Before()
        held = (await self._store.get(entity_set, [key])).get(key)
        try:
            if held is not None and await self._is_current(entity_set, held, ask):
                raw = verbose_json.slice_reply(
                    f'{{"d":{held.document}}}'.replace("\x01", "").replace("\x02", "")
                )
                return Before(
                    held.digest, verbose_json.parse_entity(raw.values[0], entity_set.entity_type, model)
                )
            look = await self._mirror.fetch_key(entity_set, key, model, ask)
        except (UpstreamFailure, ODataError):
            return Before()
        if look.fetched is None:
            return Before()
        provenance = ask.provenance(Source.UPSTREAM_REFRESH)
        await self._mirror.absorb(entity_set, [look.fetched], provenance)
        return Before(look.fetched.digest, look.fetched.values)

    async def _is_current(self, entity_set: EntitySet, held: Stored, ask: Ask) -> bool:
        names = self._mirror.stamp_names(entity_set)
        path = f"{ask.path[: len(self._mirror.root_path)]}/{entity_path(entity_set, held.key)}"
        check = ask.own_read(f"{path}?{with_select(None, names)}")
        reply = await self._upstream.send(check, joinable=True)
        _, sliced = read_json(reply)
        return sliced.kind == "entity" and in_sync(held, self._mirror.stamp_of(sliced.values[0], entity_set))

    def _intent(
        self, operation: Write, target: EntityKey | None, before: Before, ask: Ask, model: Model
    ) -> NewIntent:
        entity_set = operation.entity_set
        touched = touched_by(self._mirror.sets.policy(entity_set).effects, before.values, model)
        if isinstance(operation, ChangeLinks) and operation.target and operation.target_key:
            touched.append(Touched(operation.target, operation.target_key))
        content_type = ask.request.headers.get("Content-Type", "")
        if (chosen := chosen_key(operation, ask.request.body, content_type, model)) is not None:
            touched.append(Touched(entity_set, chosen))
        return NewIntent(
            method=type(operation).__name__,
            entity_set=entity_set,
            target=target,
            touched=[entity for entity in touched if entity.key != target],
            body=self._kept_body(operation, ask, model),
            content_type=content_type,
            before=before.digest,
            provenance=ask.provenance(Source.CLIENT_WRITE),
            opened_at=self._now(),
        )

    def _kept_body(self, operation: Write, ask: Ask, model: Model) -> bytes:
        """What was posted, for settling the write later; nothing where it may hold what is never stored."""
        body, content_type = ask.request.body, ask.request.headers.get("Content-Type", "")
        may_keep = self._mirror.may_keep(
            operation.entity_set, lambda: read_posted(operation, body, content_type, model)
        )
        return body if may_keep else b""

    # After

    async def _settle(
        self, operation: Write, intent: Intent, before: Before, reply: Reply, ask: Ask, model: Model
    ) -> Outcome | None:
        """What was committed of upstream's answer. None: the intent stays open."""
        outcome = outcome_of(reply)
        settled = False
        if outcome is Outcome.APPLIED:
            settled = await self._settle_applied(operation, intent, before, reply, ask, model)
        elif outcome is Outcome.REFUSED:
            settled = await self._sender.settle(intent, Settlement(outcome, intent.fetch_number))
        return outcome if settled else None

    async def _settle_applied(
        self, operation: Write, intent: Intent, before: Before, reply: Reply, ask: Ask, model: Model
    ) -> bool:
        """Read the result back and commit it. False: the intent stays open."""
        entity_set = operation.entity_set
        try:
            look = await self._read_back(operation, intent, reply, ask, model)
        except (UpstreamFailure, StoreUnavailable):
            return False
        if look is None:
            return False
        effects = self._mirror.sets.policy(entity_set).effects
        after: Mapping[str, Any] = look.fetched.values if look.fetched else {}
        stale = [*touched_of(intent, model), *touched_by(effects, after, model)]
        if look.fetched is None:
            was_deleted = isinstance(operation, DeleteEntity)
            if intent.key is None or not self._mirror.is_gone(look.reply, ask, was_deleted=was_deleted):
                return False
            settlement = Settlement(
                Outcome.APPLIED, look.number, removed=[Touched(entity_set, intent.key)], stale=stale
            )
        elif not self._mirror.sets.may_store(entity_set):
            settlement = Settlement(
                Outcome.APPLIED, look.number, stale=[*stale, Touched(entity_set, look.fetched.key)]
            )
        else:
            # The key that a create has chosen is marked like a side effect, and is none.
            stale = [one for one in stale if one != Touched(entity_set, look.fetched.key)]
            unseen = self._was_overwritten(operation, before, look.fetched, ask, model)
            settlement = Settlement(
                Outcome.APPLIED,
                look.number,
                seen=[(entity_set, look.fetched)],
                stale=stale,
                written=[Touched(entity_set, look.fetched.key)],
                unseen=[Touched(entity_set, look.fetched.key)] if unseen else [],
            )
        if not await self._sender.settle(intent, settlement):
            return False
        if look.fetched is not None:
            self._count_computed(operation, before, look.fetched, ask, model)
        for touched in stale:
            self._feeder.refresh(touched.entity_set, [touched.key], ask, model)
        return True

    def _count_computed(
        self, operation: Write, before: Before, after: Fetched, ask: Ask, model: Model
    ) -> None:
        content_type = ask.request.headers.get("Content-Type", "")
        posted = read_posted(operation, ask.request.body, content_type, model)
        values = None if isinstance(operation, CreateEntity) else before.values
        self._mirror.sets.computed.note(operation.entity_set, posted, values, after.values)

    async def _read_back(
        self, operation: Write, intent: Intent, reply: Reply, ask: Ask, model: Model
    ) -> Look | None:
        """The target as upstream shows it after the write. None: it cannot be found."""
        entity_set = operation.entity_set
        key = intent.key
        if isinstance(operation, CreateEntity):
            created = self._mirror.read_one(reply, entity_set, None, model, intent.fetch_number)
            if created is not None:
                return Look(intent.fetch_number, reply, created)
            key = self._feeder.key_made(reply, entity_set, model)
        return None if key is None else await self._mirror.fetch_key(entity_set, key, model, ask)

    def _was_overwritten(
        self, operation: Write, before: Before, after: Fetched, ask: Ask, model: Model
    ) -> bool:
        """True where the state that the write made was gone when it was read back (rule 5)."""
        posted = read_posted(operation, ask.request.body, ask.request.headers.get("Content-Type", ""), model)
        if posted is None or isinstance(operation, CreateEntity):
            return False
        stamp_names = {self._mirror.rules.modified_property, self._mirror.rules.version_property}
        leave_out = self._mirror.sets.secured(operation.entity_set) | stamp_names
        return not shows(requested_changes(posted, before.values or None, leave_out), after.values)


def key_of(operation: Write) -> EntityKey | None:
    """The key of the entity that a write names; None for a create."""
    return None if isinstance(operation, CreateEntity) else operation.key


def touched_of(intent: Intent, model: Model) -> list[Touched]:
    """The entities beside its target that a write is known to change."""
    return [
        Touched(model.entity_sets[name], key) for name, key in intent.touched if name in model.entity_sets
    ]
