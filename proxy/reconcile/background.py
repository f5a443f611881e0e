"""Tasks that outlive the request that began them, so that none is lost or forgotten at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from proxy.reconcile.observations import Observe, TaskFailed

T = TypeVar("T")
_CANCEL_AGAIN_S = 0.1


class Background:
    """Holds running tasks until they end. `drain` waits for all, also for those begun meanwhile; `stop` only
    for what a request awaits."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spawned: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` beside the request; an error nobody expected is observed, not raised."""
        task = self._hold(asyncio.create_task(work, name=name))
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        task.add_done_callback(self._report)

    async def finish(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, and let it run to its end even if the awaiting request is cancelled."""
        return await asyncio.shield(self._hold(asyncio.create_task(work, name=name)))

    async def drain(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Let what requests began run to its end, and cancel what was spawned, again as `cancelled` does."""
        while self._tasks:
            for task in self._spawned:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_AGAIN_S)

    def _hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observe(TaskFailed(task.get_name(), error))


async def cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended. Raises what one of them raised instead.

    Cancelled again where it was not heeded: before Python 3.12 `asyncio.wait_for`, which the Postgres driver
    waits with, drops a cancellation that meets its result.
    """
    running: Collection[asyncio.Task[Any]] = tasks
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.result()
