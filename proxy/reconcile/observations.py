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
class TaskFailed:
    """Background work ended with an error nobody expected."""

    task: str
    error: BaseException


Observation = (
    EntitiesStored
    | ConflictFound
    | ContentChangedUnderStamp
    | SetForwarded
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
    | TaskFailed
)
Observe = Callable[[Observation], None]
