"""Ends the intents that their writer left open: a crash, an answer that never came (rule 6).

Reads upstream back until the outcome is certain, or `write_limit_s` has passed since sending. Deletes
of others are not looked for yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta

from multidict import CIMultiDict

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.operation import MergeEntity, UpdateEntity
from proxy.reconcile.creations import look_for
from proxy.reconcile.exchange import Ask
from proxy.reconcile.mirror import Look, Mirror
from proxy.reconcile.observations import IntentSettled, Observe, StoreFailed, UpstreamFailed
from proxy.reconcile.outcomes import decide_creation, decide_settlement, requested_changes, touched_by
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
from proxy.reconcile.writer import read_posted, touched_of

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
        """Look once at every open intent that nobody works on."""
        try:
            for intent in await self._mirror.store.open_intents():
                if self._is_abandoned(intent):
                    await self._settle(intent, model)
        except StoreUnavailable as error:
            self._observe(StoreFailed("sweep", str(error)))
        except UpstreamFailure as error:
            self._observe(UpstreamFailed("sweep", type(error).__name__))

    def _is_abandoned(self, intent: Intent) -> bool:
        is_old = self._now() - intent.opened_at >= timedelta(seconds=self.grace_s)
        return is_old and intent.id not in self._in_flight

    async def _settle(self, intent: Intent, model: Model) -> None:
        entity_set = model.entity_sets.get(intent.entity_set)
        if entity_set is None:
            return
        if intent.key is None:
            await self._settle_create(intent, entity_set, model)
            return
        look = await self._mirror.fetch_key(entity_set, intent.key, model, self._ask)
        await self._judge(intent, entity_set, look, self._ask, model)

    async def settle_seen(
        self, entity_set: EntitySet, key: EntityKey, look: Look, ask: Ask, model: Model
    ) -> None:
        """Settle the abandoned intents that name the entity by what its caller was just shown of it.

        For a proxy without an identity of its own.
        """
        try:
            for intent in await self._mirror.store.intents_of(entity_set, key):
                if self._is_abandoned(intent):
                    await self._judge(intent, entity_set, look, ask, model)
        except StoreUnavailable as error:
            self._observe(StoreFailed("sweep", str(error)))

    async def _judge(self, intent: Intent, entity_set: EntitySet, look: Look, ask: Ask, model: Model) -> None:
        deletes = intent.method == "DeleteEntity"
        is_gone = look.fetched is None and self._mirror.is_gone(look.reply, ask, was_deleted=deletes)
        if look.fetched is None and not is_gone:
            return
        outcome = decide_settlement(
            deletes=deletes,
            before=intent.before,
            changes=self._changes(intent, entity_set, model),
            seen=look.fetched,
            age=self._now() - intent.opened_at,
            limit=timedelta(seconds=self._mirror.rules.write_limit_s),
        )
        if outcome is None:
            return
        await self._close(intent, self._settlement(intent, entity_set, look, outcome, model))

    async def _settle_create(self, intent: Intent, entity_set: EntitySet, model: Model) -> None:
        creations = await look_for(intent, entity_set, model, self._mirror, self._ask)
        if creations is None:
            return
        limit = timedelta(seconds=self._mirror.rules.write_limit_s)
        outcome, made = decide_creation(creations, self._now() - intent.opened_at, limit)
        if outcome is None:
            return
        settlement = Settlement(outcome, creations.number)
        if made is not None:
            effects = self._mirror.sets.policy(entity_set).effects
            stale = [*touched_of(intent, model), *touched_by(effects, made.values, model)]
            seen = [(entity_set, made)] if self._mirror.sets.may_store(entity_set) else []
            settlement = replace(settlement, seen=seen, stale=stale)
        await self._close(intent, settlement)

    def _settlement(
        self, intent: Intent, entity_set: EntitySet, look: Look, outcome: Outcome, model: Model
    ) -> Settlement:
        stale = touched_of(intent, model)
        if look.fetched is None and intent.key is not None:
            return Settlement(outcome, look.number, removed=[Touched(entity_set, intent.key)], stale=stale)
        may_store = self._mirror.sets.may_store(entity_set)
        seen = [(entity_set, look.fetched)] if look.fetched and may_store else []
        return Settlement(outcome, look.number, seen=seen, stale=stale)

    async def _close(self, intent: Intent, settlement: Settlement) -> None:
        await self._mirror.store.settle_intent(intent, settlement)
        self._observe(IntentSettled(intent.id, settlement.outcome.value, intent.entity_set))

    def _changes(self, intent: Intent, entity_set: EntitySet, model: Model) -> dict[str, object] | None:
        make, key = _UPDATES.get(intent.method), intent.key
        if make is None or key is None:
            return None
        posted = read_posted(make(entity_set, key), intent.body, intent.content_type, model)
        rules = self._mirror.rules
        leave_out = frozenset({rules.modified_property, rules.version_property})
        return None if posted is None else requested_changes(posted, None, leave_out)


def _background_ask(mirror: Mirror) -> Ask:
    """The proxy's own asking, with no client behind it."""
    request = Request("GET", mirror.root_path, CIMultiDict({"Accept": "application/json"}))
    return Ask(request, "", "json", Caller(), Directives(), "")
