"""Faults as data: what shall go wrong, with which requests, how often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal[
    "delay",
    "hold",
    "status",
    "cut",
    "reset_before",
    "applied_no_answer",
    "html",
    "garbled",
    "stamp_not_moved",
]


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong for the next `times` requests that match.

    `method` is the one that counts (MERGE also when tunnelled through POST), `path` a part of the raw target;
    None matches all. Kinds:

    - `delay`: wait `delay_s` seconds, then go on as if nothing were wrong;
    - `hold`: set `reached`, wait for `event`, then go on;
    - `status`: answer `status` with `body` (HTML unless `headers` say otherwise) and do nothing;
    - `cut`: headers and half of the body, then the connection closes (at once where there is no body);
    - `reset_before`: the connection closes before anything is done;
    - `applied_no_answer`: the request is carried out, then the connection closes;
    - `html`: 200 with a login page, and nothing is done (an ended session, field manual 9.2);
    - `garbled`: 200 with JSON that stops in the middle, its Content-Length right (8.1);
    - `stamp_not_moved`: a write takes effect, ModifiedOn and VersionNumber stay (7.2).
    """

    kind: FaultKind
    method: str | None = None
    path: str | None = None
    times: int = 1
    status: int = 500
    body: str | bytes = "<html><head><title>Server Error</title></head><body>Server Error</body></html>"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    event: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, method: str, target: str) -> bool:
        return (
            self.times > 0
            and (self.method is None or self.method == method)
            and (self.path is None or self.path in target)
        )


class Faults:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a fault; returns it, for its `reached`."""
        if fault.kind == "hold" and fault.event is None:
            fault.event = asyncio.Event()
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def take(self, method: str, target: str) -> list[Fault]:
        """The faults of this request, in the order they were added; each has one use fewer afterwards.

        Of several that would decide the answer the first does; delays and holds come before all of them.
        """
        if not self._faults:
            return []
        taken = [fault for fault in self._faults if fault.matches(method, target)]
        waits = [fault for fault in taken if fault.kind in ("delay", "hold")]
        deeds = [fault for fault in taken if fault.kind not in ("delay", "hold")][:1]
        for fault in waits + deeds:
            fault.times -= 1
        self._faults = [fault for fault in self._faults if fault.times > 0]
        return waits + deeds
