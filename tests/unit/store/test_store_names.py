"""Names in the schema mirror."""

from __future__ import annotations

import pytest

from proxy.store.columns import CONTROL_NAMES
from proxy.store.names import MAX_BYTES, SYSTEM_COLUMNS, free_name

LONG = "optevia_" + "x" * 80


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("AccountId", "AccountId"),
        ("PrimaryContactId/Id", "PrimaryContactId_Id"),
        ("a/b/c", "a_b_c"),
        ("x" * 63, "x" * 63),
        ("Straße", "Straße"),
    ],
)
def test_a_name_that_fits_stays(path: str, name: str) -> None:
    assert free_name(path, {"Other"}) == name


@pytest.mark.parametrize("path", ["x" * 64, LONG, LONG + "/Id", "é" * 40, "x" + "日" * 30])
def test_a_long_name_is_cut_at_a_character_and_marked(path: str) -> None:
    name = free_name(path, ())
    assert len(name.encode()) <= MAX_BYTES
    assert len(name.encode()) > MAX_BYTES - 3
    kept, _, digest = name.rpartition("_")
    assert path.replace("/", "_").startswith(kept)
    assert len(digest) == 8
    assert free_name(path, ()) == name


def test_names_equal_after_cutting_differ() -> None:
    taken: set[str] = set()
    for path in (LONG + "_a", LONG + "_b", LONG + "/a"):
        taken.add(free_name(path, taken))
    assert len(taken) == 3


@pytest.mark.parametrize("name", sorted({*CONTROL_NAMES, *SYSTEM_COLUMNS}))
def test_what_is_used_already_gives_a_marked_name(name: str) -> None:
    assert free_name(name, CONTROL_NAMES | SYSTEM_COLUMNS).startswith(f"{name}_")


def test_a_property_and_a_member_that_would_share_a_name() -> None:
    first = free_name("Owner_Id", ())
    second = free_name("Owner/Id", {first})
    assert (first, second[:9]) == ("Owner_Id", "Owner_Id_")
    assert len(second) == len("Owner_Id_") + 8


def test_even_a_name_with_a_taken_mark_is_found_another() -> None:
    first = free_name("x", {"x"})
    assert free_name("x", {"x", first}) not in ("x", first)
