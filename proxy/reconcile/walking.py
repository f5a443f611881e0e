"""The way through an entity set by upstream's own pages: one page ahead, and durable page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from proxy.odata.edm import EntityKey
from proxy.odata.errors import ODataError
from proxy.reconcile.ports import Reply, UpstreamFailure
from proxy.reconcile.progress import Walk
from proxy.reconcile.service import Service


class Sheet(Protocol):
    """What was read of one page. `next_link`: as upstream wrote it; None on the last page."""

    @property
    def keys(self) -> Sequence[EntityKey]: ...

    @property
    def next_link(self) -> str | None: ...


S = TypeVar("S", bound=Sheet)


async def walk_pages(
    service: Service,
    walk: Walk,
    read: Callable[[Reply, int], S],
    take: Callable[[S], Awaitable[None]],
) -> AsyncIterator[Walk]:
    """Go on from `walk.next_target` to the last page; gives the walk after each page that is done.

    `read` gets a reply and the number drawn before it was asked for, `take` stores what was read. While a
    page is stored the next one is already asked for. Killed at any moment, at most one page is taken again.
    Raises UpstreamFailure, StoreUnavailable, LeaseLost, and ODataError where an answer is no page.
    """
    asking = asyncio.create_task(_ask(service, walk.next_target or ""))
    try:
        while not walk.finished_at:
            number, reply = await asking
            if reply.status != 200:
                raise ODataError(f"Upstream answered {reply.status} {reply.reason}.")
            sheet = read(reply, number)
            target = service.target_of(sheet.next_link)
            if target is not None and target == walk.next_target:
                raise ODataError("The link to the next page leads to the same page.")
            if target is not None:
                asking = asyncio.create_task(_ask(service, target))
            await take(sheet)
            if not walk.rows:
                walk = replace(walk, upstream_started_at=reply.upstream_sent_at)
            walk = replace(
                walk,
                next_target=target,
                rows=walk.rows + len(sheet.keys),
                last_key=sheet.keys[-1] if sheet.keys else walk.last_key,
                finished_at=service.now() if target is None else None,
            )
            await service.store.save_walk(walk)
            yield walk
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError, UpstreamFailure):
            await asking


async def _ask(service: Service, target: str) -> tuple[int, Reply]:
    return await service.store.next_fetch_number(), await service.get(target)
