"""What the sync rules need from the world: two ports, and the values that cross them.

`Store` is implemented by `proxy.store`, `Upstream` by `proxy.upstream`; neither knows the other, and
the drivers in this package know neither. All instants are aware UTC, all durations seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata.bound import BoundExpression, BoundOrder
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.relationships import Relationship
from proxy.reconcile.stamp import Stamp


class StoreUnavailable(Exception):
    """Postgres did not do what was asked: down, too slow, out of connections, or a failed statement."""


class AuthorityMoved(Exception):
    """Other epochs hold than the write has seen: nothing of it was committed, and it begins again."""


class UpstreamFailure(Exception):
    """Upstream gave no usable HTTP answer. `sent` says whether a byte of the request may have left."""

    sent = False


class UpstreamUnreachable(UpstreamFailure):
    """No connection: nothing was sent."""


class UpstreamLoginFailed(UpstreamFailure):
    """The proxy's own login to upstream failed, or ended: nothing was carried out. The text is no secret."""


class UpstreamTimeout(UpstreamFailure):
    """No complete answer in time."""

    sent = True


class UpstreamBroken(UpstreamFailure):
    """The connection broke, or the answer was no HTTP, after the request may have left."""

    sent = True


class UpstreamTooLong(UpstreamBroken):
    """The answer to a GET is longer than may be held."""


class UpstreamCut(UpstreamFailure):
    """A status and headers came, the body did not come whole. `reply` holds what came."""

    sent = True

    def __init__(self, message: str, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Request:
    """A request to upstream, ready for the wire.

    `target` is the raw request target (path and query, percent-encoding as the client sent it);
    `headers` end-to-end ones only, without Host. `connection`: what `Upstream` gave for a client's
    connection that logs in as a whole, the request leaves on that one alone; None: on any.
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str] | CIMultiDict[str]
    body: bytes = b""
    connection: object | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Upstream's whole answer.

    `body` is decoded from any Content-Encoding, which `headers` still names as upstream sent it; `is_coded`
    where that could not be done, so that the body is as it came and says nothing to us.
    `sent_at` and `received_at` are our clock. `upstream_sent_at` is the earliest that upstream's own clock
    can have shown when the request was sent; None while it never told the time.
    """

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: bytes
    sent_at: datetime
    received_at: datetime
    upstream_sent_at: datetime | None = None
    is_coded: bool = False

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class Upstream(Protocol):
    """Sends one request and waits for the whole answer. Never repeats a request by itself.

    Raises UpstreamFailure. `joinable` is for the proxy's own reads: an equal request of the same caller
    that is still waiting for a connection is answered by the same exchange (rule 1), and none leaves
    between the messages of a client's login.
    """

    async def send(self, request: Request, *, joinable: bool = False) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """One entity as upstream said it, ready to be stored.

    `document`: the entity's own JSON text, origins replaced by placeholders (`verbose_json`).
    `values`: the parsed members by property name, as `primitives` makes them; complex values are dicts;
    None in the place of a document means upstream said that the entity does not exist.
    `digest`: of the content without stamp, lookup names and volatile properties.
    `settled`: an unmoved stamp is good evidence from now on (rule 3).
    """

    key: EntityKey
    document: str | None
    values: Mapping[str, Any]
    stamp: Stamp
    digest: bytes
    settled: bool
    fetch_number: int
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """What the mirror holds of one entity.

    `document` is None for a tombstone (`deleted_at` set) and for a bare row (a write is under way on
    an entity never seen). `intents` counts open intents that name the entity: while it is not zero,
    only their writers may store it. `conflict` is the id of an open conflict.
    `changed_number` is the fetch number of the last change of the row, `fetched_at` when the newest
    fetch that confirmed it was sent.
    """

    key: EntityKey
    document: str | None
    stamp: Stamp
    digest: bytes
    settled: bool
    fetch_number: int
    fetched_at: datetime
    intents: int = 0
    conflict: int | None = None
    deleted_at: datetime | None = None


class Source(enum.Enum):
    """Why a revision was recorded."""

    CLIENT_WRITE = "client write"
    UPSTREAM_REFRESH = "upstream refresh"
    SETTLEMENT = "settlement"
    POLL = "poll"
    BACKFILL = "backfill"
    SWEEP = "sweep"
    COMPARISON = "comparison"
    LOCAL_WRITE = "local write"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who and what a stored state came by: goes into the revision, never into a log."""

    source: Source
    request_id: str = ""
    user: str | None = None
    client: str | None = None


class Outcome(enum.Enum):
    """How a write ended (rule 6)."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Touched:
    """An entity that a write names or is known to change."""

    entity_set: EntitySet
    key: EntityKey


@dataclass(frozen=True, slots=True)
class NewIntent:
    """The durable mark that a write is about to be sent.

    `target` is None for a create, whose key upstream makes, and for a batch, whose writes all stand in
    `touched`, with the entities that the write is known to change beside its target; so does the key that a
    client has chosen for what is to be made. `body` is what the client posted, `before` the digest of the
    state seen just before, for a batch of all of them (None: not every one is known, or there is none).
    `epochs`: of every set that is written to, as seen before the write began; a set not named counts as one
    that was never moved.
    """

    method: str
    entity_set: EntitySet
    target: EntityKey | None
    touched: Sequence[Touched]
    body: bytes
    content_type: str
    before: bytes | None
    provenance: Provenance
    opened_at: datetime
    epochs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intent:
    """An open intent as the store holds it. `fetch_number` was drawn when it was opened.

    `holder`: the process that sends the write; `is_held`: its lease told, when the intent was
    listed, that it is alive.
    """

    id: int
    method: str
    entity_set: str
    key: EntityKey | None
    touched: Sequence[tuple[str, EntityKey]]
    body: bytes
    content_type: str
    before: bytes | None
    provenance: Provenance
    opened_at: datetime
    fetch_number: int
    holder: str = ""
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an intent ends, to be committed in one transaction with what it shows of the mirror.

    `seen`: the states read back after the write, the target's and others'. `removed`: entities that the
    write deleted, with the fetch number of the evidence. `stale`: entities to be fetched rather than
    checked next time. `written`: of those seen and removed the ones that the client's request changed, where
    the intent does not name it as its target. `unseen`: entities whose state as the write made it was never
    seen (rule 5).
    """

    outcome: Outcome
    fetch_number: int
    seen: Sequence[tuple[EntitySet, Fetched]] = ()
    removed: Sequence[Touched] = ()
    stale: Sequence[Touched] = ()
    written: Sequence[Touched] = ()
    unseen: Sequence[Touched] = ()


@dataclass(frozen=True, slots=True)
class NewConflict:
    """The mirror is newer than upstream: both sides as they were when that was believed."""

    entity_set: EntitySet
    held: Stored
    seen: Fetched
    found_at: datetime
    request_id: str


@dataclass(frozen=True, slots=True)
class SetState:
    """What the proxy has learned about an entity set.

    `title`: the property that Atom titles show; "" where titles are always empty; None while unknown.
    `proven`: forms ("entry", "feed") in which our Atom equalled upstream's byte for byte.
    `forward_reason`: set while the set is never served from the mirror for a reason found at run time.
    """

    title: str | None = None
    proven: frozenset[str] = frozenset()
    forward_reason: str | None = None
    lies: int = 0
    hits_audited: int = 0


@dataclass(frozen=True, slots=True)
class PutResult:
    """`stored` keys gave way to what was offered, `changed` ones among them got a revision."""

    stored: frozenset[EntityKey] = frozenset()
    changed: frozenset[EntityKey] = frozenset()


# Where a page ended: url-safe text, made and read by the store alone.
SkipToken = str


@dataclass(frozen=True, slots=True)
class Related:
    """The entities that a relationship leads to from one entity of `source`."""

    source: EntitySet
    key: EntityKey
    relationship: Relationship


@dataclass(frozen=True, slots=True)
class Query:
    """A question that the mirror answers by itself.

    Of the entities of the set, or those of it in `within`, the ones that `filter` is true for, in the order
    of `orderby` and then of their keys. `skip` of them are left out, counted from `after` where that is
    given; then `top` at most are wanted (None: all), `page` at most at once. `count`: say how many pass the
    filter, whatever `skip`, `top` and `after` say. `behind`, in the place of `after`: the values, of what is
    sorted by and then of the key, that an entity had which the page follows.
    """

    entity_set: EntitySet
    filter: BoundExpression | None = None
    orderby: tuple[BoundOrder, ...] = ()
    skip: int = 0
    top: int | None = None
    page: int = 50
    after: SkipToken | None = None
    behind: tuple[Any, ...] | None = None
    count: bool = False
    within: Related | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what was asked for. `next` is set where `page` alone, not `top`, has cut it short."""

    rows: Sequence[Stored]
    total: int | None = None
    next: SkipToken | None = None


class Answers(Protocol):
    """What the mirror answers by itself from. Every method raises StoreUnavailable."""

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        """What is held of these entities: rows, tombstones and bare rows; unknown keys are left out."""

    async def find(self, query: Query) -> Found:
        """A page of entities, tombstones and bare rows left out. Keys of type Edm.Guid are in the order of
        SQL Server's uniqueidentifier.

        Raises ODataError: 400 for a skip token that is none of this query's, and for an expression that
        cannot be worked out over these values (division by zero, overflow); 501 where no set shows the pairs
        of a relationship."""

    async def count_of(self, query: Query) -> int:
        """How many entities pass the query's filter. Raises as `find`."""

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        """Where a relationship leads from each of these, in the order of keys and at most `page` each; one
        statement for all. A `next` belongs to the query `within` that source. Raises as `find`."""


class Store(Answers, Protocol):
    """The mirror. Every method raises StoreUnavailable, and leaves nothing half done when it does.

    Every stored change carries a fetch number; a row, absence or tombstone gives way only to a higher
    one (rule 7). Tables are made when a set is first used.
    """

    async def next_fetch_number(self) -> int:
        """Draw a number, before the fetch is sent."""

    async def put(
        self, entity_set: EntitySet, fetched: Sequence[Fetched], provenance: Provenance
    ) -> PutResult:
        """Store states that upstream showed; one transaction. Skips, row by row, what is not newer by
        fetch number and what has an open intent, and everything of a set whose authority is the mirror.
        Clears the row's conflict. A revision is recorded where the digest differs from the row's (or there
        was none)."""

    async def touch(self, entity_set: EntitySet, fetched: Sequence[Fetched]) -> None:
        """A fetch showed just what we hold: raise fetch number, `fetched_at`, `settled`; nothing else."""

    async def bury(
        self, entity_set: EntitySet, key: EntityKey, fetch_number: int, provenance: Provenance
    ) -> bool:
        """Make a tombstone (with a revision) unless the row is newer or has an open intent."""

    async def open_intent(self, intent: NewIntent) -> Intent:
        """Commit the mark, raise the named rows' fetch number and intents count (bare rows for entities
        never seen), in one transaction. Raises AuthorityMoved where its epochs do not hold any more."""

    async def settle_intent(self, intent: Intent, settlement: Settlement) -> None:
        """Mirror rows, revisions, conflict cleared, intent closed: one transaction. Does nothing if the
        intent is closed already."""

    async def open_intents(self, *, limit: int = 100) -> Sequence[Intent]:
        """Oldest first."""

    async def intents_of(self, entity_set: EntitySet, key: EntityKey) -> Sequence[Intent]:
        """The open intents that name the entity, as their target or beside it."""

    async def unsettled_creates(
        self, entity_set: EntitySet, since: datetime, until: datetime
    ) -> Sequence[Intent]:
        """The creates opened between two instants whose outcome is not known: open or undetermined."""

    async def claimed(
        self, entity_set: EntitySet, keys: Sequence[EntityKey], fetch_number: int
    ) -> frozenset[EntityKey]:
        """Those of `keys` that a create is recorded to have made, or that were seen by a fetch below
        `fetch_number`."""

    async def record_conflict(self, conflict: NewConflict) -> int | None:
        """Record it and mark the row, unless the row changed since `held`, or the set's authority is the
        mirror (then None). A conflict that is open already is not recorded again: its id is returned."""

    async def conflict_count(self, entity_set: EntitySet) -> int:
        """Open conflicts of the set."""

    async def count(self, entity_set: EntitySet, *, at_most: int) -> int:
        """Entities held of the set, counting no further than `at_most`."""

    async def set_state(self, entity_set: EntitySet) -> SetState: ...

    async def save_set_state(self, entity_set: EntitySet, state: SetState) -> None: ...

    async def count_lie(self, entity_set: EntitySet) -> int:
        """Raise the set's `lies` by one, and give what they are now."""

    async def latest_metadata(self) -> bytes | None:
        """The metadata document last seen from upstream."""

    async def save_metadata(self, document: bytes) -> None:
        """Record a version, unless it is the latest already."""

    async def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, as far as it matters for serving and for history.

    `credentials`: a digest of Authorization, Cookie and the connection logged in, None where there is none
    of them. `user`: the name to record.
    """

    credentials: bytes | None = None
    user: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Directives:
    """The request's own Cache-Control (RFC 9111, 5.2.1); ages in seconds."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    max_stale: float | None = None  # inf where no limit is given
