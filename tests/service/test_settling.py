"""Settling of open intents: one that cannot be settled keeps no other from its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from storing import query
from world import Hands, World, world

from proxy.sandbox import Fault


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def place(database_url: str, hands: Hands) -> AsyncIterator[World]:
    async with world(database_url, now=hands.now) as made:
        yield made


def account(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


async def lose_the_answer(place: World, method: str, path: str, body: bytes) -> None:
    place.sandbox.faults.add(Fault("applied_no_answer", method))
    answer = await place.ask(path, method, body=body, Content_Type="application/json")
    assert answer.status == 504


async def outcomes(place: World, hands: Hands, database_url: str) -> list[Any]:
    hands.advance(place, 400)
    assert place.proxy.metadata.model is not None
    await place.proxy.settler.settle(place.proxy.metadata.model)
    return [
        outcome for (outcome,) in query(database_url, "SELECT outcome FROM syncpoint.intents ORDER BY id")
    ]


async def test_one_that_cannot_be_read_back_starves_no_other(
    place: World, hands: Hands, database_url: str
) -> None:
    for number in (0, 1):
        await place.ask(account(place, number))
        await lose_the_answer(place, "MERGE", account(place, number), b'{"Name":"Moved"}')
    place.sandbox.faults.add(Fault("cut", "GET", place.a_key("AccountSet", 0), times=1000))
    assert await outcomes(place, hands, database_url) == [None, "applied"]


async def test_half_a_surrogate_pair_ends_as_any_other_create(
    place: World, hands: Hands, database_url: str
) -> None:
    body = b'{"Name":"bad \\ud800 name","Address1_City":"Leeds"}'
    await lose_the_answer(place, "POST", "/AccountSet", body)
    await lose_the_answer(place, "MERGE", account(place), b'{"Name":"Moved"}')
    assert await outcomes(place, hands, database_url) == ["applied", "applied"]


async def test_an_error_nobody_expected_starves_no_other(
    place: World, hands: Hands, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lose_the_answer(place, "POST", "/AccountSet", b'{"Name":"Made"}')
    await lose_the_answer(place, "MERGE", account(place), b'{"Name":"Moved"}')

    async def fails(*_: Any) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("proxy.reconcile.settler.look_for", fails)
    assert await outcomes(place, hands, database_url) == [None, "applied"]
