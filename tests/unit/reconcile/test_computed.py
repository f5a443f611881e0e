"""What upstream made of a write beside what it posted."""

from __future__ import annotations

from typing import Any

import pytest
from storing import ACCOUNTS

from proxy.reconcile.computed import ComputedCounts, compared, rule_of
from proxy.reconcile.policy import Policy, SyncRules
from proxy.reconcile.ports import StoreUnavailable
from proxy.reconcile.readiness import Computed


@pytest.mark.parametrize(
    ("posted", "before", "after", "found"),
    [
        ({"Name": "A"}, {"Name": "B"}, {"Name": "A"}, {}),
        ({"Name": "A"}, {"Name": "B"}, {"Name": "a"}, {"Name": "differed"}),
        ({"Name": ""}, {"Name": "B"}, {"Name": None}, {}),
        ({"Name": "A"}, {"Total": 1}, {"Name": "A", "Total": 2}, {"Total": "changed"}),
        ({"Name": "A"}, {"Total": 1}, {"Name": "A", "Total": 1}, {}),
        ({"Name": "A"}, {}, {"Name": "A", "Total": 2}, {}),  # nobody saw what it was
        ({"Name": "A"}, None, {"Name": "A", "Total": 2, "Other": None}, {"Total": "filled"}),
        ({}, None, {"Money": {"Value": None}}, {}),
        ({}, None, {"Money": {"Value": 0}}, {"Money": "filled"}),
        ({"O": {"Id": 1}}, {}, {"O": {"Id": 1, "Name": "N"}}, {}),
        ({}, {"O": {"Id": 1, "Name": "N"}}, {"O": {"Id": 1, "Name": "M"}}, {}),  # a name is its entity's
    ],
)
def test_each_property_is_compared(
    posted: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any], found: dict[str, str]
) -> None:
    assert compared(posted, before, after) == found


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("AccountId", "rule: the key"),
        ("ModifiedOn", "rule: the stamp"),
        ("CreatedBy", "rule: who and when"),
        ("OwnerId", "rule: the owner is who creates"),
        ("Mine", "declared: left to nobody"),
        ("Begun", "declared: how it begins"),
        ("Name", None),
    ],
)
def test_a_rule_is_stated_or_not(name: str, rule: str | None) -> None:
    policy = Policy(computed=frozenset({"Mine"}), initial={"Begun/Value": 3})
    assert rule_of(ACCOUNTS, name, SyncRules(), policy) == rule


async def test_counts_wait_for_a_database_that_is_away() -> None:
    counted: list[tuple[str, list[Computed]]] = []

    class Evidence:
        is_there = False

        async def count_computed(self, entity_set: str, counts: list[Computed]) -> None:
            if not self.is_there:
                raise StoreUnavailable("gone")
            counted.append((entity_set, counts))

    store: Any = Evidence()
    counts = ComputedCounts(lambda _: None)
    counts.note(ACCOUNTS, {"Name": "A"}, {}, {"Name": "a"})
    await counts.flush(store)
    counts.note(ACCOUNTS, {"Name": "A"}, None, {"Name": "a", "Total": 1})
    store.is_there = True
    await counts.flush(store)
    assert counted == [("AccountSet", [Computed("Name", 2, 0, 0), Computed("Total", 0, 0, 1)])]
    await counts.flush(store)
    assert len(counted) == 1
