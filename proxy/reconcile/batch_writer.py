"""The driver of batches (rules 4 to 6): forwarded whole, under one intent for all that they write.

What upstream says was applied enters the mirror in one transaction. Where its answer leaves one write
uncertain, the whole intent stays open, and the settler reads everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ChangeLinks, CreateEntity, DeleteEntity, ReadCollection, ReadEntity, Write
from proxy.odata.uri import entity_path
from proxy.reconcile.authority import Epochs
from proxy.reconcile.background import Background
from proxy.reconcile.batches import METHOD, Batch, Step, intended_by, read_batch, replies_to
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, Relayed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.mirror import KEYS_PER_REQUEST, Mirror
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.outcomes import (
    chosen_key,
    outcome_of,
    read_posted,
    requested_changes,
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
    StoreUnavailable,
    Touched,
    UpstreamFailure,
)
from proxy.reconcile.reader import Reader
from proxy.reconcile.sending import Local, Sender, not_upstreams

Entity = tuple[str, EntityKey]  # an entity set's name and a key in it
Answered = tuple[Write, Step, Reply]


@dataclass(slots=True)
class ReadBack:
    """What upstream shows, after a batch, of the entities that it wrote."""

    seen: list[tuple[EntitySet, Fetched]] = field(default_factory=list)
    removed: list[Touched] = field(default_factory=list)

    @property
    def written(self) -> list[Touched]:
        return [*self.removed, *(Touched(entity_set, state.key) for entity_set, state in self.seen)]


class BatchWriter:
    """Carries out batches, those that only read included."""

    def __init__(
        self,
        mirror: Mirror,
        sender: Sender,
        reader: Reader,
        feeder: Feeder,
        background: Background,
        observe: Observe,
        now: Callable[[], datetime],
        local: Local = not_upstreams,
    ) -> None:
        self._mirror = mirror
        self._store = mirror.store
        self._sender = sender
        self._reader = reader
        self._feeder = feeder
        self._background = background
        self._observe = observe
        self._now = now
        self._local = local

    async def send(self, ask: Ask, model: Model) -> Answer:
        """Carry out a batch, to its end even if the client leaves. What is none is passed on as it is.

        Raises WritesRefused, AuthorityMoving (not sent), OutcomeUnknown (sent, not answered),
        UpstreamFailure.
        """
        return await self._background.finish("batch", self._send(ask, model))

    async def _send(self, ask: Ask, model: Model) -> Answer:
        content_type = ask.request.headers.get("Content-Type")
        root = ask.path[: len(self._mirror.root_path)]
        try:
            batch = read_batch(ask.request.body, content_type, root, model)
        except ODataError:
            return await self._reader.forward(ask, CacheStatus(fwd="bypass", detail="no-batch"))
        if not batch.writes:
            return await self._read(batch, ask, model)
        try:
            return await self._mirror.sets.authorities.on_its_side(
                batch.sets_written(model),
                lambda epochs: self._write(batch, ask, model, epochs),
                lambda epochs: self._local(ask, model, epochs),
            )
        except StoreUnavailable as error:
            raise self._sender.refused(error) from error

    async def _read(self, batch: Batch, ask: Ask, model: Model) -> Answer:
        number = None
        try:
            number = await self._store.next_fetch_number()
        except StoreUnavailable as error:
            self._observe(StoreFailed("read", str(error)))
        answer = await self._reader.forward(ask, CacheStatus(fwd="bypass"))
        if number is not None and not answer.cut:
            self._feed(batch, replies_to(batch, answer.reply), ask, model, number)
        return answer

    async def _write(self, batch: Batch, ask: Ask, model: Model, epochs: Epochs) -> Answer:
        try:
            before = await self._read_before(batch, ask, model)
            intent = await self._sender.open(replace(self._intent(batch, before, ask, model), epochs=epochs))
        except StoreUnavailable as error:
            raise self._sender.refused(error) from error
        with self._sender.under_way(intent):
            reply, cut = await self._sender.send(intent, ask.request)
            said = None if cut else reply
            outcome = await self._sender.end(intent, self._settle(batch, said, intent, before, ask, model))
        return Relayed(reply, CacheStatus(fwd="method", stored=outcome is Outcome.APPLIED), cut)

    def _feed(
        self, batch: Batch, replies: Sequence[Reply | None], ask: Ask, model: Model, number: int
    ) -> None:
        """What reads in the batch showed."""
        for step, reply in zip(batch.steps, replies, strict=True):
            operation = step.operation
            if not isinstance(operation, ReadEntity | ReadCollection) or ask.directives.no_store:
                continue
            if reply is not None and reply.status == 200:
                alone = replace(ask, request=ask.own_read(step.target), format="json")
                self._feeder.feed(operation, reply, alone, model, number)

    # Before

    async def _read_before(self, batch: Batch, ask: Ask, model: Model) -> dict[Entity, Fetched]:
        """Upstream's current state of what will be written; if it moved, the mirror records that first.

        A failed look never stops a write. Raises StoreUnavailable.
        """
        found: dict[Entity, Fetched] = {}
        for entity_set, keys in _by_set(step.written for _, step in batch.writes):
            states = await self._fetch(entity_set, keys, ask, model)
            await self._mirror.absorb(entity_set, states, ask.provenance(Source.UPSTREAM_REFRESH))
            found.update(((entity_set.name, state.key), state) for state in states)
        return found

    async def _fetch(
        self, entity_set: EntitySet, keys: Sequence[EntityKey], ask: Ask, model: Model
    ) -> list[Fetched]:
        """As many of the entities as upstream shows. Raises StoreUnavailable."""
        found: list[Fetched] = []
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            some = keys[start : start + KEYS_PER_REQUEST]
            try:
                found += await self._mirror.fetch_some(entity_set, some, model, ask)
            except (UpstreamFailure, ODataError):
                continue
        return found

    def _intent(self, batch: Batch, before: Mapping[Entity, Fetched], ask: Ask, model: Model) -> NewIntent:
        touched: list[Touched] = []
        for operation, step in batch.writes:
            target = step.written
            if target is None:
                content_type = step.part.headers.get("Content-Type", "")
                if (chosen := chosen_key(operation, step.part.body, content_type, model)) is not None:
                    touched.append(Touched(operation.entity_set, chosen))
                continue
            touched.append(target)
            held = before.get((target.entity_set.name, target.key))
            effects = self._mirror.sets.policy(target.entity_set).effects
            touched += touched_by(effects, held.values if held else {}, model)
            if isinstance(operation, ChangeLinks) and operation.target and operation.target_key:
                touched.append(Touched(operation.target, operation.target_key))
        return NewIntent(
            method=METHOD,
            entity_set=batch.writes[0][0].entity_set,
            target=None,
            touched=touched,
            body=ask.request.body if self._may_keep(batch, model) else b"",
            content_type=ask.request.headers.get("Content-Type", ""),
            before=_digest_of([one for _, step in batch.writes if (one := step.written)], before),
            provenance=ask.provenance(Source.CLIENT_WRITE),
            opened_at=self._now(),
        )

    def _may_keep(self, batch: Batch, model: Model) -> bool:
        """False where one of the writes may post what is never stored; a delete posts nothing."""

        def posted(operation: Write, step: Step) -> Mapping[str, Any] | None:
            return read_posted(operation, step.part.body, step.part.headers.get("Content-Type", ""), model)

        return all(
            isinstance(operation, DeleteEntity)
            or self._mirror.may_keep(operation.entity_set, partial(posted, operation, step))
            for operation, step in batch.writes
        )

    # After

    async def _settle(
        self,
        batch: Batch,
        reply: Reply | None,
        intent: Intent,
        before: Mapping[Entity, Fetched],
        ask: Ask,
        model: Model,
    ) -> Outcome | None:
        """What was committed of upstream's answer, which is None where it was cut. None: it stays open."""
        replies = [None] * len(batch.steps) if reply is None else replies_to(batch, reply)
        settlement = await self._settlement(batch, replies, intent, before, ask, model)
        settled = settlement is not None and await self._sender.settle(intent, settlement)
        if settlement is not None and settled:
            for entity_set, keys in _by_set(settlement.stale):
                self._feeder.refresh(entity_set, keys, ask, model)
        self._feed(batch, replies, ask, model, intent.fetch_number)
        return settlement.outcome if settlement is not None and settled else None

    async def _settlement(
        self,
        batch: Batch,
        replies: Sequence[Reply | None],
        intent: Intent,
        before: Mapping[Entity, Fetched],
        ask: Ask,
        model: Model,
    ) -> Settlement | None:
        """How the intent ends; None where that is not certain."""
        applied: list[Answered] = []
        stale: list[Touched] = []
        for step, reply in zip(batch.steps, replies, strict=True):
            operation = step.operation
            if not isinstance(operation, Write):
                continue
            outcome = None if reply is None else outcome_of(reply)
            if reply is None or outcome is None:
                return None
            if outcome is Outcome.APPLIED:
                applied.append((operation, step, reply))
            elif reply.status >= 500 and step.written is not None:
                stale.append(step.written)
        if not applied:
            return Settlement(Outcome.REFUSED, intent.fetch_number, stale=stale)
        try:
            number = await self._store.next_fetch_number()
            shown = await self._read_back(applied, intent, ask, model)
        except (UpstreamFailure, StoreUnavailable):
            return None
        if shown is None:
            return None
        targets = {(one.entity_set.name, one.key) for _, step in batch.writes if (one := step.written)}
        targets |= {(entity_set.name, state.key) for entity_set, state in shown.seen}
        stale += (
            Touched(model.entity_sets[name], key)
            for name, key in intent.touched
            if (name, key) not in targets
        )
        for entity_set, state in shown.seen:
            stale += touched_by(self._mirror.sets.policy(entity_set).effects, state.values, model)
        may_store = self._mirror.sets.may_store
        stale += (Touched(of, state.key) for of, state in shown.seen if not may_store(of))
        return Settlement(
            Outcome.APPLIED,
            number,
            seen=[(of, state) for of, state in shown.seen if may_store(of)],
            removed=shown.removed,
            stale=stale,
            written=shown.written,
            unseen=self._overwritten(applied, before, shown, model),
        )

    async def _read_back(
        self, applied: Sequence[Answered], intent: Intent, ask: Ask, model: Model
    ) -> ReadBack | None:
        """None: something that was written cannot be found."""
        shown = ReadBack()
        wanted: list[Touched] = []
        deleted: set[Entity] = set()
        is_final = not any(step.refers for _, step, _ in applied)
        for operation, step, reply in applied:
            target = step.written
            if isinstance(operation, CreateEntity):
                entity_set = operation.entity_set
                made = self._mirror.read_one(reply, entity_set, None, model, intent.fetch_number)
                key = made.key if made else self._feeder.key_made(reply, entity_set, model)
                if key is None:
                    return None
                target = Touched(entity_set, key)
                if made is not None and is_final:
                    shown.seen.append((entity_set, made))
                    continue
            if target is not None:
                wanted.append(target)
                if isinstance(operation, DeleteEntity):
                    deleted.add((target.entity_set.name, target.key))
        for entity_set, keys in _by_set(wanted):
            states = await self._fetch(entity_set, keys, ask, model) if len(keys) > 1 else []
            shown.seen += ((entity_set, state) for state in states)
            for key in [key for key in keys if key not in {state.key for state in states}]:
                target_path = f"{ask.path[: len(self._mirror.root_path)]}/{entity_path(entity_set, key)}"
                look = await self._mirror.fetch(entity_set, key, model, ask, target_path)
                if look.fetched is not None:
                    shown.seen.append((entity_set, look.fetched))
                elif self._mirror.is_gone(look.reply, ask, was_deleted=(entity_set.name, key) in deleted):
                    shown.removed.append(Touched(entity_set, key))
                else:
                    return None
        return shown

    def _overwritten(
        self, applied: Sequence[Answered], before: Mapping[Entity, Fetched], shown: ReadBack, model: Model
    ) -> list[Touched]:
        """The entities whose state as the batch made it was gone when they were read back (rule 5)."""
        after = {(entity_set.name, state.key): state for entity_set, state in shown.seen}
        rules = self._mirror.rules
        stamp_names = {rules.modified_property, rules.version_property}
        found = []
        for one in intended_by(((operation, step) for operation, step, _ in applied), model):
            at = None if one.key is None else (one.entity_set.name, one.key)
            if at is None or one.key is None or one.posted is None or at not in after:
                continue
            held = before.get(at)
            leave_out = self._mirror.sets.secured(one.entity_set) | stamp_names
            changes = requested_changes(one.posted, held.values if held else None, leave_out)
            if not shows(changes, after[at].values):
                found.append(Touched(one.entity_set, one.key))
            else:
                values = held.values if held else {}
                self._mirror.sets.computed.note(one.entity_set, one.posted, values, after[at].values)
        return found


def _digest_of(written: Iterable[Touched], before: Mapping[Entity, Fetched]) -> bytes | None:
    """Of their states; None where one of them was not seen. What a batch makes has no state before."""
    states = [before.get((entity.entity_set.name, entity.key)) for entity in written]
    if None in states:
        return None
    return blake2b(b"".join(state.digest for state in states if state), digest_size=16).digest()


def _by_set(entities: Iterable[Touched | None]) -> list[tuple[EntitySet, list[EntityKey]]]:
    """Keys by entity set, each once, in the order in which they come."""
    found: dict[str, tuple[EntitySet, dict[EntityKey, None]]] = {}
    for entity in entities:
        if entity is not None:
            found.setdefault(entity.entity_set.name, (entity.entity_set, {}))[1][entity.key] = None
    return [(entity_set, list(keys)) for entity_set, keys in found.values()]
