"""Finds deletes: compares the keys of each followed set with upstream's list, page by page, at a set pace.

Missing in a list proves nothing (rule 11): a missing key is asked for by its own URL, and only upstream's
own word that it does not exist makes a tombstone. What looks wrong stops the sweep and asks the operator.
Stamps are listed along with the keys, so what moved unseen is found too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.reconcile.following import followed_sets, why_not_swept
from proxy.reconcile.freshness import in_sync
from proxy.reconcile.mirror import next_link, read_json
from proxy.reconcile.observations import (
    SetNotFollowed,
    SetSwept,
    SweepStopped,
    UpstreamFailed,
)
from proxy.reconcile.pace import Pace
from proxy.reconcile.policy import SweepRules
from proxy.reconcile.ports import Provenance, Reply, Source, UpstreamFailure
from proxy.reconcile.progress import Finding, Stage, Walk
from proxy.reconcile.service import Service
from proxy.reconcile.stamp import Stamp
from proxy.reconcile.walking import walk_pages

_PAUSE_S = 30.0  # before it looks again whether a set is due
_FEW = 10  # so many may go missing from a small set without a question
_EVERYTHING = 2**31


@dataclass(frozen=True, slots=True)
class _Listing:
    """One page of keys and stamps; `number` was drawn before it was asked for."""

    keys: Sequence[EntityKey]
    stamps: Sequence[Stamp]
    next_link: str | None
    number: int


class _LooksWrong(Exception):
    """`args`: kind and detail of the finding."""


class Sweeper:
    """Sweeps the followed sets."""

    def __init__(self, service: Service, rules: SweepRules) -> None:
        self._service = service
        self._rules = rules
        self._told: set[str] = set()

    async def run(self, model: Callable[[], Model | None]) -> None:
        """Sweep until cancelled, whenever no other process does."""
        await self._service.repeat("sweep", self._sweep, model, _PAUSE_S)

    async def sweep(self, model: Model) -> None:
        """Sweep every followed set that is due. Raises StoreUnavailable."""
        await self._sweep(self._service, model)

    async def _sweep(self, service: Service, model: Model) -> None:
        loaded = await service.store.finished_walks(Stage.BACKFILL)
        for entity_set in followed_sets(model, service.sets, loaded):
            if reason := why_not_swept(entity_set):
                if entity_set.name not in self._told:
                    self._told.add(entity_set.name)
                    service.observe(SetNotFollowed(entity_set.name, reason))
                continue
            try:
                await self._sweep_set(service, entity_set, model, fetches_new=entity_set.name in loaded)
            except UpstreamFailure as error:
                service.observe(UpstreamFailed("sweep", type(error).__name__))
            except ODataError as error:
                service.observe(UpstreamFailed("sweep", type(error).__name__))
            except _LooksWrong as error:
                kind, detail = error.args
                await service.store.record_finding(Finding(entity_set.name, kind, detail, service.now()))
                service.observe(SweepStopped(entity_set.name, kind, detail))

    async def _sweep_set(
        self, service: Service, entity_set: EntitySet, model: Model, *, fetches_new: bool
    ) -> None:
        """Begin or go on with the set's sweep, if it is due. Raises _LooksWrong."""
        finding = await service.store.last_finding(entity_set)
        if finding is not None and finding.accepted is None:
            return
        question = finding if finding is not None and not finding.spent else None
        walk = await service.store.walk(Stage.SWEEP, entity_set)
        is_stopped = walk is not None and question is not None and question.found_at >= walk.started_at
        if walk is None or is_stopped or self._is_due(service, walk):
            walk = await self._begun(service, entity_set)
        refreshed = 0
        if not walk.finished_at:
            is_believed = question is not None and question.accepted is True
            held = await service.store.count(entity_set, at_most=_EVERYTHING)
            limit = _EVERYTHING if is_believed else max(_FEW, int(held * self._rules.missing_share))
            compare = _Comparison(service, entity_set, model, walk, held, limit, fetches_new=fetches_new)
            paced = Pace(service.upstream, in_flight=1, per_second=self._rules.pages_per_s, now=service.now)
            async for done in walk_pages(replace(service, upstream=paced), walk, compare.read, compare.take):
                walk = done
            refreshed = compare.refreshed
        elif not await service.store.missing(entity_set):
            return
        deleted = await _settle_missing(service, entity_set, model)
        await service.store.save_swept(entity_set, walk.started_at)
        await service.store.spend_finding(entity_set)
        service.observe(SetSwept(entity_set.name, walk.rows, deleted, refreshed))

    def _is_due(self, service: Service, walk: Walk) -> bool:
        age = service.now() - walk.started_at
        return walk.finished_at is not None and age >= timedelta(seconds=self._rules.every_s)

    async def _begun(self, service: Service, entity_set: EntitySet) -> Walk:
        await service.store.index_keys(entity_set)
        await service.store.forget_missing(entity_set)
        names = ",".join(service.mirror.stamp_names(entity_set))
        (key,) = entity_set.entity_type.key
        target = f"{service.root_path}/{entity_set.name}?$select={names}&$orderby={key}"
        walk = Walk(Stage.SWEEP, entity_set.name, service.now(), None, target)
        await service.store.save_walk(walk)
        return walk


class _Comparison:
    """Compares the pages of one sweep with the mirror. `limit`: so many may be missing, and no more.

    `fetches_new`: entities that the mirror lacks belong in it, because the set was loaded.
    """

    def __init__(
        self,
        service: Service,
        entity_set: EntitySet,
        model: Model,
        walk: Walk,
        held: int,
        limit: int,
        *,
        fetches_new: bool,
    ) -> None:
        self._service = service
        self._set = entity_set
        self._model = model
        self._after = walk.last_key
        self._is_first = walk.last_key is None
        self._held = held
        self._limit = limit
        self._fetches_new = fetches_new
        self.refreshed = 0

    def read(self, reply: Reply, number: int) -> _Listing:
        text, sliced = read_json(reply)
        if sliced.kind != "collection":
            raise ODataError("The sweep shows no collection.")
        mirror = self._service.mirror
        return _Listing(
            [mirror.key_of(raw, self._set) for raw in sliced.values],
            [mirror.stamp_of(raw, self._set) for raw in sliced.values],
            next_link(text, sliced),
            number,
        )

    async def take(self, page: _Listing, walk: Walk) -> None:
        """Note what is missing from the page, and fetch what moved. Raises _LooksWrong."""
        store, is_last = self._service.store, page.next_link is None
        if self._is_first and is_last and not page.keys and self._held and self._limit < _EVERYTHING:
            raise _LooksWrong("empty", f"upstream lists nothing, the mirror holds {self._held}")
        known = len(await store.missing(self._set))
        upto = None if is_last else page.keys[-1] if page.keys else self._after
        absent = await store.absent_keys(
            self._set, self._after, upto, page.keys, page.number, self._limit - known + 1
        )
        if known + len(absent) > self._limit:
            detail = f"more than {self._limit} of {self._held} are not in upstream's list"
            raise _LooksWrong("many missing", detail)
        if absent:
            await store.note_missing(self._set, absent)
        if page.keys:
            self._after = page.keys[-1]
        self._is_first = False
        await self._refresh_moved(page)
        await store.save_walk(walk)

    async def _refresh_moved(self, page: _Listing) -> None:
        held = await self._service.store.get(self._set, page.keys)
        moved = [
            key
            for key, stamp in zip(page.keys, page.stamps, strict=True)
            if (key in held or self._fetches_new) and not in_sync(held.get(key), stamp)
        ]
        await self._service.refresh(self._set, moved, self._model, Source.SWEEP)
        self.refreshed += len(moved)


async def _settle_missing(service: Service, entity_set: EntitySet, model: Model) -> int:
    """Ask for each missing entity by its own URL; how many are gone."""
    deleted = 0
    for key in await service.store.missing(entity_set):
        look = await service.look(entity_set, key, model)
        if service.is_gone(look):
            deleted += await service.store.bury(entity_set, key, look.number, Provenance(Source.SWEEP))
        elif look.fetched is not None:
            await service.mirror.absorb(entity_set, [look.fetched], Provenance(Source.SWEEP))
        await service.store.forget_missing(entity_set, [key])
    return deleted
