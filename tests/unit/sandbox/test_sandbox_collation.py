"""How SQL Server compares, as the sandbox reads it."""

from __future__ import annotations

import random
import uuid

import pytest

from proxy.sandbox.collation import fold, fold_trimmed, guid_order, sort_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "CAFE"),
        ("ÉA", "ea"),
        ("Łódź", "ŁODZ"),
        ("trailing  ", "TRAILING"),
        ("Straße ", "STRAßE"),
        ("Ångström", "angstrom"),
        ("\u0130", "i"),
    ],
)
def test_case_accents_and_trailing_blanks_do_not_count(one: str, other: str) -> None:
    assert fold_trimmed(one) == fold_trimmed(other)


@pytest.mark.parametrize(("one", "other"), [(" a", "a"), ("a\t", "a"), ("o", "ø"), ("", "a")])
def test_everything_else_counts(one: str, other: str) -> None:
    assert fold_trimmed(one) != fold_trimmed(other)


def test_like_sees_trailing_blanks() -> None:
    assert fold("a ") != fold("a")


def test_keys_sort_by_their_last_six_bytes_first() -> None:
    in_order = [
        "ffffffff-ffff-ffff-ffff-000000000001",
        "ffffffff-ffff-ffff-0000-000000000002",
        "ffffffff-ffff-0000-0001-000000000002",
        # The first three groups are stored with their low byte first, and that byte is compared first.
        "ffffffff-ffff-0100-0001-000000000002",
        "ffffffff-0000-0001-0001-000000000002",
        "ffffffff-0100-0001-0001-000000000002",
        "00000000-0001-0001-0001-000000000002",
        "01000000-0001-0001-0001-000000000002",
        "00000001-0001-0001-0001-000000000002",
        # The two ends of the page in the field manual's own exchange.
        "8f2c6a50-0d61-e611-80c5-00155d010a01",
        "3c77e1aa-0e61-e611-80c5-00155d010b77",
    ]
    shuffled = random.Random(4).sample([uuid.UUID(text) for text in in_order], len(in_order))
    assert [str(key) for key in sorted(shuffled, key=guid_order)] == in_order


@pytest.mark.parametrize(
    ("descending", "expected"),
    [(False, [None, "apple", "Ärger", "banana"]), (True, ["banana", "Ärger", "apple", None])],
)
def test_nulls_come_first_ascending_and_last_descending(descending: bool, expected: list[str | None]) -> None:
    values = ["banana", None, "apple", "Ärger"]
    assert sorted(values, key=lambda value: sort_key(value, descending=descending)) == expected
