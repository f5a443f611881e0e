"""Pages by rule 4, proven by the sandbox's journal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from world import World, world

PAGE = "/AccountSet?$orderby=Name&$top=20"


@pytest.fixture
async def place(database_url):
    async with world(database_url) as made:
        yield made


async def same(place: World, path: str, **headers: str):
    direct = await place.ask(path, direct=True, **headers)
    place.clear()
    answer = await place.ask(path, **headers)
    assert answer.status == direct.status
    assert answer.text == place.rooted(direct.text)
    return answer


async def test_a_warm_page_is_one_upstream_request(place: World) -> None:
    cold = await same(place, PAGE)
    assert place.upstream_requests() == [f"GET {PAGE}"]
    assert "fwd=miss" in cold.cache
    await place.idle()
    warm = await same(place, PAGE)
    assert warm.cache == "syncpoint; hit; detail=checked"
    assert len(place.upstream_requests()) == 1
    assert place.upstream_requests()[0].startswith(f"GET {PAGE}&$select=")


async def test_a_moved_row_means_check_and_own_query_then_a_refresh(place: World) -> None:
    path = "/AccountSet?$top=20&$select=Name,AccountId"
    await place.ask("/AccountSet?$top=20")
    await place.idle()
    assert (await same(place, path)).cache == "syncpoint; hit; detail=checked"
    organisation = place.sandbox.organisation
    key = organisation.keys("AccountSet")[0]
    # Long ago and later than before: a state that is settled as soon as it is seen.
    moved = organisation.entity("AccountSet", key)["ModifiedOn"] + timedelta(days=1)
    organisation.change("AccountSet", key, {"Name": "Moved"}, modified_on=moved)
    place.clear()
    answer = await place.ask(path)
    assert "detail=rows-moved" in answer.cache
    assert "Moved" in answer.text
    await place.idle()
    assert place.upstream_requests() == [
        "GET /AccountSet?$top=20&$select=VersionNumber,ModifiedOn,AccountId",
        f"GET {path}",
        f"GET /AccountSet(guid'{key}')",
    ]
    assert (await same(place, path)).cache == "syncpoint; hit; detail=checked"


async def test_next_leads_through_the_proxy_with_the_clients_select(place: World) -> None:
    path = "/ContactSet?$select=FullName,ContactId&$filter=StatusCode/Value%20eq%201"
    for _ in range(3):
        await same(place, path)
        await place.idle()
    answer = await same(place, path)
    assert answer.cache == "syncpoint; hit; detail=checked"
    following = answer.json()["d"]["__next"]
    assert following.startswith(place.proxy.url)
    assert "$select=FullName,ContactId" in following
    assert "ModifiedOn" not in following
    second = await place.send(following.replace(" ", "%20"), headers={"Accept": "application/json"})
    assert second.status == 200
    assert len(second.json()["d"]["results"]) == 50


async def test_refusals_of_a_page_are_upstreams(place: World) -> None:
    refused = ("$filter=Nothing%20eq%201", "$top=abc", "$format=json", "$inlinecount=allpages")
    for query in refused:
        answer = await same(place, f"/AccountSet?{query}")
        assert answer.status == 400, query


async def test_atom_is_learned_and_then_made_from_the_mirror(place: World) -> None:
    async def masked(path: str):
        import re

        direct = await place.ask(path, direct=True, Accept="application/atom+xml")
        place.clear()
        answer = await place.ask(path, Accept="application/atom+xml")
        clock = re.compile("<updated>[^<]*</updated>")
        assert clock.sub("", answer.text) == clock.sub("", place.rooted(direct.text))
        assert answer.headers["Content-Type"] == direct.headers["Content-Type"]
        return answer

    for path in ("/AccountSet?$top=10", f"/AccountSet(guid'{place.a_key('AccountSet')}')"):
        for _ in range(4):
            answer = await masked(path)
            await place.idle()
        assert answer.cache == "syncpoint; hit; detail=checked", path
