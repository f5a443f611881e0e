"""The way through an entity set by upstream's own pages, durable page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from proxy.odata.edm import EntityKey
from proxy.odata.errors import ODataError
from proxy.reconcile.ports import Reply
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
    take: Callable[[S, Walk], Awaitable[None]],
) -> AsyncIterator[Walk]:
    """Go on from `walk.next_target` to the last page; gives the walk after each page that is done.

    `read` gets a reply and the number drawn before it was asked for; `take` stores what was read, and no
    earlier the walk as it is after that page. No page is asked for before that is durable: a walk that was
    killed at any moment repeats at most one. Raises UpstreamFailure, StoreUnavailable, LeaseLost, and
    ODataError where an answer is no page.
    """
    while walk.next_target is not None:
        number = await service.store.next_fetch_number()
        reply = await service.get(walk.next_target)
        if reply.status != 200:
            raise ODataError(f"Upstream answered {reply.status} {reply.reason}.")
        sheet = read(reply, number)
        target = service.target_of(sheet.next_link)
        if target == walk.next_target:
            raise ODataError("The link to the next page leads to the same page.")
        walk = replace(
            walk,
            upstream_started_at=walk.upstream_started_at if walk.rows else reply.upstream_sent_at,
            next_target=target,
            rows=walk.rows + len(sheet.keys),
            last_key=sheet.keys[-1] if sheet.keys else walk.last_key,
            finished_at=service.now() if target is None else None,
        )
        await take(sheet, walk)
        yield walk
