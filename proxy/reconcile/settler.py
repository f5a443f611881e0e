"""Ends the intents that their writer left open: a crash, an answer that never came (rule 6).

Reads upstream back until the outcome is certain. "Not seen" means refused only once `write_limit_s` has
passed since sending; what stays undecidable then is undetermined, and shown to the operator. What the
creates in a batch made is not looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import MergeEntity, UpdateEntity
from proxy.reconcile.batches import METHOD, Intended, intended_by, read_batch
from proxy.reconcile.creations import look_for
from proxy.reconcile.exchange import Ask
from proxy.reconcile.mirror import Look
from proxy.reconcile.observations import IntentSettled, StoreFailed, TaskFailed, UpstreamFailed
from proxy.reconcile.outcomes import (
    decide_creation,
    decide_settlement,
    read_posted,
    requested_changes,
    touched_by,
)
from proxy.reconcile.ports import (
    Intent,
    Outcome,
    Settlement,
    StoreUnavailable,
    Touched,
    UpstreamFailure,
)
from proxy.reconcile.progress import LeaseLost
from proxy.reconcile.service import Service
from proxy.reconcile.writer import touched_of

_PAUSE_S = 2.0
_LONGEST_PAUSE = timedelta(seconds=15)  # between two looks at one intent
_AT_MOST = 1000
_UPDATES: Mapping[str, type[MergeEntity | UpdateEntity]] = {
    "MergeEntity": MergeEntity,
    "UpdateEntity": UpdateEntity,
}


class Settler:
    """Settles open intents. `in_flight`: those this process is working on."""

    def __init__(self, service: Service, in_flight: Set[int]) -> None:
        self._service = service
        self._in_flight = in_flight
        self._next_looks: dict[int, datetime] = {}

    async def run(self, model: Callable[[], Model | None]) -> None:
        """Settle until cancelled, whenever no other process does."""
        await self._service.repeat("settle", self._settle_due, model, _PAUSE_S)

    async def settle(self, model: Model) -> None:
        """Look once at every open intent that nobody works on. Raises StoreUnavailable."""
        self._next_looks.clear()
        await self._settle_due(self._service, model)

    async def settle_seen(self, entity_set: EntitySet, key: EntityKey, ask: Ask, model: Model) -> None:
        """Settle the abandoned intents that name an entity on behalf of a caller who just read it.

        For a proxy without an identity of its own (rule 8). Raises StoreUnavailable.
        """
        service = replace(self._service, on_behalf_of=ask)
        for intent in self._due(await service.store.intents_of(entity_set, key), model):
            await _Settling(service, intent, model).run()

    async def _settle_due(self, service: Service, model: Model) -> None:
        intents = await service.store.open_intents(limit=_AT_MOST)
        due = self._due(intents, model)
        await asyncio.gather(*(_Settling(service, intent, model).run() for intent in due))
        open_ids = {intent.id for intent in intents}
        self._next_looks = {number: at for number, at in self._next_looks.items() if number in open_ids}

    def _due(self, intents: Sequence[Intent], model: Model) -> list[Intent]:
        now = self._service.now()
        return [
            intent
            for intent in intents
            if self._is_abandoned(intent) and _is_known(intent, model) and self._is_due(intent, now)
        ]

    def _is_abandoned(self, intent: Intent) -> bool:
        """True where no process can still be at work on it."""
        if intent.holder == self._service.store.holder:
            return intent.id not in self._in_flight
        return not intent.is_held

    def _is_due(self, intent: Intent, now: datetime) -> bool:
        """Looked at less and less often, and again as soon as it can be called refused."""
        due_at = self._next_looks.get(intent.id)
        if due_at is not None and now < due_at:
            return False
        decided_at = intent.opened_at + timedelta(seconds=self._service.rules.write_limit_s)
        next_look = now + min(_LONGEST_PAUSE, (now - intent.opened_at) / 4)
        self._next_looks[intent.id] = min(next_look, decided_at) if now < decided_at else next_look
        return True


def _is_known(intent: Intent, model: Model) -> bool:
    return {intent.entity_set, *(name for name, _ in intent.touched)} <= model.entity_sets.keys()


class _Settling:
    """One look at one intent."""

    def __init__(self, service: Service, intent: Intent, model: Model) -> None:
        self._service = service
        self._mirror = service.mirror
        self._intent = intent
        self._model = model
        age = service.now() - intent.opened_at
        self._is_late = age > timedelta(seconds=service.rules.write_limit_s)

    async def run(self) -> None:
        """Settle it if its outcome is certain. One that cannot be settled keeps no other from its end."""
        intent = self._intent
        try:
            settlement = await self._settlement()
            if settlement is None:
                return
            await self._service.store.settle_intent(intent, settlement)
        except StoreUnavailable as error:
            self._service.observe(StoreFailed("settle", str(error)))
        except UpstreamFailure as error:
            self._service.observe(UpstreamFailed("settle", type(error).__name__))
        except ODataError as error:
            self._service.observe(UpstreamFailed("settle", type(error).__name__))
        except LeaseLost:
            raise
        except Exception as error:
            self._service.observe(TaskFailed("settle", error))
        else:
            self._service.observe(IntentSettled(intent.id, settlement.outcome.value, intent.entity_set))

    async def _settlement(self) -> Settlement | None:
        """How the intent ends; None: look again later.

        All that it names is read back: it ends once every write of it is certain, or late.
        """
        intent = self._intent
        if intent.method == "CreateEntity":
            return await self._create_settlement(self._model.entity_sets[intent.entity_set])
        outcomes: list[Outcome] = []
        try:
            intended = self._intended()
        except ODataError:
            # What it asked for can no longer be told: another metadata document, other limits.
            intended = self._named()
            outcomes.append(Outcome.UNDETERMINED)
        if not self._is_late and (outcomes or not intended or any(one.key is None for one in intended)):
            return None
        looks: list[tuple[Touched, Look, Outcome]] = []
        for one in intended:
            if one.key is None:
                outcomes.append(Outcome.UNDETERMINED)
                continue
            look = await self._service.look(one.entity_set, one.key, self._model)
            if look.fetched is None and not self._service.is_gone(look, was_deleted=one.deletes):
                return None
            outcome = decide_settlement(
                deletes=one.deletes,
                before=await self._before(one.entity_set, one.key),
                changes=self._changes(one),
                seen=look.fetched,
                is_late=self._is_late,
            )
            if outcome is None:
                return None
            outcomes.append(outcome)
            looks.append((Touched(one.entity_set, one.key), look, outcome))
        return self._shown(looks, outcomes)

    async def _create_settlement(self, entity_set: EntitySet) -> Settlement | None:
        service = self._service
        creations = await look_for(self._intent, entity_set, self._model, self._mirror, service.ask)
        if creations is None:
            return None
        outcome, made = decide_creation(creations, is_late=self._is_late)
        if outcome is None:
            return None
        settlement = Settlement(outcome, creations.number, stale=touched_of(self._intent, self._model))
        if made is None:
            return settlement
        effects = service.sets.policy(entity_set).effects
        return replace(
            settlement,
            seen=[(entity_set, made)] if service.sets.may_store(entity_set) else [],
            written=[Touched(entity_set, made.key)],
            stale=[*settlement.stale, *touched_by(effects, made.values, self._model)],
        )

    def _named(self) -> list[Intended]:
        """What the intent names, without a word of what it asked."""
        named = ((self._model.entity_sets[name], key) for name, key in self._intent.touched)
        return [Intended(entity_set, key, False, None) for entity_set, key in named]

    def _intended(self) -> list[Intended]:
        """What the intent's writes ask for, the whole of a batch's or its one. Raises ODataError."""
        intent, model = self._intent, self._model
        if intent.method == METHOD and not intent.body:  # it posts what is never stored
            return self._named()
        if intent.method == METHOD:
            batch = read_batch(intent.body, intent.content_type, self._service.root_path, model)
            return intended_by(batch.writes, model)
        entity_set = model.entity_sets[intent.entity_set]
        make = _UPDATES.get(intent.method)
        posted = None
        if make is not None and intent.key is not None:
            posted = read_posted(make(entity_set, intent.key), intent.body, intent.content_type, model)
        return [Intended(entity_set, intent.key, intent.method == "DeleteEntity", posted)]

    async def _before(self, entity_set: EntitySet, key: EntityKey) -> bytes | None:
        """The digest of the state before the write: for a batch's, what its pre-read left in the row."""
        if self._intent.method != METHOD:
            return self._intent.before
        held = (await self._service.store.get(entity_set, [key])).get(key)
        return held.digest if held is not None and held.document is not None else None

    def _changes(self, one: Intended) -> dict[str, object] | None:
        rules = self._service.rules
        stamp_names = {rules.modified_property, rules.version_property}
        leave_out = self._service.sets.secured(one.entity_set) | stamp_names
        return None if one.posted is None else requested_changes(one.posted, None, leave_out)

    def _shown(
        self, looks: Sequence[tuple[Touched, Look, Outcome]], outcomes: Sequence[Outcome]
    ) -> Settlement:
        """One undetermined write makes the intent so, one that was applied else makes it applied."""
        ranked = (Outcome.UNDETERMINED, Outcome.APPLIED, Outcome.REFUSED)
        return Settlement(
            next((outcome for outcome in ranked if outcome in outcomes), Outcome.UNDETERMINED),
            min((look.number for _, look, _ in looks), default=self._intent.fetch_number),
            seen=[
                (entity.entity_set, look.fetched)
                for entity, look, _ in looks
                if look.fetched and self._service.sets.may_store(entity.entity_set)
            ],
            removed=[entity for entity, look, _ in looks if not look.fetched],
            stale=touched_of(self._intent, self._model),
            written=[entity for entity, _, outcome in looks if outcome is Outcome.APPLIED],
        )
