"""POST, MERGE, PUT, DELETE and $links on the sandbox (field manual, section 6)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sandboxing import Reply, Served, served

ACCOUNT = uuid.UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
ACCOUNT_PATH = f"/AccountSet(guid'{ACCOUNT}')"


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    async with served() as world:
        insert = world.sandbox.organisation.insert
        insert("SystemUserSet", {"FirstName": "Alan", "LastName": "Turing"})
        insert("AccountSet", {"AccountId": ACCOUNT, "Name": "Adam Ltd"})
        yield world


def row(world: Served, set_name: str = "AccountSet", key: uuid.UUID = ACCOUNT) -> dict[str, Any]:
    found = world.sandbox.organisation.entity(set_name, key)
    assert found is not None
    return found


def applied(world: Served) -> list[tuple[str, int | None, bool]]:
    return [(entry.method, entry.status, entry.applied) for entry in world.sandbox.journal]


def assert_empty_204(reply: Reply) -> None:
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["DataServiceVersion"] == "1.0;"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert "Content-Type" not in reply.headers
    assert "Location" not in reply.headers


async def test_a_create_answers_with_the_whole_entity_and_where_it_is(world: Served) -> None:
    posted = {
        "FirstName": "Grace",
        "LastName": "Hopper",
        "ParentCustomerId": {"Id": str(ACCOUNT), "LogicalName": "account"},
        "GenderCode": {"Value": 2},
        "BirthDate": "/Date(-1990137600000)/",
    }
    reply = await world.send("POST", "/ContactSet", posted)
    assert reply.status == 201
    assert reply.headers["DataServiceVersion"] == "1.0;"
    assert reply.headers["Location"] == reply.d["__metadata"]["uri"]
    assert reply.headers["Location"].startswith(f"{world.own_root}/ContactSet(guid'")
    assert reply.d["FullName"] == "Grace Hopper"
    assert reply.d["CreatedOn"] == reply.d["ModifiedOn"] == "/Date(1472140800000)/"
    assert '"BirthDate":"\\/Date(-1990137600000)\\/"' in reply.text
    assert reply.d["ParentCustomerId"]["Name"] == "Adam Ltd"
    assert reply.d["OwnerId"]["Name"] == "Alan Turing"
    assert (await world.get(reply.headers["Location"])).body == reply.body
    assert applied(world)[0] == ("POST", 201, True)


async def test_an_atom_create_is_answered_in_atom(world: Served) -> None:
    services = "http://schemas.microsoft.com/ado/2007/08/dataservices"
    entry = (
        f'<?xml version="1.0" encoding="utf-8" standalone="yes"?><entry xmlns:d="{services}"'
        f' xmlns:m="{services}/metadata" xmlns="http://www.w3.org/2005/Atom">'
        f'<category scheme="{services}/scheme" term="Microsoft.Crm.Sdk.Data.Services.Account" />'
        "<title /><author><name /></author><updated>2016-08-25T16:06:00.1234567Z</updated><id />"
        '<content type="application/xml"><m:properties>'
        '<d:AccountId m:type="Edm.Guid">00000000-0000-0000-0000-000000000000</d:AccountId>'
        "<d:Name>Fourth Coffee</d:Name>"
        '<d:NumberOfEmployees m:type="Edm.Int32" m:null="true" />'
        '<d:CreatedOn m:type="Edm.DateTime" m:null="true" />'
        "</m:properties></content></entry>"
    ).encode()
    atom = "application/atom+xml"
    reply = await world.send(
        "POST", "/AccountSet", entry, Content_Type=atom, Accept=f"{atom},application/xml"
    )
    assert reply.status == 201
    assert reply.headers["Content-Type"] == "application/atom+xml;charset=utf-8"
    assert '<title type="text">Fourth Coffee</title>' in reply.text
    assert "00000000-0000-0000-0000-000000000000" not in reply.text
    assert reply.headers["Location"] in reply.text


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("MERGE", {}),
        ("POST", {"X-HTTP-Method": "MERGE"}),
        ("POST", {"x-http-method": "merge"}),
        ("PUT", {}),
        ("POST", {"X-HTTP-Method": "PUT"}),
    ],
)
async def test_an_update_by_every_verb(world: Served, method: str, headers: dict[str, str]) -> None:
    sent = {"Name": "New", "OwnershipCode": {"Value": "1"}, "CreditLimit": {"Value": 12.5}}
    assert_empty_204(await world.send(method, ACCOUNT_PATH, sent, **headers))
    after = row(world)
    assert (after["Name"], after["OwnershipCode"], str(after["CreditLimit"]["Value"])) == (
        "New",
        {"Value": 1},
        "12.5000",
    )
    assert applied(world) == [(method, 204, True)]


@pytest.mark.parametrize(
    "null",
    [{"Id": None, "LogicalName": None, "Name": None}, None, {"Id": None}],
    ids=["members", "plain", "id"],
)
async def test_a_lookup_is_cleared_by_nulls(world: Served, null: Any) -> None:
    contact = world.sandbox.organisation.insert("ContactSet", {"LastName": "x"})
    held = {"PrimaryContactId": {"Id": str(contact)}}
    assert (await world.send("MERGE", ACCOUNT_PATH, held)).status == 204
    assert row(world)["PrimaryContactId"]["Id"] == contact
    assert (await world.send("MERGE", ACCOUNT_PATH, {"PrimaryContactId": null})).status == 204
    assert row(world)["PrimaryContactId"] is None


async def test_a_whole_body_that_was_read_can_be_put_back(world: Served) -> None:
    entity = (await world.get(ACCOUNT_PATH)).d
    entity["Name"] = "Back again"
    assert (await world.send("PUT", ACCOUNT_PATH, entity)).status == 204
    assert row(world)["Name"] == "Back again"


@pytest.mark.parametrize("body", [{"Name": "x"}, {}])
async def test_one_property_can_be_put(world: Served, body: dict[str, str]) -> None:
    reply = await world.send("PUT", f"{ACCOUNT_PATH}/Name", body)
    assert reply.status == (204 if body else 400)
    assert row(world)["Name"] == ("x" if body else "Adam Ltd")


async def test_parts_of_an_entity_can_be_put_in_other_ways(world: Served) -> None:
    path = f"{ACCOUNT_PATH}/Name/$value"
    assert (await world.send("PUT", path, b"raw text", Content_Type="text/plain")).status == 204
    assert row(world)["Name"] == "raw text"
    assert (await world.send("PUT", f"{ACCOUNT_PATH}/CreditLimit/Value", {"Value": "7"})).status == 204
    assert str(row(world)["CreditLimit"]["Value"]) == "7.0000"
    assert (await world.send("DELETE", f"{ACCOUNT_PATH}/Name")).status == 405


@pytest.mark.parametrize(("method", "headers"), [("DELETE", {}), ("POST", {"X-HTTP-Method": "DELETE"})])
async def test_a_delete_then_a_look(world: Served, method: str, headers: dict[str, str]) -> None:
    assert_empty_204(await world.send(method, ACCOUNT_PATH, {}, **headers))
    assert (await world.get(ACCOUNT_PATH)).error == (
        404,
        "-2147220969",
        f"account With Id = {ACCOUNT} Does Not Exist",
    )
    assert (await world.send(method, ACCOUNT_PATH, **headers)).error[:2] == (404, "-2147220969")
    assert [entry[2] for entry in applied(world)] == [True, False, False]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/AccountSet", {"Nmae": "x"}, {}, 400),
        ("POST", "/AccountSet", {"NumberOfEmployees": "seven"}, {}, 400),
        ("POST", "/AccountSet", {"PrimaryContactId": str(ACCOUNT)}, {}, 400),
        ("POST", "/AccountSet", [], {}, 400),
        ("POST", "/AccountSet", b"{", {"Content-Type": "application/json"}, 400),
        ("POST", "/AccountSet", b"", {"Content-Type": "application/json"}, 400),
        ("POST", "/AccountSet", b"<a/>", {"Content-Type": "application/atom+xml"}, 400),
        ("POST", "/AccountSet", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/AccountSet", {}, {"Accept": "image/png"}, 415),
        ("POST", "/WidgetSet", {}, {}, 404),
        ("POST", "/CustomerAddressSet", {"Line1": "x"}, {}, 500),
        ("POST", "/TeamMembershipSet", {}, {}, 400),
        ("POST", ACCOUNT_PATH, {}, {}, 405),
        ("POST", ACCOUNT_PATH, {}, {"X-HTTP-Method": "PATCH"}, 400),
        ("PATCH", ACCOUNT_PATH, {}, {}, 405),
        ("PUT", "/AccountSet", {}, {}, 405),
        ("DELETE", "/AccountSet", {}, {}, 405),
        ("MERGE", ACCOUNT_PATH, {"contact_customer_accounts": [{"LastName": "x"}]}, {}, 400),
        ("MERGE", ACCOUNT_PATH, {}, {"If-Match": "*"}, 400),
        ("MERGE", f"/AccountSet(guid'{uuid.UUID(int=1)}')", {"Nmae": 1}, {}, 404),
    ],
)
async def test_what_is_refused_changes_nothing(
    world: Served, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    generation = world.sandbox.organisation.tables.generation
    reply = await world.send(method, path, body, **headers)
    assert reply.status == status
    assert b"error" in reply.body
    assert world.sandbox.organisation.tables.generation == generation
    assert applied(world) == [(method, status, False)]
    if status == 405:
        assert "GET" in reply.headers["Allow"]


# Related records


async def test_children_and_parents_are_created_in_one_post(world: Served) -> None:
    posted = {
        "Name": "Firm",
        "contact_customer_accounts": [{"LastName": "One"}, {"LastName": "Two"}],
        "account_primary_contact": {"LastName": "Chief"},
    }
    reply = await world.send("POST", "/AccountSet", posted)
    assert reply.status == 201
    assert reply.d["PrimaryContactId"]["Name"] == "Chief"
    assert "__deferred" in reply.d["contact_customer_accounts"]
    children = (await world.get(f"{reply.headers['Location']}/contact_customer_accounts")).d["results"]
    assert sorted(child["FullName"] for child in children) == ["One", "Two"]
    assert {child["ParentCustomerId"]["Name"] for child in children} == {"Firm"}


@pytest.mark.parametrize(
    "nested",
    [
        {"contact_customer_accounts": [{"LastName": "One"}, {"PreferredContactMethodCode": {"Value": 99}}]},
        {"contact_customer_accounts": [{"LastName": "One"}, {"Nmae": "x"}]},
        {"contact_customer_accounts": [{"Contact_Tasks": [{"Subject": "too deep"}]}]},
        {"contact_customer_accounts": "x"},
    ],
)
async def test_a_deep_insert_is_made_whole_or_not_at_all(world: Served, nested: dict[str, Any]) -> None:
    organisation = world.sandbox.organisation
    before = {name: organisation.keys(name) for name in ("AccountSet", "ContactSet", "CustomerAddressSet")}
    reply = await world.send("POST", "/AccountSet", {"Name": "Firm", **nested})
    assert reply.status in (400, 500)
    assert {name: organisation.keys(name) for name in before} == before
    assert not world.sandbox.journal[-1].applied


async def test_a_post_below_an_entity_makes_a_child_of_it(world: Served) -> None:
    reply = await world.send("POST", f"{ACCOUNT_PATH}/contact_customer_accounts", {"LastName": "Child"})
    assert reply.status == 201
    assert reply.d["ParentCustomerId"]["Id"] == str(ACCOUNT)


async def test_members_come_and_go_as_the_microsoft_sample_sends_it(world: Served) -> None:
    organisation = world.sandbox.organisation
    team = organisation.insert("TeamSet", {"Name": "T"})
    [user] = organisation.keys("SystemUserSet")
    path = f"/TeamSet(guid'{team}')/$links/teammembership_association"
    uri = f"{world.root}//SystemUserSet(guid'{{{str(user).upper()}}}')"
    assert_empty_204(await world.send("POST", path, {"uri": uri}))
    [membership] = (await world.get("/TeamMembershipSet")).d["results"]
    assert (membership["TeamId"], membership["SystemUserId"]) == (str(team), str(user))
    own = f"{world.own_root}/SystemUserSet(guid'{user}')"
    assert (await world.get(path)).d == {"results": [{"uri": own}]}
    removal = {"X-HTTP-Method": "DELETE"}
    assert_empty_204(await world.send("POST", f"{path}(guid'{user}')", **removal))
    assert (await world.get(path)).d == {"results": []}
    assert (await world.send("DELETE", f"{path}(guid'{user}')")).status == 404
    assert (await world.send("DELETE", path)).status == 405


async def test_a_single_link_is_put_and_deleted(world: Served) -> None:
    contact = world.sandbox.organisation.insert("ContactSet", {"LastName": "x"})
    path = f"{ACCOUNT_PATH}/$links/account_primary_contact"
    uri = f"{world.own_root}/ContactSet(guid'{contact}')"
    body = f'<uri xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices">{uri}</uri>'.encode()
    assert_empty_204(await world.send("PUT", path, body, Content_Type="application/xml"))
    assert row(world)["PrimaryContactId"]["Id"] == contact
    assert_empty_204(await world.send("DELETE", path))
    assert row(world)["PrimaryContactId"] is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://proxy.example.org/XRMServices/2011/OrganizationData.svc/SystemUserSet(guid'{user}')",
        "{root}/AccountSet(guid'{user}')",
        "{root}/SystemUserSet",
        "SystemUserSet(guid'{user}')",
    ],
)
async def test_a_link_must_lead_to_a_user_of_this_very_server(world: Served, uri: str) -> None:
    organisation = world.sandbox.organisation
    team = organisation.insert("TeamSet", {"Name": "T"})
    [user] = organisation.keys("SystemUserSet")
    link = {"uri": uri.format(root=world.root, user=user)}
    reply = await world.send("POST", f"/TeamSet(guid'{team}')/$links/teammembership_association", link)
    assert reply.status == 400
    assert organisation.keys("TeamMembershipSet") == []


async def test_put_can_reset_by_switch() -> None:
    async with served(put="reset") as world:
        key = world.sandbox.organisation.insert("AccountSet", {"Name": "A", "Description": "gone"})
        assert (await world.send("PUT", f"/AccountSet(guid'{key}')", {"Name": "B"})).status == 204
        after = row(world, key=key)
        assert (after["Name"], after["Description"]) == ("B", None)
        assert (await world.send("MERGE", f"/AccountSet(guid'{key}')", {"Fax": "1"})).status == 204
        assert row(world, key=key)["Name"] == "B"
