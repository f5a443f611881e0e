"""What writes do to records: stamps, defaults, addresses, cascades (field manual, sections 6 and 7)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from proxy.odata.errors import ODataError
from proxy.sandbox import Clock, Sandbox, Switches
from proxy.sandbox.organisation import Organisation

NOON = datetime(2016, 8, 25, 16, 0, 0, 750_000, tzinfo=UTC)
NAIVE_NOON = datetime(2016, 8, 25, 16, 0, 0)
LATER = NAIVE_NOON + timedelta(seconds=60)


class World:
    """An organisation of one user and one business unit, and its clock."""

    def __init__(self, **switches: Any) -> None:
        self.clock = Clock()
        self.clock.freeze(NOON)
        switches.setdefault("version_number", "rising")
        self.organisation: Organisation = Sandbox(
            rows=0, switches=Switches(**switches), clock=self.clock
        ).organisation
        self.unit = self.insert("BusinessUnitSet", {"Name": "Root"})
        self.user = self.insert("SystemUserSet", {"FirstName": "Alan", "LastName": "Turing"})

    def insert(self, set_name: str, values: dict[str, Any]) -> uuid.UUID:
        return self.organisation.insert(set_name, values)

    def post(self, set_name: str, values: dict[str, Any]) -> uuid.UUID:
        return self.organisation.create(self.organisation.entity_set(set_name), values)

    def merge(self, set_name: str, key: uuid.UUID, values: dict[str, Any], **how: Any) -> None:
        self.organisation.update(self.organisation.entity_set(set_name), key, values, **how)

    def row(self, set_name: str, key: uuid.UUID) -> dict[str, Any]:
        row = self.organisation.entity(set_name, key)
        assert row is not None
        return row

    def stamp(self, set_name: str, key: uuid.UUID) -> tuple[datetime, int]:
        row = self.row(set_name, key)
        return row["ModifiedOn"], row["VersionNumber"]


def test_an_empty_create_is_filled_by_the_server() -> None:
    world = World()
    row = world.row("AccountSet", world.post("AccountSet", {}))
    user = {"Id": world.user, "LogicalName": "systemuser", "Name": "Alan Turing"}
    assert row["Name"] is None
    assert row["CreatedOn"] == row["ModifiedOn"] == NAIVE_NOON
    assert row["CreatedBy"] == row["ModifiedBy"] == row["OwnerId"] == row["OwningUser"] == user
    assert row["OwningBusinessUnit"]["Id"] == world.unit
    assert (row["StateCode"], row["StatusCode"]) == ({"Value": 0}, {"Value": 1})
    assert row["DoNotPhone"] is False
    assert row["Merged"] is False
    assert row["Address1_AddressId"] != row["Address2_AddressId"]


def test_what_is_the_servers_own_cannot_be_sent() -> None:
    world = World()
    sent = {
        "Name": "A",
        "CreatedOn": datetime(2001, 1, 1),
        "ModifiedOn": datetime(2001, 1, 1),
        "StateCode": {"Value": 1},
        "VersionNumber": 5,
        "CreditLimit": {"Value": Decimal("12.34567")},
        "CreditLimit_Base": {"Value": Decimal("1")},
        "Address1_AddressId": uuid.UUID(int=9),
    }
    row = world.row("AccountSet", world.post("AccountSet", sent))
    assert row["CreatedOn"] == row["ModifiedOn"] == NAIVE_NOON
    assert row["StateCode"] == {"Value": 0}
    assert row["VersionNumber"] > 5
    assert row["CreditLimit"] == row["CreditLimit_Base"] == {"Value": Decimal("12.3457")}
    assert row["Address1_AddressId"] != uuid.UUID(int=9)


def test_creation_can_be_put_into_the_past() -> None:
    world = World()
    past = datetime(2009, 3, 4, 5, 6, 7)
    row = world.row("ContactSet", world.post("ContactSet", {"OverriddenCreatedOn": past}))
    assert (row["CreatedOn"], row["ModifiedOn"]) == (past, NAIVE_NOON)


def test_a_client_may_choose_the_key_but_not_twice() -> None:
    world = World()
    key = uuid.UUID(int=77)
    assert world.post("AccountSet", {"AccountId": key}) == key
    with pytest.raises(ODataError) as raised:
        world.post("AccountSet", {"AccountId": key})
    assert (raised.value.status, raised.value.code) == (500, "-2147220937")
    zero = world.post("AccountSet", {"AccountId": uuid.UUID(int=0)})
    assert zero.int != 0


def test_empty_strings_are_nulls_and_blanks_are_kept() -> None:
    world = World()
    row = world.row("AccountSet", world.post("AccountSet", {"Name": "", "Description": "   "}))
    assert (row["Name"], row["Description"]) == (None, "   ")


def test_an_update_changes_what_it_names_and_moves_the_stamp() -> None:
    world = World()
    key = world.post("ContactSet", {"FirstName": "Grace", "LastName": "Hopper"})
    before = world.row("ContactSet", key)
    world.clock.advance(60)
    world.merge("ContactSet", key, {"LastName": "Murray"})
    after = world.row("ContactSet", key)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"LastName", "FullName", "ModifiedOn", "VersionNumber"}
    assert after["FullName"] == "Grace Murray"
    assert after["ModifiedOn"] == LATER
    assert after["VersionNumber"] > before["VersionNumber"]


@pytest.mark.parametrize(
    ("modified_on", "sent", "moves"),
    [
        ("moves", {}, True),
        ("moves", {"Name": "A"}, True),
        ("moves_on_value", {"Name": "A"}, False),
        ("moves_on_value", {"Name": "B"}, True),
        ("wart", {"Name": "B"}, False),
    ],
)
def test_whether_modified_on_moves_is_a_switch(modified_on: str, sent: dict[str, Any], moves: bool) -> None:
    world = World(modified_on=modified_on)
    key = world.post("AccountSet", {"Name": "A"})
    world.clock.advance(60)
    world.merge("AccountSet", key, sent)
    assert (world.row("AccountSet", key)["ModifiedOn"] == LATER) is moves


def test_a_server_with_the_wart_keeps_the_modified_on_it_is_sent() -> None:
    world = World(modified_on="wart")
    key = world.post("AccountSet", {"Name": "A"})
    world.merge("AccountSet", key, {"ModifiedOn": datetime(2015, 1, 1)})
    assert world.row("AccountSet", key)["ModifiedOn"] == datetime(2015, 1, 1)


def test_modified_on_stays_null_where_the_switch_says_so() -> None:
    world = World(modified_on="null_on_some")
    keys = [world.post("AccountSet", {"AccountId": uuid.UUID(int=number)}) for number in range(1, 11)]
    for key in keys:
        world.merge("AccountSet", key, {"Name": "x"})
    assert {key.int for key in keys if world.row("AccountSet", key)["ModifiedOn"] is None} == {5, 10}


def test_version_numbers_are_null_by_default() -> None:
    world = World(version_number="null")
    key = world.post("AccountSet", {})
    world.merge("AccountSet", key, {"Name": "x"})
    assert world.row("AccountSet", key)["VersionNumber"] is None


@pytest.mark.parametrize(("put", "left"), [("merge", "kept"), ("reset", None)])
def test_put_empties_what_it_does_not_name_only_by_switch(put: str, left: str | None) -> None:
    world = World(put=put)
    key = world.post("AccountSet", {"Name": "A", "Description": "kept"})
    world.merge("AccountSet", key, {"Name": "B"}, reset=put == "reset")
    row = world.row("AccountSet", key)
    assert (row["Name"], row["Description"]) == ("B", left)
    assert row["OwnerId"]["Id"] == world.user
    assert row["StatusCode"] == (None if put == "reset" else {"Value": 1})


# Changes behind the endpoint's back


def test_a_change_can_keep_or_set_either_half_of_the_stamp() -> None:
    world = World()
    key = world.post("AccountSet", {"Name": "A"})
    first = world.stamp("AccountSet", key)
    world.clock.advance(60)
    change = world.organisation.change
    change("AccountSet", key, {"Name": "B"}, modified_on="keep", version="keep")
    assert world.stamp("AccountSet", key) == first
    change("AccountSet", key, {"Name": "C"}, modified_on="keep")
    assert world.stamp("AccountSet", key) == (first[0], first[1] + 3)
    change("AccountSet", key, {"Name": "D"}, modified_on=datetime(2001, 1, 1), version="keep")
    assert world.stamp("AccountSet", key) == (datetime(2001, 1, 1), first[1] + 3)
    change("AccountSet", key, {"Name": "E"}, modified_on=None)
    assert world.stamp("AccountSet", key)[0] is None
    change("AccountSet", key, {"Name": "F"})
    assert world.stamp("AccountSet", key)[0] == LATER
    assert world.row("AccountSet", key)["Name"] == "F"


# Lookups


def test_a_renamed_record_shows_elsewhere_without_a_stamp_moving() -> None:
    world = World()
    contact = world.post("ContactSet", {"FirstName": "Ada", "LastName": "Byron"})
    key = world.post("AccountSet", {"PrimaryContactId": {"Id": contact, "LogicalName": "contact"}})
    before = world.stamp("AccountSet", key)
    world.clock.advance(60)
    world.merge("ContactSet", contact, {"LastName": "Lovelace"})
    assert world.row("AccountSet", key)["PrimaryContactId"]["Name"] == "Ada Lovelace"
    assert world.stamp("AccountSet", key) == before


def test_an_id_alone_suffices_where_there_is_one_target_type() -> None:
    world = World()
    contact = world.post("ContactSet", {"LastName": "B"})
    key = world.post("AccountSet", {"PrimaryContactId": {"Id": contact, "Name": "ignored"}})
    assert world.row("AccountSet", key)["PrimaryContactId"] == {
        "Id": contact,
        "LogicalName": "contact",
        "Name": "B",
    }
    with pytest.raises(ODataError) as raised:
        world.post("ContactSet", {"ParentCustomerId": {"Id": key}})
    assert (raised.value.status, raised.value.code) == (400, "-2147220989")


def test_a_lookup_to_nothing_is_refused() -> None:
    world = World()
    with pytest.raises(ODataError) as raised:
        world.post("AccountSet", {"PrimaryContactId": {"Id": uuid.UUID(int=3), "LogicalName": "contact"}})
    assert (raised.value.status, raised.value.code) == (404, "-2147220969")
    assert world.organisation.keys("AccountSet") == []


@pytest.mark.parametrize(
    "values",
    [
        {"PreferredContactMethodCode": {"Value": 99}},
        {"CreditLimit": {"Value": Decimal("1e15")}},
        {"optevia_LastVerified": datetime(1600, 1, 1)},
    ],
)
def test_a_value_out_of_range_is_a_fault_that_names_it(values: dict[str, Any]) -> None:
    with pytest.raises(ODataError) as raised:
        World().post("AccountSet", values)
    assert raised.value.status == 500
    assert next(iter(values)) in raised.value.message
    assert "outside the valid range" in raised.value.message


# Addresses


def test_an_account_has_two_addresses_from_the_start() -> None:
    world = World()
    key = world.post("AccountSet", {"Name": "A", "Address1_City": "Leeds"})
    account = world.row("AccountSet", key)
    first = world.row("CustomerAddressSet", account["Address1_AddressId"])
    second = world.row("CustomerAddressSet", account["Address2_AddressId"])
    assert (first["AddressNumber"], first["City"]) == (1, "Leeds")
    assert (second["AddressNumber"], second["City"]) == (2, None)
    assert first["ParentId"] == second["ParentId"] == {"Id": key, "LogicalName": "account", "Name": "A"}
    assert first["ObjectTypeCode"] == "account"
    assert len(world.organisation.keys("CustomerAddressSet")) == 2


def test_contacts_have_the_same_machinery() -> None:
    world = World()
    key = world.post("ContactSet", {"Address2_Line1": "Mill Lane"})
    address = world.row("CustomerAddressSet", world.row("ContactSet", key)["Address2_AddressId"])
    assert (address["Line1"], address["ParentId"]["LogicalName"]) == ("Mill Lane", "contact")


def test_an_account_writes_through_to_its_address_row() -> None:
    world = World()
    key = world.post("AccountSet", {})
    address = world.row("AccountSet", key)["Address1_AddressId"]
    world.clock.advance(60)
    world.merge("AccountSet", key, {"Address1_City": "Kraków"})
    row = world.row("CustomerAddressSet", address)
    assert (row["City"], row["ModifiedOn"]) == ("Kraków", LATER)
    other = world.row("CustomerAddressSet", world.row("AccountSet", key)["Address2_AddressId"])
    assert other["ModifiedOn"] == NAIVE_NOON


def test_an_address_row_shows_on_its_account_whose_stamp_stays() -> None:
    world = World()
    key = world.post("AccountSet", {})
    before = world.stamp("AccountSet", key)
    world.clock.advance(60)
    address = world.row("AccountSet", key)["Address2_AddressId"]
    world.merge("CustomerAddressSet", address, {"City": "Leeds", "Latitude": 53.8})
    account = world.row("AccountSet", key)
    assert (account["Address2_City"], account["Address2_Latitude"]) == ("Leeds", 53.8)
    assert world.stamp("AccountSet", key) == before


def test_a_deleted_address_empties_its_half_of_the_account() -> None:
    world = World()
    key = world.post("AccountSet", {"Address1_City": "Leeds", "Address2_City": "York"})
    account = world.row("AccountSet", key)
    world.organisation.remove("CustomerAddressSet", account["Address1_AddressId"])
    after = world.row("AccountSet", key)
    assert (after["Address1_AddressId"], after["Address1_City"]) == (None, None)
    assert (after["Address2_AddressId"], after["Address2_City"]) == (account["Address2_AddressId"], "York")


def test_an_address_needs_a_parent() -> None:
    world = World()
    with pytest.raises(ODataError) as raised:
        world.post("CustomerAddressSet", {"Line1": "x"})
    assert raised.value.status == 500
    assert " parented " in raised.value.message


def test_a_third_address_is_numbered_and_shows_nowhere() -> None:
    world = World()
    key = world.post("AccountSet", {})
    before = world.row("AccountSet", key)
    parent = {"Id": key, "LogicalName": "account"}
    address = world.post("CustomerAddressSet", {"ParentId": parent, "City": "Hull"})
    assert world.row("CustomerAddressSet", address)["AddressNumber"] == 3
    assert world.row("AccountSet", key) == before


# Deleting


def test_a_deleted_account_takes_its_children_and_frees_its_lookups() -> None:
    world = World()
    key = world.post("AccountSet", {"Name": "A"})
    customer = {"Id": key, "LogicalName": "account"}
    contact = world.post("ContactSet", {"ParentCustomerId": customer})
    task = world.post("TaskSet", {"RegardingObjectId": {"Id": contact, "LogicalName": "contact"}})
    child = world.post("AccountSet", {"ParentAccountId": customer})
    bystander = world.post("ContactSet", {})
    before = world.stamp("AccountSet", child)
    world.clock.advance(60)
    world.organisation.remove("AccountSet", key)
    assert world.organisation.entity("AccountSet", key) is None
    assert world.organisation.entity("ContactSet", contact) is None
    assert world.organisation.entity("TaskSet", task) is None
    assert world.organisation.keys("ContactSet") == [bystander]
    assert len(world.organisation.keys("CustomerAddressSet")) == 4
    assert world.row("AccountSet", child)["ParentAccountId"] is None
    assert world.stamp("AccountSet", child)[0] == before[0]
    assert world.stamp("AccountSet", child)[1] > before[1]


def test_children_die_that_were_not_looked_at_before() -> None:
    organisation = Sandbox(rows=10).organisation
    key = organisation.keys("AccountSet")[0]
    organisation.remove("AccountSet", key)
    for name, lookup in (("ContactSet", "ParentCustomerId"), ("TaskSet", "RegardingObjectId")):
        assert len(organisation.keys(name)) < 10
        rows = [organisation.entity(name, other) for other in organisation.keys(name)]
        assert all(row and (row[lookup] is None or row[lookup]["Id"] != key) for row in rows)


def test_what_is_not_there_cannot_be_deleted() -> None:
    key = uuid.UUID(int=5)
    with pytest.raises(ODataError) as raised:
        World().organisation.remove("AccountSet", key)
    assert (raised.value.status, raised.value.code) == (404, "-2147220969")
    assert raised.value.message == f"account With Id = {key} Does Not Exist"


# Links


def relationship(world: World, set_name: str, name: str) -> Any:
    return world.organisation.schema.relationships.of(world.organisation.entity_set(set_name), name)


def test_a_membership_is_a_row_that_only_links_can_write() -> None:
    world = World()
    organisation = world.organisation
    teams = organisation.entity_set("TeamSet")
    team = world.insert("TeamSet", {"Name": "T"})
    stamps = world.stamp("TeamSet", team), world.stamp("SystemUserSet", world.user)
    members = relationship(world, "TeamSet", "teammembership_association")
    world.clock.advance(60)
    organisation.associate(teams, team, members, world.user)
    organisation.associate(teams, team, members, world.user)
    [key] = organisation.keys("TeamMembershipSet")
    row = world.row("TeamMembershipSet", key)
    assert (row["TeamId"], row["SystemUserId"]) == (team, world.user)
    back = relationship(world, "SystemUserSet", "teammembership_association")
    assert organisation.tables.related(world.user, back) == [team]
    assert (world.stamp("TeamSet", team), world.stamp("SystemUserSet", world.user)) == stamps
    with pytest.raises(ODataError, match=r"\$links"):
        world.post("TeamMembershipSet", {"TeamId": team})
    organisation.disassociate(teams, team, members, world.user)
    assert organisation.keys("TeamMembershipSet") == []
    with pytest.raises(ODataError):
        organisation.disassociate(teams, team, members, world.user)
    organisation.associate(teams, team, members, world.user)
    organisation.remove("TeamSet", team)
    assert organisation.keys("TeamMembershipSet") == []


def test_links_without_a_set_of_their_own_can_be_followed_both_ways() -> None:
    world = World()
    role = world.insert("RoleSet", {"Name": "R"})
    roles = relationship(world, "SystemUserSet", "systemuserroles_association")
    users = relationship(world, "RoleSet", "systemuserroles_association")
    organisation = world.organisation
    organisation.associate(organisation.entity_set("SystemUserSet"), world.user, roles, role)
    assert organisation.tables.related(world.user, roles) == [role]
    assert organisation.tables.related(role, users) == [world.user]
    organisation.remove("RoleSet", role)
    assert organisation.tables.related(world.user, roles) == []


def test_a_link_through_a_lookup_is_an_update_of_the_one_that_holds_it() -> None:
    world = World()
    account, contact = world.post("AccountSet", {}), world.post("ContactSet", {})
    before = world.stamp("AccountSet", account)
    world.clock.advance(60)
    contacts = relationship(world, "AccountSet", "contact_customer_accounts")
    accounts = world.organisation.entity_set("AccountSet")
    world.organisation.associate(accounts, account, contacts, contact)
    assert world.row("ContactSet", contact)["ParentCustomerId"]["Id"] == account
    assert world.stamp("ContactSet", contact)[0] == LATER
    assert world.stamp("AccountSet", account) == before
    world.organisation.disassociate(accounts, account, contacts, contact)
    assert world.row("ContactSet", contact)["ParentCustomerId"] is None
