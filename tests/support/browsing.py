"""A browser without scripts, for the console's pages."""

from __future__ import annotations

from typing import Any

import aiohttp
from lxml import html
from world import World


def form(page: Any, label: str) -> Any:
    return next(each for each in page.forms if label in each.text_content())


PAGES = ["", "conflicts", "intents", "shadow", "requests", "login", "sets/AccountSet"]


def check_page(browser: Browser, page: Any) -> None:
    """What holds of every page: no script, no style of its own, and people can find their way in it."""
    policy = browser.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'")
    assert "unsafe" not in policy
    assert browser.headers["X-Content-Type-Options"] == "nosniff"
    assert browser.headers["Cache-Control"] == "no-store"
    assert not page.xpath("//script | //style | //img | //iframe | //object | //*[@style] | //base")
    attributes = {name.lower() for element in page.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on")]
    assert not [link for _, _, link, _ in page.iterlinks() if not link.startswith(("/console/", "#"))]
    assert page.get("lang") == "en"
    assert len(page.xpath("//h1")) == len(page.xpath("//main")) == len(page.xpath("//title")) == 1
    assert page.xpath("//meta[@name='viewport']")
    for field in page.xpath("//input[not(@type='hidden')]"):
        assert page.xpath(f"//label[@for='{field.get('id')}']")
    assert all(cell.get("scope") for cell in page.xpath("//th"))
    assert all(table.xpath("caption") for table in page.xpath("//table"))
    assert all(each.method == "GET" or "form_token" in each.fields for each in page.forms)


class Browser:
    """Keeps cookies, follows redirects, posts the forms that pages show."""

    def __init__(self, place: World, session: aiohttp.ClientSession) -> None:
        self.root = f"{place.proxy.services_url}/console/"
        self._session = session
        self.headers: Any = {}

    async def get(self, path: str = "", **headers: str) -> Any:
        async with self._session.get(self.root + path, headers=headers) as answer:
            return self._seen(answer, await answer.text())

    async def post(self, form: Any, changes: dict[str, str] | None = None, **headers: str) -> Any:
        """Send a form as it stands."""
        fields = dict(form.form_values()) | (changes or {})
        url = self.root.removesuffix("/console/") + form.action
        async with self._session.post(url, data=fields, headers=headers) as answer:
            return self._seen(answer, await answer.text())

    def _seen(self, answer: aiohttp.ClientResponse, text: str) -> Any:
        self.status, self.headers, self.text, self.url = answer.status, answer.headers, text, str(answer.url)
        return html.document_fromstring(text)
