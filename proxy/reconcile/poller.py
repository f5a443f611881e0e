"""Follows upstream's changes: asks each set for the stamps that moved since its watermark.

The watermark is upstream's own clock when the last poll was sent, so an idle set answers with nothing, in one
request. Each poll looks back behind it by an overlap, because writes commit late, and once a day further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.reconcile.following import followed_sets, why_not_polled
from proxy.reconcile.freshness import in_sync
from proxy.reconcile.mirror import next_link, read_json
from proxy.reconcile.observations import (
    SetNotFollowed,
    SetPolled,
    StoreFailed,
    UpstreamClockWentBack,
    UpstreamFailed,
)
from proxy.reconcile.policy import Mode, PollRules
from proxy.reconcile.ports import Reply, Source, StoreUnavailable, UpstreamFailure
from proxy.reconcile.progress import Following, Stage
from proxy.reconcile.service import LEASE_S, Service
from proxy.reconcile.stamp import Stamp


@dataclass(frozen=True, slots=True)
class _Stamps:
    """One page of a poll."""

    keys: list[EntityKey]
    stamps: list[Stamp]
    next_link: str | None


class Poller:
    """Polls the followed sets."""

    def __init__(self, service: Service, rules: PollRules) -> None:
        self._service = service
        self._rules = rules
        self._told: set[str] = set()
        self._prepared: set[str] = set()

    async def run(self, model: Callable[[], Model | None]) -> None:
        """Poll until cancelled, whenever no other process does."""
        every_s = self._rules.every_s
        await self._service.repeat("poll", self._poll, model, every_s, min(LEASE_S, every_s))

    async def poll(self, model: Model) -> None:
        """Poll every followed set once. Raises StoreUnavailable."""
        await self._poll(self._service, model)

    async def _poll(self, service: Service, model: Model) -> None:
        loaded = await service.store.finished_walks(Stage.BACKFILL)
        sets = [
            entity_set
            for entity_set in followed_sets(model, service.sets, loaded)
            if self._is_polled(entity_set)
        ]
        await asyncio.gather(*(self._poll_quietly(service, entity_set, model) for entity_set in sets))

    def _is_polled(self, entity_set: EntitySet) -> bool:
        reason = why_not_polled(entity_set, self._service.rules)
        if reason is not None and entity_set.name not in self._told:
            self._told.add(entity_set.name)
            self._service.observe(SetNotFollowed(entity_set.name, reason))
        return reason is None

    async def _prepare(self, service: Service, entity_set: EntitySet) -> None:
        """What pages by age are asked of the mirror for is to be found quickly."""
        if service.sets.policy(entity_set).mode is Mode.BOUNDED and entity_set.name not in self._prepared:
            await service.store.index_doubtful(entity_set)
            self._prepared.add(entity_set.name)

    async def _poll_quietly(self, service: Service, entity_set: EntitySet, model: Model) -> None:
        """What fails now is asked for from the same watermark next time."""
        try:
            await self._prepare(service, entity_set)
            await self._poll_set(service, entity_set, model)
        except UpstreamFailure as error:
            service.observe(UpstreamFailed("poll", type(error).__name__))
        except ODataError as error:
            service.observe(UpstreamFailed("poll", type(error).__name__))
        except StoreUnavailable as error:
            service.observe(StoreFailed("poll", str(error)))

    async def _poll_set(self, service: Service, entity_set: EntitySet, model: Model) -> None:
        before = await service.store.following(entity_set)
        following = before or await self._beginning(service, entity_set)
        now = service.now()
        looks_back = now - following.looked_back_at >= timedelta(seconds=self._rules.look_back_s)
        back = self._rules.overlap_s + (self._rules.look_back_s if looks_back else 0.0)
        target = self._target(service, entity_set, _earlier(following.watermark, back))
        reply = await _answer(service, target)
        clock = _clock(reply)
        went_back = _seconds_back(before, clock, self._rules.overlap_s)
        if went_back:
            service.observe(UpstreamClockWentBack(entity_set.name, went_back))
            gone_by = (now - following.polled_at).total_seconds()
            target = self._target(service, entity_set, _earlier(clock, gone_by + back))
        ends = replace(
            following,
            watermark=clock,
            since=following.since if before or following.since < reply.sent_at else reply.sent_at,
            polled_at=reply.sent_at,
            looked_back_at=now if looks_back else following.looked_back_at,
        )
        seen = refreshed = 0
        page: str | None = target
        answered: Reply | None = None if went_back else reply
        while page is not None:
            stamps = self._read(service, entity_set, answered or await _answer(service, page))
            answered = None
            moved = await self._moved(service, entity_set, stamps)
            await service.refresh(entity_set, moved, model, Source.POLL)
            seen, refreshed = seen + len(stamps.keys), refreshed + len(moved)
            page = service.target_of(stamps.next_link)
            if page is not None and not went_back:
                reached = min(stamps.stamps[-1].modified_on or following.watermark, clock)
                following = replace(following, watermark=max(following.watermark, reached))
                await service.store.save_following(entity_set, following)
        await service.store.save_following(entity_set, ends)
        service.observe(SetPolled(entity_set.name, seen, refreshed))

    async def catch_up(self, service: Service, entity_set: EntitySet, model: Model, since: datetime) -> int:
        """Take in what changed since, by upstream's clock and `overlap_s` earlier: so many entities.

        Raises StoreUnavailable, UpstreamFailure, ODataError.
        """
        refreshed = 0
        back = _earlier(since.replace(tzinfo=None), self._rules.overlap_s)
        target: str | None = self._target(service, entity_set, back)
        while target is not None:
            stamps = self._read(service, entity_set, await _answer(service, target))
            moved = await self._moved(service, entity_set, stamps)
            await service.refresh(entity_set, moved, model, Source.POLL)
            refreshed += len(moved)
            target = service.target_of(stamps.next_link)
        return refreshed

    async def _beginning(self, service: Service, entity_set: EntitySet) -> Following:
        """A set that was loaded is followed from the load's first page on, any other from now."""
        walk = await service.store.walk(Stage.BACKFILL, entity_set)
        at = service.now()
        watermark = at
        if walk is not None and walk.finished_at and walk.upstream_started_at:
            at, watermark = walk.started_at, walk.upstream_started_at
        return Following(watermark.replace(tzinfo=None), at, at, service.now())

    def _target(self, service: Service, entity_set: EntitySet, since: datetime) -> str:
        """The stamps that moved since, in the order in which they did."""
        modified, keys = service.rules.modified_property, entity_set.entity_type.key
        names = ",".join(service.mirror.stamp_names(entity_set))
        literal = PRIMITIVES["Edm.DateTime"].to_literal(since.replace(microsecond=0))
        return (
            f"{service.root_path}/{entity_set.name}?$select={names}"
            f"&$filter={modified}%20ge%20{literal}&$orderby={','.join((modified, *keys))}"
        )

    def _read(self, service: Service, entity_set: EntitySet, reply: Reply) -> _Stamps:
        text, sliced = read_json(reply)
        if sliced.kind != "collection":
            raise ODataError("The poll shows no collection.")
        mirror = service.mirror
        return _Stamps(
            [mirror.key_of(raw, entity_set) for raw in sliced.values],
            [mirror.stamp_of(raw, entity_set) for raw in sliced.values],
            next_link(text, sliced),
        )

    async def _moved(self, service: Service, entity_set: EntitySet, stamps: _Stamps) -> list[EntityKey]:
        held = await service.store.get(entity_set, stamps.keys)
        pairs = zip(stamps.keys, stamps.stamps, strict=True)
        return list(dict.fromkeys(key for key, stamp in pairs if not in_sync(held.get(key), stamp)))


async def _answer(service: Service, target: str) -> Reply:
    reply = await service.get(target)
    if reply.status != 200:
        raise ODataError(f"Upstream answered {reply.status} {reply.reason}.")
    return reply


def _clock(reply: Reply) -> datetime:
    """Upstream's clock at the earliest when the request was sent; ours where it never tells the time."""
    return (reply.upstream_sent_at or reply.sent_at).replace(tzinfo=None)


def _seconds_back(before: Following | None, clock: datetime, overlap_s: float) -> float:
    """How far upstream's clock went back, where that is further than any poll looks; else 0."""
    behind = 0.0 if before is None else (before.watermark - clock).total_seconds()
    return behind if behind > overlap_s else 0.0


def _earlier(instant: datetime, seconds: float) -> datetime:
    try:
        return instant - timedelta(seconds=seconds)
    except OverflowError:
        return datetime.min
