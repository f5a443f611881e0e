"""`stale_if_error`: what is held stands in while upstream fails, for as long as the set's policy lets it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from world import Answer, Hands, World, world

from proxy.sandbox import Fault

LIMIT_S = 600
SETTINGS = {"sets__AccountSet__stale_if_error_s": LIMIT_S, "upstream__read_timeout_s": 2.0}
STALE = "syncpoint; hit; detail=stale-if-error"

# What upstream does, and what the client gets where nothing may stand in for it.
FAILURES = [
    pytest.param(Fault(kind="reset_before"), 502, "Syncpoint.UpstreamBroken", id="connection error"),
    pytest.param(Fault(kind="hold"), 504, "Syncpoint.UpstreamTimeout", id="timeout"),
    pytest.param(Fault(kind="status", status=503, body="busy"), 503, "busy", id="503"),
    pytest.param(Fault(kind="status", status=500, body="ill"), 500, "ill", id="500"),
]


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def place(database_url: str, hands: Hands) -> AsyncIterator[World]:
    async with world(database_url, now=hands.now, **SETTINGS) as made:
        yield made


def path_of(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


def fail(place: World, fault: Fault) -> None:
    """From now on every read fails so."""
    place.sandbox.faults.clear()
    place.sandbox.faults.add(
        Fault(kind=fault.kind, status=fault.status, body=fault.body, method="GET", times=100)
    )
    place.clear()


def assert_stale(answer: Answer, before: Answer, age: int) -> None:
    assert (answer.status, answer.body) == (200, before.body)
    assert answer.cache == STALE
    # Between two readings of a running clock a second may begin, and a held check may time out.
    assert age <= int(answer.headers["Age"]) <= age + 30
    assert "Proxy-Status" not in answer.headers


@pytest.mark.parametrize(("fault", "status", "said"), FAILURES)
async def test_a_check_that_fails_is_stood_in_for_up_to_the_limit(
    place: World, hands: Hands, fault: Fault, status: int, said: str
) -> None:
    path = path_of(place)
    before = await place.ask(path)
    hands.advance(place, 100)
    fail(place, fault)
    assert_stale(await place.ask(path), before, 100)
    (check,) = place.upstream_requests()
    assert "$select=" in check
    hands.advance(place, LIMIT_S)
    answer = await place.ask(path)
    assert answer.status == status
    assert said in answer.text
    assert "stale" not in answer.cache.replace("fwd=stale", "")
    assert "Age" not in answer.headers


@pytest.mark.parametrize(("fault", "status", "said"), FAILURES)
async def test_a_fetch_that_fails_is_stood_in_for_up_to_the_limit(
    place: World, hands: Hands, fault: Fault, status: int, said: str
) -> None:
    """Held, but not settled when it was seen: it is fetched, not checked."""
    path = path_of(place)
    organisation = place.sandbox.organisation
    organisation.change("AccountSet", organisation.keys("AccountSet")[0], {"Name": "Just now"})
    before = await place.ask(path)
    hands.advance(place, 100)
    fail(place, fault)
    assert_stale(await place.ask(path), before, 100)
    assert place.upstream_requests() == [f"GET {path}"]
    hands.advance(place, LIMIT_S)
    answer = await place.ask(path)
    assert answer.status == status
    assert said in answer.text


@pytest.mark.parametrize("then", [*(param.values[0] for param in FAILURES), Fault(kind="cut")])
@pytest.mark.parametrize("is_settled", [True, False])
async def test_what_fails_after_a_cut_answer_is_stood_in_for(
    place: World, hands: Hands, then: Fault, is_settled: bool
) -> None:
    """A cut check is followed by the client's own request; a cut fetch in its own form is its answer."""
    path = path_of(place)
    if not is_settled:
        organisation = place.sandbox.organisation
        organisation.change("AccountSet", organisation.keys("AccountSet")[0], {"Name": "Just now"})
    before = await place.ask(path)
    hands.advance(place, 100)
    place.sandbox.faults.add(Fault(kind="cut", method="GET"))
    place.sandbox.faults.add(Fault(kind=then.kind, status=then.status, body=then.body, method="GET", times=9))
    place.clear()
    assert_stale(await place.ask(path), before, 100)
    assert ("$select=" in place.upstream_requests()[0]) is is_settled


@pytest.mark.parametrize(("fault", "status", "said"), FAILURES)
async def test_what_is_not_held_is_stood_in_for_by_nothing(
    place: World, fault: Fault, status: int, said: str
) -> None:
    fail(place, fault)
    answer = await place.ask(path_of(place))
    assert answer.status == status
    assert said in answer.text


async def test_a_refusal_is_no_failure(place: World) -> None:
    path = path_of(place)
    await place.ask(path)
    fail(place, Fault(kind="status", status=403, body="not you"))
    answer = await place.ask(path)
    assert (answer.status, answer.text) == (403, "not you")


async def test_a_state_confirmed_by_a_check_is_as_old_as_the_check(place: World, hands: Hands) -> None:
    path = path_of(place)
    before = await place.ask(path)
    hands.advance(place, LIMIT_S)
    await place.ask(path)
    hands.advance(place, 50)
    fail(place, Fault(kind="reset_before"))
    assert_stale(await place.ask(path), before, 50)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An origin that refuses connections: its port is taken, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_an_upstream_that_is_down_is_stood_in_for(database_url: str, nobody: str) -> None:
    async with world(database_url, **SETTINGS) as place:
        path = path_of(place)
        before = await place.ask(path)
        origin, root_path = place.proxy.url, urlsplit(place.direct_root).path
    async with world(database_url, upstream__service_root=nobody + root_path, **SETTINGS) as place:
        answer = await place.ask(path)
        assert answer.text == before.text.replace(origin, place.proxy.url)
        assert answer.cache == STALE
        assert "Age" in answer.headers
        assert (await place.ask(path_of(place, 1))).status == 502


async def test_without_the_policy_a_failure_is_a_failure(database_url: str) -> None:
    async with world(database_url) as place:
        path = path_of(place)
        await place.ask(path)
        fail(place, Fault(kind="reset_before"))
        assert (await place.ask(path)).status == 502


@pytest.mark.parametrize("settled", [True, False], ids=["checked", "fetched"])
@pytest.mark.parametrize("credentials", [{"Authorization": "Basic c3RyYW5nZXI6eA=="}, {"Cookie": "a=1"}])
async def test_who_shows_credentials_gets_nothing_that_upstream_did_not_confirm(
    place: World, credentials: dict[str, str], settled: bool
) -> None:
    path = path_of(place)
    if not settled:
        organisation = place.sandbox.organisation
        organisation.change("AccountSet", organisation.keys("AccountSet")[0], {"Name": "Just now"})
    await place.ask(path, Authorization="Basic b3duZXI6cHc=")
    for fault, status in ((Fault(kind="status", status=503, body="busy"), 503), (FAILURES[0].values[0], 502)):
        fail(place, fault)
        assert (await place.ask(path, **credentials)).status == status
        assert (await place.ask(path)).cache == STALE
