"""The console's pages over plain HTTP: what they show, what their forms do, and that nothing is markup."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from browsing import PAGES, Browser, check_page, form
from calling import logged, told
from lifecycle import model_of
from operators import history, key_of, set_back, upstream
from storing import query
from world import World, world

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>{{7*7}}"


@pytest.fixture
async def session() -> Any:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as made:
        yield made


async def forwarded(place: World, reason: str) -> None:
    """Have the set taken off the mirror."""
    entity_set = model_of(place).entity_sets["AccountSet"]
    await place.proxy.service.sets.learn(entity_set, forward_reason=reason)


async def test_every_page_is_one_that_browsers_let_do_nothing(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        conflict = await set_back(place)
        browser = Browser(place, session)
        entity = f"entity?name={quote(key_of(place))}"
        for path in [*PAGES, f"conflicts/{conflict}", entity, "nowhere", "conflicts/99", "sets/NoSet"]:
            check_page(browser, await browser.get(path))
            assert browser.status == (404 if path in ("nowhere", "conflicts/99", "sets/NoSet") else 200), path
        style = await place.send(f"{browser.root}console.css")
        assert (style.status, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
        assert place.proxy.metrics.registry.get_sample_value("syncpoint_unexpected_errors_total") == 0


async def test_nothing_of_upstreams_is_markup(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        path = f"/{key_of(place)}"
        await place.ask(path, X_Request_Id="r-1")
        conflict = await set_back(place, name=HOSTILE)
        await forwarded(place, HOSTILE)
        query(
            database_url,
            "INSERT INTO syncpoint.findings (entity_set, kind, detail, found_at) VALUES (%s, %s, %s, now())",
            HOSTILE,
            HOSTILE,
            HOSTILE,
        )
        query(database_url, "UPDATE syncpoint.revisions SET user_name = %s, client = %s", HOSTILE, HOSTILE)
        browser = Browser(place, session)
        entity = f"entity?name={quote(key_of(place))}"
        for shown in ("", f"conflicts/{conflict}", entity, f"requests/{quote(HOSTILE, safe='')}"):
            check_page(browser, await browser.get(shown))
            assert "<script" not in browser.text and "49" not in re.findall(r"\}?(49)<img", browser.text)
        page = await browser.get(f"conflicts/{conflict}")
        assert HOSTILE in page.text_content()
        page = await browser.get(entity)
        assert HOSTILE in page.text_content()


async def test_a_conflict_is_shown_and_resolved(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        name = upstream(place)["Name"]
        conflict = await set_back(place)
        browser = Browser(place, session)
        page = await browser.get("conflicts")
        assert page.xpath(f"//a[@href='/console/conflicts/{conflict}']")
        page = await browser.get(f"conflicts/{conflict}")
        row = page.xpath("//tr[th='Name']")[0]
        assert [cell.text for cell in row.xpath("td")] == [name, "Restored"]
        with logged() as lines:
            page = await browser.post(form(page, "The mirror wins"))
        assert browser.status == 200 and "Name" in page.text_content()
        (acted,) = told(lines, "operator_acted")
        assert (acted["action"], acted["client"]) == ("mirror wins", "127.0.0.1")
        assert upstream(place)["Name"] == name
        page = await browser.get(f"conflicts/{conflict}")
        assert not [each for each in page.forms if "wins" in each.text_content()]


async def test_conflicts_of_a_set_at_once_and_the_set_served_again(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        for number in range(2):
            await set_back(place, number)
        await forwarded(place, "restored")
        browser = Browser(place, session)
        page = await browser.get("sets/AccountSet")
        refused = await browser.post(form(page, "Serve it"))
        assert browser.status == 409 and "resolve them first" in refused.text_content()
        await browser.post(form(page, "Upstream wins"))
        assert browser.status == 200
        await browser.post(form(await browser.get("sets/AccountSet"), "Serve it"))
        assert browser.status == 200
        page = await browser.get("sets/AccountSet")
        assert "The way out" not in page.text_content()
        overview = await browser.get()
        row = overview.xpath("//tr[th/a='AccountSet']")[0]
        assert [cell.text for cell in row.xpath("td")][:2] == ["checked", "upstream"]


async def test_a_history_with_its_differences_and_the_way_back(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        path = f"/{key_of(place)}"
        name = upstream(place)["Name"]
        await place.ask(path)
        await place.merge(path, '{"Name":"Second"}', X_Request_Id="w-2")
        browser = Browser(place, session)
        page = await browser.get(f"entity?name={quote(key_of(place))}")
        assert len(page.xpath("//tbody/tr")) == 2
        link = page.xpath("//a[contains(., 'Show')]")[0].get("href")
        diff = await browser.get(link.removeprefix("/console/"))
        row = diff.xpath("//tr[th='Name']")[0]
        assert [cell.text for cell in row.xpath("td")] == [name, "Second"]
        await browser.post(form(page, "Go back"))
        assert (browser.status, upstream(place)["Name"]) == (200, name)
        *_, last = await history(place)
        assert last["source"] == "client write"


async def test_a_request_is_shown_with_its_upstream_calls(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        await place.ask(f"/{key_of(place)}?$select=Name", X_Request_Id="asked-once")
        browser = Browser(place, session)
        page = await browser.get("requests")
        assert page.xpath("//a[@href='/console/requests/asked-once']")
        page = await browser.get("requests/asked-once")
        calls = page.xpath("//tbody/tr")
        assert calls[0].xpath("td")[0].text_content() == "GET"
        assert key_of(place) in calls[0].text_content() and "$select" not in page.text_content()
        await browser.get("requests/never")
        assert browser.status == 404


@pytest.mark.parametrize(
    ("changes", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, {"Sec-Fetch-Site": "same-origin"}, 200),
        ({"form_token": ""}, {}, 403),
        ({"form_token": "0" * 64}, {}, 403),
        ({"form_token": "é"}, {}, 403),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({}, {"Sec-Fetch-Site": "same-site"}, 403),
        ({}, {"Origin": "http://evil.example"}, 403),
        ({}, {"Origin": "null"}, 403),
        ({}, {"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"winner": "nobody"}, {}, 400),
    ],
)
async def test_forms_of_others_change_nothing(
    database_url: str, session: Any, changes: Any, headers: Any, status: int
) -> None:
    async with world(database_url) as place:
        conflict = await set_back(place)
        browser = Browser(place, session)
        page = await browser.get(f"conflicts/{conflict}")
        await browser.post(form(page, "Upstream wins"), changes, **headers)
        assert browser.status == status
        settled = "SELECT settled_at IS NOT NULL FROM syncpoint.conflicts"
        assert query(database_url, settled) == [(status == 200,)]


async def test_no_name_of_another_site_leads_to_it(database_url: str, session: Any) -> None:
    async with world(database_url) as place:
        browser = Browser(place, session)
        for path in PAGES:
            page = await browser.get(path, Host="evil.example:8011")
            assert browser.status == 403
            assert "loopback" in page.text_content() and not page.xpath("//table")
        for path in ("api/sets", "api/intents", "mirror/AccountSet", "changes", "metrics"):
            answer = await place.send(f"{place.proxy.services_url}/{path}", headers={"Host": "evil.example"})
            assert answer.status == 403
        answer = await place.send(f"{place.proxy.services_url}/healthz", headers={"Host": "evil.example"})
        assert answer.status == 200
