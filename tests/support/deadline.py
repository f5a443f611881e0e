"""A time that nothing comes near to but what does not end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ends_within(seconds: float = 60.0) -> Iterator[None]:
    """Fail where the body has not ended by then. Interrupts regular expressions as well as Python."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"not ended after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
