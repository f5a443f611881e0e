"""Who may act through the admin API, and how what goes wrong is said there."""

from __future__ import annotations

import uuid

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.authentication import CALLER, is_loopback, is_of_another_site
from proxy.odata.errors import ODataError
from proxy.reconcile.errors import AuthorityMoving, OutcomeUnknown, RightMissing, SyncError, WritesRefused
from proxy.reconcile.operator import CannotAct, NotFound, Operator
from proxy.reconcile.ports import StoreUnavailable, UpstreamFailure

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RightMissing, 403),
    (NotFound, 404),
    (CannotAct, 409),
    (ODataError, 400),
    (ValueError, 400),
    (WritesRefused, 503),
    (AuthorityMoving, 503),
    (StoreUnavailable, 503),
    (OutcomeUnknown, 504),
    (SyncError, 409),
    (UpstreamFailure, 502),
)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what is known to go wrong as `{"error": …}`."""
    try:
        return await handler(request)
    except tuple(kind for kind, _ in STATUS) as error:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        if isinstance(error, ODataError) and error.status == 404:
            status = 404
        own = {"Proxy-Status": "syncpoint; error=http_request_denied"} if status == 403 else {}
        return web.json_response({"error": str(error) or type(error).__name__}, status=status, headers=own)


@web.middleware
async def only_ours(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody write but callers that said who they are, or, while nobody has to, those on this machine;
    and no page that another site has put into a browser."""
    why = None if request.method in ("GET", "HEAD") else refusal(request)
    if why is not None:
        return web.json_response({"error": why}, status=403)
    return await handler(request)


def operator(request: web.Request) -> Operator:
    """Who acts; while nobody has to say, where the request came from is all there is."""
    return Operator(request[CALLER].user, request.remote, f"api-{uuid.uuid4().hex}")


def refusal(request: web.Request) -> str | None:
    """Why a change is not taken from here; None where it is."""
    if request[CALLER].user is None and not is_loopback(request.remote or ""):
        return "Changes are taken from this machine only."
    if is_of_another_site(request):
        return "Another site's page may not make changes."
    return None
