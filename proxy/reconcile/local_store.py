"""What writes of the mirror's own need from the store: one transaction, and the log of what was written.

A write of a client to a set whose authority is the mirror is one row of `syncpoint.local_writes`, and one
more for each entity that came nested in it, committed with the states that it made. `cutover --back` sends
these rows to upstream again, in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.ports import Answers, Fetched, Provenance, StoreUnavailable

T = TypeVar("T")


class CommitUncertain(StoreUnavailable):
    """Postgres broke off in the very commit: what was written may be there."""


@dataclass(frozen=True, slots=True)
class LocalWrite:
    """One write of a client.

    `entity_set`, `key`: what it wrote, that of a create included; of links, their source. `operation`: the
    name of the class in `odata.operation`. `method`: after tunnelling. `path`: raw, below the service root,
    with keys in the place of a changeset's references. `body`: as it would go to upstream, `content_type` its
    type; `posted`: its properties, as verbose JSON, "" where it has none. `changeset`: the same for all
    writes of one.
    """

    entity_set: str
    key: EntityKey
    operation: str
    method: str
    path: str
    body: bytes
    content_type: str
    posted: str
    provenance: Provenance
    changeset: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedWrite:
    """A row of the log. `id`: rises; of two writes to one entity the later has the higher one."""

    id: int
    write: LocalWrite
    made_at: datetime


class NamedAnswers(Answers, Protocol):
    """What the mirror answers by itself from, and whether names in it may be old ones."""

    async def last_rename(self) -> int:
        """The fetch number of the last rename; 0 while there was none. What a higher one wrote is right."""


class LocalTransaction(NamedAnswers, Protocol):
    """One transaction. What it reads of entities is what others have committed, and its own states."""

    async def lock(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """Nobody else changes these entities, or makes them, before the transaction ends."""

    async def keep(self, entity_set: EntitySet, key: EntityKey) -> None:
        """Nobody deletes the entity, if it is there, before the transaction ends; others may keep it too."""

    async def next_fetch_number(self) -> int: ...

    async def next_version(self, held: int | None, *, creating: bool) -> int | None:
        """What VersionNumber shows of an entity that showed `held`: null stays null, else more than every
        entity of the mirror has shown. Of one that is made: null where upstream never filled it."""

    async def put_local(
        self, entity_set: EntitySet, state: Fetched, provenance: Provenance, operation: str | None
    ) -> None:
        """Store a state, or where it has no document a tombstone, and record its revision. `operation`: of
        what a client wrote; None for what follows from it, of which nothing is recorded without a change."""

    async def log(self, write: LocalWrite) -> None: ...


class LocalStore(NamedAnswers, Protocol):
    """Every method raises StoreUnavailable."""

    async def locally(self, epochs: Mapping[str, int], work: Callable[[LocalTransaction], Awaitable[T]]) -> T:
        """Run `work` with a LocalTransaction, whose changes are committed if it returns. It may be run again.

        Raises AuthorityMoved where these are not the sets' epochs any more, and CommitUncertain.
        """

    async def local_writes(self, after: int, limit: int) -> Sequence[LoggedWrite]:
        """The log from behind an id, by id."""
