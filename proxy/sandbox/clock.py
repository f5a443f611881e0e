"""The clock of the sandbox's server: Date headers and stamps follow it, and tests move it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Runs with the system's clock until told otherwise.

    The server's clock is its own (field manual 7.2): it may be ahead, behind, or stand still, which is how
    two writes come to share one ModifiedOn.
    """

    def __init__(self, start: datetime | None = None) -> None:
        """`start`: an aware instant at which the clock starts to run; None for the system's now."""
        self._offset = timedelta(0) if start is None else start - datetime.now(UTC)
        self._frozen: datetime | None = None

    def now(self) -> datetime:
        """Aware UTC, with microseconds."""
        return self._frozen if self._frozen is not None else datetime.now(UTC) + self._offset

    def second(self) -> datetime:
        """Naive UTC in whole seconds: the resolution and form of CreatedOn and ModifiedOn (7.2)."""
        return self.now().replace(microsecond=0, tzinfo=None)

    def advance(self, seconds: float) -> None:
        if self._frozen is not None:
            self._frozen += timedelta(seconds=seconds)
        else:
            self._offset += timedelta(seconds=seconds)

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still now, or at the aware instant `at`."""
        self._frozen = at if at is not None else self.now()
