"""GET on the sandbox, held against the field manual's exchanges and tables."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sandboxing import Served, served

NS = "Microsoft.Crm.Sdk.Data.Services"
FIRST = uuid.UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
LAST = uuid.UUID("3c77e1aa-0e61-e611-80c5-00155d010b77")
ADA = uuid.UUID("a1d0be2e-1161-e611-80c5-00155d010a01")
SECTOR = uuid.UUID("a5380000-5f95-e211-a939-00155d010a01")
STAMP = datetime(2016, 8, 25, 16, 0, 0)


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    """The organisation of section 13: 51 accounts, the first with a contact, and a sector."""
    async with served() as world:
        insert = world.sandbox.organisation.insert
        insert("ContactSet", {"ContactId": ADA, "FirstName": "Ada", "LastName": "Byron", "ModifiedOn": STAMP})
        beyond = uuid.UUID(int=LAST.int + 1)
        for number, key in enumerate([*(uuid.UUID(int=FIRST.int + n) for n in range(49)), LAST, beyond]):
            insert(
                "AccountSet",
                {
                    "AccountId": key,
                    "Name": "Café Adam Ltd" if number == 0 else f"Account {number:02}",
                    "PrimaryContactId": {"Id": ADA, "LogicalName": "contact"} if number == 0 else None,
                    "CreditLimit": {"Value": Decimal("1000.0000")} if number == 0 else None,
                    "ModifiedOn": STAMP,
                },
            )
        insert(
            "optevia_sectorSet",
            {
                "optevia_sectorId": SECTOR,
                "optevia_name": "Aerospace",
                "ModifiedOn": datetime(2013, 3, 24, 23),
            },
        )
        yield world


async def test_a_list_as_json_is_the_exchange_of_the_field_manual(world: Served) -> None:
    select = "$select=AccountId,Name,PrimaryContactId,CreditLimit,StatusCode,ModifiedOn"
    query = f"{select}&$filter=StatusCode/Value%20eq%201"
    reply = await world.get(f"/AccountSet?{query}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json;charset=utf-8"
    assert reply.headers["DataServiceVersion"] == "2.0;"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.text.startswith(
        '{"d":{"results":[{"__metadata":{"uri":"' + world.own_root + f"/AccountSet(guid'{FIRST}')\","
        f'"type":"{NS}.Account"}},"AccountId":"{FIRST}","Name":"Caf\\u00e9 Adam Ltd",'
        f'"PrimaryContactId":{{"__metadata":{{"type":"{NS}.EntityReference"}},'
        f'"Id":"{ADA}","LogicalName":"contact","Name":"Ada Byron"}},'
        f'"CreditLimit":{{"__metadata":{{"type":"{NS}.Money"}},"Value":"1000.0000"}},'
        f'"StatusCode":{{"__metadata":{{"type":"{NS}.OptionSetValue"}},"Value":1}},'
        '"ModifiedOn":"\\/Date(1472140800000)\\/"},{"__metadata"'
    )
    assert reply.text.endswith(
        f'"Name":"Account 49","PrimaryContactId":{{"__metadata":{{"type":"{NS}.EntityReference"}},'
        '"Id":null,"LogicalName":null,"Name":null},'
        f'"CreditLimit":{{"__metadata":{{"type":"{NS}.Money"}},"Value":null}},'
        f'"StatusCode":{{"__metadata":{{"type":"{NS}.OptionSetValue"}},"Value":1}},'
        '"ModifiedOn":"\\/Date(1472140800000)\\/"}],'
        f'"__next":"{world.root}/AccountSet?{query}&$skiptoken=1,\'accountid\','
        "'%7B3C77E1AA-0E61-E611-80C5-00155D010B77%7D','%7B8F2C6A50-0D61-E611-80C5-00155D010A01%7D'\"}}"
    )


async def test_an_entity_as_json_shows_everything_in_model_order(world: Served) -> None:
    reply = await world.get(f"/AccountSet(guid'{{{str(FIRST).upper()}}}')")
    entity = reply.d
    uri = f"{world.own_root}/AccountSet(guid'{FIRST}')"
    assert reply.headers["DataServiceVersion"] == "1.0;"
    assert list(entity)[:3] == ["__metadata", "TerritoryCode", "LastUsedInCampaign"]
    assert entity["__metadata"] == {"uri": uri, "type": f"{NS}.Account"}
    assert entity["TerritoryCode"] == {"__metadata": {"type": f"{NS}.OptionSetValue"}, "Value": None}
    assert entity["NumberOfEmployees"] is None
    assert entity["VersionNumber"] is None
    assert entity["ExchangeRate"] == "1.0000000000"
    assert entity["contact_customer_accounts"] == {"__deferred": {"uri": f"{uri}/contact_customer_accounts"}}
    assert " " not in reply.text.partition('"Name":')[0]


async def test_a_feed_is_the_exchange_of_the_field_manual(world: Served) -> None:
    query = "$top=1&$select=optevia_sectorId,optevia_name,optevia_ParentSector,ModifiedOn"
    reply = await world.get(f"/optevia_sectorSet()?{query}", Accept="application/atom+xml,application/xml")
    services = "http://schemas.microsoft.com/ado/2007/08/dataservices"
    own = world.own_root
    uri = f"optevia_sectorSet(guid'{SECTOR}')"
    assert reply.headers["Content-Type"] == "application/atom+xml;charset=utf-8"
    assert reply.text == (
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
        f'<feed xml:base="{own}/" xmlns:d="{services}" xmlns:m="{services}/metadata"'
        ' xmlns="http://www.w3.org/2005/Atom">'
        f'<title type="text">optevia_sectorSet</title><id>{own}/optevia_sectorSet</id>'
        "<updated>2016-08-25T16:00:00Z</updated>"
        '<link rel="self" title="optevia_sectorSet" href="optevia_sectorSet" />'
        f'<entry><id>{own}/{uri}</id><title type="text">Aerospace</title>'
        "<updated>2016-08-25T16:00:00Z</updated><author><name /></author>"
        f'<link rel="edit" title="optevia_sector" href="{uri}" />'
        f'<category term="{NS}.optevia_sector" scheme="{services}/scheme" />'
        '<content type="application/xml"><m:properties>'
        f'<d:optevia_sectorId m:type="Edm.Guid">{SECTOR}</d:optevia_sectorId>'
        "<d:optevia_name>Aerospace</d:optevia_name>"
        f'<d:optevia_ParentSector m:type="{NS}.EntityReference"><d:Id m:type="Edm.Guid" m:null="true" />'
        '<d:LogicalName m:null="true" /><d:Name m:null="true" /></d:optevia_ParentSector>'
        '<d:ModifiedOn m:type="Edm.DateTime">2013-03-24T23:00:00Z</d:ModifiedOn>'
        "</m:properties></content></entry></feed>"
    )


async def test_a_title_is_the_primary_attribute_even_when_it_is_not_selected(world: Served) -> None:
    reply = await world.get(f"/ContactSet(guid'{ADA}')?$select=LastName", Accept="*/*")
    assert '<title type="text">Ada Byron</title>' in reply.text
    assert "FullName" not in reply.text


async def test_errors_are_in_the_format_asked_for(world: Served) -> None:
    reply = await world.get("/WidgetSet")
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "application/json;charset=utf-8"
    assert reply.text == (
        '{"error":{"code":"","message":{"lang":"en-US",'
        '"value":"Resource not found for the segment \'WidgetSet\'."}}}'
    )
    reply = await world.get("/AccountSet(guid'1234')", Accept="*/*")
    assert reply.status == 400
    assert reply.headers["Content-Type"] == "application/xml;charset=utf-8"
    assert reply.text.startswith(
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
        '<error xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"><code></code>'
        '<message xml:lang="en-US">'
    )


async def test_a_missing_record_has_the_platforms_code(world: Served) -> None:
    missing = uuid.UUID(int=1)
    assert (await world.get(f"/ContactSet(guid'{missing}')")).error == (
        404,
        "-2147220969",
        f"contact With Id = {missing} Does Not Exist",
    )


async def test_the_service_document(world: Served) -> None:
    reply = await world.get("/", Accept="application/atomsvc+xml")
    assert reply.headers["Content-Type"] == "application/atomsvc+xml;charset=utf-8"
    assert f'<service xml:base="{world.own_root}/"' in reply.text
    assert '<collection href="AccountSet"><atom:title>AccountSet</atom:title></collection>' in reply.text
    assert (await world.get("", Accept="application/json")).d["EntitySets"][0] == "AccountSet"


async def test_the_metadata_document_is_served_as_it_was_given(world: Served) -> None:
    reply = await world.get("/$metadata", Accept="application/atomsvc+xml")
    assert reply.headers["Content-Type"].startswith("application/xml")
    async with served(metadata=reply.body + b"\n<!-- kept -->") as other:
        assert (await other.get("/$metadata")).body == reply.body + b"\n<!-- kept -->"


# Paging


async def pages(world: Served, path: str) -> list[list[str]]:
    """The keys of each page, following the links unaltered."""
    found = []
    next_link: str | None = world.root + path
    while next_link is not None:
        page = (await world.get(next_link)).d
        found.append([entity["__metadata"]["uri"] for entity in page["results"]])
        next_link = page.get("__next")
    return found


@pytest.mark.parametrize(
    ("query", "sizes"),
    [
        ("", [50, 1]),
        ("?$top=120", [50, 1]),
        ("?$top=51", [50, 1]),
        ("?$top=50", [50]),
        ("?$top=3", [3]),
        ("?$top=0", [0]),
        ("?$skip=1", [50]),
        ("?$skip=0&$top=50&", [50]),
        ("?$skip=51", [0]),
        ("?$skip=900", [0]),
        ("?$orderby=Name%20desc", [50, 1]),
        ("?$orderby=PrimaryContactId/Name,Address1_City%20desc,CreatedOn", [50, 1]),
        ("?$filter=Name%20eq%20null", [0]),
    ],
)
async def test_pages(world: Served, query: str, sizes: list[int]) -> None:
    found = await pages(world, f"/AccountSet{query}")
    assert [len(page) for page in found] == sizes
    uris = [uri for page in found for uri in page]
    assert len(set(uris)) == len(uris)


async def test_a_next_link_keeps_the_requests_order_and_spelling(world: Served) -> None:
    root = world.root.replace("XRMServices", "XrmServices")
    query = "_=17&$top=51&$orderby=Name+desc&&$skip=0&$select=Name&$filter=Name%20ne%20%27x%27&"
    page = (await world.get(f"{root}//AccountSet()?{query}")).d
    assert page["__next"].startswith(
        f"{root}//AccountSet()?$top=1&$orderby=Name+desc&$select=Name&$filter=Name%20ne%20%27x%27&$skiptoken=1,'name',"
    )
    assert page["results"][0]["__metadata"]["uri"].startswith(world.own_root + "/AccountSet(")


async def test_the_next_link_of_a_feed_is_its_last_child(world: Served) -> None:
    reply = await world.get("/AccountSet?$select=Name&$top=51", Accept="application/atom+xml")
    link = reply.text.rpartition("</entry>")[2]
    assert link.startswith(
        f'<link rel="next" href="{world.root}/AccountSet?$select=Name&amp;$top=1&amp;$skip'
    )
    assert link.endswith(" /></feed>")


async def test_a_cookie_does_not_freeze_the_list(world: Served) -> None:
    organisation = world.sandbox.organisation
    first = (await world.get("/AccountSet?$orderby=Name&$select=Name")).d
    assert first["results"][-1]["Name"] == "Account 50"
    last = uuid.UUID(first["results"][-1]["__metadata"]["uri"][-38:-2])
    organisation.remove("AccountSet", last)
    organisation.insert("AccountSet", {"Name": "Account 49b"})
    organisation.insert("AccountSet", {"Name": "Account 51"})
    rest = (await world.get(first["__next"])).d
    assert [entity["Name"] for entity in rest["results"]] == ["Account 51", "Café Adam Ltd"]


@pytest.mark.parametrize(("deep_skip", "status"), [("slow", 200), ("unlimited", 200), ("fails", 500)])
async def test_a_deep_skip_is_a_switch(deep_skip: str, status: int) -> None:
    async with served(rows=1, deep_skip=deep_skip) as world:
        reply = await world.get("/AccountSet?$skip=5001&$top=50")
        assert reply.status == status
        if status == 500:
            assert reply.error[1] == "-2147220715"
            assert "paging" in reply.text.lower()


# Refusals


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/AccountSet?$format=json", 400, "'$format' begins with a system-reserved '$'"),
        ("/AccountSet?$Filter=1", 400, "'$Filter' begins with"),
        ("/AccountSet?$inlinecount=allpages", 400, "row count"),
        ("/AccountSet/$count", 400, "row count"),
        ("/AccountSet?$top=1&$top=2", 400, "'$top' is specified, but it should be specified exactly once"),
        ("/AccountSet?$top=abc", 400, "Incorrect format for $top"),
        ("/AccountSet?$skip=-1", 400, "Incorrect format for $skip"),
        ("/AccountSet?$skiptoken=1", 400, "skip token"),
        (f"/AccountSet(guid'{FIRST}')?$top=1", 400, "cannot be applied"),
        ("/AccountSet?$select=Nmae", 400, "Could not find a property named 'Nmae'"),
        ("/AccountSet?$select=PrimaryContactId/Id", 400, "Could not find a property"),
        ("/AccountSet?$expand=Name", 400, "Could not find a property"),
        ("/AccountSet?$expand=account_primary_contact/Contact_Tasks", 400, "Could not find a property"),
        ("/AccountSet?$expand=a,b,c,d,e,f,g", 400, "maximum allowed is 6"),
        ("/AccountSet?$orderby=account_primary_contact/LastName", 400, "root entity"),
        ("/AccountSet?$orderby=" + ",".join(["Name"] * 13), 400, "12 columns"),
        ("/AccountSet?$orderby=Name,", 400, ""),
        ("/AccountSet?$filter=tolower(Name)%20eq%20%27x%27", 400, "'where'"),
        ("/AccountSet?$filter=Name%20eq", 400, ""),
        (f"/AccountSet(guid'{FIRST}')/account_primary_contact/Contact_Tasks", 400, "one navigation"),
        (f"/AccountSet(guid'{FIRST}')/Nmae", 404, "'Nmae'"),
        (f"/AccountSet(guid'{LAST}')/account_primary_contact", 404, "account_primary_contact"),
        ("/accountset", 404, "'accountset'"),
        ("/$batch", 404, "$batch"),
    ],
)
async def test_what_dynamics_refuses(world: Served, path: str, status: int, words: str) -> None:
    found, code, message = (await world.get(path)).error
    assert (found, code) == (status, "")
    assert words in message


async def test_counting_is_a_switch() -> None:
    async with served(rows=60, count="serve") as world:
        assert (await world.get("/AccountSet/$count")).body == b"60"
        page = (await world.get("/AccountSet?$inlinecount=allpages&$top=2")).d
        assert (page["__count"], len(page["results"])) == ("60", 2)
        feed = await world.get("/AccountSet?$inlinecount=allpages&$top=2", Accept="*/*")
        assert "<m:count>60</m:count>" in feed.text


@pytest.mark.parametrize(("switch", "status"), [(415, 415), (406, 406), ("atom", 200)])
async def test_a_format_that_cannot_be_written_is_a_switch(switch: Any, status: int) -> None:
    async with served(rows=1, accept_unknown=switch) as world:
        assert (await world.get("/AccountSet", Accept="image/png")).status == status


async def test_sets_can_be_forbidden() -> None:
    async with served(rows=3, forbidden_sets=frozenset({"ContactSet"})) as world:
        key = world.sandbox.organisation.keys("AccountSet")[0]
        for path in ("/ContactSet", "/AccountSet?$expand=account_primary_contact"):
            assert (await world.get(path)).error[:2] == (403, "-2147220960")
        assert (await world.get(f"/AccountSet(guid'{key}')/contact_customer_accounts")).status == 403
        assert (await world.get("/AccountSet")).status == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("MaxDataServiceVersion", "1.0"),
        ("DataServiceVersion", "3.0;NetFx"),
        ("If-None-Match", '"x"'),
        ("If-Match", "*"),
    ],
)
async def test_headers_that_ask_for_what_is_not_there(world: Served, header: str, value: str) -> None:
    assert (await world.get("/AccountSet?$top=1", **{header: value})).status == 400
    assert (await world.get("/AccountSet?$top=1", MaxDataServiceVersion="2.0;NetFx")).status == 200


# Projections, expansions, navigation


async def test_select_gives_the_order_and_nothing_else(world: Served) -> None:
    entity = (await world.get(f"/AccountSet(guid'{FIRST}')?$select=StatusCode,,Name,StatusCode")).d
    assert list(entity) == ["__metadata", "StatusCode", "Name"]


async def test_an_expanded_entity_stands_where_its_link_would(world: Served) -> None:
    query = "$expand=account_primary_contact&$select=Name,account_primary_contact/LastName"
    first, second = (await world.get(f"/AccountSet?{query}&$top=2")).d["results"]
    assert list(first) == ["__metadata", "Name", "account_primary_contact"]
    assert first["account_primary_contact"] == {
        "__metadata": {"uri": f"{world.own_root}/ContactSet(guid'{ADA}')", "type": f"{NS}.Contact"},
        "LastName": "Byron",
    }
    assert second["account_primary_contact"] is None
    whole = (await world.get(f"/AccountSet(guid'{FIRST}')?$expand=account_primary_contact")).d
    assert whole["account_primary_contact"]["FullName"] == "Ada Byron"
    assert "__deferred" in whole["account_primary_contact"]["Contact_Tasks"]
    only = (await world.get(f"/AccountSet(guid'{FIRST}')?$expand=account_primary_contact&$select=Name")).d
    assert list(only) == ["__metadata", "Name"]


async def test_an_expanded_entity_in_atom(world: Served) -> None:
    query = "$expand=account_primary_contact&$select=Name,account_primary_contact/LastName"
    feed = (await world.get(f"/AccountSet?{query}&$top=2", Accept="*/*")).text
    first, second = feed.split("<entry><id>" + world.own_root + "/AccountSet")[1:]
    inline = first.partition("<m:inline>")[2].partition("</m:inline>")[0]
    assert "<m:properties><d:LastName>Byron</d:LastName></m:properties>" in inline
    assert "<m:inline /></link>" in second


async def test_an_expanded_collection_has_pages_of_its_own(world: Served) -> None:
    for number in range(51):
        parent = {"Id": FIRST, "LogicalName": "account"}
        world.sandbox.organisation.insert(
            "ContactSet", {"LastName": f"{number:02}", "ParentCustomerId": parent}
        )
    query = "$expand=contact_customer_accounts&$select=contact_customer_accounts/LastName"
    nested = (await world.get(f"/AccountSet(guid'{FIRST}')?{query}")).d["contact_customer_accounts"]
    assert len(nested["results"]) == 50
    path = f"{world.root}/AccountSet(guid'{FIRST}')/contact_customer_accounts"
    assert nested["__next"].startswith(f"{path}?$select=LastName&$skiptoken=1,'contactid',")
    rest = (await world.get(nested["__next"])).d["results"]
    names = [entity["LastName"] for entity in nested["results"] + rest]
    assert sorted(names) == [f"{number:02}" for number in range(51)]


async def test_navigation_leads_one_step(world: Served) -> None:
    contact = (await world.get(f"/AccountSet(guid'{FIRST}')/account_primary_contact?$select=FullName")).d
    assert contact["__metadata"]["uri"] == f"{world.own_root}/ContactSet(guid'{ADA}')"
    path = f"/ContactSet(guid'{ADA}')/account_primary_contact"
    [account] = (await world.get(f"{path}?$select=Name&$filter=Name%20ne%20null")).d["results"]
    assert account["Name"] == "Café Adam Ltd"
    assert (await world.get(f"{path}(guid'{FIRST}')?$select=Name")).d["Name"] == "Café Adam Ltd"
    assert (await world.get(f"{path}(guid'{LAST}')")).status == 404


async def test_properties_and_raw_values(world: Served) -> None:
    account = f"/AccountSet(guid'{FIRST}')"
    assert (await world.get(f"{account}/Name")).text == '{"d":{"Name":"Caf\\u00e9 Adam Ltd"}}'
    assert (await world.get(f"{account}/PrimaryContactId")).d["PrimaryContactId"]["Name"] == "Ada Byron"
    assert (await world.get(f"{account}/PrimaryContactId/Id")).d == {"Id": str(ADA)}
    raw = await world.get(f"{account}/Name/$value", Accept="*/*")
    assert (raw.headers["Content-Type"], raw.text) == ("text/plain;charset=utf-8", "Café Adam Ltd")
    assert (await world.get(f"{account}/CreditLimit/Value/$value")).body == b"1000.0000"
    assert (await world.get(f"{account}/Fax/$value")).status == 404
    xml = await world.get(f"{account}/ModifiedOn", Accept="application/xml")
    assert 'm:type="Edm.DateTime">2016-08-25T16:00:00Z</ModifiedOn>' in xml.text


async def test_links_are_urls_in_the_servers_spelling(world: Served) -> None:
    path = f"/AccountSet(guid'{FIRST}')/$links/account_primary_contact"
    uri = f"{world.own_root}/ContactSet(guid'{ADA}')"
    assert (await world.get(path)).d == {"uri": uri}
    services = "http://schemas.microsoft.com/ado/2007/08/dataservices"
    assert f'<uri xmlns="{services}">{uri}</uri>' in (await world.get(path, Accept="*/*")).text
    many = (await world.get(f"/ContactSet(guid'{ADA}')/$links/account_primary_contact")).d
    assert many == {"results": [{"uri": f"{world.own_root}/AccountSet(guid'{FIRST}')"}]}


async def test_the_servers_own_root_may_be_another_origin() -> None:
    async with served(rows=60, root="foreign_origin") as world:
        page = (await world.get("/AccountSet?$select=Name")).d
        own = "https://crm.example.org/xrmservices/2011/OrganizationData.svc/AccountSet("
        assert page["results"][0]["__metadata"]["uri"].startswith(own)
        assert page["__next"].startswith(f"{world.root}/AccountSet?")


async def test_what_is_shown_is_what_is_there_now(world: Served) -> None:
    path = f"/AccountSet(guid'{FIRST}')"
    before = (await world.get(path)).body
    assert (await world.get(path)).body == before
    organisation = world.sandbox.organisation
    organisation.change("ContactSet", ADA, {"LastName": "Lovelace"})
    renamed = (await world.get(path)).body
    assert renamed == before.replace(b"Ada Byron", b"Ada Lovelace")
    organisation.change("AccountSet", FIRST, {"Fax": "1"}, modified_on="keep")
    assert (await world.get(path)).body == renamed.replace(b'"Fax":null', b'"Fax":"1"')
    organisation.remove("ContactSet", ADA)
    assert (await world.get(path)).d["PrimaryContactId"]["Id"] is None


@pytest.mark.parametrize("path", [f"/AccountSet(guid'{FIRST}')", "/AccountSet?$select=Name,Fax"])
async def test_atom_shows_the_moment_of_rendering_and_the_content_of_that_moment(
    world: Served, path: str
) -> None:
    before = (await world.get(path, Accept="*/*")).text
    world.sandbox.clock.advance(61)
    later = (await world.get(path, Accept="*/*")).text
    noon = "<updated>2016-08-25T16:00:00Z</updated>"
    assert noon in before
    assert later == before.replace(noon, "<updated>2016-08-25T16:01:01Z</updated>")
    world.sandbox.organisation.change("AccountSet", FIRST, {"Fax": "1"}, modified_on="keep")
    changed = (await world.get(path, Accept="*/*")).text
    assert changed == later.replace('<d:Fax m:null="true" />', "<d:Fax>1</d:Fax>", 1)
