"""Shadow mode: everything is forwarded, and what the mirror would have shown is told apart."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from storing import query
from world import JSON, World, world

MODE: dict[str, Any] = {"sets__AccountSet__mode": "shadow", "rows": 4}


async def counts(place: World) -> dict[str, tuple[int, int, int, int]]:
    await place.idle()
    answer = await place.send(f"{place.proxy.services_url}/api/shadow", headers=JSON)
    return {
        shown["shape"]: tuple(shown[name] for name in ("requests", "same", "different", "not_compared"))
        for shown in answer.json()["shapes"]
    }


async def test_reads_are_forwarded_and_compared_by_shape(database_url: str) -> None:
    async with world(database_url, **MODE) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        names = "$select=AccountId,ModifiedOn,VersionNumber,Name"
        for _ in range(2):
            for asked in ("/AccountSet", path, f"/AccountSet?{names}&$top=2", f"{path}?$select=Name"):
                direct = await place.ask(asked, direct=True)
                place.clear()
                answer = await place.ask(asked)
                assert answer.text == place.rooted(direct.text)
                assert answer.cache.startswith("syncpoint; fwd=bypass")
                assert f"GET {asked}" in place.upstream_requests()
                await place.idle()
        assert await counts(place) == {
            "collection": (2, 4, 0, 4),
            "collection $select $top": (2, 4, 0, 0),
            "entity": (2, 2, 0, 0),
            "entity $select": (2, 0, 0, 2),
        }


async def test_a_difference_at_equal_stamps_is_shown(database_url: str) -> None:
    async with world(database_url, **MODE) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        await place.ask(path)
        await place.idle()
        query(
            database_url,
            """UPDATE mirror."AccountSet" SET document = replace(document, '"Name":"', '"Name":"Not ')""",
        )
        await place.ask(path, X_Request_Id="seen")
        await place.idle()
        answer = await place.send(f"{place.proxy.services_url}/api/shadow", headers=JSON)
        (shown,) = answer.json()["shapes"]
        assert (shown["same"], shown["different"], shown["not_compared"]) == (0, 1, 1)
        (example,) = shown["examples"]
        (difference,) = (one for one in example["differences"] if one["property"] == "Name")
        assert difference["before"] == "Not " + difference["after"]
        assert query(database_url, "SELECT request_id FROM syncpoint.shadow_examples") == [("seen",)]


async def test_only_the_newest_examples_are_kept(database_url: str) -> None:
    async with world(database_url, sets__AccountSet__mode="shadow", rows=20) as place:
        await place.ask("/AccountSet")
        await place.idle()
        for _ in range(2):
            query(
                database_url, """UPDATE mirror."AccountSet" SET document = replace(document, '"Na', '"Ma')"""
            )
            await place.ask("/AccountSet")
            await place.idle()
        assert (await counts(place))["collection"] == (3, 0, 40, 20)
        assert query(database_url, "SELECT count(*), min(id) FROM syncpoint.shadow_examples") == [(5, 6)]


async def test_what_is_not_compared_is_counted(database_url: str) -> None:
    async with world(database_url, **MODE) as place:
        await place.ask("/AccountSet", Accept="application/atom+xml")
        await place.ask("/AccountSet?$expand=contact_customer_accounts")
        found = await counts(place)
        assert found == {"collection": (1, 0, 0, 1), "collection $expand": (1, 0, 0, 1)}


async def selections(place: World, shape: str) -> tuple[tuple[int, int, int], list[tuple[str, str]]]:
    """(alike, unlike, unsure) of a shape, and (kind, key) of its examples, the newest first."""
    await place.idle()
    answer = await place.send(f"{place.proxy.services_url}/api/shadow", headers=JSON)
    (shown,) = (each for each in answer.json()["shapes"] if each["shape"] == shape)
    counted = tuple(shown["selections"][name] for name in ("alike", "unlike", "unsure"))
    return counted, [(each["kind"], each["key"]) for each in shown["examples"]]


FILTERED = "collection $filter"
MANY: dict[str, Any] = {"sets__AccountSet__mode": "shadow", "rows": 120}


async def ask_in_turn(place: World, *paths: str) -> None:
    for path in paths:
        answer = await place.ask(quote(path, safe="/?&=$(),'"))
        assert answer.status == 200
        await place.idle()


async def held_whole(place: World) -> None:
    await place.fill("AccountSet")
    query(place.proxy.store._connections._url, "DELETE FROM syncpoint.shadow")


async def test_what_a_filter_finds_is_compared(database_url: str) -> None:
    async with world(database_url, **MANY) as place:
        await held_whole(place)
        key = place.a_key("AccountSet")
        await ask_in_turn(
            place,
            f"/AccountSet?$filter=AccountId eq guid'{key}'",
            "/AccountSet?$filter=StateCode/Value eq 0 or StateCode/Value eq 1",  # the first of three pages
            "/AccountSet?$filter=substringof('a',Name)",
            "/AccountSet?$filter=ModifiedOn ge datetime'2999-01-01T00:00:00'",
        )
        assert await selections(place, FILTERED) == ((4, 0, 0), [])
        # What the mirror takes the entity for, without any trace in its stamp.
        url = place.proxy.store._connections._url
        query(url, 'UPDATE mirror."AccountSet" SET "Name" = \'other\' WHERE "AccountId" = %s', key)
        organisation = place.sandbox.organisation
        name = organisation.entity("AccountSet", organisation.keys("AccountSet")[0])["Name"].replace(
            "'", "''"
        )
        await ask_in_turn(place, f"/AccountSet?$filter=Name eq '{name}'")
        counted, examples = await selections(place, FILTERED)
        assert counted == (4, 1, 0)
        assert examples == [("upstream only", f"guid'{key}'")]
        query(url, 'UPDATE mirror."AccountSet" SET "Name" = \'other\' WHERE "AccountId" = %s', key)
        await ask_in_turn(place, "/AccountSet?$filter=Name eq 'other'")
        counted, examples = await selections(place, FILTERED)
        assert counted == (4, 2, 0)
        assert examples[0] == ("mirror only", f"guid'{key}'")


async def test_the_order_is_compared(database_url: str) -> None:
    async with world(database_url, **MANY) as place:
        await held_whole(place)
        path = "/AccountSet?$orderby=NumberOfEmployees desc,ModifiedOn&$top=10"
        await ask_in_turn(place, path, path + "&$skip=5")
        assert await selections(place, "collection $orderby $top") == ((1, 0, 0), [])
        assert await selections(place, "collection $orderby $skip $top") == ((1, 0, 0), [])
        direct = await place.ask(path.replace(" ", "%20"), direct=True)
        first = direct.json()["d"]["results"][0]["AccountId"]
        query(
            place.proxy.store._connections._url,
            'UPDATE mirror."AccountSet" SET "NumberOfEmployees" = 0 WHERE "AccountId" = %s',
            first,
        )
        await ask_in_turn(place, path)
        counted, examples = await selections(place, "collection $orderby $top")
        assert counted == (1, 1, 0)
        assert set(examples) <= {("order", f"guid'{first}'"), ("upstream only", f"guid'{first}'")}


async def test_pages_behind_a_token_are_compared(database_url: str) -> None:
    async with world(database_url, **MANY) as place:
        await held_whole(place)
        url = f"{place.proxy_root}/AccountSet"
        for _ in range(3):
            answer = await place.send(url, headers=JSON)
            await place.idle()
            url = answer.json()["d"].get("__next", "")
        assert await selections(place, "collection $skiptoken") == ((2, 0, 0), [])


async def test_what_moved_says_nothing(database_url: str) -> None:
    """A row that is only behind is no difference, whichever side finds it."""
    async with world(database_url, **MANY) as place:
        await held_whole(place)
        organisation = place.sandbox.organisation
        keys = organisation.keys("AccountSet")
        name = organisation.entity("AccountSet", keys[3])["Name"]
        place.sandbox.clock.advance(60)
        accounts = organisation.entity_set("AccountSet")
        organisation.update(accounts, keys[3], {"Name": "Elsewhere"})
        organisation.tables.drop("AccountSet", keys[5])
        await ask_in_turn(place, "/AccountSet?$filter=Name eq 'Elsewhere'")
        assert await selections(place, FILTERED) == ((0, 0, 1), [])
        organisation.update(accounts, keys[4], {"Name": "Elsewhere"})
        await ask_in_turn(place, f"/AccountSet?$filter=AccountId eq guid'{keys[5]}'")
        assert await selections(place, FILTERED) == ((0, 0, 2), [])
        assert name != "Elsewhere"


async def test_what_was_not_asked_for_with_its_stamp_is_not_sure(database_url: str) -> None:
    async with world(database_url, **MANY) as place:
        await held_whole(place)
        await ask_in_turn(place, "/AccountSet?$select=Name", "/AccountSet?$expand=account_primary_contact")
        assert (await selections(place, "collection $select"))[0] == (0, 0, 1)
        assert (await selections(place, "collection $expand"))[0] == (0, 0, 1)
