"""The dial: how each entity set is served, and what is declared about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Mode(enum.Enum):
    """How reads of a set are answered. Upstream is the authority in all of them but MIRROR, which no setting
    gives: a cutover does."""

    FORWARD = "forward"  # never from the mirror
    SHADOW = "shadow"  # as FORWARD, and what the mirror would have shown is compared
    CHECKED = "checked"  # from the mirror, after asking upstream for the stamps
    BOUNDED = "bounded"  # from the mirror as the background keeps it, up to an age
    MIRROR = "mirror"  # from the mirror, which is the authority


class OnConflict(enum.Enum):
    """What happens when the mirror is newer than upstream."""

    ERROR = "error"
    UPSTREAM_WINS = "upstream-wins"


@dataclass(frozen=True, slots=True)
class Effect:
    """A write of an entity changes those entities of `entity_set` that its properties `via` name.

    `via` are properties of the written entity: primitive keys, or lookups.
    """

    entity_set: str
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one entity set.

    `stale_if_error_s`: seconds a stored entity may be shown while upstream fails. `volatile`: properties
    that change without meaning anything; left out of the content digest. `title`: the property that
    Atom titles show, where declared. `max_age_s`: how old an answer of mode `bounded` may be;
    `deletes_may_lag`: without regard to deletes. `secured`: properties that upstream shows to some callers
    only; they are asked for in each check and never stored. None where nobody has said which they are.
    `computed`: properties that upstream computes, and that nobody has to after a cutover.
    `initial`: after a cutover, what a created entity shows where its client says nothing, as JSON values by
    property path.
    """

    mode: Mode = Mode.CHECKED
    stale_if_error_s: float = 0.0
    on_conflict: OnConflict = OnConflict.ERROR
    volatile: frozenset[str] = frozenset()
    title: str | None = None
    secured: frozenset[str] | None = None
    effects: tuple[Effect, ...] = ()
    keep_revisions_days: int = 0  # by the half-year they were recorded in; 0: for ever
    max_age_s: float = 60.0
    deletes_may_lag: bool = False
    computed: frozenset[str] = frozenset()
    initial: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncRules:
    """What holds for all sets.

    `settle_s`: how far ModifiedOn must lie behind upstream's clock before an unmoved stamp is evidence.
    `audit_share`: share of mirror hits whose content is fetched all the same. `lie_limit`: content changes
    under an unmoved stamp before a set falls back to `forward`. `conflict_trip`: open conflicts before a
    set does. `write_limit_s`: how long after sending an unanswered write may still be applied.
    `modified_property`, `version_property`: the stamp's property names. `deleted_code`: the error code by
    which upstream's 404 says that an entity does not exist (field manual, 8.3). `per_caller`: upstream sees
    each caller's own credentials (rule 8); `visibility_ttl_s`: how long its having shown an entity to them
    counts.
    """

    settle_s: float = 5.0
    audit_share: float = 0.01
    lie_limit: int = 5
    conflict_trip: int = 20
    write_limit_s: float = 300.0
    modified_property: str = "ModifiedOn"
    version_property: str = "VersionNumber"
    deleted_code: str = "-2147220969"
    per_caller: bool = False
    visibility_ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PollRules:
    """How often a set is polled, how far back each time, and how often further: as far as that is long.

    All in seconds.
    """

    every_s: float
    overlap_s: float
    look_back_s: float


@dataclass(frozen=True, slots=True)
class SweepRules:
    """How often a set is swept (seconds), how fast, and which share of it may be missing unquestioned."""

    every_s: float
    pages_per_s: float
    missing_share: float


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies by entity set name, with the one for all others. `per_caller`: as in `SyncRules`."""

    default: Policy = Policy()
    by_set: Mapping[str, Policy] = field(default_factory=dict)
    per_caller: bool = False

    def of(self, entity_set: str) -> Policy:
        return self.by_set.get(entity_set, self.default)

    def may_store(self, entity_set: str) -> bool:
        """False where callers' rights differ and nobody has said in which properties (rule 8)."""
        return not self.per_caller or self.of(entity_set).secured is not None
