"""Checked reads of one entity, proven by the sandbox's journal: how many upstream requests, and which."""

from __future__ import annotations

import pytest
from world import Hands, World, world

from proxy.sandbox import Fault

CHECK = "?$select=ModifiedOn,AccountId"


@pytest.fixture
async def place(database_url):
    async with world(database_url) as made:
        yield made


def account(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


async def both(place: World, path: str, **headers: str):
    """The answer through the proxy, equal to the direct one byte for byte."""
    direct = await place.ask(path, direct=True, **headers)
    place.clear()
    answer = await place.ask(path, **headers)
    assert answer.status == direct.status
    assert answer.text == place.rooted(direct.text)
    return answer


async def test_a_cold_read_is_the_clients_own_request_and_a_warm_one_a_check(place: World) -> None:
    path = account(place)
    cold = await both(place, path)
    assert place.upstream_requests() == [f"GET {path}"]
    assert "fwd=uri-miss" in cold.cache
    assert "stored" in cold.cache
    warm = await both(place, path)
    assert [r.split("?")[0] for r in place.upstream_requests()] == [f"GET {path}"]
    assert "$select=" in place.upstream_requests()[0]
    assert warm.cache == "syncpoint; hit; detail=checked"


async def test_select_is_sliced_from_the_stored_document(place: World) -> None:
    path = account(place)
    await place.ask(path)
    await both(place, path)
    answer = await both(place, path + "?$select=Name,PrimaryContactId,AccountId")
    assert answer.cache == "syncpoint; hit; detail=checked"
    assert len(place.upstream_requests()) == 1


async def test_upstream_newer_is_fetched(place: World) -> None:
    path = account(place)
    await place.ask(path)
    organisation = place.sandbox.organisation
    organisation.change("AccountSet", organisation.keys("AccountSet")[0], {"Name": "New"})
    answer = await both(place, path)
    assert len(place.upstream_requests()) == 2
    assert "fwd=stale" in answer.cache
    assert answer.json()["d"]["Name"] == "New"


async def test_an_unsettled_state_is_fetched_again_rather_than_checked(place: World) -> None:
    path = account(place)
    key = place.sandbox.organisation.keys("AccountSet")[0]
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Just now"})
    await place.ask(path)
    answer = await both(place, path)
    assert place.upstream_requests() == [f"GET {path}"]
    assert "fwd=stale" in answer.cache


async def test_what_upstream_refuses_comes_back_as_it_is(place: World) -> None:
    missing = "/AccountSet(guid'00000000-0000-0000-0000-0000000000ff')"
    for path in (missing, "/AccountSet(guid'1234')", "/WidgetSet", "/AccountSet?$filter=Name%20eq"):
        answer = await both(place, path)
        assert answer.status in (400, 404)


async def test_expand_is_forwarded(place: World) -> None:
    answer = await both(place, account(place) + "?$expand=account_primary_contact")
    assert len(place.upstream_requests()) == 1
    assert "detail=not-assembled" in answer.cache


async def test_a_mirror_that_is_newer_is_a_conflict_looked_at_twice(place: World) -> None:
    path = account(place)
    await place.ask(path)
    key = place.sandbox.organisation.keys("AccountSet")[0]
    older = place.sandbox.organisation.entity("AccountSet", key)["ModifiedOn"].replace(year=2001)
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Restored"}, modified_on=older)
    place.clear()
    answer = await place.ask(path)
    assert answer.status == 409
    assert "Proxy-Status" in answer.headers
    assert answer.json()["error"]["code"] == "Syncpoint.SyncConflict"
    assert len(place.upstream_requests()) == 2


async def test_directives(place: World) -> None:
    path = account(place)
    refused = await place.ask(path, Cache_Control="only-if-cached")
    assert refused.status == 504
    assert place.upstream_requests() == []
    await place.ask(path)
    place.clear()
    for directive in ("only-if-cached", "max-age=60", "max-stale=60", "max-stale"):
        aged = await place.ask(path, Cache_Control=directive)
        assert "Age" in aged.headers, directive
        assert "hit" in aged.cache
    assert place.upstream_requests() == []
    fresh = await place.ask(path, Cache_Control="no-cache")
    assert "fwd=request" in fresh.cache
    assert place.upstream_requests() == [f"GET {path}"]
    for seconds in ("9" * 400, "9" * 5000):
        assert "hit" in (await place.ask(path, Cache_Control=f"max-age={seconds}, max-stale={seconds}")).cache
    passed = await place.ask(path, Cache_Control="no-store")
    assert "detail=no-store" in passed.cache


async def test_no_store_leaves_nothing(place: World) -> None:
    path = account(place)
    await place.ask(path, Cache_Control="no-store")
    await place.idle()
    assert (await place.ask(path, Cache_Control="only-if-cached")).status == 504


@pytest.mark.parametrize("path", ["{0}", "{0}?$select=Name", "/AccountSet?$top=2"])
async def test_a_set_that_is_configured_to_be_forwarded_is_never_answered_from_the_mirror(
    database_url: str, path: str
) -> None:
    async with world(database_url, sets__AccountSet__mode="forward") as place:
        target = path.format(account(place))
        direct = place.rooted((await place.ask(target, direct=True)).text)
        for directive in ("", "max-age=60", "max-stale"):
            place.clear()
            answer = await place.ask(target, Cache_Control=directive)
            assert (answer.status, answer.text) == (200, direct)
            assert answer.cache == "syncpoint; fwd=bypass; fwd-status=200; detail=forward-mode"
            assert place.upstream_requests()[0] == f"GET {target}"
            await place.idle()
        assert (await place.ask(target, Cache_Control="only-if-cached")).status == 504
        other = await place.ask(f"/ContactSet(guid'{place.a_key('ContactSet')}')")
        assert "stored" in other.cache


async def test_a_cookie_of_the_check_goes_to_the_client_that_it_was_made_for(place: World) -> None:
    path = account(place)
    await place.ask(path)
    place.clear()
    await place.ask(path)
    (check,) = place.upstream_requests()
    shown = await place.ask(check.removeprefix("GET "), direct=True)
    headers = {"Content-Type": shown.headers["Content-Type"], "Set-Cookie": "session=1; path=/; HttpOnly"}
    place.sandbox.faults.add(Fault(kind="status", status=200, body=shown.text, headers=headers))
    answer = await place.ask(path)
    assert "hit" in answer.cache
    assert answer.headers.getall("Set-Cookie") == ["session=1; path=/; HttpOnly"]
    again = await place.ask(path)
    assert "hit" in again.cache
    assert "Set-Cookie" not in again.headers


@pytest.mark.parametrize("directive", ["max-age=60", "max-stale=60", "max-age=20, max-stale=40"])
async def test_an_age_that_a_request_allows_runs_out(database_url: str, directive: str) -> None:
    hands = Hands()
    async with world(database_url, now=hands.now) as place:
        path = account(place)
        await place.ask(path)
        place.clear()
        hands.advance(place, 30)
        aged = await place.ask(path, Cache_Control=directive)
        assert 30 <= int(aged.headers["Age"]) < 60
        assert place.upstream_requests() == []
        hands.advance(place, 30)
        assert (await place.ask(path, Cache_Control=directive)).cache == "syncpoint; hit; detail=checked"
        assert len(place.upstream_requests()) == 1
        aged = await place.ask(path, Cache_Control=directive)
        assert aged.cache == "syncpoint; hit; detail=age-allowed", "it counts from the check"
        hands.advance(place, 61)
        gone = await place.ask(path, Cache_Control="only-if-cached, max-age=60")
        assert gone.status == 504
