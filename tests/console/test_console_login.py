"""Coming into the console: a token once, a cookie from then on, and nobody who is no operator."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from browsing import PAGES, Browser, check_page, form
from calling import basic, bearer, logged, password_of, token_of, told
from operators import set_back
from storing import query
from world import world
from yarl import URL

from proxy.authentication import Authenticator
from proxy.caller_settings import CallerSettings
from proxy.console.sessions import LIFETIME_S, Sessions
from proxy.reconcile.errors import LoginRequired

CALLERS = {
    "anna": token_of("anna's", "anna's other", admin=True),
    "bert": token_of("bert's", read=["*"], write=["*"]),
    "cora": password_of("cora", "secret", admin=True),
}


@pytest.fixture
async def session() -> Any:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as made:
        yield made


async def logged_in(browser: Browser, token: str) -> Any:
    page = await browser.get("login")
    check_page(browser, page)
    return await browser.post(page.forms[0], {"token": token})


async def test_a_token_opens_every_page_until_one_logs_out(database_url: str, session: Any) -> None:
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        for path in ("../console", *PAGES):
            page = await browser.get(path)
            assert browser.url.endswith("/console/login") and not page.xpath("//table | //nav")
        page = await logged_in(browser, "anna's")
        assert browser.url == browser.root and "anna" in page.text_content()
        (cookie,) = list(session.cookie_jar)
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/console/")
        assert "anna" not in cookie.value and int(cookie["max-age"]) <= 8 * 3600
        for path in PAGES[:5]:
            check_page(browser, await browser.get(path))
            assert (browser.status, browser.url) == (200, browser.root + path)
        kept = {cookie.key: cookie.value}
        await browser.post(form(page, "Log out"))
        session.cookie_jar.update_cookies(kept, URL(browser.root))
        await browser.get()
        assert browser.url.endswith("/console/login")


@pytest.mark.parametrize(("token", "status"), [("", 401), ("nobody's", 401), ("bert's", 403), ("é", 401)])
async def test_whoever_else_stays_outside(database_url: str, session: Any, token: str, status: int) -> None:
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        with logged() as lines:
            await logged_in(browser, token)
        assert browser.status == status and not list(session.cookie_jar)
        assert bool(told(lines, "caller_refused")) == (status == 401)
        await browser.get("conflicts")
        assert browser.url.endswith("/console/login")


async def test_a_cookie_opens_the_console_and_nothing_else(database_url: str, session: Any) -> None:
    async with world(database_url, callers=CALLERS) as place:
        await logged_in(Browser(place, session), "anna's")
        for path in ("/api/sets", "/metrics", "/mirror/AccountSet", "/changes", "/console/../api/sets"):
            url = URL(place.proxy.services_url + path, encoded=True)
            async with session.get(url, headers={"Cookie": _cookies(session)}) as answer:
                assert answer.status in (401, 404), path


def _cookies(session: Any) -> str:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in session.cookie_jar)


async def test_who_acted_is_told_and_recorded(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        conflict = await set_back(place)
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        await logged_in(browser, "anna's other")
        page = await browser.get(f"conflicts/{conflict}")
        with logged() as lines:
            await browser.post(form(page, "Upstream wins"))
        assert told(lines, "operator_acted")[0]["user"] == "anna"


async def test_forms_belong_to_a_session(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        conflict = await set_back(place)
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        await logged_in(browser, "anna's")
        page = await browser.get(f"conflicts/{conflict}")
        await logged_in(browser, "anna's")
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}):
            await browser.post(form(page, "Upstream wins"), **headers)
            assert browser.status == 403
        assert query(database_url, "SELECT settled_at FROM syncpoint.conflicts") == [(None,)]


async def test_callers_that_say_who_they_are_need_no_session(database_url: str, session: Any) -> None:
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        for headers, status in (
            (bearer("anna's"), 200),
            (basic("cora", "secret"), 200),
            (bearer("bert's"), 403),
        ):
            await browser.get("conflicts", **headers)
            assert browser.status == status


async def test_a_login_from_another_site_is_none(database_url: str, session: Any) -> None:
    async with world(database_url, callers=CALLERS) as place:
        browser = Browser(place, session)
        page = await browser.get("login")
        for changes, headers in (
            ({}, {"Origin": "http://evil.example"}),
            ({}, {"Sec-Fetch-Site": "cross-site"}),
            ({"form_token": "x"}, {}),
        ):
            await browser.post(page.forms[0], {"token": "anna's", **changes}, **headers)
            assert browser.status == 403 and not list(session.cookie_jar)


async def test_a_session_ends_with_its_time_and_with_its_token() -> None:
    callers = {name: CallerSettings(**CALLERS[name]) for name in ("anna", "cora")}
    elapsed = [0.0]
    authenticator = Authenticator(callers, lambda _: None)
    sessions = Sessions(authenticator, lambda: elapsed[0])

    async def who(begun: web.Response) -> str:
        cookie = {"Cookie": f"syncpoint={begun.cookies['syncpoint'].value}"}
        return (await sessions.rights_of(make_mocked_request("GET", "/console/", cookie))).who

    def begun() -> web.Response:
        response = web.Response()
        sessions.begin(make_mocked_request("POST", "/console/login"), "anna's", response)
        return response

    first, second = begun(), begun()
    assert await who(first) == await who(second) == "anna"
    elapsed[0] = LIFETIME_S + 1
    with pytest.raises(LoginRequired):
        await who(first)
    third = begun()
    authenticator.use({**callers, "anna": CallerSettings(**token_of("another", admin=True))})
    with pytest.raises(LoginRequired):
        await who(third)
