"""The mirror route as of a moment: what upstream said then, from the history, whatever happened since.

A sandbox with all of OData v2 changes step by step while its clock stands far in the past; what it says after
each step is remembered and compared with what the history says of that moment.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from lifecycle import load
from storing import query
from world import World, world

from proxy.sandbox import Switches

pytestmark = pytest.mark.asyncio(loop_scope="module")

V2 = Switches(language="v2", count="serve")
STEPS = 12
UPDATED = re.compile("<updated>[^<]*</updated>")
TITLES = {f"sets.{name}.title": title for name, title in (("AccountSet", "Name"), ("ContactSet", "FullName"))}
ASKED = [
    "/AccountSet({a})?$select=Name,ModifiedOn",
    "/AccountSet({a})?",
    "/AccountSet({a})/PrimaryContactId?",
    "/AccountSet({a})/Name/$value?",
    "/AccountSet({a})/account_primary_contact?",
    "/AccountSet({a})/contact_customer_accounts?$orderby=FullName desc",
    "/AccountSet({a})/contact_customer_accounts/$count?$filter=length(LastName) gt 4",
    "/AccountSet({a})/$links/contact_customer_accounts?",
    "/AccountSet({a})?$expand=account_primary_contact,contact_customer_accounts",
    "/AccountSet?$orderby=Address1_City&$top=5&$skip=2",
    "/AccountSet?$filter=startswith(Address1_City,'{letter}')&$inlinecount=allpages",
    "/AccountSet/$count?$filter=account_primary_contact/LastName ne null",
    "/AccountSet?$filter=year(ModifiedOn) eq {year}&$expand=account_primary_contact&$select=Name,account_primary_contact/FullName",  # noqa: E501
    "/ContactSet?$filter=ParentCustomerId/Id eq {a}&$orderby=ModifiedOn desc",
]


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def asked_as_of(place: World, path: str, moment: datetime, **headers: str) -> tuple[str, str]:
    """Body and Cache-Status."""
    answer = await place.mirror(f"{path}{'&' if '?' in path else '?'}asof={stamp(moment)}", **headers)
    assert answer.status == 200, answer.text
    assert "Age" not in answer.headers
    return answer.text, answer.cache


def plain(text: str) -> str:
    return UPDATED.sub("", text)


async def change(place: World, dice: random.Random) -> None:
    """One write, sent through the proxy."""
    letter = dice.choice("ABCDE")
    account = f"guid'{dice.choice(place.sandbox.organisation.keys('AccountSet')[:6])}'"
    contact = str(dice.choice(place.sandbox.organisation.keys("ContactSet")))
    match dice.choice(("move", "move", "point", "join", "create")):
        case "move":
            # Not its name: others show that in their lookups, and would change without a stamp.
            done = await place.merge(
                f"/AccountSet({account})", json.dumps({"Address1_City": f"{letter}ville"})
            )
        case "point":
            lookup = {"PrimaryContactId": {"Id": contact, "LogicalName": "contact"}}
            done = await place.merge(f"/AccountSet({account})", json.dumps(lookup))
        case "join":
            lookup = {"ParentCustomerId": {"Id": account[5:-1], "LogicalName": "account"}}
            done = await place.merge(f"/ContactSet(guid'{contact}')", json.dumps(lookup))
        case _:
            body = json.dumps({"Name": f"{letter} made"}).encode()
            done = await place.ask("/AccountSet", "POST", body=body, Content_Type="application/json")
    assert done.status in (201, 204), done.text


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
async def test_a_moment_is_answered_as_upstream_did(database_url: str, accept: str) -> None:
    dice = random.Random(20160501)
    async with world(database_url, switches=V2, rows=12, **TITLES) as place:
        place.sandbox.clock.advance(-90 * 86400)
        await load(place, "AccountSet", "ContactSet")
        first = place.a_key("AccountSet")
        remembered: list[tuple[datetime, str, str]] = []
        for _ in range(STEPS):
            place.sandbox.clock.advance(3600)
            await change(place, dice)
            moment = place.sandbox.clock.now() + timedelta(minutes=1)
            for path in ASKED:
                named = path.format(a=f"guid'{first}'", letter=dice.choice("ABCDE"), year=moment.year)
                named = quote(named, safe="/?&=$(),'")
                said = await place.ask(named, direct=True, Accept=accept)
                if said.status == 200:
                    remembered.append((moment, named, place.at_mirror(said.text)))
            await place.idle()
        # What comes later is not to be seen.
        for key in place.sandbox.organisation.keys("ContactSet"):
            gone = await place.ask(f"/ContactSet(guid'{key}')", "DELETE")
            assert gone.status == 204
        assert len(remembered) > STEPS * 12
        for moment, path, said in remembered:
            text, _ = await asked_as_of(place, path, moment, Accept=accept)
            assert plain(text) == plain(said), (path, moment)
        now = await place.mirror(f"/ContactSet/$count?asof={stamp(datetime.now(UTC))}")
        assert now.text == "0"


async def test_pages_lead_on_at_the_same_moment(database_url: str) -> None:
    async with world(database_url, switches=V2, rows=120) as place:
        await load(place, "AccountSet")
        moment = stamp(datetime.now(UTC) - timedelta(seconds=1))
        url = f"{place.mirror_root}/AccountSet?$orderby=Name&asof={moment}&$select=Name,AccountId"
        seen = []
        for _ in range(3):
            answer = await place.send(url, headers={"Accept": "application/json"})
            page = answer.json()["d"]
            seen += [row["AccountId"] for row in page["results"]]
            key = page["results"][0]["AccountId"]
            assert (await place.merge(f"/AccountSet(guid'{key}')", '{"Name":"~ last of all"}')).status == 204
            url = page.get("__next", "")
            assert not url or f"asof={moment}" in url
        assert not url
        assert len(set(seen)) == len(seen) == 120


async def test_what_was_not_there_says_why(database_url: str) -> None:
    async with world(database_url, switches=V2, rows=3) as place:
        place.sandbox.clock.advance(-90 * 86400)
        made = await place.ask(
            "/AccountSet", "POST", body=b'{"Name":"made"}', Content_Type="application/json"
        )
        path = f"/AccountSet(guid'{made.json()['d']['AccountId']}')"
        created = place.sandbox.clock.now()
        before = await place.mirror(f"{path}?asof={stamp(created - timedelta(minutes=1))}")
        assert (before.status, "no state of it is known that held at" in before.text) == (404, True)
        there = await place.mirror(f"{path}?asof={stamp(created + timedelta(minutes=1))}")
        assert there.json()["d"]["Name"] == "made"
        assert (await place.ask(path, "DELETE")).status == 204
        gone = await place.mirror(f"{path}?asof={stamp(datetime.now(UTC))}")
        assert gone.status in (200, 404)  # within the second of its end
        query(
            database_url, "UPDATE syncpoint.revisions SET effective_at = effective_at - interval '1 minute'"
        )
        gone = await place.mirror(f"{path}?asof={stamp(datetime.now(UTC))}")
        assert (gone.status, "it was gone since" in gone.text) == (404, True)


async def test_a_gap_is_told(database_url: str) -> None:
    async with world(database_url, switches=V2, rows=3) as place:
        place.sandbox.clock.advance(-90 * 86400)
        await load(place, "AccountSet")
        key = place.a_key("AccountSet")
        seen = place.sandbox.clock.now()
        place.sandbox.clock.advance(86400)
        organisation = place.sandbox.organisation
        organisation.update(
            organisation.entity_set("AccountSet"), organisation.keys("AccountSet")[0], {"Name": "x"}
        )
        found = place.sandbox.clock.now()
        await place.ask(f"/AccountSet(guid'{key}')")
        # When the state before was last seen is told by the proxy's clock, which is not turned back here.
        query(
            database_url,
            "UPDATE syncpoint.revisions SET seen_until = %s WHERE seen_until IS NOT NULL",
            seen + timedelta(minutes=10),
        )
        one, page = f"/AccountSet(guid'{key}')", "/AccountSet?$orderby=AccountId"
        for minutes, doubt in ((5, ""), (15, "; detail=gap")):
            for path in (one, f"{one}/Name/$value"):
                _, cache = await asked_as_of(place, path, seen + timedelta(minutes=minutes))
                assert cache == f"syncpoint; hit{doubt}"
        _, cache = await asked_as_of(place, one, found + timedelta(minutes=1))
        assert cache == "syncpoint; hit"
        # A list is of the whole set only from when it was loaded.
        _, cache = await asked_as_of(place, page, seen + timedelta(minutes=5))
        assert cache == "syncpoint; hit; detail=incomplete"
        query(database_url, "UPDATE syncpoint.walks SET finished_at = %s", seen)
        for minutes, doubt in ((5, ""), (15, "; detail=gap")):
            _, cache = await asked_as_of(place, page, seen + timedelta(minutes=minutes))
            assert cache == f"syncpoint; hit{doubt}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/AccountSet?asof=yesterday", 400),
        ("/AccountSet?asof=", 400),
        ("/AccountSet?asof=2016-13-01T00:00:00Z", 400),
        ("/AccountSet?asof=2016-05-01T10:00:00Z&asof=2016-05-02T10:00:00Z", 400),
        ("/AccountSet?asof=9999-12-31T23:59:59Z", 400),
        ("/AccountSet?asof=0001-01-01T00:00:00%2B14:00", 400),
        ("/AccountSet?asof=20160501", 400),
        ("/?asof=2016-05-01", 400),
        ("/$metadata?asof=2016-05-01", 400),
        ("/AccountSet?asof=2016-05-01T10:00:00Z&$filter=Nothing eq 1", 400),
        ("/AccountSet?asof=2016-05-01T10:00:00Z&$filter=NumberOfEmployees div 0 eq 1", 400),
        ("/AccountSet?asof=2016-05-01", 200),
        ("/AccountSet?asof=0001-01-01T00:00:00Z", 200),
        ("/AccountSet?asof=2016-05-01T10:00:00+02:00", 200),
        ("/AccountSet?asof=2016-05-01T10:00:00.1234567-02:00", 200),
    ],
)
async def test_bad_moments_are_refused(as_of_place: World, path: str, status: int) -> None:
    answer = await as_of_place.mirror(path.replace(" ", "%20"))
    assert answer.status == status, answer.text
    if status == 400:
        assert answer.json()["error"]["message"]["value"]


async def test_asof_is_for_the_mirror_route(as_of_place: World) -> None:
    """On the main listener it is an option like any other that a client makes up."""
    path = f"/AccountSet(guid'{as_of_place.a_key('AccountSet')}')?asof=yesterday"
    assert (await as_of_place.ask(path)).status == 200
    assert (await as_of_place.ask(path, Cache_Control="only-if-cached")).status == 200


async def test_models_have_no_past(database_url: str) -> None:
    models = {"Firm": {"set": "AccountSet", "properties": {"name": {"kind": "string", "of": "Name"}}}}
    async with world(database_url, rows=3, models=models) as place:
        await load(place, "AccountSet")
        url = f"{place.proxy.services_url}/model/Firm"
        json_only = {"Accept": "application/json"}
        assert (await place.send(url, headers=json_only)).status == 200
        refused = await place.send(f"{url}?asof=2016-05-01T10:00:00Z", headers=json_only)
        assert (refused.status, "asof" in refused.text) == (501, True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def as_of_place(databases: Any, template: str) -> AsyncIterator[World]:
    with databases.database(template) as url:
        async with world(url, switches=V2, rows=3) as place:
            await load(place, "AccountSet")
            yield place
