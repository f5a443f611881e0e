"""Requests to the proxy, interleaved step by step in an order that a seed decides.

Every step of the proxy's that another can come between, a statement to Postgres or an exchange with
upstream, waits at a gate before it begins and again after it has ended. One gate at a time is opened, once
every request stands at one; so none may wait for another between two gates, as while a table is made.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from proxy.store.engine import Engine
from proxy.upstream.client import UpstreamClient

_RANKED_ANEW = 0.1
_STEPS = [(Engine, "fetch"), (Engine, "transaction"), (UpstreamClient, "send")]


class Gates:
    """While `run` runs, one request at a time takes a step, and `before_step` is called before each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before_step: Callable[[], None]) -> None:
        self._before_step = before_step
        self._random = random.Random()
        self._waiting: dict[asyncio.Task[Any], asyncio.Future[None]] = {}
        self._ranks: WeakKeyDictionary[asyncio.Task[Any], float] = WeakKeyDictionary()
        self._changed = asyncio.Event()
        self._running = False
        for owner, name in _STEPS:
            monkeypatch.setattr(owner, name, self._gated(getattr(owner, name)))

    async def run(self, seed: int, *requests: Coroutine[Any, Any, Any]) -> list[Any]:
        """What the requests give, after all of them have ended."""
        self._random.seed(seed)
        self._running = True
        tasks = [asyncio.create_task(request) for request in requests]
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        try:
            async with asyncio.timeout(60):
                while pending := sum(not task.done() for task in tasks):
                    if len(self._waiting) < pending:
                        self._changed.clear()
                        await self._changed.wait()
                        continue
                    # Work in the background waits too, so there may be more at gates than requests.
                    self._before_step()
                    self._open_one()
                    await asyncio.sleep(0)
        finally:
            self._running = False
            while self._waiting:
                self._open_one()
        return [task.result() for task in tasks]

    def _open_one(self) -> None:
        """Ranks, now and then drawn anew, let one be overtaken by all that another does (PCT scheduling)."""
        chosen = min(self._waiting, key=lambda task: self._ranks[task])
        if self._random.random() < _RANKED_ANEW:
            self._ranks[chosen] = self._random.random()
        self._waiting.pop(chosen).set_result(None)

    def _gated(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def gated(*arguments: Any, **options: Any) -> Any:
            await self._pass()
            try:
                return await step(*arguments, **options)
            finally:
                await self._pass()

        return gated

    async def _pass(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        # Requests may wait for the table of authorities, so nobody keeps that one waiting.
        if self._running and task.get_name() != "authorities":
            self._ranks.setdefault(task, self._random.random())
            gate = self._waiting[task] = asyncio.get_running_loop().create_future()
            self._changed.set()
            await gate
