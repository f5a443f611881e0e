"""Sending under an intent (rules 5 and 6): the mark is committed first, the bytes leave exactly once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from proxy.odata.edm import Model
from proxy.reconcile.authority import Epochs
from proxy.reconcile.errors import OutcomeUnknown, WritesRefused
from proxy.reconcile.exchange import Answer, Ask
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.observations import IntentOpened, IntentSettled, Observe, StoreFailed, TaskFailed
from proxy.reconcile.observations import OutcomeUnknown as OutcomeUnknownSeen
from proxy.reconcile.ports import (
    Intent,
    NewIntent,
    Outcome,
    Reply,
    Request,
    Settlement,
    StoreUnavailable,
    Upstream,
    UpstreamCut,
    UpstreamFailure,
)

# What carries out a write where the mirror is the authority by now; `LocalService.write` and `write_batch`.
Local = Callable[[Ask, Model, Epochs], Awaitable[Answer]]


async def not_upstreams(_: Ask, __: Model, ___: Epochs) -> Answer:
    """Where nobody carries it out."""
    raise WritesRefused("Upstream is not the authority of this set any more; the write was not begun.")


class Sender:
    """Opens, sends and settles. `in_flight` holds the intents that this process is still working on."""

    def __init__(self, mirror: Mirror, upstream: Upstream, observe: Observe, in_flight: set[int]) -> None:
        self._store = mirror.store
        self._upstream = upstream
        self._observe = observe
        self.in_flight = in_flight

    async def open(self, new: NewIntent) -> Intent:
        """Commit the mark. Raises StoreUnavailable."""
        intent = await self._store.open_intent(new)
        self._observe(IntentOpened(intent.id, intent.method, intent.entity_set))
        return intent

    def refused(self, error: StoreUnavailable) -> WritesRefused:
        """What to raise where the mark could not be made."""
        self._observe(StoreFailed("write", str(error)))
        return WritesRefused("The write cannot be recorded now, so it was not sent.")

    @contextmanager
    def under_way(self, intent: Intent) -> Iterator[None]:
        """While this lasts, the settler leaves the intent alone."""
        self.in_flight.add(intent.id)
        try:
            yield
        finally:
            self.in_flight.discard(intent.id)

    async def send(self, intent: Intent, request: Request) -> tuple[Reply, bool]:
        """Upstream's answer, and whether it was cut.

        Raises OutcomeUnknown (sent, not answered: the intent stays open), UpstreamFailure (not sent).
        """
        try:
            return await self._upstream.send(request), False
        except UpstreamCut as failure:
            return failure.reply, True
        except UpstreamFailure as failure:
            if failure.sent:
                self.leave_open(intent)
                raise OutcomeUnknown(intent.id) from failure
            await self.settle(intent, Settlement(Outcome.REFUSED, intent.fetch_number))
            raise

    async def end(self, intent: Intent, settling: Awaitable[Outcome | None]) -> Outcome | None:
        """The outcome that `settling` has committed; None: the intent stays open.

        Nothing that goes wrong in it costs the client the answer that upstream has given (rule 5).
        """
        try:
            outcome = await settling
        except Exception as error:
            self._observe(TaskFailed("settle", error))
            outcome = None
        if outcome is None:
            self.leave_open(intent)
        return outcome

    def leave_open(self, intent: Intent) -> None:
        """Say that the settler has to find out."""
        self._observe(OutcomeUnknownSeen(intent.id, intent.entity_set))

    async def settle(self, intent: Intent, settlement: Settlement) -> bool:
        """False: it could not be committed, and the intent stays open."""
        try:
            await self._store.settle_intent(intent, settlement)
        except StoreUnavailable as error:
            self._observe(StoreFailed("settle", str(error)))
            return False
        self._observe(IntentSettled(intent.id, settlement.outcome.value, intent.entity_set))
        return True
