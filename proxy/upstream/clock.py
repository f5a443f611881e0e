"""What upstream's clock may show, learned from the Date headers of its answers."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from proxy.reconcile.ports import Reply

WINDOW = timedelta(minutes=10)


class UpstreamClock:
    """The earliest time that upstream's clock can have shown (sync contract, rule 3).

    A Date header is upstream's clock, cut to the second, at some moment before the answer was here. So
    Date minus `Reply.received_at` can never be more than the clock's offset from ours: each answer is a
    lower bound of it, too low by at most one second and the time the answer took.

    Upstream may be several servers behind a balancer, and the next ModifiedOn may come from any of them.
    So what counts is the least bound among all answers of `window`, not the best or the last one. The
    window is one of time and not of answers, because a burst of hundreds of answers from one server must
    not push out the others; it ends because one slow answer makes the bound too low by its own length,
    and because clocks get set right. Too low a bound only costs fetches: states count as unsettled for
    longer. The newest answer is kept however old it is.

    Pure: all instants are given, aware UTC.
    """

    def __init__(self, window: timedelta = WINDOW) -> None:
        self._window = window
        # Rising in both members: an answer is dropped as soon as a later one has a bound as low.
        self._bounds: deque[tuple[datetime, timedelta]] = deque()

    def observe(self, reply: Reply) -> None:
        """Learn from an answer. One without a Date that can be read says nothing."""
        shown = _parse_date(reply.headers.get("Date", ""))
        if shown is None:
            return
        bound = shown - reply.received_at
        while self._bounds and self._bounds[-1][1] >= bound:
            self._bounds.pop()
        self._bounds.append((reply.received_at, bound))
        while len(self._bounds) > 1 and self._bounds[0][0] < reply.received_at - self._window:
            self._bounds.popleft()

    def earliest(self, at: datetime) -> datetime | None:
        """The earliest time upstream's clock can have shown at our instant `at`; None before any Date."""
        return at + self._bounds[0][1] if self._bounds else None


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # RFC 9110, 5.6.7: HTTP dates are in GMT, whatever else they say; "-0000" parses as naive.
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
