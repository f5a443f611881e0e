"""Ends the intents that their writer left open: a crash, an answer that never came (rule 6).

Reads upstream back until the outcome is certain. "Not seen" means refused only once `write_limit_s` has
passed since sending; what stays undecidable then is undetermined, and shown to the operator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import CreateEntity, MergeEntity, UpdateEntity
from proxy.reconcile.creates import find_created
from proxy.reconcile.mirror import Look
from proxy.reconcile.observations import IntentSettled, StoreFailed, UpstreamFailed
from proxy.reconcile.outcomes import decide_create, decide_settlement, key_from, requested_changes
from proxy.reconcile.ports import (
    Fetched,
    Intent,
    Outcome,
    Settlement,
    StoreUnavailable,
    Touched,
    UpstreamFailure,
)
from proxy.reconcile.service import Service
from proxy.reconcile.writer import read_posted

_PAUSE_S = 2.0
_LONGEST_PAUSE = timedelta(seconds=15)  # between two looks at one intent
_AT_MOST = 1000
_OPERATIONS = {"CreateEntity": CreateEntity, "MergeEntity": MergeEntity, "UpdateEntity": UpdateEntity}


class Settler:
    """Settles open intents. `in_flight`: those this process is working on."""

    def __init__(self, service: Service, in_flight: Set[int]) -> None:
        self._service = service
        self._in_flight = in_flight
        self._next_looks: dict[int, datetime] = {}

    async def run(self, model: Callable[[], Model | None]) -> None:
        """Settle until cancelled, whenever no other process does."""
        while True:
            try:
                async with self._service.held("settle") as service:
                    while service is not None:
                        document = model()
                        if document is not None:
                            await self._settle_due(service, document)
                        await asyncio.sleep(_PAUSE_S)
            except StoreUnavailable as error:
                self._service.observe(StoreFailed("settle", str(error)))
            await asyncio.sleep(_PAUSE_S)

    async def settle(self, model: Model) -> None:
        """Look once at every open intent that nobody works on. Raises StoreUnavailable."""
        self._next_looks.clear()
        await self._settle_due(self._service, model)

    async def _settle_due(self, service: Service, model: Model) -> None:
        intents = await service.store.open_intents(limit=_AT_MOST)
        now = service.now()
        due = [intent for intent in intents if self._is_abandoned(intent) and self._is_due(intent, now)]
        await asyncio.gather(*(_Settling(service, intent, intents, model).run() for intent in due))
        open_ids = {intent.id for intent in intents}
        self._next_looks = {number: at for number, at in self._next_looks.items() if number in open_ids}

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


class _Settling:
    """One look at one intent. `others`: all that are open."""

    def __init__(self, service: Service, intent: Intent, others: Sequence[Intent], model: Model) -> None:
        self._service = service
        self._intent = intent
        self._others = others
        self._model = model
        age = service.now() - intent.opened_at
        self._is_late = age > timedelta(seconds=service.rules.write_limit_s)

    async def run(self) -> None:
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
            self._service.observe(UpstreamFailed("settle", error.message))
        else:
            self._service.observe(IntentSettled(intent.id, settlement.outcome.value, intent.entity_set))

    async def _settlement(self) -> Settlement | None:
        """How the intent ends; None: look again later."""
        intent = self._intent
        entity_set = self._model.entity_sets.get(intent.entity_set)
        if entity_set is None:
            return self._ended(Outcome.UNDETERMINED) if self._is_late else None
        if intent.key is None:
            return await self._create_settlement(entity_set)
        look = await self._service.look(entity_set, intent.key, self._model)
        is_gone = self._service.is_gone(look)
        if look.fetched is None and not is_gone:
            return None
        posted = self._posted(entity_set)
        outcome = decide_settlement(
            deletes=intent.method == "DeleteEntity",
            leaves_trace=intent.method != "ChangeLinks",
            before=intent.before,
            changes=None if posted is None else self._changes(posted),
            seen=look.fetched,
            is_late=self._is_late,
        )
        if outcome is None:
            return None
        return self._shown(outcome, entity_set, look, intent.key)

    async def _create_settlement(self, entity_set: EntitySet) -> Settlement | None:
        posted = self._posted(entity_set)
        if posted is None:
            return self._ended(Outcome.UNDETERMINED) if self._is_late else None
        key = key_from(posted, entity_set.entity_type.key)
        if key is not None:
            look = await self._service.look(entity_set, key, self._model)
            found: Sequence[Fetched] = [look.fetched] if look.fetched else []
            is_conclusive = bool(found) or self._service.is_gone(look)
            number = look.number
        else:
            number = await self._service.store.next_fetch_number()
            found, is_conclusive = await find_created(
                self._service, self._intent, entity_set, self._changes(posted), self._model, number
            )
        equal = [
            other
            for other in self._others
            if (other.method, other.entity_set, other.body)
            == (self._intent.method, self._intent.entity_set, self._intent.body)
        ]
        outcome = decide_create(
            found=len(found), asked=len(equal), is_conclusive=is_conclusive, is_late=self._is_late
        )
        if outcome is None:
            return None
        seen: list[tuple[EntitySet, Fetched]] = [(entity_set, state) for state in found]
        return self._ended(outcome, number, seen if outcome is Outcome.APPLIED else [])

    def _shown(self, outcome: Outcome, entity_set: EntitySet, look: Look, key: EntityKey) -> Settlement:
        if look.fetched is None:
            return Settlement(outcome, look.number, removed=[Touched(entity_set, key)], stale=self._touched())
        return self._ended(outcome, look.number, [(entity_set, look.fetched)])

    def _ended(
        self, outcome: Outcome, number: int | None = None, seen: Sequence[tuple[EntitySet, Fetched]] = ()
    ) -> Settlement:
        return Settlement(outcome, number or self._intent.fetch_number, seen=seen, stale=self._touched())

    def _touched(self) -> list[Touched]:
        sets = self._model.entity_sets
        return [Touched(sets[name], key) for name, key in self._intent.touched if name in sets]

    def _posted(self, entity_set: EntitySet) -> dict[str, Any] | None:
        intent = self._intent
        make = _OPERATIONS.get(intent.method)
        if make is None:
            return None
        operation = make(entity_set) if make is CreateEntity else make(entity_set, intent.key)
        return read_posted(operation, intent.body, intent.content_type, self._model)

    def _changes(self, posted: dict[str, Any]) -> dict[str, Any]:
        rules = self._service.rules
        leave_out = frozenset({rules.modified_property, rules.version_property})
        return requested_changes(posted, None, leave_out)
