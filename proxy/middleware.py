"""Around every request that is answered in OData: its id, its errors, its one log line."""

from __future__ import annotations

import re
import time
import uuid

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.authentication import CALLER, Authenticator, called_name, is_loopback, is_of_another_site
from proxy.errors import TABLE, error_response
from proxy.events import Events
from proxy.odata.headers import effective_method
from proxy.reconcile.errors import LoginRequired, RightMissing, TooManyLogins
from proxy.reconcile.rights import ANYBODY, NOBODY
from proxy.upstream.calls import UpstreamCall, upstream_calls

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
OPERATION: web.RequestKey[str] = web.RequestKey("operation", str)
ENTITY_SET: web.RequestKey[str] = web.RequestKey("entity_set", str)
# Whoever watches the process needs no name.
OPEN = frozenset({"/healthz", "/readyz"})
_SAFE = ("GET", "HEAD", "OPTIONS")
# Asks by itself: browsers have no token to show, and are given a form.
_CONSOLE = "/console/"
_ODATA = ("/mirror", "/model")
_SAID_TOO = ("Proxy-Status", "WWW-Authenticate", "Retry-After")
_REFUSALS = (LoginRequired, RightMissing, TooManyLogins)
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def canonical_line(events: Events) -> Middleware:
    """A middleware that gives the request an id, renders what it raises, and logs it once."""

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        given = request.headers.get("X-Request-Id", "")
        request[REQUEST_ID] = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        calls: list[UpstreamCall] = []
        token = upstream_calls.set(calls)
        try:
            response = await _rendered(request, handler, events)
        finally:
            upstream_calls.reset(token)
        if not response.prepared:
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        cache = response.headers.get("Cache-Status")
        events.request_served(
            request_id=request[REQUEST_ID],
            method=effective_method(request.method, request.headers),
            operation=request.get(OPERATION, "opaque"),
            entity_set=request.get(ENTITY_SET),
            decision="refused" if "Proxy-Status" in response.headers else _decision(cache),
            status=response.status,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            upstream_calls=calls,
            cache_status=cache,
            caller=request.get(CALLER, ANYBODY).user,
        )
        return response

    return serve


async def _rendered(request: web.Request, handler: Handler, events: Events) -> web.StreamResponse:
    try:
        return await handler(request)
    except tuple(TABLE) as error:
        return _error_response(error, request)
    except Exception as error:
        events.unexpected_error(error, request_id=request[REQUEST_ID])
        return _error_response(error, request)


def _error_response(error: Exception, request: web.Request) -> web.Response:
    accept = ", ".join(request.headers.getall("Accept", []))
    return error_response(error, accept, request.query.get("$format"))


def _decision(cache_status: str | None) -> str:
    """The word of Cache-Status that says what was done."""
    if cache_status is None:
        return "passed"
    if "; hit" in cache_status:
        return "hit"
    found = re.search(r"fwd=([a-z-]+)", cache_status)
    return found[1] if found else "own"


def known_callers(authenticator: Authenticator) -> Middleware:
    """A middleware of the services listener: lets in who may come, and says what is wrong with others.

    Handlers find the caller's rights at CALLER, and raise RightMissing.
    """

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            asks_nobody = request.path in OPEN or f"{request.path}/".startswith(_CONSOLE)
            request[CALLER] = NOBODY if asks_nobody else await authenticator.rights_of(request)
            if authenticator.is_open and request.path not in OPEN:
                _refuse_rebound(request)
            if request.method not in _SAFE and is_of_another_site(request):
                raise RightMissing(request[CALLER].who, "write from another site's page")
            return await handler(request)
        except _REFUSALS as error:
            response = error_response(error, ", ".join(request.headers.getall("Accept", [])))
            if request.path.startswith(_ODATA):
                return response
            plain = web.json_response({"error": str(error)}, status=response.status)
            plain.headers.extend(
                (name, value) for name, value in response.headers.items() if name in _SAID_TOO
            )
            return plain

    return let_in


def upstreams_callers(authenticator: Authenticator, *, lends: bool, public_name: str) -> Middleware:
    """A middleware of the main listener, inside of its canonical line: lets in who may come.

    Who asks is at CALLER; what it may ask is for the handler to say. `lends`: whoever comes has the proxy's
    own login upstream. `public_name`: the host that clients are told to call, "" for none.
    """

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CALLER] = await authenticator.rights_of(request)
        if lends and authenticator.is_open:
            _refuse_rebound(request, public_name)
        return await handler(request)

    return let_in


def _refuse_rebound(request: web.Request, public_name: str = "") -> None:
    """Raises RightMissing for a name that another site's name server may have given this machine's address:
    to a browser on this machine, its pages are then of the same site."""
    name = called_name(request)
    if not is_loopback(name) and name not in ("", public_name):
        raise RightMissing("anybody", "ask under a name that is not the loopback's")
