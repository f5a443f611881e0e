"""What the platform does to values and fills in by itself (field manual, 6 and 7)."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from proxy.odata.csdl import parse_metadata
from proxy.odata.errors import ODataError
from proxy.odata.relationships import Relationships
from proxy.reconcile.local_rules import Author, Rules, derive, is_intersect
from proxy.sandbox.metadata import small_document

MODEL = parse_metadata(small_document())
RULES = Rules(MODEL, Relationships(MODEL))
ACCOUNTS, CONTACTS = MODEL.entity_sets["AccountSet"], MODEL.entity_sets["ContactSet"]
SOMEBODY = uuid.UUID("11111111-2222-e611-80c5-00155d010a01")
NOBODY = {"Id": None, "LogicalName": None, "Name": None}
NOW = datetime(2016, 8, 25, 16, 0, 0)


@pytest.mark.parametrize(
    ("posted", "kept"),
    [
        ({"Name": ""}, {"Name": None}),
        ({"Name": "  "}, {"Name": "  "}),
        ({"Revenue": {"Value": Decimal("1.00005")}}, {"Revenue": {"Value": Decimal("1.0000")}}),
        ({"Revenue": None}, {"Revenue": {"Value": None}}),
        ({"PrimaryContactId": None}, {"PrimaryContactId": NOBODY}),
        (
            {"PrimaryContactId": {"Id": SOMEBODY, "Name": "a name of the client's"}},
            {"PrimaryContactId": {"Id": SOMEBODY, "LogicalName": "contact", "Name": None}},
        ),
        (
            {"optevia_LastVerified": datetime(2016, 1, 1, 0, 0, 0, 123456)},
            {"optevia_LastVerified": datetime(2016, 1, 1, 0, 0, 0, 123000)},
        ),
        ({"ModifiedOn": NOW, "StateCode": {"Value": 1}, "Revenue_Base": {"Value": Decimal(1)}}, {}),
        ({"AccountId": SOMEBODY, "OwnerId": None, "Merged": True}, {}),
    ],
)
def test_what_is_kept_of_an_update(posted: dict[str, Any], kept: dict[str, Any]) -> None:
    assert RULES.accepted(posted, ACCOUNTS, creating=False) == kept


@pytest.mark.parametrize(
    ("entity_set", "posted", "status", "code"),
    [
        (ACCOUNTS, {"Revenue": {"Value": Decimal("1e30")}}, 500, "-2147220970"),
        (ACCOUNTS, {"optevia_LastVerified": datetime(1752, 12, 31)}, 500, "-2147220970"),
        (CONTACTS, {"ParentCustomerId": {"Id": SOMEBODY}}, 400, "-2147220989"),
    ],
)
def test_what_the_platform_refuses(entity_set: Any, posted: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(ODataError) as refused:
        RULES.accepted(posted, entity_set, creating=True)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_new_entity_is_filled_and_what_is_stated_of_it_counts() -> None:
    author = Author({"Id": SOMEBODY, "LogicalName": "systemuser"})
    initial = {"IndustryCode/Value": 3, "ExchangeRate": "1.5", "Nothing": 1, "StatusCode/Value": 7}
    values = RULES.blank(ACCOUNTS, author, NOW, 9, initial)
    assert values.keys() == ACCOUNTS.entity_type.properties.keys()
    assert (values["CreatedOn"], values["ModifiedOn"], values["VersionNumber"]) == (NOW, NOW, 9)
    assert values["CreatedBy"] == values["OwnerId"] == {**NOBODY, **(author.user or {})}
    assert values["OwningBusinessUnit"] == NOBODY
    assert (values["StateCode"], values["StatusCode"]) == ({"Value": 0}, {"Value": 7})
    assert (values["IndustryCode"], values["ExchangeRate"]) == ({"Value": 3}, Decimal("1.5"))
    assert (values["DoNotPhone"], values["Merged"], values["CreditOnHold"]) == (False, False, None)


@pytest.mark.parametrize(
    ("first", "last", "full"),
    [("Grace", "Hopper", "Grace Hopper"), (None, "Hopper", "Hopper"), ("Grace", None, "Grace"), (None,) * 3],
)
def test_full_names(first: str | None, last: str | None, full: str | None) -> None:
    values = {"FirstName": first, "LastName": last, "FullName": "an old one"}
    derive(values)
    assert values["FullName"] == full


@pytest.mark.parametrize(("rate", "base"), [(None, "3"), (Decimal(0), "3"), (Decimal("1.5"), "2.0000")])
def test_money_in_the_base_currency(rate: Decimal | None, base: str) -> None:
    values: dict[str, Any] = {
        "Revenue": {"Value": Decimal(3)},
        "Revenue_Base": {"Value": None},
        "ExchangeRate": rate,
    }
    derive(values)
    assert str(values["Revenue_Base"]["Value"]) == base


def test_rows_of_many_to_many_are_known_by_their_form() -> None:
    assert [name for name, each in MODEL.entity_sets.items() if is_intersect(each)] == ["TeamMembershipSet"]
