"""The mirror's own writes on their way to upstream, as values, and where they are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pending:
    """A write of the mirror's own that upstream has not got.

    `key`: of what it wrote or made, as a key predicate. `method`, `path` (raw, below the service root),
    `body`: as upstream takes them, but for the key of what is made; `posted`: its properties as JSON.
    `sent_at`: it was sent, and nobody knows how it ended.
    """

    id: int
    entity_set: str
    key: str
    operation: str
    method: str
    path: str
    body: bytes
    content_type: str
    posted: str
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ended:
    """What upstream said. `refusal`: its words, None where it took the write."""

    status: int | None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A write that upstream refused."""

    id: int
    operation: str
    entity_set: str
    key: str
    status: int | None
    message: str


class ReplayStore(Protocol):
    """Every method raises StoreUnavailable."""

    async def pending(self, entity_sets: Collection[str], limit: int) -> Sequence[Pending]:
        """The mirror's own writes that upstream has not got, or may not have, in their order."""

    async def backlog(self, entity_sets: Collection[str]) -> int:
        """How many these are."""

    async def note_sent(self, write: Pending, at: datetime) -> None:
        """It is about to be sent."""

    async def note_not_sent(self, write: Pending) -> None:
        """It was not, for certain."""

    async def note_ended(self, write: Pending, ended: Ended) -> None:
        """What became of it is known."""

    async def replayed(self, entity_sets: Collection[str]) -> Sequence[tuple[str, str, bool]]:
        """Entities that were written, with what upstream made of them not taken over yet: set, key, and
        whether one of their writes was refused."""

    async def note_taken_over(self, entity_sets: Collection[str]) -> None:
        """Upstream is the authority: what was replayed until now is done with."""

    async def refused(self, entity_sets: Collection[str]) -> Sequence[Replayed]:
        """What upstream refused on this way back."""

    async def forget_verifications(self, entity_sets: Collection[str]) -> None:
        """What was compared before says nothing any more."""
