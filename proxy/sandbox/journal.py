"""The journal: every request that reached the sandbox, in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One request in a batch; `target` as it stands there."""

    method: str
    target: str
    status: int
    applied: bool


@dataclass(slots=True)
class Entry:
    """One request and how it ended.

    `target` is the raw request target, `headers` what came (case-insensitive), `body` its bytes (the first
    mebibyte where the path is not OData). `status` is None until answered, and stays None where the
    connection was closed instead. `applied`: a write took effect, whatever was answered. `user`: who asked.
    `parts`: what a batch held, as far as it was carried out.
    """

    number: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    applied: bool = False
    parts: tuple[PartEntry, ...] = ()
    user: str = ""


class Journal(list[Entry]):
    """A list of entries that numbers them and drops the oldest beyond `limit`.

    Numbers run on after `clear()`, so they name a request for as long as the sandbox lives.
    """

    def __init__(self, limit: int = 20_000) -> None:
        super().__init__()
        self._limit = limit
        self._arrived = 0

    def arrive(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Entry:
        self._arrived += 1
        entry = Entry(self._arrived, method, target, headers, body)
        self.append(entry)
        if len(self) > self._limit:
            del self[: self._limit // 10]
        return entry
