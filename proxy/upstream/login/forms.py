"""Claims by forms: the sign-in page, then each token form posted on until the session's cookie is there.

Field manual, 9.2. Every page of the chain is looked at as text: no script is run, no address is asked that
was not named, and of what comes only form fields and cookies are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from multidict import CIMultiDict
from yarl import URL

from proxy.reconcile.ports import Reply
from proxy.upstream.login.gate import LoginUnclear, PasswordRefused, Proof
from proxy.upstream.login.web import Page, Web

# Two token services, each with a redirect or two and a form, and upstream at both ends.
_STEPS = 15


@dataclass(slots=True)
class Form:
    """A form of a page: its action, and its inputs by name."""

    action: str
    inputs: dict[str, str] = field(default_factory=dict)
    has_password: bool = False

    def named(self, part: str) -> str:
        """The input whose name holds `part`; "" for none."""
        return next((name for name in self.inputs if part in name.lower()), "")

    @property
    def is_token(self) -> bool:
        return "wresult" in self.inputs


class FormPage(HTMLParser):
    """The forms of a page. `says_wrong`: it tells that user and password do not fit."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.says_wrong = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.says_wrong |= values.get("id", "").endswith("ErrorTextLabel")
        if tag == "form":
            self.forms.append(Form(values.get("action", "")))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].inputs[values["name"]] = values.get("value", "")
            self.forms[-1].has_password |= values.get("type", "").lower() == "password"


class FormsLogin:
    """Logs in at `origin`, which sends its visitors to a token service. `home_realm`: its `whr`, or ""."""

    def __init__(self, web: Web, origin: str, user: str, home_realm: str) -> None:
        self._web = web
        self._origin = URL(origin)
        self._user = user
        self._start = self._origin.with_path("/")
        if home_realm:
            self._start = self._start.with_query(whr=home_realm)

    async def log_in(self, password: str) -> Proof:
        cookies: dict[URL, dict[str, str]] = {}
        url = self._start
        form: Mapping[str, str] | None = None
        is_signed_in = False
        for _ in range(_STEPS):
            page = await self._web.ask(url, form=form, cookies=cookies.get(url.origin()))
            cookies.setdefault(url.origin(), {}).update(page.cookies)
            at_home = url.origin() == self._origin
            if page.location is not None:
                url, form = page.location, None
            elif token := self._token(page):
                url, form = page.url.join(URL(token.action)), token.inputs
            elif at_home and is_signed_in and page.status < 400 and cookies[self._origin]:
                return _proof(cookies[self._origin])
            else:
                url, form = page.url, self._filled(page, password, is_signed_in=is_signed_in)
                is_signed_in = True
        raise LoginUnclear("the login's pages lead nowhere")

    def _token(self, page: Page) -> Form | None:
        return next((form for form in _read(page).forms if form.is_token), None)

    def _filled(self, page: Page, password: str, *, is_signed_in: bool) -> Mapping[str, str]:
        read = _read(page)
        form = next((form for form in read.forms if form.has_password), None)
        if form is None or page.status != 200:
            raise LoginUnclear(f"a page of the login ({page.status}) has no form that is known")
        if is_signed_in or read.says_wrong:
            raise PasswordRefused
        user_field, password_field = form.named("username"), form.named("password")
        if not user_field or not password_field:
            raise LoginUnclear("the sign-in form has no fields for user and password")
        return form.inputs | {user_field: self._user, password_field: password}

    def is_over(self, status: int, headers: CIMultiDict[str], page: bytes, *, odata: bool) -> bool:
        """A 401, a redirect to elsewhere, or a login page in the place of data."""
        if status == 401:
            return True
        if 300 <= status < 400 and "Location" in headers:
            target = self._origin.join(URL(headers["Location"]))
            return target.origin() != self._origin and self._web.knows(target)
        if status != 200 or not headers.get("Content-Type", "").lower().startswith("text/html"):
            return False
        return odata and (not page or _is_login_page(page))

    def learn(self, proof: Proof, reply: Reply) -> None:
        """A session that slides sets its cookies anew."""
        said = [value.partition(";")[0].partition("=") for value in reply.headers.getall("Set-Cookie", ())]
        if said:
            cookies = dict(pair.split("=", 1) for pair in proof.fields["Cookie"].split("; "))
            cookies |= {name.strip(): value.strip() for name, _, value in said if value.strip()}
            proof.fields |= _proof(cookies).fields


def _proof(cookies: Mapping[str, str]) -> Proof:
    return Proof({"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())})


def _read(page: Page) -> FormPage:
    return FormPage(page.body.decode("utf-8", "replace"))


def _is_login_page(body: bytes) -> bool:
    forms = FormPage(body[: 1 << 18].decode("utf-8", "replace")).forms
    return any(form.has_password or form.is_token for form in forms)
