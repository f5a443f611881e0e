"""Callers that log in their connections, by NTLM and Negotiate, as .NET clients do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from calling import bearer, logged, token_of, told
from logging_in import connection
from world import World, world

from proxy.connection_logins import ConnectionLogins

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANN, BOB = "Pass:wörd-4711", "secret-4712"
SCHEMES = ["NTLM", "Negotiate"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    databases: Any, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    file: Path = tmp_path_factory.mktemp("secrets") / "bob"
    file.write_text(f"{BOB}\n")
    callers = {
        "ann": {"ntlm": {"user": "CRM\\Ann", "password": ANN}, "read": ["AccountSet"]},
        "bob": {"ntlm": {"user": "bob", "password_file": str(file)}, "read": ["ContactSet"]},
        "tool": token_of("tool-token", read=["*"], write=["*"]),
    }
    with databases.database(template) as url:
        async with world(url, rows=5, callers=callers) as made:
            await made.fill("AccountSet", "ContactSet", **bearer("tool-token"))
            yield made


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_login_holds_for_its_connection_and_no_other(place: World, scheme: str) -> None:
    with logged() as lines:
        async with connection(place.mirror_root) as one, connection(place.mirror_root) as other:
            first = await one.ask("/AccountSet")
            assert first.status == 401
            assert first.headers.getall("WWW-Authenticate")[:2] == ["Negotiate", "NTLM"]
            assert (await one.log_in("CRM\\ann", ANN, "/AccountSet", scheme)).status == 200
            assert (await one.ask("/AccountSet?$top=1")).status == 200
            assert (await one.ask("/ContactSet")).status == 403
            assert (await other.ask("/AccountSet")).status == 401
            assert (await other.log_in("bob", BOB, "/ContactSet", scheme)).status == 200
            assert (await one.ask("/AccountSet")).status == 200
            # What a request says of its own caller counts for that request.
            assert (await one.ask("/ContactSet", **bearer("tool-token"))).status == 200
            assert (await one.ask("/ContactSet")).status == 403
    callers = [line["caller"] for line in told(lines, "request_served")]
    assert callers == ["ann", "ann", "ann", "bob", "ann", "tool", "ann"]
    text = json.dumps([dict(line) for line in lines], default=str, ensure_ascii=False)
    assert told(lines, "caller_refused") == []
    for secret in (ANN, BOB):
        assert secret not in text


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("user", "password"),
    [("CRM\\ann", "wrong"), ("ann", ANN), ("OTHER\\ann", ANN), ("CRM\\nobody", ANN), ("bob", ANN)],
)
async def test_who_is_somebody_else_is_not_let_in(
    database_url: str, scheme: str, user: str, password: str
) -> None:
    callers = {"ann": {"ntlm": {"user": "CRM\\Ann", "password": ANN}, "read": ["*"]}}
    async with world(database_url, rows=3, callers=callers) as own:
        with logged() as lines:
            async with connection(own.mirror_root) as client:
                assert (await client.log_in(user, password, "/AccountSet", scheme)).status == 401
                assert (await client.ask("/AccountSet")).status == 401
        (line,) = told(lines, "caller_refused")
        assert (line["scheme"], line["reason"]) == (scheme.lower(), "login failed")


async def test_old_ntlm_is_not_taken(place: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", "1")
    async with connection(place.mirror_root) as client:
        assert (await client.log_in("CRM\\ann", ANN, "/AccountSet")).status == 401
    monkeypatch.delenv("LM_COMPAT_LEVEL")
    async with connection(place.mirror_root) as client:
        assert (await client.log_in("CRM\\ann", ANN, "/AccountSet")).status == 200


async def test_nonsense_is_a_failed_login_and_ends_the_one_before(database_url: str) -> None:
    callers = {
        f"c{number}": {"ntlm": {"user": f"u{number}", "password": ANN}, "read": ["*"]} for number in range(3)
    }
    messages = [b"", b"x", b"NTLMSSP\0\1\0\0\0", b"\x60\x05", b"NTLMSSP\0\3\0\0\0" + b"\xff" * 60]
    async with world(database_url, rows=3, callers=callers) as own:
        for scheme in SCHEMES:
            for message in messages[:4]:
                async with connection(own.mirror_root) as client:
                    said = f"{scheme} {base64.b64encode(message).decode()}"
                    answer = await client.ask("/AccountSet", Authorization=said)
                    assert answer.status in (401, 429), answer.text
        assert own.proxy.metrics.registry.get_sample_value("syncpoint_unexpected_errors_total") == 0
    async with world(database_url, rows=3, callers=callers) as own, connection(own.mirror_root) as client:
        assert (await client.log_in("u1", ANN, "/AccountSet")).status == 200
        broken = f"NTLM {base64.b64encode(messages[4]).decode()}"
        assert (await client.ask("/AccountSet", Authorization=broken)).status == 401
        assert (await client.ask("/AccountSet")).status == 401


async def test_logins_are_not_guessed_for_long(database_url: str) -> None:
    callers = {"ann": {"ntlm": {"user": "ann", "password": ANN}, "read": ["*"]}}
    async with world(database_url, rows=3, callers=callers) as own, connection(own.mirror_root) as before:
        assert (await before.log_in("ann", ANN, "/AccountSet")).status == 200
        for number in range(10):
            async with connection(own.mirror_root) as client:
                assert (await client.log_in("ann", f"guess {number}", "/AccountSet")).status == 401
        async with connection(own.mirror_root) as client:
            assert (await client.log_in("ann", ANN, "/AccountSet")).status == 429
        assert (await before.ask("/AccountSet")).status == 200


async def test_two_users_side_by_side_are_never_taken_for_each_other(place: World) -> None:
    async def many(user: str, password: str, allowed: str, refused: str) -> None:
        for _ in range(3):
            async with connection(place.mirror_root) as client:
                assert (await client.log_in(user, password, allowed)).status == 200
                for _ in range(40):
                    assert (await client.ask(allowed)).status == 200
                    assert (await client.ask(refused)).status == 403

    ann = [many("CRM\\ann", ANN, "/AccountSet?$top=1", "/ContactSet") for _ in range(3)]
    bob = [many("bob", BOB, "/ContactSet?$top=1", "/AccountSet") for _ in range(3)]
    await asyncio.gather(*ann, *bob)


async def test_on_the_main_listener_too_and_upstream_hears_nothing_of_it(place: World) -> None:
    place.clear()
    async with connection(place.proxy_root) as client:
        assert (await client.log_in("CRM\\ann", ANN, "/AccountSet?$top=1")).status == 200
        assert (await client.ask("/AccountSet?$top=2")).status == 200
        assert (await client.ask("/ContactSet?$top=1")).status == 403
    assert len(place.sandbox.journal) == 2
    assert [entry for entry in place.sandbox.journal if "Authorization" in entry.headers] == []


async def test_what_is_kept_of_passwords_ends_with_who_keeps_it() -> None:
    logins = ConnectionLogins({"u": ANN})
    path = Path(logins._file)
    assert ANN.encode() not in path.read_bytes()
    del logins
    assert not path.exists()


async def test_a_reload_ends_logins_and_reads_passwords_again(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "ann"
    file.write_text(ANN)
    callers = {"ann": {"ntlm": {"user": "ann", "password_file": str(file)}, "read": ["*"]}}
    async with world(database_url, rows=3, callers=callers) as own, connection(own.mirror_root) as client:
        assert (await client.log_in("ann", ANN, "/AccountSet")).status == 200
        file.write_text(BOB)
        own.proxy.reload()
        assert (await client.ask("/AccountSet")).status == 401
        assert (await client.log_in("ann", ANN, "/AccountSet")).status == 401
        assert (await client.log_in("ann", BOB, "/AccountSet")).status == 200
        file.unlink()
        with logged() as lines:
            own.proxy.reload()
        (line,) = told(lines, "proxy_reloaded")
        assert line["problems"] == ["callers.ann.ntlm.password_file: No such file or directory"]
        assert (await client.ask("/AccountSet")).status == 200
