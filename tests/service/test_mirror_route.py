"""The mirror's own answers: equal to those of a server that has all of OData v2, and given without it.

The sandbox is such a server with `language="v2"` and `count="serve"`: what it says directly is what the
mirror route says from Postgres, roots and the moment of rendering aside.
"""

from __future__ import annotations

import random
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from relay import relayed
from world import Answer, World, world

from proxy.reconcile import entities
from proxy.sandbox import Fault, Switches

# One world is shared by the tests that only read, so all of them live in one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SETS = (
    "AccountSet",
    "ContactSet",
    "SystemUserSet",
    "CustomerAddressSet",
    "TaskSet",
    "TeamSet",
    "TeamMembershipSet",
    "BusinessUnitSet",
    "optevia_sectorSet",
)
V2 = Switches(language="v2", count="serve")
FORMATS = ["application/json", "application/atom+xml"]
ALONE = {"Cache_Control": "only-if-cached"}
NOBODY = "guid'00000000-0000-0000-0000-0000000000ff'"
UPDATED = re.compile("<updated>[^<]*</updated>")
TOKEN = re.compile(r"\$skiptoken=[^\"<]*")

# `{a}`: an account with a primary contact and contacts; `{c}`: that contact; `{t}`: a team with members;
# `{n}`: an account without a primary contact; `{u}`: the user who made the most accounts.
BOTH_ANSWER = [
    "",
    "/",
    "/$metadata",
    # Keys and entities
    "/AccountSet({a})",
    "//AccountSet({a})/",
    "/AccountSet(AccountId={a})",
    "/AccountSet%28{a}%29",
    f"/AccountSet({NOBODY[:5]}{{{{8F2C}}}}')",
    "/AccountSet({a})?$select=Name",
    "/AccountSet({a})?$select=ModifiedOn,Name,PrimaryContactId,Revenue",
    "/AccountSet({a})?$select=*",
    "/AccountSet({a})?$select=Name,account_primary_contact",
    "/AccountSet({a})?custom=1&_=2",
    # Expansion
    "/AccountSet({a})?$expand=account_primary_contact",
    "/AccountSet({n})?$expand=account_primary_contact",
    "/AccountSet({a})?$expand=contact_customer_accounts",
    "/AccountSet({a})?$expand=account_primary_contact,user_accounts,contact_customer_accounts",
    "/AccountSet({a})?$expand=account_primary_contact&$select=Name",
    "/AccountSet({a})?$expand=account_primary_contact&$select=Name,account_primary_contact",
    "/AccountSet({a})?$expand=account_primary_contact&$select=account_primary_contact/FullName,Name",
    "/AccountSet({a})?$expand=contact_customer_accounts&$select=contact_customer_accounts/FullName",
    "/AccountSet?$expand=user_accounts&$top=20",
    "/AccountSet?$expand=contact_customer_accounts&$select=Name,contact_customer_accounts/LastName",
    "/TeamSet?$expand=teammembership_association",
    "/ContactSet?$expand=contact_customer_accounts,Referencingcontact_customer_contacts",
    "/AccountSet({a})?$expand=account_primary_contact/contact_customer_accounts",
    "/AccountSet?$expand=contact_customer_accounts/account_primary_contact,user_accounts&$top=5",
    "/AccountSet?$expand=contact_customer_accounts/account_primary_contact"
    "&$select=Name,contact_customer_accounts/FullName,contact_customer_accounts/account_primary_contact/Name",
    "/AccountSet?$expand=contact_customer_accounts/account_primary_contact&$select=contact_customer_accounts",
    "/AccountSet({a})?$expand=account_primary_contact&$select=account_primary_contact/*",
    # Navigation
    "/AccountSet({a})/account_primary_contact",
    "/AccountSet({a})/account_primary_contact?$select=FullName",
    "/AccountSet({a})/account_primary_contact?$expand=account_primary_contact",
    "/AccountSet({n})/account_primary_contact",
    "/AccountSet({a})/contact_customer_accounts",
    "/AccountSet({a})/contact_customer_accounts({c})",
    "/AccountSet({a})/contact_customer_accounts?$filter=startswith(LastName,'B')%20eq%20false",
    "/AccountSet({a})/contact_customer_accounts?$orderby=FullName%20desc&$top=1&$skip=1",
    "/AccountSet({a})/contact_customer_accounts/$count",
    "/TeamSet({t})/teammembership_association",
    "/TeamSet({t})/teammembership_association/$count",
    # Properties and values
    "/AccountSet({a})/Name",
    "/AccountSet({a})/AccountId",
    "/AccountSet({a})/ModifiedOn",
    "/AccountSet({a})/NumberOfEmployees",
    "/AccountSet({a})/PrimaryContactId",
    "/AccountSet({n})/PrimaryContactId",
    "/AccountSet({n})/PrimaryContactId/Name",
    "/AccountSet({a})/PrimaryContactId/Id",
    "/AccountSet({a})/Revenue/Value",
    "/AccountSet({a})/account_primary_contact/FullName",
    "/AccountSet({a})/Name/$value",
    "/AccountSet({a})/ModifiedOn/$value",
    "/AccountSet({a})/StateCode/Value/$value",
    "/AccountSet({a})/PrimaryContactId/Id/$value",
    # Links
    "/AccountSet({a})/$links/account_primary_contact",
    "/AccountSet({a})/$links/contact_customer_accounts",
    "/AccountSet({a})/$links/contact_customer_accounts({c})",
    "/TeamSet({t})/$links/teammembership_association",
    # Collections
    "/AccountSet",
    "/AccountSet()?$top=3",
    "/AccountSet?$top=0",
    "/AccountSet?$skip=5&$top=5",
    "/AccountSet?$skip=1000",
    "/AccountSet?$select=Name,AccountId&$orderby=Name",
    "/AccountSet?$orderby=Name%20desc,ModifiedOn",
    "/ContactSet?$orderby=LastName,FirstName%20desc&$select=FullName",
    "/ContactSet?$filter=",
    "/AccountSet?$filter=Name%20ne%20null%20and%20StateCode/Value%20eq%200",
    "/AccountSet?$filter=AccountId%20eq%20{a}",
    "/AccountSet?$filter=PrimaryContactId/Id%20eq%20{c}",
    "/AccountSet?$filter=year(ModifiedOn)%20ge%202013%20and%20month(CreatedOn)%20lt%207",
    "/AccountSet?$filter=length(Name)%20gt%2010&$select=Name",
    "/AccountSet?$filter=account_primary_contact/FullName%20ne%20null&$select=Name",
    "/AccountSet?$filter=startswith(tolower(Name),'a')%20or%20NumberOfEmployees%20add%201%20gt%20100",
    "/AccountSet?$inlinecount=allpages&$top=2",
    "/AccountSet?$inlinecount=none&$top=2",
    "/AccountSet?$inlinecount=allpages&$filter=StateCode/Value%20eq%201",
    "/AccountSet/$count",
    "/AccountSet/$count?$filter=StateCode/Value%20eq%200",
    # Spellings
    "/AccountSet?&$top=2&",
    "/AccountSet?%24select=Name%2CAccountId&%24top=2",
    "/AccountSet({a})?$select=Name,+AccountId",
    "/AccountSet?$filter=substringof('%27%27',Name)&$select=Name",
    "/AccountSet?$filter=Name+ne+'O''Neill+%26+caf%C3%A9'&$select=Name",
    "/AccountSet?$filter=%28Name%20ne%20%27a%2Bb%27%29&$select=Name",
    "/AccountSet?$filter=AccountId%20ne%20(guid'{{8F2C6A50-0D61-E611-80C5-00155D010A01}}')&$select=Name",
    # Whom both refuse, with the same status
    "/WidgetSet",
    "/AccountSet(guid'1234')",
    "/AccountSet({a})/Nothing",
    "/AccountSet({a})/Name/More",
    "/AccountSet({a})/$value",
    "/AccountSet({n})/PrimaryContactId/Id/$value",
    "/AccountSet({a})/PrimaryContactId/$value",
    "/AccountSet({n})/$links/account_primary_contact",
    "/AccountSet({a})/contact_customer_accounts({a})",
    f"/AccountSet({NOBODY})",
    f"/AccountSet({NOBODY})/contact_customer_accounts",
    f"/AccountSet({NOBODY})/Name",
    "/AccountSet({a})?$filter=Name%20eq%20'x'",
    "/AccountSet({a})?$top=1",
    "/AccountSet?$top=-1",
    "/AccountSet?$nothing=1",
    "/AccountSet?$top=1&$top=2",
    "/AccountSet?$inlinecount=some",
    "/AccountSet?$select=Nothing",
    "/AccountSet?$expand=Nothing",
    "/AccountSet?$filter=Nothing%20eq%201",
    "/AccountSet?$filter=Name%20eq",
    "/AccountSet?$filter=Name",
    "/AccountSet?$filter=nothing(Name)%20eq%201",
    "/AccountSet?$orderby=Nothing",
    "/AccountSet?$skiptoken=nonsense",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(databases: Any, template: str) -> AsyncIterator[World]:
    """A mirror that holds all of a small organisation, for tests that only read."""
    with databases.database(template) as url:
        async with world(url, switches=V2, rows=20) as place:
            await place.fill(*SETS)
            for name in SETS:  # titles are learned from Atom
                await place.ask(f"/{name}", Accept=FORMATS[1])
            await place.idle()
            yield place


@pytest_asyncio.fixture(loop_scope="module")
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, switches=V2, rows=20) as made:
        yield made


def named(place: World) -> dict[str, str]:
    """Literals for the corpus' placeholders."""
    organisation = place.sandbox.organisation
    rows = [
        (key, organisation.entity("AccountSet", key)["PrimaryContactId"])
        for key in organisation.keys("AccountSet")
    ]
    parents = {
        (organisation.entity("ContactSet", key)["ParentCustomerId"] or {}).get("Id"): key
        for key in organisation.keys("ContactSet")
    }
    account, contact = next((key, parents[key]) for key, primary in rows if primary and key in parents)
    without = next(key for key, primary in rows if not primary)
    team = organisation.keys("TeamSet")[0]
    creators = Counter(
        organisation.entity("AccountSet", key)["CreatedBy"]["Id"] for key in organisation.keys("AccountSet")
    )
    ((user, _),) = creators.most_common(1)
    return {
        letter: f"guid'{key}'"
        for letter, key in zip("acntu", (account, contact, without, team, user), strict=True)
    }


class Clock:
    """The proxy's own clock, which stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def comparable(text: str) -> str:
    return TOKEN.sub("$skiptoken=", UPDATED.sub("", text))


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("path", BOTH_ANSWER)
async def test_the_mirror_says_what_a_server_of_all_of_v2_says(filled: World, path: str, accept: str) -> None:
    path = path.format(**named(filled))
    direct = await filled.ask(path, direct=True, Accept=accept)
    filled.clear()
    own = await filled.mirror(path, Accept=accept)
    alone = await filled.ask(path, Accept=accept, **ALONE)
    assert filled.upstream_requests() == []
    assert own.status == direct.status, own.text
    if own.status == 200:
        assert comparable(own.text) == comparable(filled.at_mirror(direct.text))
        # Where no entity shows how upstream spells its root, it is spelled as the client did.
        assert comparable(alone.text).replace("/xrmservices/", "/XRMServices/") == comparable(
            filled.rooted(direct.text)
        ).replace("/xrmservices/", "/XRMServices/")
        for answer in (own, alone):
            assert answer.cache == "syncpoint; hit"
            for name in ("Content-Type", "DataServiceVersion", "Cache-Control"):
                assert answer.headers[name] == direct.headers[name], name
    else:
        for answer in (own, alone):
            assert answer.headers["Content-Type"] == direct.headers["Content-Type"]
            assert "Proxy-Status" in answer.headers
        assert alone.status in (own.status, 504)


async def test_nothing_is_said_to_be_there_where_a_lookup_is_null(filled: World) -> None:
    """Not held and not existing are told apart where the entity itself says which."""
    path = "/AccountSet({n})".format(**named(filled))
    for below in ("/account_primary_contact", "/$links/account_primary_contact"):
        for answer in (await filled.mirror(path + below), await filled.ask(path + below, **ALONE)):
            assert (answer.status, code_of(answer)) == (404, "Syncpoint.ReadRefused")


# What upstream cannot answer, or answers otherwise


@pytest.mark.parametrize("accept", FORMATS)
async def test_paths_go_on_for_several_segments(filled: World, accept: str) -> None:
    names = named(filled)
    path = "/AccountSet({a})/account_primary_contact".format(**names)
    parent = await filled.mirror(f"{path}/contact_customer_accounts", Accept=accept)
    company = (await filled.mirror(f"{path}/ParentCustomerId/Id/$value")).text
    assert comparable(parent.text) == comparable(
        (await filled.mirror(f"/AccountSet(guid'{company}')", Accept=accept)).text
    )
    further = await filled.mirror(
        f"{path}/contact_customer_accounts/contact_customer_accounts?$inlinecount=allpages", Accept=accept
    )
    same = await filled.mirror(
        f"/AccountSet(guid'{company}')/contact_customer_accounts?$inlinecount=allpages", Accept=accept
    )
    assert comparable(further.text) == comparable(same.text)
    assert further.status == 200


async def test_links_can_be_counted_filtered_and_paged(filled: World) -> None:
    path = "/SystemUserSet({u})/$links/lk_accountbase_createdby".format(**named(filled))
    links = (await filled.mirror(path)).json()["d"]["results"]
    assert (await filled.mirror(f"{path}/$count")).text == str(len(links))
    assert len(links) > 1
    counted = (await filled.mirror(f"{path}?$top=1&$inlinecount=allpages")).json()["d"]
    assert counted == {"results": links[:1], "__count": str(len(links))}
    skipped = (await filled.mirror(f"{path}?$skip=1")).json()["d"]["results"]
    assert skipped == links[1:]


async def test_a_count_minds_skip_and_top(filled: World) -> None:
    assert (await filled.mirror("/AccountSet/$count")).text == "20"
    assert (await filled.mirror("/AccountSet/$count?$skip=5")).text == "15"
    assert (await filled.mirror("/AccountSet/$count?$skip=50")).text == "0"
    assert (await filled.mirror("/AccountSet/$count?$skip=5&$top=7")).text == "7"


async def test_expansions_nest_and_are_selected_through(filled: World) -> None:
    query = (
        "$expand=account_primary_contact/contact_customer_accounts,user_accounts"
        "&$select=Name,account_primary_contact/FullName,"
        "account_primary_contact/contact_customer_accounts/Name,user_accounts/FullName"
    )
    path = "/AccountSet({a})".format(**named(filled))
    shown = (await filled.mirror(f"{path}?{query}")).json()["d"]
    assert list(shown) == ["__metadata", "Name", "account_primary_contact", "user_accounts"]
    contact = shown["account_primary_contact"]
    assert list(contact) == ["__metadata", "FullName", "contact_customer_accounts"]
    company = contact["contact_customer_accounts"]
    assert list(company) == ["__metadata", "Name"]
    parent = await filled.mirror(f"{path}/account_primary_contact/contact_customer_accounts")
    assert company["Name"] == parent.json()["d"]["Name"]
    entry = ElementTree.fromstring((await filled.mirror(f"{path}?{query}", Accept=FORMATS[1])).body)
    names = [element.text for element in entry.iter() if element.tag.endswith("}Name")]
    assert names == [company["Name"], shown["Name"]]


@pytest_asyncio.fixture(loop_scope="module")
async def many(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, switches=V2, rows=130, limits__mirror_page=120) as made:
        await made.fill("AccountSet", "SystemUserSet")
        yield made


async def results(place: World, url: str) -> tuple[list[Any], str | None]:
    answer = await place.send(url, headers={"Accept": "application/json"})
    assert answer.status == 200, answer.text
    return answer.json()["d"]["results"], answer.json()["d"].get("__next")


async def test_pages_hold_fifty_and_lead_on(many: World) -> None:
    query = "$select=Name&$orderby=Name desc&$filter=Name ne null&x=1&$format=json".replace(" ", "%20")
    url: str | None = f"{many.mirror_root}/AccountSet?$skip=10&{query}"
    pages = []
    while url is not None:
        page, url = await results(many, url)
        pages.append(page)
        if url is not None:
            kept = query.replace("&x=1", "")
            assert url.startswith(f"{many.mirror_root}/AccountSet?{kept}&$skiptoken=")
    assert [len(page) for page in pages] == [50, 50, 20]
    together, _ = await results(many, f"{many.mirror_root}/AccountSet?$skip=10&$top=120&{query}")
    assert [row["Name"] for page in pages for row in page] == [row["Name"] for row in together]
    assert len({row["__metadata"]["uri"] for row in together}) == 120


async def test_top_is_one_page_up_to_the_limit(many: World) -> None:
    page, following = await results(many, f"{many.mirror_root}/AccountSet?$top=120")
    assert (len(page), following) == (120, None)
    refused = await many.mirror("/AccountSet?$top=121")
    assert refused.status == 400
    assert "limits.mirror_page is 120" in refused.json()["error"]["message"]["value"]
    alone = await many.ask("/AccountSet", **ALONE)
    assert alone.json()["d"]["__next"].startswith(f"{many.proxy_root}/AccountSet?$skiptoken=")


async def test_an_expanded_collection_is_a_page_with_a_link_of_its_own(many: World) -> None:
    organisation = many.sandbox.organisation
    user = organisation.keys("SystemUserSet")[0]
    owner = {"Id": user, "LogicalName": "systemuser"}
    for key in organisation.keys("AccountSet")[:60]:
        organisation.change("AccountSet", key, {"OwningUser": owner})
    await many.ask("/AccountSet?$top=50", Cache_Control="no-cache")
    await many.fill("AccountSet")
    path = f"/SystemUserSet(guid'{user}')"
    query = "?$expand=user_accounts&$select=FullName,user_accounts/Name"
    inner = (await many.mirror(path + query)).json()["d"]["user_accounts"]
    counted = int((await many.mirror(f"{path}/user_accounts/$count")).text)
    assert (len(inner["results"]), counted >= 60) == (50, True)
    assert inner["__next"].startswith(f"{many.mirror_root}{path}/user_accounts?$select=Name&$skiptoken=")
    rest, following = await results(many, inner["__next"])
    assert (len(rest), following) == (counted - 50, None)
    assert list(rest[0]) == ["__metadata", "Name"]
    uris = {row["__metadata"]["uri"] for row in (*inner["results"], *rest)}
    assert len(uris) == counted


# What is not there, not sure, or not to be had


def code_of(answer: Answer) -> str:
    return str(answer.json()["error"]["code"])


def message_of(answer: Answer) -> str:
    return str(answer.json()["error"]["message"]["value"])


async def test_what_is_not_held_is_missing_here_and_not_said_to_be_there(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    for below in (path, f"{path}/Name", f"{path}/contact_customer_accounts", f"{path}/$links/user_accounts"):
        own = await place.mirror(below)
        assert (own.status, code_of(own)) == (404, "Syncpoint.ReadRefused")
        alone = await place.ask(below, **ALONE)
        assert (alone.status, code_of(alone)) == (504, "Syncpoint.NotInMirror")
    assert (await place.mirror("/AccountSet")).json() == {"d": {"results": []}}
    empty = await place.mirror("/AccountSet", Accept=FORMATS[1])
    assert f'xml:base="{place.mirror_root}/"' in empty.text
    assert place.upstream_requests() == []


async def test_an_expanded_entity_that_is_not_held_is_deferred_rather_than_null(place: World) -> None:
    organisation = place.sandbox.organisation
    key = next(
        key
        for key in organisation.keys("AccountSet")
        if organisation.entity("AccountSet", key)["PrimaryContactId"]
    )
    path = f"/AccountSet(guid'{key}')"
    await place.ask(path)
    query = "?$expand=account_primary_contact,Referencingaccount_parent_account"
    shown = (await place.mirror(path + query)).json()["d"]
    uri = f"{place.mirror_root}{path}/account_primary_contact"
    assert shown["account_primary_contact"] == {"__deferred": {"uri": uri}}
    assert (await place.mirror(f"{path}/account_primary_contact")).status == 404
    assert (await place.ask(f"{path}/account_primary_contact", **ALONE)).status == 504
    parent = organisation.entity("AccountSet", key)["ParentAccountId"]
    if not parent:
        assert shown["Referencingaccount_parent_account"] is None


async def test_a_deleted_entity_is_missing(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.fill("AccountSet")
    assert (await place.ask(path, "DELETE")).status == 204
    await place.idle()
    assert (await place.mirror(path)).status == 404
    assert (await place.ask(path, **ALONE)).status == 504
    assert (await place.mirror("/AccountSet/$count")).text == "19"


async def test_a_write_of_unknown_outcome_is_504_by_key_and_flagged_in_lists(place: World) -> None:
    await place.fill("AccountSet", "SystemUserSet")
    key = place.a_key("AccountSet")
    path = f"/AccountSet(guid'{key}')"
    place.sandbox.faults.add(Fault(kind="applied_no_answer", method="MERGE"))
    assert (await place.merge(path, '{"Name":"Perhaps"}')).status == 504
    for ask in (place.mirror, partial(place.ask, **ALONE)):
        by_key = await ask(path)
        assert (by_key.status, code_of(by_key)) == (504, "Syncpoint.NotInMirror")
        assert key in message_of(by_key)
        assert (await ask(f"{path}/Name")).status == 504
        listed = await ask("/AccountSet")
        assert listed.cache == "syncpoint; hit; detail=unsettled"
        assert len(listed.json()["d"]["results"]) == 20
        others = await ask(f"/AccountSet?$filter=AccountId%20ne%20guid'{key}'")
        assert others.cache == "syncpoint; hit"
    user = place.sandbox.organisation.entity("AccountSet", uuid.UUID(key))["OwningUser"]["Id"]
    expanded = await place.mirror(f"/SystemUserSet(guid'{user}')?$expand=user_accounts")
    assert expanded.cache == "syncpoint; hit; detail=unsettled"


async def test_an_open_conflict_is_409_by_key_and_flagged_in_lists(place: World) -> None:
    await place.fill("AccountSet")
    key = place.sandbox.organisation.keys("AccountSet")[0]
    path = f"/AccountSet(guid'{key}')"
    older = place.sandbox.organisation.entity("AccountSet", key)["ModifiedOn"].replace(year=2001)
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Restored"}, modified_on=older)
    assert (await place.ask(path)).status == 409
    own = await place.mirror(path)
    assert (own.status, code_of(own)) == (409, "Syncpoint.SyncConflict")
    assert (await place.mirror("/AccountSet")).cache == "syncpoint; hit; detail=unsettled"


async def test_the_answer_is_as_old_as_the_oldest_entity_in_it(database_url: str) -> None:
    clock = Clock()
    async with world(database_url, switches=V2, rows=3, now=clock) as place:
        first, second = (f"/AccountSet(guid'{place.a_key('AccountSet', number)}')" for number in (0, 1))
        await place.ask(first)
        clock.now += timedelta(seconds=100)
        await place.ask(second)
        clock.now += timedelta(seconds=7)
        assert (await place.mirror(first)).headers["Age"] == "107"
        assert (await place.mirror(second)).headers["Age"] == "7"
        assert (await place.mirror("/AccountSet")).headers["Age"] == "107"
        assert (await place.mirror(f"{second}/Name")).headers["Age"] == "7"
        assert "Age" not in (await place.mirror("/AccountSet/$count")).headers
        for path, limit, status in (
            (second, 7, 504),
            (second, 8, 200),
            ("/AccountSet", 107, 504),
            ("/AccountSet", 108, 200),
            ("/AccountSet/$count", 1000, 504),
        ):
            aged = await place.ask(path, Cache_Control=f"only-if-cached, max-age={limit}")
            assert aged.status == status, (path, limit)


async def test_who_shows_credentials_is_answered_by_upstream_only(place: World) -> None:
    await place.fill("AccountSet")
    for path in ("/AccountSet", f"/AccountSet(guid'{place.a_key('AccountSet')}')", "/AccountSet/$count"):
        assert (await place.ask(path, **ALONE)).status == 200
        for name in ("Authorization", "Cookie"):
            refused = await place.ask(path, **ALONE, **{name: "Basic x"})
            assert (refused.status, code_of(refused)) == (504, "Syncpoint.NotInMirror")


async def test_a_set_that_is_forwarded_is_held_and_not_vouched_for(database_url: str) -> None:
    policy = {"sets.AccountSet.mode": "forward"}
    async with world(database_url, switches=V2, rows=3, **policy) as place:
        await place.fill("AccountSet")
        await place.fill("SystemUserSet")
        user = f"/SystemUserSet(guid'{place.a_key('SystemUserSet')}')"
        for path in ("/AccountSet", f"{user}/user_accounts", f"{user}?$expand=user_accounts"):
            assert (await place.ask(path, **ALONE)).status == 504
            assert (await place.mirror(path)).status == 200
        assert (await place.ask(f"{user}?$expand=user_accounts&$select=FullName", **ALONE)).status == 200
        assert len((await place.mirror("/AccountSet")).json()["d"]["results"]) == 3


async def test_without_a_database_the_mirror_says_so(database_url: str) -> None:
    async with relayed(database_url) as relay, world(relay.url, rows=3) as place:
        await place.fill("AccountSet")
        await relay.down()
        for path in ("/AccountSet", "/AccountSet/$count", "/$metadata"):
            for answer in (await place.mirror(path), await place.ask(path, **ALONE)):
                assert (answer.status, code_of(answer)) == (504, "Syncpoint.NotInMirror")
                assert "database" in message_of(answer)
        assert (await place.mirror("/WidgetSet")).status == 404


async def test_before_there_is_a_metadata_document_the_mirror_says_so(database_url: str) -> None:
    nobody = {"upstream.service_root": "http://127.0.0.1:1/root.svc"}
    async with world(database_url, rows=3, **nobody) as place:
        answer = await place.mirror("/AccountSet")
        assert (answer.status, code_of(answer)) == (504, "Syncpoint.NotInMirror")
        assert "metadata" in message_of(answer)


async def test_upstream_is_not_needed(database_url: str) -> None:
    async with world(database_url, rows=3) as before:
        await before.fill("AccountSet")
        root_path = urlsplit(before.direct_root).path
        page = (await before.mirror("/AccountSet")).text
        mirror_root = before.mirror_root
    gone = {"upstream.service_root": f"http://127.0.0.1:1{root_path}"}
    async with world(database_url, rows=3, **gone) as place:
        assert (await place.mirror("/AccountSet")).text == page.replace(mirror_root, place.mirror_root)
        assert (await place.mirror("/$metadata")).status == 200


async def test_a_reply_has_a_limit(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters, those of entities that stand in several places as often as they do."""
    page = (await filled.mirror("/AccountSet")).text
    monkeypatch.setattr(entities, "REPLY_LIMIT", len(page) * 3)
    assert (await filled.mirror("/AccountSet")).status == 200
    refused = await filled.mirror("/AccountSet?$expand=" + "/".join(["business_unit_accounts"] * 5))
    assert (refused.status, code_of(refused)) == (400, "Syncpoint.ReadRefused")
    assert "larger than the limit" in message_of(refused)


# Formats and methods


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "application/json", "application/json;charset=utf-8"),
        ("", "*/*", "application/atom+xml;charset=utf-8"),
        ("", "application/json;q=0.5, application/atom+xml;q=0.4", "application/json;charset=utf-8"),
        ("", "application/json;q=0.5, */*", "application/atom+xml;charset=utf-8"),
        ("?$format=json", "*/*", "application/json;charset=utf-8"),
        ("?$format=atom", "application/json", "application/atom+xml;charset=utf-8"),
        ("?%24format=JSON", "text/plain", "application/json;charset=utf-8"),
    ],
)
async def test_formats_are_negotiated(filled: World, query: str, accept: str, content_type: str) -> None:
    for path in ("/AccountSet", "/AccountSet({a})".format(**named(filled))):
        for answer in (
            await filled.mirror(path + query, Accept=accept),
            await filled.ask(path + query, Accept=accept, **ALONE),
        ):
            assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/AccountSet", {"Accept": "text/plain"}, 406),
        ("/AccountSet?$format=csv", {}, 415),
        ("/AccountSet", {"DataServiceVersion": "3.0"}, 400),
        ("/AccountSet", {"MaxDataServiceVersion": "1.0;NetFx"}, 400),
        ("/AccountSet", {"MaxDataServiceVersion": "2.0;NetFx", "DataServiceVersion": "1.0;NetFx"}, 200),
        ("/AccountSet/$count", {"Accept": "text/plain"}, 200),
        ("/$metadata", {"Accept": "application/json"}, 200),
    ],
)
async def test_what_a_client_cannot_take_is_not_sent(
    filled: World, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await filled.send(filled.mirror_root + path, headers={"Accept": "application/json", **headers})
    assert answer.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "MERGE", "DELETE", "PATCH", "OPTIONS"])
async def test_the_mirror_is_not_written(filled: World, method: str) -> None:
    for accept in FORMATS:
        answer = await filled.mirror(
            "/AccountSet({a})".format(**named(filled)), method, body=b"{}", Accept=accept
        )
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert "main listener" in answer.text
        assert answer.headers["Content-Type"].startswith(
            "application/json" if "json" in accept else "application/xml"
        )


async def test_a_batch_is_posted(filled: World) -> None:
    answer = await filled.mirror("/$batch")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_head_is_a_get_without_its_body(filled: World) -> None:
    got = await filled.mirror("/AccountSet?$top=2")
    headed = await filled.mirror("/AccountSet?$top=2", "HEAD")
    assert (headed.status, headed.body) == (200, b"")
    assert headed.headers["Content-Length"] == str(len(got.body))


async def test_a_request_is_named_and_told_of(filled: World, capfd: pytest.CaptureFixture[str]) -> None:
    answer = await filled.mirror("/AccountSet?$top=1", X_Request_Id="mine-1")
    assert answer.headers["X-Request-Id"] == "mine-1"
    refused = await filled.mirror("/WidgetSet")
    assert refused.headers["X-Request-Id"]
    metrics = (await filled.send(f"{filled.proxy.services_url}/metrics")).text
    counted = 'syncpoint_requests_total{decision="hit",operation="MirrorRead",status="200"}'
    assert counted in metrics
    assert 'syncpoint_requests_total{decision="refused",operation="MirrorRead",status="404"}' in metrics


async def test_only_the_mirrors_own_paths_are_odata(filled: World) -> None:
    services = filled.proxy.services_url
    assert (await filled.send(f"{services}/mirror")).status == 200
    assert (await filled.send(f"{services}/mirrors/AccountSet")).status == 404
    assert (await filled.send(f"{services}/healthz")).json() == {"status": "ok"}


# Bad input


@pytest.mark.parametrize(
    ("path", "status", "named_there"),
    [
        ("/WidgetSet", 404, ["'WidgetSet'", "position 1"]),
        ("/AccountSet({a})/Nope", 404, ["'Nope'", "position"]),
        ("/AccountSet(guid'1234')", 400, ["guid'1234'", "key predicate"]),
        ("/AccountSet?$filter=Nope eq 1", 400, ["'Nope'", "position 0", "$filter"]),
        ("/AccountSet?$filter=Name eq 'a' and nope(Name) eq 1", 400, ["'nope'", "position 16", "$filter"]),
        ("/AccountSet?$filter=Name eq 5", 400, ["position", "$filter"]),
        ("/AccountSet?$filter=Name add 1 eq 2", 400, ["'add'", "position 5", "$filter"]),
        ("/AccountSet?$filter=Name eq 'open", 400, ["'", "position 8", "$filter"]),
        ("/AccountSet?$filter=CreatedOn gt datetime'2016-13-01'", 400, ["2016-13-01", "position 13"]),
        ("/AccountSet?$filter=Name", 400, ["Name", "position 0", "$filter"]),
        ("/AccountSet?$filter=contact_customer_accounts/FullName eq 'x'", 400, ["contact_customer_accounts"]),
        ("/AccountSet?$filter=account_primary_contact/Nope eq 'x'", 400, ["Nope", "position"]),
        ("/AccountSet?$filter=PrimaryContactId eq null", 400, ["PrimaryContactId", "position 0"]),
        ("/AccountSet?$orderby=Name,Nope desc", 400, ["'Nope'", "position 5", "$orderby"]),
        ("/AccountSet?$orderby=Name up", 400, ["'up'", "position 5", "$orderby"]),
        ("/AccountSet?$select=Name,Nope", 400, ["'Nope'", "position 5", "$select"]),
        ("/AccountSet?$expand=user_accounts/Nope", 400, ["'Nope'", "position 14", "$expand"]),
        ("/AccountSet?$top=five", 400, ["five"]),
        ("/AccountSet?$skiptoken=five", 400, ["token"]),
        ("/AccountSet?$top=5001", 400, ["5001", "limits.mirror_page"]),
        ("/AccountSet?$filter=isof('Edm.String')", 501, ["isof"]),
        ("/AccountSet?$filter=cast(Name,'Edm.Int32') eq 1", 501, ["cast"]),
        ("/RoleSet(guid'{role}')/systemuserroles_association", 501, ["systemuserroles_association"]),
        ("/AccountSet?$filter=" + "(" * 60 + "Name eq 'a'" + ")" * 60, 400, ["levels"]),
        ("/AccountSet?$filter=" + " or ".join(["Name eq 'a'"] * 2100), 400, ["terms"]),
        ("/AccountSet?$expand=" + "user_accounts/" * 40 + "user_accounts", 400, ["$expand", "limit of 32"]),
        ("/AccountSet?$filter=1 div 0 eq 1", 400, []),
        ("/AccountSet?$filter=NumberOfEmployees div 0 eq 1", 400, []),
        ("/AccountSet?$filter=NumberOfEmployees mul 99999999999999 eq 99999999999999999999", 400, []),
    ],
)
async def test_bad_input_is_named_with_its_place(
    filled: World, path: str, status: int, named_there: list[str]
) -> None:
    role = filled.a_key("RoleSet")
    await filled.ask(f"/RoleSet(guid'{role}')")
    path = path.replace("{role}", role)
    if "{a}" in path:
        path = path.format(**named(filled))
    answer = await filled.mirror(path.replace(" ", "%20"))
    if not named_there:
        assert answer.status in (200, 400), answer.text
        return
    assert (answer.status, code_of(answer)) == (status, "Syncpoint.ReadRefused"), answer.text
    for part in named_there:
        assert part in message_of(answer)


_NONSENSE = """
    AccountSet ( ) guid' ' '' / // $links $count $value Name $filter= & ? % %2 %FF %00 %C3%A9 $top= -1 .. ;
    99999999999999999999 $select= * , $expand= user_accounts eq %20 null not add datetime'9999-99-99' NaN {
    $skiptoken= $orderby= desc $inlinecount=allpages $format=json %5C \u00e9 1e400 X'0'
"""


async def test_no_nonsense_is_a_500(filled: World) -> None:
    chance = random.Random(2011)
    statuses = set()
    for _ in range(600):
        path = "/" + "".join(chance.choices(_NONSENSE.split(), k=chance.randint(1, 12)))
        if chance.random() < 0.7:
            path = "/AccountSet?" + path.lstrip("/")
        answer = await filled.mirror(path)
        statuses.add(answer.status)
        assert answer.status < 500 or answer.status == 501, path
    assert {200, 400, 404} <= statuses
