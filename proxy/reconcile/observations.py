"""Everything worth knowing that happens while the rules are carried out: one closed union.

A driver says what it saw; `proxy.events` decides what becomes a log line and what a counter.
No observation holds property values, credentials or query text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntitiesStored:
    """States that upstream showed entered the mirror; `changed` of them differed from what was held."""

    entity_set: str
    stored: int
    changed: int


@dataclass(frozen=True, slots=True)
class ConflictFound:
    """The mirror is newer than upstream."""

    entity_set: str
    key: str
    conflict: int


@dataclass(frozen=True, slots=True)
class ContentChangedUnderStamp:
    """Upstream's stamp did not move though the content did."""

    entity_set: str
    key: str


@dataclass(frozen=True, slots=True)
class SetForwarded:
    """From now on the set is not served from the mirror."""

    entity_set: str
    reason: str


@dataclass(frozen=True, slots=True)
class RevisionsDropped:
    """Revisions older than their sets keep them were taken out of these partitions."""

    partitions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorActed:
    """A person decided something: `action` on an entity, or on the set where `key` is empty."""

    action: str
    entity_set: str
    key: str
    user: str | None
    client: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class CallerRefused:
    """Somebody at `client` was not let in: what was said of them by this `scheme` was wrong."""

    client: str | None
    scheme: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Postgres was needed and not there; the request went on without it, or was refused."""

    doing: str
    error: str


@dataclass(frozen=True, slots=True)
class UpstreamFailed:
    """Upstream gave no usable answer to something the proxy asked."""

    doing: str
    error: str


@dataclass(frozen=True, slots=True)
class IntentOpened:
    intent: int
    method: str
    entity_set: str


@dataclass(frozen=True, slots=True)
class IntentSettled:
    intent: int
    outcome: str
    entity_set: str


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """A write was sent and not answered, or could not be read back: its intent stays open."""

    intent: int
    entity_set: str


@dataclass(frozen=True, slots=True)
class AtomProven:
    """Our Atom of the set equalled upstream's byte for byte."""

    entity_set: str
    form: str
    title: str


@dataclass(frozen=True, slots=True)
class MetadataLoaded:
    """A metadata document is in use; `source` is "upstream" or "store"."""

    source: str
    entity_sets: int


@dataclass(frozen=True, slots=True)
class MetadataUnusable:
    error: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The proxy's own login to upstream succeeded."""


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The proxy's own login to upstream did not; `reason` holds nothing secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class MetadataChanged:
    """Upstream's metadata document is another one than before: so many properties came and went."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class EntityUnreadable:
    """An entity in a page does not fit the metadata document: it is left out."""

    entity_set: str
    key: str
    error: str


@dataclass(frozen=True, slots=True)
class LeaseNotKept:
    """A lease ran out while it was needed; the work goes on in whichever process has it next."""

    lease: str


@dataclass(frozen=True, slots=True)
class SetNotFollowed:
    """The set's changes cannot be followed in the background, so its reads are checked."""

    entity_set: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetPolled:
    """So many stamps of the set were looked at, and so many entities fetched because theirs had moved."""

    entity_set: str
    seen: int
    refreshed: int


@dataclass(frozen=True, slots=True)
class UpstreamClockWentBack:
    """Upstream's clock shows less than it did: changes are looked for again from there."""

    entity_set: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SetSwept:
    """A whole sweep: so many keys were compared, `deleted` were gone, `refreshed` were new or moved."""

    entity_set: str
    rows: int
    deleted: int
    refreshed: int


@dataclass(frozen=True, slots=True)
class SweepStopped:
    """What a sweep found looks wrong. The operator is asked; the set's deletes wait."""

    entity_set: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuthorityChanged:
    """This process knows of another authority of these sets than before."""

    entity_sets: tuple[str, ...]
    authority: str
    by: str


@dataclass(frozen=True, slots=True)
class CutoverEnded:
    """The sets were moved to this authority."""

    entity_sets: tuple[str, ...]
    authority: str
    by: str


@dataclass(frozen=True, slots=True)
class CutoverGivenUp:
    """Whoever moved the sets was killed: they are this authority's again."""

    entity_sets: tuple[str, ...]
    authority: str


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """Background work ended with an error nobody expected."""

    task: str
    error: BaseException


Observation = (
    EntitiesStored
    | ConflictFound
    | ContentChangedUnderStamp
    | SetForwarded
    | RevisionsDropped
    | OperatorActed
    | CallerRefused
    | StoreFailed
    | UpstreamFailed
    | IntentOpened
    | IntentSettled
    | OutcomeUnknown
    | AtomProven
    | MetadataLoaded
    | MetadataUnusable
    | LoggedIn
    | LoginFailed
    | MetadataChanged
    | EntityUnreadable
    | LeaseNotKept
    | SetNotFollowed
    | SetPolled
    | UpstreamClockWentBack
    | SetSwept
    | SweepStopped
    | AuthorityChanged
    | CutoverEnded
    | CutoverGivenUp
    | TaskFailed
)
Observe = Callable[[Observation], None]
