"""The proxy's own identity towards upstream: Basic, NTLM, Negotiate, and the form chain of ADFS."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from identities import PASSWORD, USER, settings, switches
from storing import tables_with
from world import World, world

from proxy.events import configure_logging
from proxy.sandbox import Fault, Sandbox, Switches

MODES = ["basic", "ntlm", "negotiate", "adfs-forms"]


@asynccontextmanager
async def logged_in(
    database_url: str, mode: str, password: str = PASSWORD, upstream: Switches | None = None, **more: Any
) -> AsyncIterator[World]:
    """A world whose sandbox asks for `mode`; the token service's origin is only known once it runs."""
    sandbox = Sandbox(rows=3, switches=upstream or switches(mode))
    async with sandbox.serve() as root:
        if mode == "adfs-forms":
            more["upstream__auth__login_origins"] = [sandbox.logins.forms.sts_origin]
        own = settings(mode, password) | more
        async with world(database_url, served=(sandbox, root), **own) as place:
            yield place


def failures(place: World) -> int:
    return place.sandbox.logins.failures + place.sandbox.logins.forms.failures


async def test_the_proxys_login_is_lent_under_names_of_its_own_only(database_url: str) -> None:
    """To a browser on this machine, a site that rebinds its name is of the same site as the proxy."""
    more = {"public_origin": "http://crm.example"}
    async with logged_in(database_url, "basic", **more) as place:
        path = path_of(place)
        assert (await place.ask(path)).status == 200
        assert (await place.ask(path, Host="crm.example")).status == 200
        assert (await place.ask(path, Host="localhost:1")).status == 200
        place.clear()
        for host in ("evil.example", "crm.example.evil.example", "crm.example@evil.example"):
            answers = [await place.ask(path, Host=host), await place.merge(path, '{"Name":"x"}', Host=host)]
            assert {answer.status for answer in answers} <= {400, 403}, host
        assert place.upstream_requests() == []


async def test_a_trace_would_show_the_proxys_login(database_url: str) -> None:
    async with logged_in(database_url, "basic") as place:
        place.clear()
        answer = await place.ask(path_of(place), "TRACE")
        assert (answer.status, answer.json()["error"]["code"]) == (501, "Syncpoint.NoTunnel")
        assert place.upstream_requests() == []


def path_of(place: World) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet')}')"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged at the most talkative level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("mode", MODES)
async def test_one_login_serves_all_callers(database_url: str, mode: str) -> None:
    upstream = switches(mode, set_cookie="Other=1; path=/")
    async with logged_in(database_url, mode, upstream=upstream) as place:
        path = path_of(place)
        answers = await asyncio.gather(
            *(place.ask(path, Authorization=f"Basic {n}", Cookie="own=1") for n in range(20))
        )
        assert {answer.status for answer in answers} == {200}
        assert "hit" in (await place.ask(path)).cache
        assert (await place.merge(path, '{"Name":"New"}')).status == 204
        assert (await place.ask(path)).json()["d"]["Name"] == "New"
        streamed = await place.send(place.proxy.url + "/WebResources/a.js")
        assert streamed.status == 200
        posted = await place.send(place.proxy.url + "/echo", "POST", body=b"x" * 100_000)
        assert len(posted.json()["body"]) == 100_000
        served = ("/XRM", "/WebR", "/echo")
        users = {e.user for e in place.sandbox.journal if e.target.startswith(served) and e.status != 401}
        assert users == {seen(mode)}
        for entry in place.sandbox.journal:
            assert "own=1" not in entry.headers.get("Cookie", "")
            assert not entry.headers.get("Authorization", "").startswith("Basic 1")
        for answer in (*answers, streamed, posted):
            assert not {"Set-Cookie", "WWW-Authenticate"} & set(answer.headers)
        assert await place.proxy.store.open_intents() == []
        assert failures(place) == 0
        assert place.sandbox.logins.forms.logins == (mode == "adfs-forms")


def seen(mode: str) -> str:
    return USER.lower() if mode in ("ntlm", "negotiate") else USER


@pytest.mark.parametrize("mode", MODES)
async def test_a_wrong_password_is_tried_once_however_many_ask(database_url: str, mode: str) -> None:
    async with logged_in(database_url, mode, "Wrong-4711") as place:
        path = path_of(place)
        answers = await asyncio.gather(*(place.ask(path) for _ in range(20)))
        answers += [await place.merge(path, '{"Name":"New"}')]
        answers += [await place.send(place.proxy.url + "/echo", "POST", body=b"x")]
        assert [answer.status for answer in answers] == [502] * 22
        assert {answer.json()["error"]["code"] for answer in answers[:-1]} == {"Syncpoint.LoginFailed"}
        assert failures(place) == 1
        (gate,) = place.proxy.logins
        gate.forget()
        assert (await place.ask(path)).status == 502
        assert failures(place) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_a_password_file_that_changes_is_tried_anew(
    database_url: str, mode: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("Wrong-4711\n")
    more = {"upstream__auth__password_file": str(file)}
    async with logged_in(database_url, mode, "", **more) as place:
        assert (await place.ask(path_of(place))).status == 502
        file.write_text(f"{PASSWORD}\n")
        assert (await place.ask(path_of(place))).status == 200
        file.unlink()
        assert (await place.ask(path_of(place))).status == 200


@pytest.mark.parametrize("mode", ["basic", "ntlm", "negotiate"])
async def test_a_password_that_becomes_wrong_is_tried_a_few_times_and_no_more(
    database_url: str, mode: str
) -> None:
    upstream = switches(mode)
    async with logged_in(database_url, mode, upstream=upstream, upstream__connections=4) as place:
        assert (await place.ask(path_of(place))).status == 200
        upstream.users[USER] = "Changed-1"  # type: ignore[index]
        place.sandbox.logins.end_all()
        for _ in range(3):
            await asyncio.gather(*(place.ask(path_of(place)) for _ in range(5)))
        assert (await place.ask(path_of(place))).status == 502
        assert failures(place) <= 6 if mode == "basic" else 2


@pytest.mark.parametrize("face", ["401", "redirect", "html"])
async def test_a_session_that_ends_is_begun_anew_once_for_all_that_wait(database_url: str, face: Any) -> None:
    upstream = switches("adfs-forms", session_requests=30, session_end=face)
    async with logged_in(database_url, "adfs-forms", upstream=upstream) as place:
        path = path_of(place)
        for turn in range(12):
            answers = await asyncio.gather(*(place.ask(f"{path}?n={turn}-{n}") for n in range(10)))
            assert {answer.status for answer in answers} == {200}
            assert (await place.merge(path, f'{{"Name":"N{turn}"}}')).status == 204
            assert (await place.ask(path)).json()["d"]["Name"] == f"N{turn}"
        assert await place.proxy.store.open_intents() == []
        requests = sum(1 for entry in place.sandbox.journal if entry.user)
        assert requests > 100
        assert 3 < place.sandbox.logins.forms.logins <= requests // 30 + 2
        assert failures(place) == 0


@pytest.mark.parametrize("face", ["401", "redirect"])
async def test_a_streamed_upload_is_not_sent_twice(database_url: str, face: Any) -> None:
    upstream = switches("adfs-forms", session_requests=3, session_end=face)
    async with logged_in(database_url, "adfs-forms", upstream=upstream) as place:
        statuses = []
        for _ in range(6):
            answer = await place.send(place.proxy.url + "/echo", "POST", body=b"x")
            statuses.append(answer.status)
        assert 502 in statuses
        assert 200 in statuses[statuses.index(502) + 1 :]
        arrived = [
            entry for entry in place.sandbox.journal if entry.target == "/echo" and entry.status == 200
        ]
        assert len(arrived) == statuses.count(200)


async def test_a_login_that_never_works_is_no_loop(database_url: str) -> None:
    """Upstream takes each session for ended: a login, an answer, and then the error for a while."""
    upstream = switches("adfs-forms", session_requests=0)
    async with logged_in(database_url, "adfs-forms", upstream=upstream) as place:
        answers = await asyncio.gather(*(place.ask(path_of(place)) for _ in range(20)))
        answers += [await place.ask(path_of(place)) for _ in range(20)]
        assert {answer.status for answer in answers} == {502}
        assert place.sandbox.logins.forms.logins == 1


@pytest.mark.parametrize(("odd", "status"), [(2, 200), (50, 502)])
async def test_odd_pages_are_asked_for_again_a_few_times(database_url: str, odd: int, status: int) -> None:
    upstream = switches("adfs-forms", odd_login_pages=odd)
    async with logged_in(database_url, "adfs-forms", upstream=upstream) as place:
        for _ in range(5):
            assert (await place.ask(path_of(place))).status == status
        assert failures(place) == 0
        pages = [entry for entry in place.sandbox.journal if entry.target.startswith("/adfs/ls/")]
        assert len(pages) <= 4


async def test_the_password_goes_to_no_origin_that_was_not_named(database_url: str) -> None:
    upstream = switches("adfs-forms")
    sandbox = Sandbox(rows=1, switches=upstream)
    async with sandbox.serve() as root:
        own = settings("adfs-forms", login_origins=["http://127.0.0.1:1"])
        async with world(database_url, served=(sandbox, root), **own) as place:
            assert (await place.ask("/AccountSet")).status == 502
            assert not [entry for entry in sandbox.journal if entry.target.startswith("/adfs/")]


@pytest.mark.parametrize("mode", MODES)
async def test_no_storm_while_upstream_is_down(database_url: str, mode: str) -> None:
    async with logged_in(database_url, mode) as place:
        place.sandbox.logins.end_all()
        (gate,) = place.proxy.logins
        gate._proof = None
        place.sandbox.faults.add(Fault("reset_before", times=1000))
        before = len(place.sandbox.journal)
        for _ in range(10):
            assert (await place.ask(path_of(place))).status in (502, 504)
        assert len(place.sandbox.journal) - before <= 4


async def test_in_caller_mode_the_background_has_an_identity_of_its_own(database_url: str) -> None:
    own = {f"upstream__service__{k.rpartition('__')[2]}": v for k, v in settings("basic").items()}
    place_settings = own | {"upstream__auth__mode": "caller", "defaults__secured": []}
    async with world(database_url, switches=switches("basic"), rows=1, **place_settings) as place:
        assert place.proxy.metadata.model is not None
        assert (await place.ask("/AccountSet")).status == 401
        assert place.sandbox.journal[-1].user == ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("password", [PASSWORD, "Wrong-4711-Quokka"])
async def test_secrets_are_in_no_log_no_error_and_no_table(
    database_url: str, mode: str, password: str, log: io.StringIO
) -> None:
    async with logged_in(database_url, mode, password) as place:
        said = [await place.ask(path) for path in (path_of(place), "/AccountSet", "/$metadata")]
        said += [await place.merge(path_of(place), '{"Name":"New"}')]
        said += [await place.send(place.proxy.services_url + path) for path in ("/metrics", "/readyz")]
        place.sandbox.faults.add(Fault("cut", times=1))
        try:
            said += [await place.ask("/ContactSet")]
        except Exception as error:
            assert "Quokka" not in str(error)
        fields = "; ".join(entry.headers.get("Cookie", "=") for entry in place.sandbox.journal)
        cookies = {part.partition("=")[2] for part in fields.split("; ")} - {""}
    shown = log.getvalue() + "".join(f"{answer.headers}{answer.text}" for answer in said)
    basic = base64.b64encode(f"{USER}:{password}".encode()).decode()
    assert "request_served" in shown
    for secret in (password, basic, *cookies):
        assert secret not in shown
        assert await tables_with(database_url, secret) == []


async def test_what_callers_show_is_in_no_log_and_no_table(database_url: str, log: io.StringIO) -> None:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    shown = {"Authorization": f"Basic {basic}", "Cookie": "session=Zaffre-Cookie-31"}
    caller = {"upstream__auth__mode": "caller", "defaults__secured": []}
    async with world(database_url, switches=switches("basic"), rows=1, **caller) as place:
        for path in ("/", path_of(place), path_of(place), "/AccountSet"):
            await place.ask(path, **shown)
        assert (await place.merge(path_of(place), '{"Name":"New"}', **shown)).status == 204
        place.sandbox.faults.add(Fault("reset_before", method="MERGE"))
        assert (await place.merge(path_of(place), '{"Name":"Lost"}', **shown)).status == 504
    assert "request_served" in log.getvalue()
    for secret in (basic, PASSWORD, "Zaffre-Cookie-31"):
        assert secret not in log.getvalue()
        assert await tables_with(database_url, secret) == []
