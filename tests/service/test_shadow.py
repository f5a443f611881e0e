"""Shadow mode: everything is forwarded, and what the mirror would have shown is told apart."""

from __future__ import annotations

from typing import Any

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
