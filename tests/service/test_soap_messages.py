"""SOAP messages pass untouched, and what they name is not served again before it was fetched anew."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import pytest
from storing import query, until
from world import Answer, World, world

from proxy.sandbox import server

PATH = "/XRMServices/2011/Organization.svc/web"
LONG_AGO = datetime(2016, 5, 1, 12, 30)
ROWS = 'SELECT intents, settled FROM mirror."AccountSet" WHERE "AccountId" = %s'


def set_state(*keys: str, name: str = "SetState") -> bytes:
    named = "".join(f"<p><Id>{key}</Id><LogicalName>account</LogicalName></p>" for key in keys)
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Execute><request>'
        f"<Parameters>{named}</Parameters><RequestName>{name}</RequestName></request></Execute></s:Body>"
        "</s:Envelope>"
    ).encode()


async def send(place: World, body: bytes) -> Answer:
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": "Execute"}
    return await place.send(f"{place.proxy.url}{PATH}", "POST", headers, body)


async def settled(database_url: str) -> None:
    """The client has its answer before the mark ends."""
    await until(lambda: query(database_url, "SELECT closed_at FROM syncpoint.intents")[0][0] is not None)


async def held(place: World, number: int = 0) -> str:
    """The key of an account that the mirror has and would confirm by a check."""
    key = place.sandbox.organisation.keys("AccountSet")[number]
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Held"}, modified_on=LONG_AGO)
    for _ in range(2):
        answer = await place.ask(f"/AccountSet(guid'{key}')")
    assert "hit" in answer.cache
    return str(key)


async def test_what_a_message_names_is_fetched_again(database_url: str) -> None:
    async with world(database_url) as place:
        named, other = await held(place, 0), await held(place, 1)
        body = set_state(named)
        place.clear()
        answer = await send(place, body)
        assert (answer.status, hashlib.sha256(body).hexdigest() in answer.text) == (200, True)
        await settled(database_url)
        assert query(database_url, ROWS, named) == [(0, False)]
        assert query(database_url, ROWS, other) == [(0, True)]
        # What the message did does not move the stamp here.
        organisation = place.sandbox.organisation
        first = organisation.keys("AccountSet")[0]
        organisation.change("AccountSet", first, {"Name": "By message"}, modified_on=LONG_AGO)
        answer = await place.ask(f"/AccountSet(guid'{named}')")
        assert answer.json()["d"]["Name"] == "By message"
        assert "hit" in (await place.ask(f"/AccountSet(guid'{other}')")).cache
        intents = query(database_url, "SELECT method, outcome FROM syncpoint.intents")
        assert intents == [("SoapSetState", "applied")]


async def test_the_mark_is_there_before_the_last_byte_leaves(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url) as place:
        key = await held(place)
        seen: list[Any] = []
        reply = server.pages.soap_reply

        def looking(*arguments: Any) -> Any:
            seen.extend(query(database_url, ROWS, key))
            return reply(*arguments)

        monkeypatch.setattr(server.pages, "soap_reply", looking)
        await send(place, set_state(key))
        assert seen == [(1, False)]
        await settled(database_url)
        # A fetch begun before the answer must not count, though it comes home after it.
        ((number,),) = query(database_url, 'SELECT fetch_number FROM mirror."AccountSet"')
        ((opened,),) = query(database_url, "SELECT fetch_number FROM syncpoint.intents")
        assert number > opened


@pytest.mark.parametrize("name", ["RetrieveMultiple", "WhoAmI"])
async def test_messages_that_change_nothing_leave_no_mark(database_url: str, name: str) -> None:
    async with world(database_url) as place:
        key = await held(place)
        assert (await send(place, set_state(key, name=name))).status == 200
        assert query(database_url, "SELECT * FROM syncpoint.intents") == []
        assert "hit" in (await place.ask(f"/AccountSet(guid'{key}')")).cache


async def test_declared_effects_of_a_message_are_marked_too(database_url: str) -> None:
    async with world(database_url) as place:
        key = await held(place)
        await place.idle()
        address = query(database_url, 'SELECT "Address1_AddressId"::text FROM mirror."AccountSet"')[0][0]
        await place.ask(f"/CustomerAddressSet(guid'{address}')")
        await send(place, set_state(key))
        ((touched,),) = query(database_url, "SELECT touched::text FROM syncpoint.intents")
        assert address in touched


@pytest.mark.parametrize("body", [b"", b"<not", set_state(), b"x" * 5_000_000])
async def test_what_is_not_understood_passes(database_url: str, body: bytes) -> None:
    async with world(database_url) as place:
        answer = await send(place, body)
        assert (answer.status, f"<Length>{len(body)}</Length>" in answer.text) == (200, True)
        assert query(database_url, "SELECT * FROM syncpoint.intents") == []
