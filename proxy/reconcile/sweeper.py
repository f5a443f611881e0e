"""Ends the intents that their writer left open: a crash, an answer that never came (rule 6).

Reads upstream back until the outcome is certain, or `write_limit_s` has passed since sending. Deletes
of others are not looked for yet, nor what the creates in a batch made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta

from multidict import CIMultiDict

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.operation import MergeEntity, UpdateEntity
from proxy.reconcile.batches import METHOD, Intended, intended_by, read_batch
from proxy.reconcile.creations import look_for
from proxy.reconcile.exchange import Ask
from proxy.reconcile.mirror import Look, Mirror
from proxy.reconcile.observations import IntentSettled, Observe, StoreFailed, TaskFailed, UpstreamFailed
from proxy.reconcile.outcomes import (
    decide_creation,
    decide_settlement,
    read_posted,
    requested_changes,
    touched_by,
)
from proxy.reconcile.ports import (
    Caller,
    Directives,
    Intent,
    Outcome,
    Request,
    Settlement,
    StoreUnavailable,
    Touched,
    UpstreamFailure,
)
from proxy.reconcile.writer import touched_of

_PAUSE_S = 5.0
_UPDATES: Mapping[str, type[MergeEntity | UpdateEntity]] = {
    "MergeEntity": MergeEntity,
    "UpdateEntity": UpdateEntity,
}


class Sweeper:
    """Settles open intents. `in_flight`: those this process is working on. `grace_s`: how long another
    process may still be working on one."""

    def __init__(
        self,
        mirror: Mirror,
        in_flight: Set[int],
        observe: Observe,
        now: Callable[[], datetime],
        *,
        grace_s: float,
    ) -> None:
        self._mirror = mirror
        self._in_flight = in_flight
        self._observe = observe
        self._now = now
        self._ask = _background_ask(mirror)
        self.grace_s = grace_s

    async def run(self, model: Callable[[], Model | None]) -> None:
        """Sweep until cancelled."""
        while True:
            document = model()
            if document is not None:
                await self.sweep(document)
            await asyncio.sleep(_PAUSE_S)

    async def sweep(self, model: Model) -> None:
        """Look once at every open intent that nobody works on; one that fails keeps no other waiting."""
        try:
            intents = await self._mirror.store.open_intents()
        except StoreUnavailable as error:
            self._observe(StoreFailed("sweep", str(error)))
            return
        for intent in intents:
            is_abandoned = self._now() - intent.opened_at >= timedelta(seconds=self.grace_s)
            named = {intent.entity_set, *(name for name, _ in intent.touched)}
            if intent.id not in self._in_flight and is_abandoned and named <= model.entity_sets.keys():
                await self._try_to_settle(intent, model)

    async def _try_to_settle(self, intent: Intent, model: Model) -> None:
        try:
            await self._settle(intent, model)
        except StoreUnavailable as error:
            self._observe(StoreFailed("sweep", str(error)))
        except UpstreamFailure as error:
            self._observe(UpstreamFailed("sweep", type(error).__name__))
        except Exception as error:
            self._observe(TaskFailed("sweep", error))

    async def _settle(self, intent: Intent, model: Model) -> None:
        """Read back all that the intent names; settle it once every write of it is certain, or late."""
        age = self._now() - intent.opened_at
        limit = timedelta(seconds=self._mirror.rules.write_limit_s)
        if intent.method == "CreateEntity":
            await self._settle_create(intent, model.entity_sets[intent.entity_set], model, age, limit)
            return
        intended = self._intended(intent, model)
        if any(one.key is None for one in intended) and age <= limit:
            return
        outcomes: list[Outcome] = []
        looks: list[tuple[Intended, Look, Outcome]] = []
        for one in intended:
            if one.key is None:
                outcomes.append(Outcome.UNDETERMINED)
                continue
            look = await self._mirror.fetch_key(one.entity_set, one.key, model, self._ask)
            if look.fetched is None and not self._mirror.is_gone(look.reply, self._ask):
                return
            outcome = decide_settlement(
                deletes=one.deletes,
                before=await self._before(intent, one.entity_set, one.key),
                changes=self._changes(one),
                seen=look.fetched,
                age=age,
                limit=limit,
            )
            if outcome is None:
                return
            outcomes.append(outcome)
            looks.append((one, look, outcome))
        await self._close(intent, _settlement(intent, looks, outcomes, model))

    async def _settle_create(
        self, intent: Intent, entity_set: EntitySet, model: Model, age: timedelta, limit: timedelta
    ) -> None:
        creations = await look_for(intent, entity_set, model, self._mirror, self._ask)
        if creations is None:
            return
        outcome, made = decide_creation(creations, age, limit)
        if outcome is None:
            return
        settlement = Settlement(outcome, creations.number)
        if made is not None:
            effects = self._mirror.sets.policy(entity_set).effects
            stale = [*touched_of(intent, model), *touched_by(effects, made.values, model)]
            written = [Touched(entity_set, made.key)]
            settlement = replace(settlement, seen=[(entity_set, made)], written=written, stale=stale)
        await self._close(intent, settlement)

    def _intended(self, intent: Intent, model: Model) -> list[Intended]:
        """What the intent's writes ask for, the whole of a batch's or its one."""
        entity_set = model.entity_sets[intent.entity_set]
        if intent.method == METHOD:
            batch = read_batch(intent.body, intent.content_type, self._mirror.root_path, model)
            return intended_by(batch.writes, model)
        make = _UPDATES.get(intent.method)
        posted = None
        if make is not None and intent.key is not None:
            posted = read_posted(make(entity_set, intent.key), intent.body, intent.content_type, model)
        return [Intended(entity_set, intent.key, intent.method == "DeleteEntity", posted)]

    async def _before(self, intent: Intent, entity_set: EntitySet, key: EntityKey) -> bytes | None:
        """The digest of the state before the write: for a batch's, what its pre-read left in the row."""
        if intent.method != METHOD:
            return intent.before
        held = (await self._mirror.store.get(entity_set, [key])).get(key)
        return held.digest if held is not None and held.document is not None else None

    def _changes(self, one: Intended) -> dict[str, object] | None:
        rules = self._mirror.rules
        leave_out = frozenset({rules.modified_property, rules.version_property})
        return None if one.posted is None else requested_changes(one.posted, None, leave_out)

    async def _close(self, intent: Intent, settlement: Settlement) -> None:
        await self._mirror.store.settle_intent(intent, settlement)
        self._observe(IntentSettled(intent.id, settlement.outcome.value, intent.entity_set))


def _settlement(
    intent: Intent,
    looks: Sequence[tuple[Intended, Look, Outcome]],
    outcomes: Sequence[Outcome],
    model: Model,
) -> Settlement:
    """One undetermined write makes the intent so, one that was applied else makes it applied."""
    seen, removed, written = [], [], []
    for one, look, outcome in looks:
        if one.key is None:
            continue
        entity = Touched(one.entity_set, one.key)
        if look.fetched is not None:
            seen.append((one.entity_set, look.fetched))
        else:
            removed.append(entity)
        if outcome is Outcome.APPLIED:
            written.append(entity)
    ranked = (Outcome.UNDETERMINED, Outcome.APPLIED, Outcome.REFUSED)
    return Settlement(
        next((outcome for outcome in ranked if outcome in outcomes), Outcome.UNDETERMINED),
        min((look.number for _, look, _ in looks), default=intent.fetch_number),
        seen=seen,
        removed=removed,
        stale=[Touched(model.entity_sets[name], key) for name, key in intent.touched],
        written=written,
    )


def _background_ask(mirror: Mirror) -> Ask:
    """The proxy's own asking, with no client behind it."""
    request = Request("GET", mirror.root_path, CIMultiDict({"Accept": "application/json"}))
    return Ask(request, "", "json", Caller(), Directives(), "")
