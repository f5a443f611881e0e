"""Generated records: the same on every run, consistent with each other, and not too tame."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import pytest

from proxy.sandbox import Sandbox, Switches


def everything(sandbox: Sandbox, names: list[str]) -> dict[str, list[Any]]:
    organisation = sandbox.organisation
    return {name: [organisation.entity(name, key) for key in organisation.keys(name)] for name in names}


SETS = ["AccountSet", "ContactSet", "CustomerAddressSet", "TaskSet", "TeamMembershipSet", "AuditSet"]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Any]]:
    return everything(Sandbox(rows=60, switches=Switches(version_number="rising")), SETS)


def test_the_order_of_asking_changes_nothing() -> None:
    forwards, backwards = Sandbox(rows=15), Sandbox(rows=15)
    assert everything(forwards, SETS) == everything(backwards, SETS[::-1])


def test_another_seed_gives_other_records() -> None:
    assert set(Sandbox(rows=5).organisation.keys("AccountSet")).isdisjoint(
        Sandbox(rows=5, seed=2).organisation.keys("AccountSet")
    )


def test_rows_are_as_many_as_asked(rows: dict[str, list[Any]]) -> None:
    assert {name: len(found) for name, found in rows.items()} == dict.fromkeys(SETS, 60)


def test_the_demo_organisation_has_its_numbers() -> None:
    organisation = Sandbox().organisation
    assert len(organisation.keys("AccountSet")) == 2000
    assert len(organisation.keys("ContactSet")) == 5000
    account = organisation.entity("AccountSet", organisation.keys("AccountSet")[7])
    assert account is not None
    address = organisation.entity("CustomerAddressSet", account["Address2_AddressId"])
    assert address is not None
    assert address["ParentId"]["Id"] == account["AccountId"]
    assert (address["AddressNumber"], address["City"]) == (2, account["Address2_City"])


def test_accounts_show_their_address_rows(rows: dict[str, list[Any]]) -> None:
    addresses = {row["CustomerAddressId"]: row for row in rows["CustomerAddressSet"]}
    shown = [row for row in rows["AccountSet"] if row["Address1_AddressId"] is not None]
    assert len(shown) == 30
    for account in shown:
        address = addresses[account["Address1_AddressId"]]
        assert address["ParentId"] == {
            "Id": account["AccountId"],
            "LogicalName": "account",
            "Name": account["Name"],
        }
        for name in ("Line1", "City", "Latitude", "AddressTypeCode"):
            assert account[f"Address1_{name}"] == address[name]


def test_stamps_lie_in_the_past_in_whole_seconds(rows: dict[str, list[Any]]) -> None:
    for row in rows["AccountSet"] + rows["ContactSet"]:
        created, modified = row["CreatedOn"], row["ModifiedOn"]
        assert datetime(2012, 1, 1) < created <= modified < datetime(2017, 1, 1)
        assert created.microsecond == modified.microsecond == 0


def test_version_numbers_are_unique_through_all_sets(rows: dict[str, list[Any]]) -> None:
    versions = [row["VersionNumber"] for found in rows.values() for row in found if "VersionNumber" in row]
    assert len(versions) == 60 * 5
    assert len(set(versions)) == len(versions)


def test_lookups_point_at_records_that_exist(rows: dict[str, list[Any]]) -> None:
    contacts = {row["ContactId"]: row["FullName"] for row in rows["ContactSet"]}
    held = [row["PrimaryContactId"] for row in rows["AccountSet"] if row["PrimaryContactId"]]
    assert len(held) > 30
    assert all(lookup["Name"] == contacts[lookup["Id"]] for lookup in held)


def test_no_pair_of_team_and_user_comes_twice(rows: dict[str, list[Any]]) -> None:
    pairs = [(row["TeamId"], row["SystemUserId"]) for row in rows["TeamMembershipSet"]]
    assert len(set(pairs)) == len(pairs)


def test_strings_are_not_tame(rows: dict[str, list[Any]]) -> None:
    names = [row["Name"] for row in rows["AccountSet"]]
    texts = [value for row in rows["ContactSet"] for value in row.values() if isinstance(value, str)]
    assert any(not name.isascii() for name in names)
    assert any("'" in text for text in texts)
    assert any("<" in text for text in texts)
    assert any(text != text.strip() for text in texts)
    assert any(ord(character) > 0xFFFF for text in texts for character in text)
    assert "" not in texts
    assert any(row["JobTitle"] is None for row in rows["ContactSet"])
    assert any(row["BirthDate"] and row["BirthDate"].year < 1970 for row in rows["ContactSet"])


@pytest.mark.parametrize(("switch", "shown"), [("null", {None}), ("null_on_some", {None, datetime})])
def test_switches_reach_generated_records(switch: str, shown: set[Any]) -> None:
    switches = Switches(modified_on="null_on_some") if switch == "null_on_some" else Switches()
    organisation = Sandbox(rows=40, switches=switches).organisation
    name = "ModifiedOn" if switch == "null_on_some" else "VersionNumber"
    found = [organisation.entity("AccountSet", key)[name] for key in organisation.keys("AccountSet")]  # type: ignore[index]
    assert {None if value is None else type(value) for value in found} == shown


def test_what_was_deleted_is_not_referred_to_by_records_made_later() -> None:
    organisation = Sandbox(rows=20).organisation
    users = organisation.keys("SystemUserSet")
    organisation.remove("SystemUserSet", users[0])
    owners = {_owner(organisation.entity("AccountSet", key)) for key in organisation.keys("AccountSet")}
    assert users[0] not in owners
    assert len(owners) > 5


def _owner(row: Any) -> uuid.UUID | None:
    return row["OwnerId"]["Id"] if row["OwnerId"] else None
