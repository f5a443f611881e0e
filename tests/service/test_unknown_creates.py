"""Creates that upstream never answered: what became of them is found by what was posted (rule 6)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from storing import query, revisions
from world import Answer, Hands, World, world

from proxy.sandbox import Fault

BODY = b'{"Name":"Lost & found","Address1_City":"Leeds","CreditLimit":{"Value":"12.50"}}'
LIMIT_S = 301.0


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def place(database_url: str, hands: Hands) -> AsyncIterator[World]:
    async with world(database_url, now=hands.now) as made:
        made.proxy.sweeper.grace_s = 0
        yield made


async def create(place: World, fault: Any = None, body: bytes = BODY) -> Answer:
    if fault is not None:
        place.sandbox.faults.add(Fault(kind=fault, method="POST"))
    answer = await place.ask("/AccountSet", "POST", body=body, Content_Type="application/json")
    assert answer.status == (201 if fault is None else 504)
    return answer


async def outcomes(place: World, database_url: str) -> Sequence[str | None]:
    """How each intent has ended after another sweep."""
    model = place.proxy.metadata.model
    assert model is not None
    await place.proxy.sweeper.sweep(model)
    return [
        outcome for (outcome,) in query(database_url, "SELECT outcome FROM syncpoint.intents ORDER BY id")
    ]


def newest(place: World) -> uuid.UUID:
    """The account that was made last."""
    organisation = place.sandbox.organisation
    return max(
        organisation.keys("AccountSet"), key=lambda key: organisation.entity("AccountSet", key)["CreatedOn"]
    )


def posts(place: World) -> int:
    return sum(entry.method == "POST" for entry in place.sandbox.journal)


async def test_one_that_was_applied_is_found(place: World, database_url: str) -> None:
    await create(place, "applied_no_answer")
    assert await outcomes(place, database_url) == ["applied"]
    assert posts(place) == 1
    path = f"/AccountSet(guid'{newest(place)}')"
    held = await place.ask(path, Cache_Control="only-if-cached")
    direct = await place.ask(path, direct=True)
    assert (held.status, held.text) == (200, place.rooted(direct.text))
    assert held.json()["d"]["Name"] == "Lost & found"
    assert revisions(database_url, "source, method") == [("client write", "CreateEntity")]


async def test_one_that_was_not_applied_is_refused_once_it_can_no_longer_be(
    place: World, database_url: str, hands: Hands
) -> None:
    await create(place, "reset_before")
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["refused"]
    assert revisions(database_url) == []


@pytest.mark.parametrize("first", ["applied_no_answer", "reset_before"])
@pytest.mark.parametrize("second", ["applied_no_answer", "reset_before"])
async def test_of_two_equal_ones_nobody_can_tell_which_was_applied(
    place: World, database_url: str, hands: Hands, first: str, second: str
) -> None:
    await create(place, first)
    hands.advance(place, 60)
    await create(place, second)
    assert await outcomes(place, database_url) == [None, None]
    none = "applied_no_answer" not in (first, second)
    verdict = "refused" if none else "undetermined"
    hands.advance(place, LIMIT_S - 60)
    assert await outcomes(place, database_url) == [verdict, None]
    hands.advance(place, 60)
    assert await outcomes(place, database_url) == [verdict, verdict], "that the other has ended tells nothing"
    assert revisions(database_url) == []


async def test_an_equal_one_that_was_answered_is_no_match(
    place: World, database_url: str, hands: Hands
) -> None:
    await create(place)
    await create(place, "reset_before")
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["applied", "refused"]


async def test_an_equal_one_that_was_answered_keeps_no_other_from_being_found(
    place: World, database_url: str
) -> None:
    await create(place, "applied_no_answer")
    lost = newest(place)
    place.sandbox.clock.advance(2)
    await create(place)
    assert await outcomes(place, database_url) == ["applied", "applied"]
    assert (await place.ask(f"/AccountSet(guid'{lost}')", Cache_Control="only-if-cached")).status == 200


async def test_an_entity_that_was_seen_before_is_no_match(
    place: World, database_url: str, hands: Hands
) -> None:
    key = place.sandbox.organisation.insert("AccountSet", {"Name": "Lost & found", "Address1_City": "Leeds"})
    await place.ask(f"/AccountSet(guid'{key}')")
    await create(place, "reset_before", b'{"Name":"Lost & found"}')
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["refused"]


async def test_one_that_a_reader_has_seen_meanwhile_is_found(place: World, database_url: str) -> None:
    await create(place, "applied_no_answer")
    await place.ask(f"/AccountSet(guid'{newest(place)}')")
    assert await outcomes(place, database_url) == ["applied"]
    assert revisions(database_url, "source") == ["upstream refresh", "client write"]


async def test_what_shows_only_some_of_it_is_not_taken_for_it(
    place: World, database_url: str, hands: Hands
) -> None:
    await create(place, "applied_no_answer")
    place.sandbox.organisation.change("AccountSet", newest(place), {"Address1_City": "York"})
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["undetermined"]


KEY = uuid.UUID(int=0xABC)
KEYED = b'{"AccountId":"%b","Name":"Keyed"}' % str(KEY).encode()


async def test_a_key_that_the_client_chose_is_read(place: World, database_url: str) -> None:
    await create(place, "applied_no_answer", KEYED)
    place.clear()
    assert await outcomes(place, database_url) == ["applied"]
    assert place.upstream_requests() == [f"GET /AccountSet(guid'{KEY}')"]
    held = await place.ask(f"/AccountSet(guid'{KEY}')", Cache_Control="only-if-cached")
    assert held.json()["d"]["Name"] == "Keyed"


async def test_a_key_that_the_client_chose_is_not_there(
    place: World, database_url: str, hands: Hands
) -> None:
    await create(place, "reset_before", KEYED)
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["refused"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"Name":null}',
        b'{"Name":"Imported","OverriddenCreatedOn":"/Date(1000000000000)/"}',
        b'{"NoSuchProperty":1}',
        b"nonsense",
    ],
)
async def test_what_cannot_be_looked_for_is_undetermined(
    place: World, database_url: str, hands: Hands, body: bytes
) -> None:
    place.sandbox.faults.add(Fault(kind="applied_no_answer", method="POST"))
    await place.ask("/AccountSet", "POST", body=body, Content_Type="application/json")
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["undetermined"]


async def test_a_clock_far_from_ours_proves_nothing(place: World, database_url: str, hands: Hands) -> None:
    place.sandbox.clock.advance(3600)
    hands.advance(place, 700)  # long enough for the clock that it was to be forgotten
    await create(place, "applied_no_answer")
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["undetermined"]


async def test_where_upstream_compares_no_such_texts_the_time_alone_is_asked_for(
    place: World, database_url: str
) -> None:
    await create(place, "applied_no_answer")
    place.sandbox.faults.add(Fault(kind="status", status=500, method="GET", path="%20eq%20"))
    place.clear()
    assert await outcomes(place, database_url) == ["applied"]
    assert len(place.upstream_requests()) == 2


@pytest.mark.parametrize("kind", ["html", "garbled", "cut", "status", "reset_before"])
async def test_no_usable_answer_leaves_it_open_however_late(
    place: World, database_url: str, hands: Hands, kind: Any
) -> None:
    await create(place, "applied_no_answer")
    hands.advance(place, LIMIT_S)
    place.sandbox.faults.add(Fault(kind=kind, method="GET", times=2))
    assert await outcomes(place, database_url) == [None]
    place.sandbox.faults.clear()
    assert await outcomes(place, database_url) == ["applied"]


async def test_where_upstream_refuses_to_be_asked_nobody_can_tell(
    place: World, database_url: str, hands: Hands
) -> None:
    await create(place, "applied_no_answer")
    hands.advance(place, LIMIT_S)
    place.sandbox.faults.add(Fault(kind="status", status=403, method="GET", times=2))
    assert await outcomes(place, database_url) == ["undetermined"]


async def test_a_page_that_is_full_is_not_all(place: World, database_url: str, hands: Hands) -> None:
    await create(place, "applied_no_answer", b'{"Name":"Many"}')
    for _ in range(50):
        place.sandbox.organisation.insert("AccountSet", {"Name": "MANY"})
    assert await outcomes(place, database_url) == [None]
    hands.advance(place, LIMIT_S)
    assert await outcomes(place, database_url) == ["undetermined"]
