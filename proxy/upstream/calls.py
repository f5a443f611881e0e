"""What answering one client took of upstream: a list that the request's own log line shows."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One request to upstream, as far as it may be logged.

    `path`: the target without its query, because filters hold personal data. `status` is None where no
    answer came, `error` then names the failure's class; both are set where a body did not come whole.
    `bytes`: of the body as it crossed the wire. `shared`: answered by an exchange that another request
    had begun, so that upstream saw one request for all of them.
    """

    method: str
    path: str
    status: int | None
    error: str | None
    elapsed_ms: float
    bytes: int
    shared: bool = False


upstream_calls: ContextVar[list[UpstreamCall] | None] = ContextVar("upstream_calls", default=None)
"""Set to an empty list where a client's request begins; nothing is recorded where it is None."""


def record(call: UpstreamCall) -> None:
    calls = upstream_calls.get()
    if calls is not None:
        calls.append(call)
