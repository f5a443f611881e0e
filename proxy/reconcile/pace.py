"""Upstream for work that no client waits for: few requests at once, at a set rate, and patient.

429 and 503 say that upstream has enough (RFC 6585, 4; RFC 9110, 15.6.4): everything here rests until the
`Retry-After` they name, and then the request is sent again. Only reads go this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.reconcile.ports import Reply, Request, Upstream

_ATTEMPTS = 6
_REST_S = 5.0  # where upstream does not say for how long; doubled each time
_LONGEST_REST_S = 600.0


class Pace:
    """An `Upstream` that sends no more than `in_flight` requests at once and `per_second` in a second."""

    def __init__(
        self, upstream: Upstream, *, in_flight: int, per_second: float, now: Callable[[], datetime]
    ) -> None:
        self._upstream = upstream
        self._places = asyncio.Semaphore(in_flight)
        self._interval_s = 1 / per_second
        self._now = now
        self._next_at = 0.0

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        """The answer; the last one where upstream goes on refusing. Raises UpstreamFailure."""
        for attempt in range(_ATTEMPTS):
            async with self._places:
                await self._turn()
                reply = await self._upstream.send(request)
            rest_s = rest_asked(reply, self._now())
            if rest_s is None:
                break
            rest_s = min(_REST_S * 2**attempt if rest_s < 0 else rest_s, _LONGEST_REST_S)
            self._next_at = max(self._next_at, asyncio.get_running_loop().time() + rest_s)
        return reply

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        while (wait_s := self._next_at - clock()) > 0:  # noqa: ASYNC110 (others may move it meanwhile)
            await asyncio.sleep(wait_s)
        self._next_at = max(self._next_at, clock()) + self._interval_s


def rest_asked(reply: Reply, now: datetime) -> float | None:
    """Seconds that upstream wants to be left alone; None: it does not, negative: it does not say how long."""
    if reply.status not in (429, 503):
        return None
    text = reply.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return -1.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
