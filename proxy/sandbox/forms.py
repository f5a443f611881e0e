"""The ADFS chain of CDMS: sign-in page, token form, token form, session cookie (field manual, 9.2)."""

from __future__ import annotations

import secrets
from html import escape
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from proxy.sandbox.switches import Switches

_SIGN_IN = "/adfs/ls/"
_RESOURCE = "/adfs/resource/"
_HTML = "text/html; charset=utf-8"
_HIDDEN = {
    "__VIEWSTATE": "/wEPDw",
    "__VIEWSTATEGENERATOR": "0EE29E36",
    "__EVENTVALIDATION": "/wEd",
    "__db": "15",
}
_FIELD = "ctl00$ContentPlaceHolder1$"


class Forms:
    """Two token services at `sts_origin`, and the sessions of the organisation itself.

    A session ends after `Switches.session_requests` requests, with the face `Switches.session_end`.
    """

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._tokens: dict[str, tuple[str, str]] = {}  # token: who, and for which path
        self._sessions: dict[str, tuple[str, int]] = {}  # cookie: who, and requests made
        self._odd_pages = switches.odd_login_pages
        self.sts_origin = ""
        self.logins = 0
        self.failures = 0

    def end_all(self) -> None:
        self._sessions.clear()

    def check(self, request: web.BaseRequest, body: bytes) -> str | web.Response:
        """The user of the request's session, or a page of the chain."""
        path = urlsplit(request.raw_path).path
        posted = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if path == _SIGN_IN:
            return self._sign_in(request, posted)
        if path == _RESOURCE:
            return self._resource(request, posted)
        if path == "/" and request.method == "POST" and "wresult" in posted:
            return self._begin_session(posted)
        cookie = request.cookies.get("MSISAuth", "") + request.cookies.get("MSISAuth1", "")
        user, made = self._sessions.get(cookie, ("", 0))
        limit = self._switches.session_requests
        if not user or (limit is not None and made >= limit):
            return self._over(request, is_new=not cookie)
        self._sessions[cookie] = (user, made + 1)
        return user

    def _over(self, request: web.BaseRequest, *, is_new: bool) -> web.Response:
        face = "redirect" if is_new else self._switches.session_end
        if face == "401":
            return web.Response(status=401)
        if face == "html":
            return self._page(self._form_of_sign_in(""))
        crm = f"{request.scheme}://{request.host}/"
        return _redirect(f"{self.sts_origin}{_RESOURCE}?wa=wsignin1.0&wtrealm={crm}")

    def _sign_in(self, request: web.BaseRequest, posted: dict[str, str]) -> web.Response:
        if request.method != "POST":
            if self._odd_pages:
                self._odd_pages -= 1
                return self._page("<p>Please wait while you are signed in</p>")
            return self._page(self._form_of_sign_in(""))
        if {name: posted.get(name) for name in _HIDDEN} != _HIDDEN:
            return web.Response(status=500, body=b"Validation of viewstate MAC failed")
        user = posted.get(f"{_FIELD}UsernameTextBox", "")
        if self._switches.users.get(user, "") != posted.get(f"{_FIELD}PasswordTextBox") or not user:
            self.failures += 1
            wrong = '<span id="ContentPlaceHolder1_ErrorTextLabel">The password is incorrect.</span>'
            return self._page(self._form_of_sign_in(wrong))
        realm = parse_qs(urlsplit(request.raw_path).query).get("wtrealm", [""])[0]
        return self._token_form(f"{self.sts_origin}{_RESOURCE}", user, _RESOURCE, realm)

    def _resource(self, request: web.BaseRequest, posted: dict[str, str]) -> web.Response:
        if request.method != "POST":
            return _redirect(f"{self.sts_origin}{_SIGN_IN}?{urlsplit(request.raw_path).query}")
        user, path = self._tokens.pop(posted.get("wresult", ""), ("", ""))
        if path != _RESOURCE:
            return web.Response(status=400)
        return self._token_form(posted.get("wctx", ""), user, "/", "")

    def _begin_session(self, posted: dict[str, str]) -> web.Response:
        user, path = self._tokens.pop(posted["wresult"], ("", ""))
        if path != "/":
            return web.Response(status=400)
        self.logins += 1
        first, second = secrets.token_hex(8), secrets.token_hex(8)
        self._sessions[first + second] = (user, 0)
        response = self._page("<p>Microsoft Dynamics CRM</p>")
        response.headers.add("Set-Cookie", f"MSISAuth={first}; path=/; HttpOnly")
        response.headers.add("Set-Cookie", f"MSISAuth1={second}; path=/; HttpOnly")
        return response

    def _token_form(self, action: str, user: str, path: str, context: str) -> web.Response:
        token = f'<t:RequestSecurityTokenResponse id="{secrets.token_hex(8)}"/>'
        self._tokens[token] = (user, path)
        fields = {"wa": "wsignin1.0", "wresult": token, "wctx": context}
        return self._page(
            f'<form method="POST" name="hiddenform" action="{escape(action)}">{_hidden(fields)}'
            '<noscript><input type="submit" value="Submit" /></noscript></form>'
        )

    def _form_of_sign_in(self, error: str) -> str:
        return (
            f'<form method="post" action="./" id="MainForm">{_hidden(_HIDDEN)}'
            f'<input name="{_FIELD}UsernameTextBox" type="text" />'
            f'<input name="{_FIELD}PasswordTextBox" type="password" />{error}'
            f'<input type="submit" name="{_FIELD}SubmitButton" value="Sign In" /></form>'
        )

    def _page(self, content: str) -> web.Response:
        text = f"<!DOCTYPE html><html><head><title>Sign In</title></head><body>{content}</body></html>"
        return web.Response(body=text.encode(), headers={"Content-Type": _HTML})


def _hidden(fields: dict[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}" />' for name, value in fields.items()
    )


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location, "Content-Type": _HTML})
