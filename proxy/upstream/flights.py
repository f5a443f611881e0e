"""Shared checks: equal requests that wait for a connection together are answered by one exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from proxy.reconcile.ports import Request

Answer = TypeVar("Answer")

_Send = Callable[[Request, Callable[[], None]], Coroutine[Any, Any, Answer]]
_Key = tuple[str, str, tuple[tuple[str, str], ...], object]


class Flights(Generic[Answer]):
    """The shared exchanges that have not left yet.

    An exchange takes joiners until its bytes leave (sync contract, rule 1): what it answers was then
    true after each of them asked. Only requests that are equal in method, target, connection and every
    header, credentials included, share one, because upstream may answer each caller differently (rule 8).

    `exchange` sends a request and calls its second argument when the bytes are about to leave.
    """

    def __init__(self, exchange: _Send[Answer]) -> None:
        self._exchange = exchange
        self._waiting: dict[_Key, _Flight[Answer]] = {}

    async def join(self, request: Request) -> tuple[Answer, bool]:
        """The answer, and whether the exchange had been begun for another request.

        One that is cancelled leaves the exchange to the others; the last one ends it. Raises what the
        exchange raises.
        """
        key = (request.method, request.target, tuple(request.headers.items()), request.connection)
        flight = self._waiting.get(key)
        is_shared = flight is not None
        if flight is None:
            flight = self._waiting[key] = _Flight()
            flight.task = asyncio.create_task(self._exchange(request, lambda: self._depart(key, flight)))
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.passengers += 1
        try:
            return await asyncio.shield(flight.task), is_shared
        finally:
            flight.passengers -= 1
            if not flight.passengers:
                self._depart(key, flight)
                flight.task.cancel()

    def _depart(self, key: _Key, flight: _Flight[Answer]) -> None:
        """Nobody joins this flight any more."""
        if self._waiting.get(key) is flight:
            del self._waiting[key]

    def _land(self, key: _Key, flight: _Flight[Answer]) -> None:
        self._depart(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen by whoever still waits; nobody else needs to hear of it


class _Flight(Generic[Answer]):
    __slots__ = ("passengers", "task")

    task: asyncio.Task[Answer]

    def __init__(self) -> None:
        self.passengers = 0
