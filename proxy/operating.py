"""What operators do by command: the same actions as the admin API's, beside the running proxies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from getpass import getuser

from proxy.app import working
from proxy.app.parts import local_service
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.reconcile.background import Background, cancelled
from proxy.reconcile.cutover import Cutover, Plan
from proxy.reconcile.errors import SyncError
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.history import Casebook, Conflict, IntentLine, Question
from proxy.reconcile.operator import CannotAct, Desk, NotFound, Operator, Written
from proxy.reconcile.policy import Mode
from proxy.reconcile.poller import Poller
from proxy.reconcile.ports import UpstreamFailure
from proxy.reconcile.readiness import Finding, Rules
from proxy.reconcile.replays import Replayed
from proxy.reconcile.sending import Sender
from proxy.reconcile.service import Service, stay_alive
from proxy.reconcile.verifier import Verified, Verifier
from proxy.reconcile.way_back import WayBack
from proxy.reconcile.writer import Writer
from proxy.settings import Settings, SettingsError
from proxy.store import PostgresStore


@asynccontextmanager
async def _at_work(settings: Settings) -> AsyncIterator[tuple[Service, Model, PostgresStore]]:
    async with working(settings) as (service, model):
        assert isinstance(service.store, PostgresStore), "no lease is held"
        yield service, model, service.store


@asynccontextmanager
async def _desk(settings: Settings) -> AsyncIterator[tuple[Desk, Casebook]]:
    """A desk whose writes are this process' own, so that no other settles them meanwhile."""
    async with _at_work(settings) as (service, model, store):
        background = Background(service.observe)
        feeder = Feeder(service.mirror, background, service.observe)
        sender = Sender(service.mirror, service.upstream, service.observe, set())
        local = local_service(settings, store, service.sets, service.observe, service.now)
        writer = Writer(
            service.mirror, service.upstream, sender, feeder, background, service.now, local.write
        )
        alive = asyncio.create_task(stay_alive(store))
        try:
            yield Desk(service, writer, store, store, lambda: model, service.observe), store
        finally:
            await background.drain()
            await cancelled([alive])


def _operator() -> Operator:
    return Operator(getuser(), "command", f"command-{uuid.uuid4().hex}")


async def list_conflicts(settings: Settings, entity_set: str | None) -> Sequence[Conflict]:
    """The open ones. Raises what `working` raises."""
    async with _at_work(settings) as (*_, casebook):
        return await casebook.conflicts(entity_set, limit=10_000)


async def list_sweeps(settings: Settings) -> Sequence[Question]:
    """What sweeps wait for an answer to. Raises what `working` raises."""
    async with _at_work(settings) as (*_, casebook):
        return await casebook.questions()


async def answer_sweeps(
    settings: Settings, identities: Sequence[int], accepted: bool, report: Callable[[int, str], None]
) -> bool:
    """Answer these questions; True where each could be. Raises what `working` raises."""
    is_done = True
    async with _desk(settings) as (desk, _):
        for identity in identities:
            try:
                question = await desk.answer(identity, accepted, _operator())
                report(identity, f"{question.entity_set}: {'believed' if accepted else 'swept again'}")
            except CannotAct as error:
                is_done = False
                report(identity, str(error))
    return is_done


async def list_intents(settings: Settings) -> Sequence[IntentLine]:
    """Writes that are open or undetermined. Raises what `working` raises."""
    async with _at_work(settings) as (*_, casebook):
        return await casebook.intent_lines(limit=10_000)


async def resolve(
    settings: Settings,
    identities: Sequence[int],
    entity_set: str | None,
    winner: str,
    report: Callable[[int, Written | str], None],
) -> bool:
    """End these conflicts, or all open ones of a set; True where all of them ended.

    `report` is told of each: what was written, or why it could not be. Raises what `working` raises.
    """
    is_done = True
    async with _desk(settings) as (desk, casebook):
        if entity_set is not None:
            identities = [found.id for found in await casebook.conflicts(entity_set, limit=10_000)]
        for identity in identities:
            try:
                conflict = await casebook.conflict(identity)
                if conflict is None:
                    raise NotFound(f"There is no conflict {identity}.")
                result: Written | str = await desk.resolve(conflict, winner, _operator())
            except (SyncError, CannotAct) as error:
                result = str(error)
            is_done = is_done and isinstance(result, Written) and result.error is None
            report(identity, result)
    return is_done


async def verify(
    settings: Settings,
    names: Sequence[str],
    report: Callable[[Verified], None],
    *,
    sample: int | None,
    repair: bool,
) -> bool:
    """Compare these sets, or all that the mirror holds something of; True where nothing is left drifting."""
    is_sound = True
    async with _at_work(settings) as (service, model, store):
        verifier = Verifier(service, store)
        for entity_set in _named(names, model) or [
            model.entity_sets[name] for name in await store.kept_sets() if name in model.entity_sets
        ]:
            if service.sets.policy(entity_set).mode is Mode.MIRROR:
                continue  # what upstream shows of it is no measure
            try:
                found = await verifier.verify(entity_set, model, sample=sample, repair=repair)
            except (UpstreamFailure, ODataError) as error:
                found = Verified(entity_set.name, error=str(error) or type(error).__name__)
            report(found)
            is_sound = is_sound and not found.error and found.repaired == found.drift.total()
    return is_sound


async def check(settings: Settings, names: Sequence[str], left: Sequence[str]) -> list[Finding]:
    """What is for and against making the mirror the authority of these sets. Raises what `working` raises."""
    async with _cutover(settings, names, left, lambda _: None) as (cutover, plan):
        return await cutover.check(plan)


async def cut_over(
    settings: Settings, names: Sequence[str], left: Sequence[str], report: Callable[[str], None]
) -> None:
    """Make the mirror the authority of these sets. Raises CannotMove, and what `working` raises."""
    async with _cutover(settings, names, left, report) as (cutover, plan):
        await cutover.move(plan)


async def give_back(
    settings: Settings, names: Sequence[str], report: Callable[[str], None]
) -> Sequence[Replayed]:
    """Make upstream the authority of these sets again; the writes that it refused. Raises CannotMove, and
    what `working` raises."""
    async with _cutover(settings, names, (), report) as (cutover, plan):
        return await WayBack(cutover.store, cutover.model, cutover.alone, report).move(plan)


@asynccontextmanager
async def _cutover(
    settings: Settings, names: Sequence[str], left: Sequence[str], report: Callable[[str], None]
) -> AsyncIterator[tuple[Cutover, Plan]]:
    async with _at_work(settings) as (service, model, store):
        named = tuple(dict.fromkeys(each.name for each in _named(names, model)))
        plan = Plan(
            named,
            frozenset(each.name for each in _named(left, model)),
            _who_authenticates(settings),
            settings.cutover.wait_s,
            Rules(settings.cutover.verified_within_s),
            f"{getuser()}, by command",
        )
        yield Cutover(service, store, Poller(service, settings.poll_rules()), model, report), plan


def _who_authenticates(settings: Settings) -> str:
    """Who keeps strangers from the listener that answers in upstream's place; "": nobody."""
    if not settings.listen.is_loopback:
        return ""
    names = ", ".join(settings.callers) or "nobody"
    return f"the main listener is on the loopback; named on the services listener: {names}"


def _named(names: Sequence[str], model: Model) -> list[EntitySet]:
    if unknown := [name for name in names if name not in model.entity_sets]:
        raise SettingsError([f"{name}: no entity set of the metadata document" for name in unknown])
    return [model.entity_sets[name] for name in names]
