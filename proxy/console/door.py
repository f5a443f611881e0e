"""Around every page of the console: who comes in, from where, and what a browser may do with the page."""

from __future__ import annotations

from typing import Any

import aiohttp_jinja2
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.authentication import CALLER
from proxy.console.guard import STATUS, refusal
from proxy.console.sessions import PATH, Sessions
from proxy.odata.errors import ODataError
from proxy.reconcile.errors import LoginRequired, TooManyLogins

LOGIN = f"{PATH}login"
STYLE = f"{PATH}console.css"
FORM_TOKEN = "form_token"  # noqa: S105
# No script at all, no style but our own sheet, nothing from elsewhere, in nobody's frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with that, browsers do not say from where a form is posted.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions", Sessions)


class Refused(Exception):
    """A request that no page of ours has sent, or not from where it may; the text says why."""


_STATUS = ((Refused, 403), (TooManyLogins, 429), *STATUS)
_PROBLEMS: tuple[type[Exception], ...] = tuple(kind for kind, _ in _STATUS)


def door(sessions: Sessions) -> Middleware:
    """A middleware that lets operators in, and answers what goes wrong with a page that says so."""

    @web.middleware
    async def keep(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await _let_in(request, handler, sessions)
        except LoginRequired as error:
            response = _turned_away(request, error)
        except _PROBLEMS as error:
            response = problem(request, _status(error), str(error) or type(error).__name__)
        except web.HTTPException as error:
            if error.status < 400:
                error.headers.extend(HEADERS)
                raise
            response = problem(request, error.status, error.reason)
        response.headers.update(HEADERS)
        return response

    return keep


async def _let_in(request: web.Request, handler: Handler, sessions: Sessions) -> web.StreamResponse:
    if request.path == STYLE:
        return await handler(request)
    is_login = request.path == LOGIN
    if not is_login:
        request[CALLER] = await sessions.rights_of(request)
        request[CALLER].require_admin()
    if request.method not in ("GET", "HEAD"):
        await _check_form(request, sessions, is_login)
    return await handler(request)


async def _check_form(request: web.Request, sessions: Sessions, is_login: bool) -> None:
    """Raises Refused. What comes from another site's page was refused before (`proxy.middleware`)."""
    why = None if is_login and not sessions.is_open else refusal(request)
    token = (await request.post()).get(FORM_TOKEN, "")
    if why is None and not (isinstance(token, str) and sessions.is_ours(request, token)):
        why = "The page is too old, or not of this process: load it again."
    if why is not None:
        raise Refused(why)


def _turned_away(request: web.Request, error: LoginRequired) -> web.Response:
    if request.method in ("GET", "HEAD"):
        return web.Response(status=303, headers={"Location": LOGIN})
    return problem(request, 401, str(error))


def problem(request: web.Request, status: int, text: str) -> web.Response:
    return page(request, "problem", status=status, text=text)


def page(request: web.Request, template: str, *, status: int = 200, **shown: Any) -> web.Response:
    """A page of `templates/`, which escapes whatever it is given."""
    sessions = request.config_dict[SESSIONS]
    everywhere = {
        "here": request.path,
        "root": PATH,
        "style": STYLE,
        "caller": request[CALLER],
        "is_open": sessions.is_open,
        "form_token": sessions.form_token(request),
        "form_token_name": FORM_TOKEN,
    }
    return aiohttp_jinja2.render_template(f"{template}.html", request, everywhere | shown, status=status)


def _status(error: Exception) -> int:
    if isinstance(error, ODataError) and error.status == 404:
        return 404
    return next(status for kind, status in _STATUS if isinstance(error, kind))
