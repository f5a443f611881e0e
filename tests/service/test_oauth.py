"""Bearer tokens: the proxy's own by client credentials from a token service that runs, and callers' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from raw_http import RawUpstream, listening, says
from storing import tables_with
from token_service import TokenService
from world import Answer, World, world

from proxy.sandbox import Fault, Switches

CLIENT, SECRET = "syncpoint", "Zaffre-9915-Quokka"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def logged_in(database_url: str, secret: str = SECRET) -> AsyncIterator[tuple[World, TokenService]]:
    service = TokenService(CLIENT, SECRET)
    async with service.serve():
        own = {"mode": "bearer", "user": CLIENT, "password": secret, "token_url": service.url}
        settings: dict[str, Any] = {f"upstream__auth__{name}": value for name, value in own.items()}
        switches = Switches(auth="bearer", tokens=service.tokens)
        async with world(database_url, switches=switches, rows=2, **settings) as place:
            yield place, service


async def many(place: World) -> list[Answer]:
    """As many requests at once; none is answered by the mirror alone."""
    key = place.a_key("AccountSet")
    paths = [f"/AccountSet(guid'{key}')?$select=Name&n={number}" for number in range(20)]
    return await asyncio.gather(*(place.ask(path, Authorization="Bearer of-a-client") for path in paths))


async def test_one_token_serves_all_callers_for_as_long_as_it_lives(database_url: str) -> None:
    async with logged_in(database_url) as (place, service):
        for _ in range(3):
            assert {answer.status for answer in await many(place)} == {200}
        assert (service.asked, place.sandbox.logins.failures) == (1, 0)
        assert {entry.user for entry in place.sandbox.journal} == {CLIENT}
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        assert (await place.merge(path, '{"Name":"New"}')).status == 204
        (token,) = service.tokens
        for text in (token, SECRET):
            assert not await tables_with(database_url, text)


async def test_a_token_at_its_end_is_replaced_before_it_is_refused(database_url: str) -> None:
    async with logged_in(database_url) as (place, service):
        service.lifetime_s = 0
        place.proxy.logins[0]._proof = None
        for number in range(3):
            answer = await place.ask(f"/AccountSet?$top=1&n={number}")
            assert answer.status == 200
        assert (service.asked, place.sandbox.logins.failures) == (len(service.tokens), 0)
        assert service.asked > 3


async def test_a_token_that_upstream_takes_no_more_is_replaced_once_for_all(database_url: str) -> None:
    async with logged_in(database_url) as (place, service):
        await many(place)
        service.tokens.clear()
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        answers = [*await many(place), await place.merge(path, '{"Name":"New"}')]
        assert {answer.status for answer in answers} == {200, 204}
        assert service.asked == 2
        assert (await place.ask(path)).json()["d"]["Name"] == "New"
        assert await place.proxy.store.open_intents() == []


async def test_a_token_that_never_works_is_no_loop(database_url: str) -> None:
    async with logged_in(database_url) as (place, service):
        place.sandbox.faults.add(Fault("status", status=401, times=10_000))
        place.proxy.logins[0]._proof = None
        assert {answer.status for answer in await many(place)} == {502}
        assert service.asked <= 3
        assert place.sandbox.logins.failures == 0


async def test_a_wrong_secret_is_tried_once_however_many_ask(database_url: str) -> None:
    async with logged_in(database_url, "wrong") as (place, service):
        for _ in range(3):
            answers = await many(place)
            assert {answer.status for answer in answers} == {502}
            assert {answer.json()["error"]["code"] for answer in answers} == {"Syncpoint.LoginFailed"}
        assert (service.asked, service.failures, place.upstream_requests()) == (1, 1, [])
        place.proxy.reload()
        await many(place)
        assert service.failures == 2


@pytest.mark.parametrize("status", [503, 302])
async def test_a_token_service_that_is_ill_is_left_alone_and_not_followed(
    database_url: str, status: int
) -> None:
    async with logged_in(database_url) as (place, service), listening(RawUpstream(says(OK))) as decoy:
        place.proxy.logins[0]._proof = None
        asked = service.asked
        service.answer = web.Response(status=status, headers={"Location": f"{decoy.origin}/token"})
        for _ in range(3):
            assert {answer.status for answer in await many(place)} == {502}
        assert service.asked - asked <= 3
        assert decoy.connections == 0
        service.answer = None
        place.proxy.reload()
        assert {answer.status for answer in await many(place)} == {200}


async def test_callers_tokens_of_their_own_go_through_and_are_told_apart(database_url: str) -> None:
    tokens = {"token-of-ada": "ada", "token-of-grace": "grace"}
    settings: dict[str, Any] = {"upstream__auth__mode": "caller", "defaults__secured": []}
    switches = Switches(auth="bearer", tokens=tokens)
    async with world(database_url, switches=switches, rows=2, **settings) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        strange = await place.ask(path, Authorization="Bearer of-nobody")
        assert strange.status == 401
        assert strange.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
        for _ in range(3):
            for token in tokens:
                assert (await place.ask(path, Authorization=f"Bearer {token}")).status == 200
        assert "hit" in (await place.ask(path, Authorization="Bearer token-of-grace")).cache
        tokens.pop("token-of-grace")
        assert (await place.ask(path, Authorization="Bearer token-of-grace")).status == 401
        assert (await place.ask(path, Authorization="Bearer token-of-ada")).status == 200
        for token in ("token-of-ada", "token-of-grace"):
            assert not await tables_with(database_url, token)
