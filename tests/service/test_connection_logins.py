"""NTLM and Negotiate through the proxy: a login holds for one connection of one client's (rule 8)."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Any

import pytest
from logging_in import Connection, connection
from multidict import CIMultiDict
from raw_http import running, says
from world import World, world

from proxy.reconcile.ports import Request, UpstreamUnreachable
from proxy.sandbox import Rights, Switches

USERS = {"CRM\\ada": "Lovelace1", "CRM\\grace": "Hopper1"}
CALLER: dict[str, Any] = {"upstream__auth__mode": "caller", "defaults__secured": []}
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM abc\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
async def test_a_handshake_goes_through_and_its_connection_is_served_from_the_mirror(
    database_url: str, scheme: Any
) -> None:
    switches = Switches(auth=scheme.lower(), users=USERS)
    async with world(database_url, switches=switches, rows=3, **CALLER) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        async with connection(place.proxy_root) as client:
            refused = await client.ask(path)
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, scheme)
            await client.log_in("CRM\\grace", USERS["CRM\\grace"], path, scheme)
            first = await client.log_in("CRM\\ada", USERS["CRM\\ada"], path, scheme)
            assert (first.status, first.cache.partition("detail=")[2]) == (200, "login")
            assert place.proxy.metadata.model is not None
            await client.ask(path)
            hit = await client.ask(path)
            assert "hit" in hit.cache
            assert hit.body == first.body
        users = [entry.user for entry in place.sandbox.journal if entry.status == 200]
        assert users[:1] + users[-1:] == ["crm\\grace", "crm\\ada"]


async def test_a_wrong_password_is_upstreams_to_refuse(database_url: str) -> None:
    switches = Switches(auth="ntlm", users=USERS)
    async with (
        world(database_url, switches=switches, rows=1, **CALLER) as place,
        connection(place.proxy_root) as client,
    ):
        assert (await client.log_in("CRM\\ada", "wrong", "/AccountSet")).status == 401
        assert (await client.ask("/AccountSet")).status == 401


async def test_writes_log_in_and_settle(database_url: str) -> None:
    switches = Switches(auth="ntlm", users=USERS)
    async with world(database_url, switches=switches, rows=1, **CALLER) as place:
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        async with connection(place.proxy_root) as reader, connection(place.proxy_root) as client:
            await reader.log_in("CRM\\grace", USERS["CRM\\grace"], path)
            request = {"method": "MERGE", "body": b'{"Name":"New"}', "Content_Type": "application/json"}
            answer = await client.log_in("CRM\\ada", USERS["CRM\\ada"], path, **request)
            assert answer.status == 204
            assert (await client.ask(path)).json()["d"]["Name"] == "New"
            assert (await client.ask(path, "DELETE")).status == 204
            assert (await client.ask(path)).status == 404
        assert await place.proxy.store.open_intents() == []


@pytest.mark.parametrize(("scheme", "turns"), [("NTLM", 150), ("Negotiate", 25)])
async def test_two_users_interleaved_on_kept_connections_never_cross(
    database_url: str, scheme: Any, turns: int
) -> None:
    """Each may see one of two rows; what upstream says of the other, and to whom, tells them apart."""
    switches = Switches(auth=scheme.lower(), users=USERS, rights={})
    async with world(database_url, switches=switches, rows=4, **CALLER) as place, AsyncExitStack() as stack:
        keys = [place.a_key("AccountSet", number) for number in range(2)]
        clients = []
        for number in range(8):
            user = list(USERS)[number % 2]
            hidden = frozenset({("AccountSet", uuid.UUID(keys[1 - number % 2]))})
            place.sandbox.switches.rights[user.lower()] = Rights(hidden)  # type: ignore[index]
            client = await stack.enter_async_context(connection(place.proxy_root))
            await client.log_in(user, USERS[user], "/AccountSet", scheme)
            clients.append(client)
        place.clear()
        work = [_read_both(place, client, keys, number % 2, turns) for number, client in enumerate(clients)]
        hits = sum(await asyncio.gather(*work))
        await place.idle()
        said = [(entry.headers["X-Who"], entry.user) for entry in place.sandbox.journal]
        assert (len(said) > 26 * turns, hits > 6 * turns) == (True, True)
        assert [pair for pair in said if pair[0] != pair[1]] == []
        assert place.sandbox.logins.handshakes == len(clients)


async def _read_both(place: World, client: Connection, keys: list[str], own: int, turns: int) -> int:
    """Entities, pages and streams, over and over; gives the number of answers from the mirror."""
    who = list(USERS)[own].lower()
    hits = 0
    for turn in range(turns):
        for number, key in enumerate(keys):
            query = "?$select=Name" if turn % 3 else ""
            answer = await client.ask(f"/AccountSet(guid'{key}'){query}", X_Who=who)
            assert answer.status == (200 if number == own else 404)
            hits += "hit" in answer.cache
        page = await client.ask("/AccountSet?$select=AccountId", X_Who=who)
        assert {row["AccountId"] for row in page.json()["d"]["results"]} & set(keys) == {keys[own]}
        assert (await client.ask("/$batch", "POST", b"x", X_Who=who)).status == 404
    return hits


async def test_an_upstream_connection_ends_with_its_clients(database_url: str) -> None:
    switches = Switches(auth="ntlm", users=USERS)
    async with world(database_url, switches=switches, rows=1, **CALLER) as place:
        async with connection(place.proxy_root) as client:
            await client.log_in("CRM\\ada", USERS["CRM\\ada"], "/AccountSet")
            assert len(place.proxy.upstream.pins) == 1
        async with asyncio.timeout(20):
            while len(place.proxy.upstream.pins):  # noqa: ASYNC110 (nobody tells when a server has noticed)
                await asyncio.sleep(0)
        async with connection(place.proxy_root) as stranger:
            assert (await stranger.ask("/AccountSet")).status == 401


async def test_the_proxys_own_reads_keep_out_of_a_login() -> None:
    async with running(says(CHALLENGE)) as (upstream, client):
        task = asyncio.create_task(asyncio.Event().wait())
        headers = CIMultiDict({"Authorization": "\tntlm\tTlRM"})
        pin = client.pin(task, headers)
        assert pin is not None
        assert (await client.send(Request("GET", "/", headers, connection=pin))).status == 401
        with pytest.raises(UpstreamUnreachable):
            await client.send(Request("GET", "/", CIMultiDict(), connection=pin), joinable=True)
        assert upstream.whole == 1
        task.cancel()


async def test_what_a_client_left_behind_cannot_be_asked_for_on_another_connection() -> None:
    async with running(says(CHALLENGE)) as (upstream, client):
        task = asyncio.create_task(asyncio.Event().wait())
        pin = client.pin(task, CIMultiDict({"Authorization": "Negotiate YII"}))
        assert pin is client.pin(task, CIMultiDict())
        task.cancel()
        await asyncio.wait([task])
        await client.pins.close()
        with pytest.raises(UpstreamUnreachable):
            await client.send(Request("GET", "/", CIMultiDict(), connection=pin))
        assert upstream.connections == 0


async def test_logged_in_connections_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstream.pins.MAX_PINS", 1)
    headers = CIMultiDict({"Authorization": "NTLM TlRM"})
    async with running(says(CHALLENGE)) as (_, client):
        first, second = (asyncio.create_task(asyncio.Event().wait()) for _ in range(2))
        assert client.pin(first, headers) is not None
        with pytest.raises(UpstreamUnreachable):
            client.pin(second, headers)
        first.cancel()
        second.cancel()
