"""Makes the mirror the authority of a unit of entity sets (the command may run beside any proxies).

Writes begin to wait when the sets are MOVING. Those under way end, what changed last is taken in, and all
sets become the mirror's in one transaction. Whatever goes wrong before that puts them back; a mover that is
killed loses its lease, and any proxy puts back what it left (`put_back`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.reconcile.authority import TRUST_S, Authority, Epochs
from proxy.reconcile.following import why_not_polled
from proxy.reconcile.gathering import CutoverStore, gather
from proxy.reconcile.mirror import KEYS_PER_REQUEST
from proxy.reconcile.observations import CutoverEnded, CutoverGivenUp, StoreFailed
from proxy.reconcile.poller import Poller
from proxy.reconcile.ports import Provenance, Source, StoreUnavailable
from proxy.reconcile.progress import LeaseLost
from proxy.reconcile.readiness import Finding, Rules, Weight, findings, is_ready
from proxy.reconcile.service import LEASE_S, Service
from proxy.reconcile.verifier import Drift, Verified, Verifier

LEASE = "cutover"
_LOOK_EVERY_S = 0.05
# While writes wait, the keys of larger sets are not compared once more: 50 are a request.
_KEYS_COMPARED = 5000


class CannotMove(Exception):
    """The authority was not moved, or is what it was again; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`names`: the unit. `left`: sets that stay behind on purpose. `callers`: who authenticates callers.
    `wait_s`: how long writes may wait. `by`: who decided."""

    names: Sequence[str]
    left: Collection[str]
    callers: str
    wait_s: float
    rules: Rules
    by: str


class Cutover:
    """Moves units. `report` is told of each step, a sentence each."""

    def __init__(
        self,
        service: Service,
        store: CutoverStore,
        poller: Poller,
        model: Model,
        report: Callable[[str], None],
    ) -> None:
        self._service = service
        self.store = store
        self._poller = poller
        self.model = model
        self._report = report

    async def check(self, plan: Plan) -> list[Finding]:
        """What is for and against moving these sets. Raises StoreUnavailable."""
        evidence = await gather(self._service, self.store, self.model, plan.names, plan.left, plan.callers)
        return findings(evidence, plan.rules, self._service.now())

    async def move(self, plan: Plan) -> None:
        """Make the mirror the authority. Raises CannotMove, StoreUnavailable, UpstreamFailure."""
        async with self.alone() as service:
            await self._compare(service, plan)
            found = await self.check(plan)
            if not is_ready(found):
                blocking = [one for one in found if one.weight is Weight.BLOCKS]
                told = "\n".join(f"  {one.entity_set or 'unit'}: {one.topic}: {one.text}" for one in blocking)
                raise CannotMove(f"not ready:\n{told}")
            async with moving(service, plan, Authority.UPSTREAM) as epochs:
                since = asyncio.get_running_loop().time()
                self._report("new writes wait; those under way end")
                await self._drain(plan)
                self._report("none is under way; what changed last is taken in")
                for name in plan.names:
                    await self._refresh(service, self.model.entity_sets[name])
                await everybody_knows(since)
                await move_to(Authority.MIRROR, service, epochs, plan)
            self._report("the mirror is the authority")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Service]:
        """Hold the lease of cutovers. Raises CannotMove, StoreUnavailable."""
        now = asyncio.get_running_loop().time
        ends_at = now() + LEASE_S + 1  # one that was killed holds its lease for so long
        while True:
            async with self._service.held(LEASE) as service:
                if service is not None:
                    await put_back(service)
                    yield service
                    return
            if now() > ends_at:
                raise CannotMove("another cutover is under way")
            await asyncio.sleep(LEASE_S / 8)

    async def _compare(self, service: Service, plan: Plan) -> None:
        """Compare what was not compared lately, while everything goes on."""
        verifications = await self.store.verifications()
        oldest = self._service.now() - timedelta(seconds=plan.rules.verified_within_s)
        for name in plan.names:
            last = verifications.get(name)
            if last is not None and last.began_at > oldest and last.drift == last.repaired:
                continue
            self._report(f"{name}: is compared with upstream")
            found = await self._verified(service, self.model.entity_sets[name], None)
            self._report(f"{name}: {found.contents} compared, {found.repaired} repaired")

    async def _verified(self, service: Service, entity_set: EntitySet, sample: int | None) -> Verified:
        try:
            found = await Verifier(service, self.store).verify(
                entity_set, self.model, sample=sample, repair=True
            )
        except ODataError as error:
            raise CannotMove(f"{entity_set.name}: upstream's answer cannot be read") from error
        if found.drift[Drift.AHEAD]:
            raise CannotMove(f"{entity_set.name}: the mirror is ahead of upstream: syncpoint conflicts")
        return found

    async def _drain(self, plan: Plan) -> None:
        """Until no write to the unit is under way."""
        ends_at = asyncio.get_running_loop().time() + plan.wait_s / 2
        while intents := await self.store.intents_naming(plan.names):
            unknown = [one for one in intents if not one.is_held]
            if asyncio.get_running_loop().time() > ends_at:
                unknown = list(intents)
            if unknown:
                numbers = ", ".join(str(one.id) for one in unknown)
                raise CannotMove(f"the outcome of intents {numbers} is not known: syncpoint intents")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _refresh(self, service: Service, entity_set: EntitySet) -> None:
        """Take in what came since the set was compared."""
        name, last = entity_set.name, (await self.store.verifications())[entity_set.name]
        is_polled = why_not_polled(entity_set, service.rules) is None
        refreshed = 0
        try:
            if is_polled:
                refreshed = await self._poller.catch_up(service, entity_set, self.model, last.began_at)
            keys = await service.store.unsettled_since(entity_set, last.number)
            await self._fetch_again(service, entity_set, keys)
        except ODataError as error:
            raise CannotMove(f"{name}: upstream's answer cannot be read") from error
        compared = ""
        if (
            not is_polled
            or await service.store.count(entity_set, at_most=_KEYS_COMPARED + 1) <= _KEYS_COMPARED
        ):
            found = await self._verified(service, entity_set, None if not is_polled else 0)
            compared = f", {found.upstream} keys compared"
        if await service.store.conflict_count(entity_set):
            raise CannotMove(f"{name}: a conflict was found: syncpoint conflicts list --set {name}")
        self._report(f"{name}: {refreshed + len(keys)} fetched again{compared}")

    async def _fetch_again(self, service: Service, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            some = keys[start : start + KEYS_PER_REQUEST]
            states = await service.mirror.fetch_some(entity_set, some, self.model, service.ask)
            await service.mirror.absorb(entity_set, states, Provenance(Source.COMPARISON))
            for key in set(some) - {state.key for state in states}:
                look = await service.look(entity_set, key, self.model)
                if not service.is_gone(look):
                    raise CannotMove(f"{entity_set.name}: upstream does not show an entity that it has")
                await service.store.bury(entity_set, key, look.number, Provenance(Source.COMPARISON))


@asynccontextmanager
async def moving(service: Service, plan: Plan, answers: Authority) -> AsyncIterator[Epochs]:
    """While this lasts, writes to the unit wait; unless it moves meanwhile, it is put back at the end.

    `answers`: its authority now. Raises CannotMove, also where it takes longer than writes wait.
    """
    authorities = service.sets.authorities
    await authorities.read()
    wrong = [name for name in plan.names if authorities.of(name)[0] is not answers]
    if wrong:
        raise CannotMove(f"not of the authority {answers.value}: {', '.join(wrong)}")
    seen = {name: authorities.of(name)[1] for name in plan.names}
    epochs = await service.store.move_authorities(seen, Authority.MOVING, answers, plan.by)
    if epochs is None:
        raise CannotMove("somebody else moved one of the sets")
    try:
        async with asyncio.timeout(plan.wait_s * 0.9):
            yield epochs
    except BaseException as error:
        with suppress(StoreUnavailable, LeaseLost):  # a proxy does it then, when the lease has run out
            await service.store.move_authorities(epochs, answers, answers, plan.by)
        if isinstance(error, TimeoutError):
            raise CannotMove("it took longer than writes may wait (cutover.wait_s)") from error
        raise


async def move_to(authority: Authority, service: Service, epochs: Epochs, plan: Plan) -> None:
    """End the move: all sets at once. Raises CannotMove."""
    if await service.store.move_authorities(epochs, authority, authority, plan.by) is None:
        raise CannotMove("somebody else moved one of the sets")
    service.observe(CutoverEnded(tuple(plan.names), authority.value, plan.by))


async def everybody_knows(since: float) -> None:
    """Wait until every process knows what was so from `since` on, by the event loop's clock."""
    await asyncio.sleep(max(0.0, since + TRUST_S + _LOOK_EVERY_S - asyncio.get_running_loop().time()))


async def put_back(service: Service) -> None:
    """Give back what a mover left that was killed; the lease is held. Raises StoreUnavailable, LeaseLost."""
    for held in await service.store.holdings():
        if held.authority is Authority.MOVING:
            epochs = {held.entity_set: held.epoch}
            if await service.store.move_authorities(epochs, held.answers, held.answers, held.by):
                service.observe(CutoverGivenUp((held.entity_set,), held.answers.value))


async def guard(service: Service) -> None:
    """Put back what killed movers leave, until cancelled."""
    while True:
        await asyncio.sleep(LEASE_S / 4)
        if not any(held.authority is Authority.MOVING for held in service.sets.authorities.holdings()):
            continue
        try:
            async with service.held(LEASE) as alone:
                if alone is not None:
                    await put_back(alone)
        except (StoreUnavailable, LeaseLost) as error:
            service.observe(StoreFailed("cutover", str(error)))
