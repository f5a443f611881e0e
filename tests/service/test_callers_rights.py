"""`upstream.auth.mode = "caller"`: each is shown what upstream shows them, and nothing else (rule 8)."""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cutover import cut_over
from storing import tables_with
from world import World, world

from proxy.sandbox import Fault, Rights, Switches
from proxy.settings import SettingsError

USERS = {"CRM\\ada": "Lovelace1", "CRM\\low": "Rights1"}
CALLER: dict[str, Any] = {"upstream__auth__mode": "caller", "defaults__secured": []}
SECURED = CALLER | {"sets.AccountSet.secured": ["Revenue", "Fax"]}
DOWN = Fault("status", status=503, times=100)


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{USERS[user]}".encode()).decode()


ADA, LOW = map(basic, USERS)


async def knows_its_metadata(place: World, **credentials: str) -> None:
    """In this mode the proxy reads the document on behalf of the first caller that upstream answers."""
    assert place.proxy.metadata.model is None
    await place.ask("/", **credentials)
    assert place.proxy.metadata.model is not None


@pytest.mark.parametrize("credentials", [ADA, None])
async def test_ages_count_for_nothing_without_a_confirmation(
    database_url: str, credentials: str | None
) -> None:
    """With no time to live, `only-if-cached` and `stale_if_error` give nothing, to anybody."""
    auth: Any = {"auth": "basic", "users": USERS} if credentials else {}
    headers = {"Authorization": credentials} if credentials else {}
    settings = {"defaults__stale_if_error_s": 3600, **CALLER}
    async with world(database_url, switches=Switches(**auth), rows=1, **settings) as place:
        await knows_its_metadata(place, **headers)
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        await place.ask(path, **headers)
        await place.idle()
        for directive in ("only-if-cached", "max-stale", "max-age=1000"):
            answer = await place.ask(path, Cache_Control=directive, **headers)
            assert answer.status == 504 if directive == "only-if-cached" else "checked" in answer.cache
        place.sandbox.faults.add(replace(DOWN))
        assert (await place.ask(path, **headers)).status == 503


async def test_a_confirmation_counts_for_its_own_caller_as_long_as_is_set(database_url: str) -> None:
    settings = {"upstream__auth__visibility_ttl_s": 600, "defaults__stale_if_error_s": 3600, **CALLER}
    switches = Switches(auth="basic", users=USERS)
    async with world(database_url, switches=switches, rows=1, **settings) as place:
        await knows_its_metadata(place, Authorization=ADA)
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        await place.ask(path, Authorization=ADA)
        aged = await place.ask(path, Authorization=ADA, Cache_Control="only-if-cached")
        assert (aged.status, "hit" in aged.cache) == (200, True)
        aged = await place.ask(path, Authorization=ADA, Cache_Control="max-stale")
        assert (aged.status, "age-allowed" in aged.cache) == (200, True)
        assert (
            await place.ask(f"{path}/Name", Authorization=ADA, Cache_Control="only-if-cached")
        ).status == 504
        assert (await place.ask(path, Authorization=LOW, Cache_Control="only-if-cached")).status == 504
        assert (await place.ask(path, Cache_Control="only-if-cached")).status == 504
        place.sandbox.faults.add(replace(DOWN))
        assert (await place.ask(path, Authorization=ADA)).status == 200
        assert (await place.ask(path, Authorization=LOW)).status == 503


async def test_a_confirmation_ends_when_upstream_shows_the_entity_no_more(database_url: str) -> None:
    rights: dict[str, Rights] = {}
    settings = {"upstream__auth__visibility_ttl_s": 600, "defaults__stale_if_error_s": 3600, **CALLER}
    switches = Switches(auth="basic", users=USERS, rights=rights)
    async with world(database_url, switches=switches, rows=1, **settings) as place:
        await knows_its_metadata(place, Authorization=ADA)
        key = place.a_key("AccountSet")
        path = f"/AccountSet(guid'{key}')"
        for credentials in (ADA, LOW):
            assert (await place.ask(path, Authorization=credentials)).status == 200
        rights["crm\\low"] = Rights(frozenset({("AccountSet", uuid.UUID(key))}))
        assert (await place.ask(path, Authorization=LOW)).status == 404
        for directive in ("only-if-cached", "max-stale"):
            assert (await place.ask(path, Authorization=LOW, Cache_Control=directive)).status in (404, 504)
        place.sandbox.faults.add(replace(DOWN))
        assert (await place.ask(path, Authorization=LOW)).status == 503
        assert (await place.ask(path, Authorization=ADA)).status == 200


async def test_who_shows_no_credentials_is_confirmed_by_nobody(database_url: str) -> None:
    """What upstream knows them by, the proxy does not: another header field, an address."""
    settings = {"upstream__auth__visibility_ttl_s": 600, "defaults__stale_if_error_s": 3600, **CALLER}
    async with world(database_url, rows=1, **settings) as place:
        await knows_its_metadata(place)
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        assert (await place.ask(path, X_Api_Key="one")).status == 200
        assert (await place.ask(path, Cache_Control="only-if-cached")).status == 504
        place.sandbox.faults.add(replace(DOWN))
        assert (await place.ask(path, X_Api_Key="another")).status == 503


async def test_nothing_of_a_set_is_kept_until_its_secured_properties_are_stated(database_url: str) -> None:
    settings = {"upstream__auth__mode": "caller", "sets.ContactSet.secured": []}
    switches = Switches(auth="basic", users=USERS)
    async with world(database_url, switches=switches, rows=2, **settings) as place:
        await knows_its_metadata(place, Authorization=ADA)
        assert place.proxy.metadata.model is not None
        sets = place.proxy.metadata.model.entity_sets
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        for of in (path, "/AccountSet", "/ContactSet"):
            await place.ask(of, Authorization=ADA)
            answer = await place.ask(of, Authorization=ADA)
            assert ("secured-not-stated" in answer.cache) == ("AccountSet" in of)
        assert (await place.merge(path, '{"Name":"Kept nowhere"}', Authorization=ADA)).status == 204
        await place.idle()
        assert await place.proxy.store.count(sets["AccountSet"], at_most=9) == 0
        assert await place.proxy.store.count(sets["ContactSet"], at_most=9) == 2
        assert await place.proxy.store.open_intents() == []
        assert not await tables_with(database_url, "Kept nowhere")


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize(
    "form",
    [
        "/AccountSet(guid'{0}')",
        "/AccountSet(guid'{1}')",
        "/AccountSet(guid'{0}')?$select=Name,Fax,Revenue",
        "/AccountSet(guid'{0}')?$select=Name",
        "/AccountSet",
        "/AccountSet?$top=2&$select=Fax,Name",
        "/AccountSet?$filter=startswith(Fax,'0')&$orderby=Name",
        "/AccountSet(guid'{0}')/Fax",
        "/AccountSet(guid'{0}')/Fax/$value",
        "/AccountSet(guid'{0}')?$expand=account_parent_account",
        "/AccountSet?$expand=account_parent_account",
        "/AccountSet(guid'{0}')/account_parent_account",
        "/AccountSet(guid'{0}')/$links/account_parent_account",
        "/AccountSet/$count",
        "/ContactSet",
    ],
)
async def test_each_read_form_shows_to_each_user_what_upstream_does(
    database_url: str, accept: str, form: str
) -> None:
    rights: dict[str, Rights] = {}
    switches = Switches(auth="basic", users=USERS, count="serve", rights=rights)
    async with world(database_url, switches=switches, rows=4, **SECURED) as place:
        keys = [place.a_key("AccountSet", number) for number in range(2)]
        change = place.sandbox.organisation.change
        for key in place.sandbox.organisation.keys("AccountSet"):
            change("AccountSet", key, {"Fax": f"0{key.int % 997}", "Name": f"A{key.int % 991}"})
        hidden = frozenset(
            {("AccountSet", uuid.UUID(keys[1])), ("ContactSet", uuid.UUID(place.a_key("ContactSet")))}
        )
        fields = frozenset({("AccountSet", "Fax"), ("AccountSet", "Revenue")})
        rights["crm\\low"] = Rights(hidden, fields)
        path = form.format(*keys)
        await knows_its_metadata(place, Authorization=ADA)
        for turn in range(6):
            for credentials in (ADA, LOW) if turn % 2 else (LOW, ADA):
                headers = {"Accept": accept, "Authorization": credentials}
                direct = await place.ask(path, direct=True, **headers)
                proxied = await place.ask(path, **headers)
                await place.idle()
                assert proxied.status == direct.status
                assert masked(proxied.body) == masked(place.rooted(direct.text).encode())
        assert not await tables_with(database_url, f'0{uuid.UUID(keys[0]).int % 997}"')


def masked(body: bytes) -> bytes:
    """Without the seconds at which an Atom document was written."""
    return re.sub(rb"<updated>[^<]*</updated>", b"", body)


async def test_secured_properties_are_checked_shown_and_never_stored(database_url: str) -> None:
    rights: dict[str, Rights] = {}
    switches = Switches(auth="basic", users=USERS, rights=rights)
    async with world(database_url, switches=switches, rows=2, **SECURED) as place:
        key = uuid.UUID(place.a_key("AccountSet"))
        place.sandbox.organisation.change("AccountSet", key, {"Fax": "5551234"})
        rights["crm\\low"] = Rights(hidden_properties=frozenset({("AccountSet", "Fax")}))
        path = f"/AccountSet(guid'{key}')"
        place.sandbox.clock.advance(60)
        await knows_its_metadata(place, Authorization=ADA)
        await place.ask(path, Authorization=LOW)
        place.clear()
        answer = await place.ask(path, Authorization=ADA)
        assert ("hit" in answer.cache, answer.json()["d"]["Fax"]) == (True, "5551234")
        names = {"ModifiedOn", "AccountId", "Revenue", "Fax"}
        assert names <= set(place.upstream_requests()[0].partition("$select=")[2].split(","))
        assert (await place.ask(path, Authorization=LOW)).json()["d"]["Fax"] is None
        written = await place.merge(path, '{"Fax":"5559876"}', Authorization=ADA)
        assert written.status == 204
        assert (await place.ask(path, Authorization=ADA)).json()["d"]["Fax"] == "5559876"
        await place.idle()
        assert await place.proxy.store.open_intents() == []
        for number in ("5551234", "5559876"):
            assert not await tables_with(database_url, number)


async def test_an_open_write_settles_with_the_next_callers_read(database_url: str) -> None:
    ahead = timedelta()
    settings = {"upstream__read_timeout_s": 1, "upstream__connect_timeout_s": 1, **CALLER}
    switches = Switches(auth="basic", users=USERS)
    async with world(
        database_url, switches=switches, rows=1, now=lambda: datetime.now(UTC) + ahead, **settings
    ) as place:
        await knows_its_metadata(place, Authorization=ADA)
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        await place.ask(path, Authorization=ADA)
        place.sandbox.faults.add(Fault("applied_no_answer", method="MERGE"))
        assert (await place.merge(path, '{"Name":"Lost"}', Authorization=ADA)).status == 504
        assert len(await place.proxy.store.open_intents()) == 1
        ahead = timedelta(seconds=30)
        assert (await place.ask(path, Authorization=LOW)).json()["d"]["Name"] == "Lost"
        assert await place.proxy.store.open_intents() == []


async def test_sets_of_the_mirrors_own_have_no_upstream_to_ask_for_rights(database_url: str) -> None:
    async with world(database_url, rows=1) as place:
        await cut_over(place, "AccountSet")
    with pytest.raises(SettingsError, match="mirror's own: AccountSet"):
        async with world(database_url, rows=1, **CALLER):
            pass
