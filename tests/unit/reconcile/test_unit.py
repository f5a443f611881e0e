"""What belongs together when the authority moves."""

from __future__ import annotations

import pytest
from storing import ACCOUNTS, LINES, MODEL, TASKS

from proxy.reconcile.history import LearnedEffect
from proxy.reconcile.policy import Effect
from proxy.reconcile.readiness import Tie
from proxy.reconcile.unit import References, closure, ties

NOTHING: References = {name: {} for name in ("AccountSet", "TaskSet", "LineSet")}


def pairs(found: list[Tie]) -> list[tuple[str, str]]:
    return sorted((tie.entity_set, tie.other) for tie in found)


def test_what_refers_comes_along_and_not_what_is_referred_to() -> None:
    references = {**NOTHING, "TaskSet": {"RegardingObjectId": frozenset({"accountset"})}}
    assert (ACCOUNTS.entity_type.name, TASKS.name, LINES.name) == ("AccountSet", "TaskSet", "LineSet")
    known = ties(MODEL, {}, [], references)
    assert pairs(known) == [("AccountSet", "TaskSet")]
    assert [tie.other for tie in closure(["AccountSet"], [], known)[0]] == ["TaskSet"]
    assert closure(["TaskSet"], [], known) == ([], [])


def test_what_a_write_changes_comes_along_both_ways() -> None:
    declared = {"AccountSet": (Effect("TaskSet", ("X",)),)}
    learned = [
        LearnedEffect("TaskSet", "MergeEntity", "LineSet", 5, 5, ("Y",)),
        LearnedEffect("AccountSet", "MergeEntity", "LineSet", 5, 0, ()),  # only at the same time
    ]
    known = ties(MODEL, declared, learned, NOTHING)
    assert pairs(known) == [
        ("AccountSet", "TaskSet"),
        ("LineSet", "TaskSet"),
        ("TaskSet", "AccountSet"),
        ("TaskSet", "LineSet"),
    ]
    missing, behind = closure(["AccountSet"], [], known)
    assert ([tie.other for tie in missing], behind) == (["TaskSet", "LineSet"], [])


@pytest.mark.parametrize(
    ("named", "left", "missing", "behind"),
    [
        ("A", "", "BC", ""),
        ("A", "B", "", "B"),
        ("AB", "", "C", ""),
        ("A", "C", "B", "C"),
        ("ABC", "", "", ""),
        ("C", "", "", ""),
    ],
)
def test_nothing_is_followed_through_what_is_left(named: str, left: str, missing: str, behind: str) -> None:
    known = [Tie("A", "B", ""), Tie("B", "C", ""), Tie("B", "A", ""), Tie("D", "A", "")]
    found = closure(list(named), list(left), known)
    assert ["".join(tie.other for tie in each) for each in found] == [missing, behind]
