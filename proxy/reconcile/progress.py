"""What background work keeps in the store: leases, and how far it has come.

Ports and the values that cross them, as in `ports`, for the drivers that no client waits for. Instants are
aware UTC unless they are upstream's (naive UTC, as Edm.DateTime is).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.authority import AuthorityStore
from proxy.reconcile.ports import Fetched, Provenance, PutResult, Store
from proxy.reconcile.readiness import EvidenceStore


class LeaseLost(Exception):
    """The lease ran out or is another's by now: nothing was written under it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do alone what `name` says, until it expires. `fence` rises with every holder."""

    name: str
    fence: int


class Stage(enum.Enum):
    """Why an entity set is walked through, page by page."""

    BACKFILL = "backfill"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Walk:
    """A way through an entity set by upstream's own pages, as far as it has come.

    `started_at`: when the first page was sent for; `upstream_started_at`: upstream's clock then, at the
    earliest. `next_target`: of the page to ask for next, None once it is through (`finished_at`). `rows`:
    entities that the pages have shown, `last_key` the last of them.
    """

    stage: Stage
    entity_set: str
    started_at: datetime
    upstream_started_at: datetime | None
    next_target: str | None
    rows: int = 0
    last_key: EntityKey | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Following:
    """How far the changes of an entity set have been followed.

    `watermark`: on upstream's clock; every change stamped earlier has been seen. `since`: what was fetched
    from then on has been followed without a gap. `polled_at`: when the last whole poll began.
    `looked_back_at`: when one last looked further back than the overlap. `swept_at`: when the last whole
    sweep for deletes began.
    """

    watermark: datetime
    since: datetime
    polled_at: datetime
    looked_back_at: datetime
    swept_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A result that nobody believes before the operator has: the set's deletes wait for the answer.

    `kind`: "empty" or "many missing". `accepted`: the operator's answer, None while there is none.
    `spent`: a sweep has gone by it.
    """

    entity_set: str
    kind: str
    detail: str
    found_at: datetime
    accepted: bool | None = None
    spent: bool = False


class LifecycleStore(Store, AuthorityStore, EvidenceStore, Protocol):
    """The mirror, with what background work remembers. Every method raises StoreUnavailable."""

    async def put(
        self,
        entity_set: EntitySet,
        fetched: Sequence[Fetched],
        provenance: Provenance,
        walk: Walk | None = None,
    ) -> PutResult:
        """As `Store.put`; the same transaction saves the `walk` whose page showed them."""

    @property
    def holder(self) -> str:
        """This process, as leases and intents name it."""

    async def acquire_lease(self, name: str, lifetime_s: float) -> Lease | None:
        """Take a lease that nobody holds, or whose holder let it run out. None: it is held."""

    async def renew_lease(self, lease: Lease, lifetime_s: float) -> bool:
        """False: it ran out, or is another's."""

    async def release_lease(self, lease: Lease) -> None:
        """Let others have it now."""

    def under(self, lease: Lease) -> LifecycleStore:
        """The same store, whose every transaction holds the lease while it commits, or raises LeaseLost."""

    async def walk(self, stage: Stage, entity_set: EntitySet) -> Walk | None: ...

    async def save_walk(self, walk: Walk) -> None:
        """Put it in the place of the one before."""

    async def finished_walks(self, stage: Stage) -> frozenset[str]:
        """The entity sets that have been walked through."""

    async def following(self, entity_set: EntitySet) -> Following | None: ...

    async def save_following(self, entity_set: EntitySet, following: Following) -> None:
        """Put it in the place of what was known; `swept_at` stays."""

    async def make_stale(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """These are to be fetched rather than checked next time."""

    async def index_doubtful(self, entity_set: EntitySet) -> None:
        """Make `has_doubtful` fast, however many entities there are."""

    async def has_doubtful(self, entity_set: EntitySet, looked_at: datetime) -> bool:
        """True while there are rows that a look at all changes, begun at `looked_at`, does not vouch for:
        named by an open intent; or stored before, and in conflict, not settled, without a ModifiedOn to look
        by, or of a document of another shape than the metadata document says."""

    async def unsettled_since(self, entity_set: EntitySet, number: int) -> Sequence[EntityKey]:
        """Entities that a fetch or a write above this number left to be fetched again."""

    async def index_keys(self, entity_set: EntitySet) -> None:
        """Make `absent_keys` fast, however many entities there are."""

    async def absent_keys(
        self,
        entity_set: EntitySet,
        after: EntityKey | None,
        upto: EntityKey | None,
        shown: Sequence[EntityKey],
        before_number: int,
        limit: int,
    ) -> Sequence[EntityKey]:
        """Entities held of the keys behind `after` up to `upto` (None: no bound), in the order of
        upstream, that are not `shown`, were stored by an earlier fetch than `before_number`, and that no
        write is under way on; at most `limit`."""

    async def note_missing(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """A sweep did not find them where they should be."""

    async def missing(self, entity_set: EntitySet) -> Sequence[EntityKey]: ...

    async def forget_missing(self, entity_set: EntitySet, keys: Sequence[EntityKey] | None = None) -> None:
        """What became of them is known; None: of all."""

    async def save_swept(self, entity_set: EntitySet, swept_at: datetime) -> None:
        """Deletes before this moment are known."""

    async def record_finding(self, finding: Finding) -> None:
        """Ask the operator, unless something about the set is asked already."""

    async def spend_finding(self, entity_set: EntitySet) -> None:
        """A sweep went by the operator's last answer: the next one asks again."""

    async def last_finding(self, entity_set: EntitySet) -> Finding | None: ...
