"""Whether entity sets can be cut over: evidence in, findings out. Pure; the port says where evidence is."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from proxy.odata.edm import EntitySet
from proxy.reconcile.authority import Authority


class Weight(enum.Enum):
    """What a finding means for the cutover."""

    FINE = "fine"
    LOOK = "look"  # a person has to know
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `entity_set`: "" where it is about the unit."""

    weight: Weight
    entity_set: str
    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The last whole comparison with upstream that came to its end. `number`: fetch number when it began.
    `drift`, `repaired`: entities."""

    began_at: datetime
    number: int
    upstream: int
    mirror: int
    contents: int
    drift: int
    repaired: int


@dataclass(frozen=True, slots=True)
class Computed:
    """How often upstream made something of its own of a property. `rule`: which stated rule says what, None
    where none does."""

    property: str
    differed: int
    changed: int
    filled: int
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A write that is under way. `is_held`: the process that sends it lives."""

    id: int
    method: str
    entity_set: str
    key: str | None
    opened_at: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class Foreign:
    """Changes that reached upstream by another way than the proxy, in the last day."""

    changes: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class SetEvidence:
    """What is known of one set. `undetermined`: ids of intents given up since the last verification;
    `differences`: of shadow mode, found since then; `compared`: entities that shadow mode compared;
    `secured`: properties that are never stored."""

    name: str
    authority: Authority
    is_loaded: bool
    forward_reason: str | None = None
    verification: Verification | None = None
    conflicts: int = 0
    undetermined: Sequence[int] = ()
    differences: int = 0
    compared: int = 0
    computed: Sequence[Computed] = ()
    secured: Collection[str] = ()
    foreign: Foreign | None = None


@dataclass(frozen=True, slots=True)
class Tie:
    """Why `other` would have to come along with `entity_set`, which is in the unit."""

    entity_set: str
    other: str
    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a decision needs. `missing`: what would have to come along and was not named; `left`: what
    was left out on purpose. `callers`: who authenticates callers, "" if nobody does; `per_caller`: upstream
    itself does (rule 8)."""

    sets: Sequence[SetEvidence]
    intents: Sequence[OpenIntent] = ()
    missing: Sequence[Tie] = ()
    left: Sequence[Tie] = ()
    callers: str = ""
    per_caller: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """`verified_within_s`: how old a comparison with upstream may be. `intent_s`: how long a write may be
    under way before it counts as one whose outcome is not known."""

    verified_within_s: float = 86400.0
    intent_s: float = 60.0


@dataclass(slots=True)
class _Findings:
    entity_set: str = ""
    found: list[Finding] = field(default_factory=list)

    def say(self, weight: Weight, topic: str, text: str) -> None:
        self.found.append(Finding(weight, self.entity_set, topic, text))

    def fine_or(self, weight: Weight, problem: str, topic: str, fine: str) -> None:
        self.say(weight if problem else Weight.FINE, topic, problem or fine)


def findings(evidence: Evidence, rules: Rules, now: datetime) -> list[Finding]:
    """What the evidence says, for the unit and then for each set."""
    unit = _Findings()
    for tie in evidence.missing:
        unit.say(Weight.BLOCKS, "unit", f"{tie.other} has to come along, or be left with --leave: {tie.why}")
    for tie in evidence.left:
        unit.say(Weight.LOOK, "unit", f"{tie.other} is left behind: {tie.why}")
    if not evidence.missing and not evidence.left:
        unit.say(Weight.FINE, "unit", "nothing else has to come along")
    late = [
        intent
        for intent in evidence.intents
        if not intent.is_held or now - intent.opened_at > timedelta(seconds=rules.intent_s)
    ]
    unit.fine_or(
        Weight.BLOCKS,
        "; ".join(f"the outcome of {_shown(one)} is not known" for one in late),
        "writes",
        f"{len(evidence.intents)} under way",
    )
    if evidence.per_caller:
        unit.say(
            Weight.BLOCKS,
            "rights",
            "with upstream.auth.mode = 'caller' only upstream can say what callers may see: take another"
            " mode, and name the callers",
        )
    unit.fine_or(
        Weight.LOOK,
        ""
        if evidence.callers
        else "nobody authenticates callers: the row rights of Dynamics end here, and"
        " whoever reaches the listener may read and write everything",
        "callers",
        evidence.callers,
    )
    found = unit.found
    for one in evidence.sets:
        found += _of_set(one, rules, now)
    return found


def _shown(intent: OpenIntent) -> str:
    return f"intent {intent.id} ({intent.method}, {intent.entity_set})"


def is_ready(found: Collection[Finding]) -> bool:
    """True where nothing stands against the cutover."""
    return all(finding.weight is not Weight.BLOCKS for finding in found)


def _of_set(one: SetEvidence, rules: Rules, now: datetime) -> list[Finding]:
    about = _Findings(one.name)
    moved = "" if one.authority is Authority.UPSTREAM else f"its authority is {one.authority.value} already"
    about.fine_or(Weight.BLOCKS, moved, "authority", "upstream")
    loaded = "" if one.is_loaded else f"not loaded: syncpoint backfill {one.name}"
    about.fine_or(Weight.BLOCKS, loaded, "loaded", "whole")
    if one.forward_reason is not None:
        about.say(Weight.BLOCKS, "served", f"not served from the mirror: {one.forward_reason}")
    about.fine_or(Weight.BLOCKS, _drift(one, rules, now), "drift", _compared(one.verification, now))
    conflicts = f"{one.conflicts} open: syncpoint conflicts list --set {one.name}" if one.conflicts else ""
    about.fine_or(Weight.BLOCKS, conflicts, "conflicts", "none")
    undetermined = ", ".join(map(str, one.undetermined))
    if undetermined:
        about.say(
            Weight.BLOCKS,
            "writes",
            f"never determined: intents {undetermined}; then syncpoint verify {one.name} --repair",
        )
    if one.differences:
        about.say(Weight.BLOCKS, "shadow", f"{one.differences} entities differed since the last comparison")
    else:
        compared = f"{one.compared} entities compared in replies, none differs since the last comparison"
        about.fine_or(Weight.LOOK, "" if one.compared else "never compared in replies", "shadow", compared)
    if one.secured:
        names = ", ".join(sorted(one.secured))
        about.say(Weight.BLOCKS, "secured", f"only upstream has {names}: they are never stored")
    about.found += _computed(one)
    if one.foreign is not None:
        about.say(
            Weight.LOOK,
            "others",
            f"{one.foreign.changes} changes in the last day came by other ways than this proxy, the last"
            f" {_ago(one.foreign.last_at, now)}: make the set read-only for everybody else",
        )
    return about.found


def _drift(one: SetEvidence, rules: Rules, now: datetime) -> str:
    last, command = one.verification, f"syncpoint verify {one.name} --repair"
    if last is None:
        return f"never compared with upstream: {command}"
    if last.drift > last.repaired:
        return f"{last.drift - last.repaired} entities drift: {command}"
    if now - last.began_at > timedelta(seconds=rules.verified_within_s):
        return f"compared with upstream {_ago(last.began_at, now)}, which is too long ago: {command}"
    return ""


def _compared(last: Verification | None, now: datetime) -> str:
    if last is None:
        return ""
    repaired = f", {last.repaired} repaired" if last.repaired else ""
    return f"none; {last.contents} compared {_ago(last.began_at, now)}{repaired}"


def _computed(one: SetEvidence) -> list[Finding]:
    """One line for each property that upstream computed."""
    found = []
    for each in one.computed:
        told = ", ".join(
            f"{count} {what}"
            for count, what in (
                (each.differed, "times another value than was posted"),
                (each.changed, "times changed unasked"),
                (each.filled, "times filled unasked"),
            )
            if count
        )
        rule = (
            each.rule or f'unexplained; if nobody has to: computed = ["{each.property}"] in [sets.{one.name}]'
        )
        weight = Weight.FINE if each.rule else Weight.BLOCKS
        found.append(Finding(weight, one.name, "computed", f"{each.property}: {told}; {rule}"))
    return found


def _ago(at: datetime, now: datetime) -> str:
    seconds = (now - at).total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now" if seconds < 2 else f"{seconds:.0f} seconds ago"


class EvidenceStore(Protocol):
    """Where evidence is kept. Every method raises StoreUnavailable."""

    async def verifications(self) -> Mapping[str, Verification]:
        """By entity set."""

    async def save_verification(self, entity_set: str, verification: Verification) -> None:
        """Put it in the place of the one before."""

    async def computed(self) -> Mapping[str, Sequence[Computed]]:
        """By entity set, without rules."""

    async def count_computed(self, entity_set: str, counts: Sequence[Computed]) -> None:
        """Add to the counts."""

    async def intents_naming(self, entity_sets: Collection[str]) -> Sequence[OpenIntent]:
        """The open ones that write to one of these sets or touch one of its entities, oldest first."""

    async def undetermined(self, since: Mapping[str, datetime | None]) -> Mapping[str, Sequence[int]]:
        """Intents given up, by the set that they wrote to, since that moment (None: ever)."""

    async def foreign(self, entity_sets: Collection[str]) -> Mapping[str, Foreign]:
        """Changes of the last day that no client's write and no cutover made."""

    async def differences(self, entity_set: str, since: datetime | None) -> tuple[int, int]:
        """What shadow mode found: differing entities since then, and how many it compared at all."""

    async def references(self, entity_set: EntitySet) -> Mapping[str, frozenset[str]]:
        """What the held entities' lookups refer to: logical names, by property."""
