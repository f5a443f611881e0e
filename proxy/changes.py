"""`/changes` on the services listener: the change feed, as server-sent events or as plain pages.

    GET /changes?cursor=…&set=AccountSet&set=ContactSet&limit=500

Without a cursor a reader gets all entities first, then the feed; `cursor=now` begins with what comes next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import web

from proxy.authentication import CALLER
from proxy.odata.verbose_json import restore_origins
from proxy.reconcile.background import cancelled
from proxy.reconcile.changes import ChangeLog, CursorRefused, Event, Feed
from proxy.reconcile.ports import StoreUnavailable
from proxy.reconcile.rights import Rights

_MOST = 1000
_LOOK_EVERY_S = 0.02  # what a reader waits for at most, when it has read everything
_HEARTBEAT_S = 15.0
_BEHIND_TROUBLE_S = 1.0


class Pulse:
    """Tells all readers of this process when something was committed, by one look at Postgres for all.

    `count` rises with every snapshot that differs from the one before.
    """

    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._beat = asyncio.Event()
        self._wanted_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self.streams: set[asyncio.Task[Any]] = set()
        self.count = 0

    async def wait(self, count: int) -> None:
        """Until `count` is behind. Raises TimeoutError after the time of a heartbeat."""
        self._wanted_at = asyncio.get_running_loop().time()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        if self.count == count:
            async with asyncio.timeout(_HEARTBEAT_S):
                await self._beat.wait()

    async def stop(self, app: web.Application) -> None:
        """An `on_shutdown` signal: streams have no end of their own."""
        with suppress(ConnectionError):
            await cancelled([*self.streams, *([self._looking] if self._looking else [])])

    async def _look(self) -> None:
        """Look until nobody has waited for a while."""
        seen = ""
        while asyncio.get_running_loop().time() - self._wanted_at < 2 * _HEARTBEAT_S:
            try:
                snapshot = (await self._log.now()).since
            except StoreUnavailable:
                await asyncio.sleep(_BEHIND_TROUBLE_S)
                continue
            if snapshot != seen:
                seen = snapshot
                self.count += 1
                self._beat.set()
                self._beat = asyncio.Event()
            await asyncio.sleep(_LOOK_EVERY_S)


def changes_handler(
    feed: Feed, pulse: Pulse, show: Callable[[Rights, Event], Event], edition: Callable[[], object]
) -> Callable[[web.Request], Any]:
    """The handler of GET /changes. `show`: an event as who has these rights sees it; `edition`: of the
    callers, whose streams end with it."""

    async def changes(request: web.Request) -> web.StreamResponse:
        rights = request[CALLER]
        asked = frozenset(request.query.getall("set", ()))
        for name in asked:
            rights.require_read(name)
        entity_sets = asked or rights.readable
        streams = "text/event-stream" in request.headers.get("Accept", "")
        given = request.headers.get("Last-Event-ID") or request.query.get("cursor")
        try:
            limit = min(max(int(request.query.get("limit", 200)), 1), _MOST)
            if streams:
                stream = _stream(request, feed, pulse, show, edition, given, entity_sets)
                return await _until_left(stream, pulse)
            events, behind = await feed.read(await feed.cursor(given), entity_sets, limit)
        except (CursorRefused, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except StoreUnavailable as error:
            return web.json_response({"error": f"Postgres: {error}"}, status=503)
        origin = f"{request.scheme}://{request.host}"
        shown = [_shown(show(rights, event), origin) for event in events]
        page = {"events": shown, "cursor": behind.text()}
        return web.json_response(page, headers={"Cache-Control": "no-store"})

    return changes


async def _until_left(stream: Coroutine[Any, Any, web.StreamResponse], pulse: Pulse) -> web.StreamResponse:
    """Run a stream until its reader leaves or the process stops."""
    task = asyncio.create_task(stream)
    pulse.streams.add(task)
    try:
        return await task
    except (asyncio.CancelledError, ConnectionError):
        return web.Response()  # nobody is there to get it
    finally:
        pulse.streams.discard(task)
        task.cancel()


async def _stream(
    request: web.Request,
    feed: Feed,
    pulse: Pulse,
    show: Callable[[Rights, Event], Event],
    edition: Callable[[], object],
    given: str | None,
    entity_sets: frozenset[str] | None,
) -> web.StreamResponse:
    """Send events until the reader leaves, or has to say anew who it is.

    Raises CursorRefused, StoreUnavailable before the first.
    """
    begun = edition()
    cursor = await feed.cursor(given)
    origin = f"{request.scheme}://{request.host}"
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    # Something to read at once, so that a reader knows it is listened to.
    await response.write(f"id: {cursor.text()}\n\n".encode())
    while True:
        count = pulse.count
        try:
            events, cursor = await feed.read(cursor, entity_sets, _MOST)
            text = "".join(_sent(show(request[CALLER], event), origin) for event in events)
            if not events:
                await pulse.wait(count)
        except TimeoutError:
            text = f"id: {cursor.text()}\n\n"  # the place moves, though nothing was for this reader
        except StoreUnavailable:
            text = ": Postgres is not available\n\n"
            await asyncio.sleep(_BEHIND_TROUBLE_S)
        if edition() != begun:
            return response
        if text:
            await response.write(text.encode())


def _sent(event: Event, origin: str) -> str:
    data = json.dumps(_shown(event, origin), separators=(",", ":"))
    return f"id: {event.cursor.text()}\nevent: {event.kind}\ndata: {data}\n\n"


def _shown(event: Event, origin: str) -> dict[str, Any]:
    if event.held is not None:
        entity = _entity(event.held.document, origin)
        return {"kind": event.kind, "entity_set": event.entity_set, "key": event.key, "entity": entity}
    revision = event.revision
    if revision is None:
        return {"kind": event.kind}
    return {
        "kind": event.kind,
        "revision": revision.id,
        "entity_set": revision.entity_set,
        "key": revision.key,
        "recorded_at": revision.recorded_at.isoformat(),
        "effective_at": revision.effective_at.isoformat(),
        "source": revision.provenance.source.value,
        "deleted": revision.deleted,
        "gap": revision.gap,
        "changed": None if revision.changed is None else list(revision.changed),
        "entity": _entity(revision.document, origin),
    }


def _entity(document: str | None, origin: str) -> Any:
    return None if document is None else json.loads(restore_origins(document, origin))
