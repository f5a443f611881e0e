"""What the history says: revisions, and the port by which they are read. All instants are aware UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.ports import Answers, Provenance, SetState
from proxy.reconcile.progress import Finding, Following


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded state of one entity.

    `key`: the key predicate in canonical form, without brackets. `document`: None where the entity ceased to
    exist (`deleted`); what was posted where the state itself was never seen (`unseen`).
    `effective_at`: since when the state held, as far as upstream told. `changed`: the properties that differ
    from the state before, None where that is not known. `gap`: between the state before, last seen at
    `seen_until`, and this one others may have passed.
    """

    id: int
    entity_set: str
    key: str
    recorded_at: datetime
    effective_at: datetime
    provenance: Provenance
    method: str | None
    changed: tuple[str, ...] | None
    document: str | None
    unseen: bool
    deleted: bool
    gap: bool
    seen_until: datetime | None


class History(Protocol):
    """Reads revisions. Every method raises StoreUnavailable."""

    async def revisions(
        self, entity_set: EntitySet, key: EntityKey, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Revision]:
        """Those of one entity, newest first; `before`: only those older than the revision of that id."""

    async def revision(self, identity: int) -> Revision | None: ...

    async def as_of(self, entity_set: EntitySet, key: EntityKey, at: datetime) -> Revision | None:
        """The state that held at `at`, as far as the history knows; `deleted` for one that was gone by
        then, None for what is older than the history."""

    def at(self, moment: datetime) -> Answers:
        """The mirror as it was then, as far as the history knows: `settled` says of a row that no other
        state may have held at the moment."""

    async def drop_revisions(self, days: Mapping[str, int], otherwise: int) -> Sequence[str]:
        """Make room for what is to come, and drop what is older than its set keeps.

        `days`: how long sets keep revisions, `otherwise` all others; 0: for ever. The partitions that
        something was taken from. As-of reads of what remains find the same as before."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two states in conflict; `modified_on` is naive UTC."""

    document: str | None
    modified_on: datetime | None
    version_number: int | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """What the mirror `held` and what upstream had `seen` when it was found. `settled_at`: over since."""

    id: int
    entity_set: str
    key: str
    held: Side
    seen: Side
    found_at: datetime
    request_id: str
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class IntentLine:
    """A write whose end is not known (`closed_at` is None), or never will be."""

    id: int
    method: str
    entity_set: str
    key: str | None
    opened_at: datetime
    closed_at: datetime | None
    user: str | None
    client: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a sweep found and does not believe before an operator has: the deletes of the set wait.

    `kind`: "empty" or "many missing"; `detail` says it in a sentence.
    """

    id: int
    entity_set: str
    kind: str
    detail: str
    found_at: datetime


@dataclass(frozen=True, slots=True)
class SetOverview:
    """What the store says of an entity set. `entities`: an estimate, None while there is none."""

    name: str
    state: SetState
    entities: int | None
    open_conflicts: int


@dataclass(frozen=True, slots=True)
class Difference:
    """An entity that the mirror would have shown otherwise; both as JSON text, origins as placeholders.

    `kind`: "content"; or with the `query` that finds it in one place only ("mirror only", "upstream only"),
    or elsewhere in the order ("order").
    """

    key: str
    mirror: str
    upstream: str
    kind: str = "content"
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What one reply has shown. `shape`: what was read, and with which query options. `same`, `different`,
    `not_compared`: entities; `selection`: whether the mirror finds the same ones in the same order, None
    where a reply shows no page."""

    entity_set: str
    shape: str
    same: int
    different: int
    not_compared: int
    examples: Sequence[Difference] = ()
    selection: Literal["alike", "unlike", "unsure"] | None = None


@dataclass(frozen=True, slots=True)
class ShadowCount:
    """What all replies of one shape have shown, and the last differing examples."""

    entity_set: str
    shape: str
    requests: int
    same: int
    different: int
    not_compared: int
    alike: int
    unlike: int
    unsure: int
    last_at: datetime
    examples: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class LearnedEffect:
    """What polls found changed within seconds of client writes of another set: maybe an effect of those.

    `operation`: of the writes to `entity_set`. `times`: how often something of `changed_set` followed one;
    `named`: how often the written entity names what changed. `via`: its properties that did in one case.
    """

    entity_set: str
    operation: str
    changed_set: str
    times: int
    named: int
    via: tuple[str, ...]


class Casebook(Protocol):
    """What an operator looks at. Every method raises StoreUnavailable."""

    async def conflicts(
        self, entity_set: str | None = None, *, after: int = 0, limit: int = 50
    ) -> Sequence[Conflict]:
        """Open ones, oldest first; `entity_set`: of that set only."""

    async def conflict(self, identity: int) -> Conflict | None:
        """Open or settled."""

    async def intent_lines(self, *, limit: int = 200) -> Sequence[IntentLine]:
        """Writes that are open, or were given up as undetermined; oldest first."""

    async def questions(self) -> Sequence[Question]:
        """What sweeps ask and nobody has answered, oldest first."""

    async def answer(self, identity: int, *, accepted: bool) -> Question | None:
        """Record an operator's answer. None where there is no such question, or it has its answer."""

    async def sets_overview(self) -> Sequence[SetOverview]:
        """The sets of which anything is known, by name."""

    async def followings(self) -> Mapping[str, Following]:
        """How far the changes of all followed sets have been followed."""

    async def open_findings(self) -> Sequence[Finding]:
        """Results of sweeps that wait for the operator's answer, oldest first."""

    async def learned_effects(self) -> Sequence[LearnedEffect]:
        """Of the last day, the most frequent first."""

    async def shadow_counts(self) -> Sequence[ShadowCount]:
        """What shadow mode found, by entity set and shape."""


class ShadowLog(Protocol):
    """Keeps what shadow mode finds. Every method raises StoreUnavailable."""

    async def note_shadow(self, found: Shadowed, request_id: str) -> None:
        """Add to the counts of its shape, and keep the newest examples."""
