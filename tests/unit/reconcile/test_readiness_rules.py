"""What evidence says for and against a cutover."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from storing import NOW

from proxy.reconcile.authority import Authority
from proxy.reconcile.readiness import (
    Computed,
    Evidence,
    Finding,
    OpenIntent,
    Rules,
    SetEvidence,
    Tie,
    Verification,
    Weight,
    findings,
    is_ready,
)

VERIFIED = Verification(NOW - timedelta(hours=3), 7, 10, 10, 10, 2, 2)
SOUND = SetEvidence("AccountSet", Authority.UPSTREAM, is_loaded=True, verification=VERIFIED, compared=5)
OPEN = OpenIntent(4, "MergeEntity", "AccountSet", None, NOW, is_held=True)


def found(evidence: Evidence) -> list[Finding]:
    return findings(evidence, Rules(), NOW)


def test_a_sound_unit_is_ready() -> None:
    told = found(Evidence([SOUND], [OPEN], callers="by token"))
    assert is_ready(told)
    assert {one.weight for one in told} == {Weight.FINE}
    assert next(one.text for one in told if one.topic == "drift") == (
        "none; 10 compared 3 hours ago, 2 repaired"
    )


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"authority": Authority.MIRROR}, "authority"),
        ({"authority": Authority.MOVING}, "authority"),
        ({"is_loaded": False}, "loaded"),
        ({"forward_reason": "lies"}, "served"),
        ({"verification": None}, "drift"),
        ({"verification": replace(VERIFIED, repaired=1)}, "drift"),
        ({"verification": replace(VERIFIED, began_at=NOW - timedelta(days=2))}, "drift"),
        ({"conflicts": 1}, "conflicts"),
        ({"undetermined": [3]}, "writes"),
        ({"differences": 1}, "shadow"),
        ({"computed": [Computed("Total", 0, 1, 0)]}, "computed"),
        ({"secured": {"Salary"}}, "secured"),
    ],
)
def test_each_kind_of_evidence_stands_against_it(changes: dict[str, object], topic: str) -> None:
    told = found(Evidence([replace(SOUND, **changes)]))  # type: ignore[arg-type]
    assert [one.topic for one in told if one.weight is Weight.BLOCKS] == [topic]


@pytest.mark.parametrize(
    ("changes", "is_against"),
    [
        ({"intents": [OPEN]}, False),
        ({"intents": [replace(OPEN, is_held=False)]}, True),
        ({"intents": [replace(OPEN, opened_at=NOW - timedelta(minutes=2))]}, True),
        ({"missing": [Tie("AccountSet", "TaskSet", "because")]}, True),
        ({"left": [Tie("AccountSet", "TaskSet", "because")]}, False),
        ({"callers": ""}, False),
        ({"per_caller": True}, True),
    ],
)
def test_so_does_what_is_known_of_the_unit(changes: dict[str, object], is_against: bool) -> None:
    evidence = replace(Evidence([SOUND], callers="by token"), **changes)  # type: ignore[arg-type]
    assert is_ready(found(evidence)) is not is_against
