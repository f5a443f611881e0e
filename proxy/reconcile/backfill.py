"""The first load: whole entity sets, page by page, into the mirror.

A set is loaded by one process at a time, several sets beside each other. What is loaded is let in by the
rules of every other fetch, so a load may run while clients read and write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.reconcile.mirror import Page
from proxy.reconcile.ports import Provenance, Reply, Source, StoreUnavailable, UpstreamFailure
from proxy.reconcile.progress import Stage, Walk
from proxy.reconcile.service import Service
from proxy.reconcile.walking import walk_pages

_ATTEMPTS = 5  # without a page between them
_PAUSE_S = 1.0  # before the second one, doubled each time


@dataclass(frozen=True, slots=True)
class Load:
    """How the load of one set is doing. `expected`: entities in all, where upstream counts them.

    `resumed`: so many of `rows` were loaded before this run.
    """

    entity_set: str
    state: Literal["waiting", "loading", "done", "already", "failed"] = "waiting"
    rows: int = 0
    resumed: int = 0
    expected: int | None = None
    reason: str = ""


class Backfill:
    """Loads sets. `report` is told of every step."""

    def __init__(self, service: Service, report: Callable[[Load], None]) -> None:
        self._service = service
        self._report = report

    async def run(
        self, entity_sets: Sequence[EntitySet], model: Model, *, at_once: int, again: bool = False
    ) -> bool:
        """Load sets, `at_once` beside each other; `again`: also those loaded before. True: all are loaded."""
        places = asyncio.Semaphore(at_once)

        async def load(entity_set: EntitySet) -> bool:
            async with places:
                load = await self._load(entity_set, model, again=again)
                self._report(load)
                return load.state != "failed"

        for entity_set in entity_sets:
            self._report(Load(entity_set.name))
        return all(await asyncio.gather(*map(load, entity_sets)))

    async def _load(self, entity_set: EntitySet, model: Model, *, again: bool) -> Load:
        """Load one set, trying again where upstream or Postgres was away for a while."""
        load = Load(entity_set.name)
        failures = 0
        while True:
            before = load.rows
            try:
                async with self._service.held(f"backfill {entity_set.name}") as service:
                    if service is None:  # or was killed, and its lease runs out while this one waits
                        load = replace(load, reason="another process is loading it")
                    else:
                        walk = await _begun(service, entity_set, again=again)
                        again = False
                        if walk.finished_at:
                            return replace(load, state="already", rows=walk.rows)
                        if load.state == "waiting":
                            expected = await _expected(service, entity_set)
                            load = replace(load, state="loading", resumed=walk.rows, expected=expected)
                        load = replace(load, rows=walk.rows)
                        async for done in _pages(service, walk, entity_set, model):
                            load = replace(load, rows=done.rows)
                            self._report(load)
                        return replace(load, state="done", reason="")
            except (UpstreamFailure, StoreUnavailable, ODataError) as error:
                load = replace(load, reason=_reason(error))
                # A place in the set that upstream does not know: too old, or from another database.
                again = isinstance(error, ODataError) and not failures and 0 < load.rows == load.resumed
            failures = 1 if load.rows > before else failures + 1
            if failures == _ATTEMPTS:
                return replace(load, state="failed")
            await asyncio.sleep(_PAUSE_S * 2 ** (failures - 1))


async def _begun(service: Service, entity_set: EntitySet, *, again: bool) -> Walk:
    """The walk to go on with; a new one where there was none, or `again`."""
    walk = await service.store.walk(Stage.BACKFILL, entity_set)
    if walk is None or again:
        target = f"{service.root_path}/{entity_set.name}"
        walk = Walk(Stage.BACKFILL, entity_set.name, service.now(), None, target)
        await service.store.save_walk(walk)
    return walk


async def _expected(service: Service, entity_set: EntitySet) -> int | None:
    """How many entities there are; Dynamics 2011 does not say (field manual 3.6). Raises UpstreamFailure."""
    reply = await service.get(f"{service.root_path}/{entity_set.name}/$count")
    text = reply.body[:20].strip()
    return int(text) if reply.status == 200 and text.isdigit() else None


def _pages(service: Service, walk: Walk, entity_set: EntitySet, model: Model) -> AsyncIterator[Walk]:
    mirror = service.mirror

    def read(reply: Reply, number: int) -> Page:
        return mirror.read_page(reply, entity_set, model, number)

    async def take(page: Page, walk: Walk) -> None:
        await mirror.absorb(entity_set, page.fetched, Provenance(Source.BACKFILL), walk=walk)

    return walk_pages(service, walk, read, take)


def _reason(error: Exception) -> str:
    if isinstance(error, ODataError):
        return error.message
    return str(error) or type(error).__name__
