"""How callers of the services listener say who they are, and what becomes of those who do not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from calling import basic, bearer, logged, password_of, token_of, told
from world import Answer, World, world

from proxy.settings import SettingsError

TOKEN, NEXT, PASSWORD = "a-token-4711", "its-heir-4712", "Pass:wörd-4713"
CALLERS: dict[str, Any] = {
    "reports": token_of(TOKEN, NEXT, read=["AccountSet"]),
    "importer": password_of("importer", PASSWORD, read=["AccountSet"]),
}


@asynccontextmanager
async def place_with(database_url: str, callers: Any, **settings: Any) -> AsyncIterator[World]:
    async with world(database_url, rows=5, callers=callers, **settings) as made:
        yield made


async def status_of(place: World, path: str = "/mirror/AccountSet", **headers: str) -> int:
    return (await ask(place, path, headers)).status


async def ask(place: World, path: str, headers: Any) -> Answer:
    return await place.send(
        f"{place.proxy.services_url}{path}", "GET", {"Accept": "application/json"} | headers
    )


async def test_who_does_not_say_is_told_how(database_url: str) -> None:
    async with place_with(database_url, CALLERS) as place:
        for path in ("/mirror/AccountSet", "/mirror/$batch", "/model/", "/changes", "/api/sets", "/metrics"):
            answer = await ask(place, path, {})
            assert answer.status == 401, path
            assert answer.headers.getall("WWW-Authenticate") == [
                'Bearer realm="syncpoint"',
                'Basic realm="syncpoint", charset="UTF-8"',
            ]
            assert answer.headers["Proxy-Status"] == "syncpoint; error=http_request_denied"
        answer = await ask(place, "/mirror/AccountSet", {})
        assert answer.json()["error"]["code"] == "Syncpoint.LoginRequired"
        atom = await ask(place, "/mirror/AccountSet", {"Accept": "application/atom+xml"})
        assert "<code>Syncpoint.LoginRequired</code>" in atom.text
        assert (await ask(place, "/api/sets", {})).json() == {"error": "Say who is calling."}


RIGHT = [bearer(TOKEN), bearer(NEXT), basic("importer", PASSWORD)]
WRONG = [
    bearer("another"),
    bearer(""),
    bearer(TOKEN + " "[:0] + "x"),
    basic("importer", "wrong"),
    basic("reports", PASSWORD),
    basic("nobody", PASSWORD),
    {"Authorization": "Basic no base64"},
    {"Authorization": "Basic " + "/w=="},
    {"Authorization": "Digest x"},
    {"Authorization": TOKEN},
    {"Cookie": f"token={TOKEN}"},
    {"X-Forwarded-User": "importer"},
]


async def test_only_what_is_right_gets_in_and_nothing_of_it_is_told(database_url: str) -> None:
    async with place_with(database_url, CALLERS) as place:
        with logged() as lines:
            for headers in RIGHT:
                assert await status_of(place, **headers) == 200
            for headers in WRONG:
                assert await status_of(place, **headers) == 401, headers
            both = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]
            async with place.session.get(f"{place.mirror_root}/AccountSet", headers=both) as response:
                assert response.status == 401
        refused = told(lines, "caller_refused")
        assert {(line["scheme"], line["reason"]) for line in refused} == {
            ("bearer", "unknown token"),
            ("basic", "wrong user or password"),
            ("basic", "unreadable"),
            ("several", "two credentials"),
        }
        assert {line["client"] for line in refused} == {"127.0.0.1"}
        served = [line["caller"] for line in told(lines, "request_served")]
        assert served == ["reports", "reports", "importer"]
        text = json.dumps([dict(line) for line in lines], default=str, ensure_ascii=False)
        for secret in (TOKEN, NEXT, PASSWORD, "another", 'wrong"', "nobody"):
            assert secret not in text
        metrics = place.proxy.metrics.render().decode()
        assert 'syncpoint_callers_refused_total{scheme="basic"} 5.0' in metrics


async def test_a_new_token_takes_over_from_an_old_one(database_url: str) -> None:
    """The configuration of three starts."""
    for tokens, works in (((TOKEN,), {TOKEN}), ((TOKEN, NEXT), {TOKEN, NEXT}), ((NEXT,), {NEXT})):
        async with place_with(database_url, {"reports": token_of(*tokens, read=["*"])}) as place:
            for token in (TOKEN, NEXT):
                assert (await status_of(place, **bearer(token)) == 200) is (token in works)


async def test_passwords_are_not_guessed_for_long(database_url: str) -> None:
    async with place_with(database_url, CALLERS) as place:
        assert await status_of(place, **basic("importer", PASSWORD)) == 200
        for number in range(10):
            assert await status_of(place, **basic("importer", f"guess {number}")) == 401
        for user in ("importer", "somebody"):
            answer = await ask(place, "/mirror/AccountSet", basic(user, "one more"))
            assert (answer.status, answer.headers["Retry-After"]) == (429, "60")
            assert answer.json()["error"]["code"] == "Syncpoint.TooManyLogins"
        # Neither who is in already nor who has a token is kept out by another's guessing.
        assert await status_of(place, **basic("importer", PASSWORD)) == 200
        assert await status_of(place, **bearer(TOKEN)) == 200


NETWORKS: dict[str, Any] = {
    "reports": token_of(TOKEN, read=["*"]),
    "inside": {"trust": "network", "networks": ["10.1.0.0/16", "fd00::/8"], "read": ["*"]},
}
PRETENCES = [
    {"X-Forwarded-For": "10.1.2.3"},
    {"X-Forwarded-For": "10.1.2.3, 127.0.0.1"},
    {"X-Real-IP": "10.1.2.3"},
    {"Forwarded": "for=10.1.2.3"},
    {"Forwarded": 'for="[fd00::1]"'},
    {"X-Client-IP": "10.1.2.3"},
    {"Host": "10.1.2.3"},
]


async def test_an_address_is_the_connections_own(database_url: str) -> None:
    async with place_with(database_url, NETWORKS) as place:
        for headers in ({}, *PRETENCES):
            assert await status_of(place, **headers) == 401, headers
            assert await status_of(place, **headers, **bearer(TOKEN)) == 200


@pytest.mark.parametrize(
    ("listen", "networks", "caller"),
    [
        ("127.0.0.1:0", ["127.0.0.0/8"], "wide"),
        ("127.0.0.1:0", ["127.0.0.0/24", "10.0.0.0/8"], "wide"),
        ("[::1]:0", ["::1/128"], "wide"),
        ("[::1]:0", ["127.0.0.0/8"], None),
        ("127.0.0.1:0", ["::/0"], None),
    ],
)
async def test_networks_of_both_kinds(
    database_url: str, listen: str, networks: list[str], caller: str | None
) -> None:
    callers = {
        "wide": {"trust": "network", "networks": networks, "read": ["AccountSet"]},
        "far": {"trust": "network", "networks": ["192.0.2.0/24"], "admin": True},
    }
    async with place_with(database_url, callers, services_listen=listen) as place:
        with logged() as lines:
            answer = await ask(place, "/mirror/AccountSet", {})
        if caller is None:
            # Nothing that a client could say would do, so it is not asked to.
            assert (answer.status, "WWW-Authenticate" in answer.headers) == (403, False)
            assert answer.json()["error"]["code"] == "Syncpoint.RightMissing"
        else:
            assert answer.status == 200
            assert [line["caller"] for line in told(lines, "request_served")] == [caller]


async def test_a_trusted_network_calls_by_names_that_are_listed(database_url: str) -> None:
    network = {"trust": "network", "networks": ["127.0.0.0/8"], "read": ["*"], "admin": True}
    callers = {"inside": network | {"names": ["crm.Example"]}}
    async with place_with(database_url, callers) as place:
        for host in ("127.0.0.1:1", "localhost", "[::1]:8011", "CRM.example:8011"):
            assert await status_of(place, Host=host) == 200, host
        for host in ("evil.example", "crm.example.evil.example"):
            for path in ("/mirror/AccountSet", "/api/sets", "/changes"):
                assert await status_of(place, path, Host=host) == 403, host
            # The console asks by itself who is there.
            assert "evil" in host and await status_of(place, "/console/", Host=host) in (303, 403)
        main = await place.send(f"{place.proxy_root}/AccountSet", headers={"Host": "evil.example"})
        assert main.status == 403


async def test_the_narrowest_network_holds_and_a_wrong_credential_is_no_silence(database_url: str) -> None:
    callers = {
        "all": {"trust": "network", "networks": ["0.0.0.0/0"], "read": ["ContactSet"]},
        "here": {"trust": "network", "networks": ["127.0.0.1/32"], "read": ["AccountSet"]},
        "reports": token_of(TOKEN, read=["ContactSet"]),
    }
    async with place_with(database_url, callers) as place:
        assert await status_of(place) == 200
        assert await status_of(place, "/mirror/ContactSet") == 403
        assert await status_of(place, "/mirror/ContactSet", **bearer(TOKEN)) == 200
        assert await status_of(place, **bearer("wrong")) == 401
        assert await status_of(place, **basic("of another", "system")) == 200  # no caller uses Basic


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.7:0", "sync.example.com:0"])
async def test_nobody_listens_beyond_the_loopback_without_callers(database_url: str, address: str) -> None:
    with pytest.raises(SettingsError, match=r"^services_listen: .* is more than the loopback"):
        async with world(database_url, services_listen=address):
            pass


async def test_rights_to_what_is_not_there_are_told_at_the_start(database_url: str) -> None:
    callers = {
        "typo": token_of(
            TOKEN,
            read=["*", "AcountSet", "model/Nothing"],
            properties={"AccountSet": {"deny": ["Telefone1", "AccountId"]}},
        )
    }
    with pytest.raises(SettingsError) as caught:
        async with world(database_url, callers=callers):
            pass
    assert caught.value.problems == (
        "callers.typo.read: there is no entity set 'AcountSet'",
        "callers.typo.read: there is no entity set 'model/Nothing'",
        "callers.typo.properties.AccountSet: there is no property 'Telefone1'",
        "callers.typo.properties.AccountSet: 'AccountId' is of the key, which is always shown",
    )


async def test_without_callers_the_loopback_is_open_as_ever(database_url: str) -> None:
    async with world(database_url, rows=5) as place:
        with logged() as lines:
            for path in ("/mirror/AccountSet", "/metrics", "/api/sets", "/changes"):
                assert await status_of(place, path, **bearer("whatever")) == 200
        assert [line["caller"] for line in told(lines, "request_served")] == [None]
