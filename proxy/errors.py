"""The one table from what went wrong to what the client gets. Every row is explained in `docs/errors.md`.

Upstream's own error answers are no errors here: they are relayed as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.odata import atom, verbose_json
from proxy.odata.media import error_format
from proxy.passthrough import BadHost
from proxy.reconcile.errors import (
    AuthorityMoving,
    CommitUnknown,
    LoginRequired,
    NotInMirror,
    OnlyUpstream,
    OutcomeUnknown,
    ReadRefused,
    RightMissing,
    SyncConflict,
    TooManyLogins,
    WritesRefused,
)
from proxy.reconcile.ports import (
    UpstreamBroken,
    UpstreamCut,
    UpstreamLoginFailed,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.uploads import UnknownCoding


@dataclass(frozen=True, slots=True)
class Row:
    """`code`: the error document's. `proxy_error`: the type in Proxy-Status (RFC 9209, 2.3); `message`:
    None where the exception's own text says it. The status of a ReadRefused is its own."""

    status: int
    code: str
    proxy_error: str
    message: str | None = None


_BROKEN = Row(
    502,
    "Syncpoint.UpstreamBroken",
    "http_response_incomplete",
    "Upstream broke off before its answer was whole.",
)
TABLE: Mapping[type[Exception], Row] = {
    UpstreamUnreachable: Row(
        502, "Syncpoint.UpstreamUnreachable", "destination_unavailable", "Upstream cannot be reached."
    ),
    UpstreamLoginFailed: Row(
        502,
        "Syncpoint.LoginFailed",
        "proxy_configuration_error",
        "The proxy is not logged in to upstream; the request was not carried out.",
    ),
    UpstreamTimeout: Row(
        504, "Syncpoint.UpstreamTimeout", "connection_read_timeout", "Upstream did not answer in time."
    ),
    UpstreamBroken: _BROKEN,
    UpstreamCut: _BROKEN,
    SyncConflict: Row(409, "Syncpoint.SyncConflict", "http_request_denied"),
    NotInMirror: Row(504, "Syncpoint.NotInMirror", "http_request_denied"),
    ReadRefused: Row(400, "Syncpoint.ReadRefused", "http_request_error"),
    OutcomeUnknown: Row(504, "Syncpoint.OutcomeUnknown", "http_response_incomplete"),
    CommitUnknown: Row(504, "Syncpoint.OutcomeUnknown", "http_response_incomplete"),
    WritesRefused: Row(503, "Syncpoint.WritesRefused", "proxy_internal_error"),
    OnlyUpstream: Row(501, "Syncpoint.OnlyUpstream", "http_request_denied"),
    AuthorityMoving: Row(503, "Syncpoint.AuthorityMoving", "http_request_denied"),
    LoginRequired: Row(401, "Syncpoint.LoginRequired", "http_request_denied"),
    RightMissing: Row(403, "Syncpoint.RightMissing", "http_request_denied"),
    TooManyLogins: Row(429, "Syncpoint.TooManyLogins", "http_request_denied"),
    web.HTTPRequestEntityTooLarge: Row(
        413,
        "Syncpoint.BodyTooLarge",
        "http_request_error",
        "The request's body is larger than this proxy takes.",
    ),
    BadHost: Row(400, "Syncpoint.BadHost", "http_request_error", "The request's Host is none."),
    UnknownCoding: Row(
        501, "Syncpoint.TransferCoding", "http_request_error", "Only chunked is known as a transfer coding."
    ),
    web.HTTPBadRequest: Row(
        400, "Syncpoint.BodyCut", "http_request_error", "The request's body did not come whole."
    ),
    web.HTTPRequestTimeout: Row(
        408, "Syncpoint.BodyTimeout", "http_request_error", "The rest of the request's body did not come."
    ),
    web.HTTPNotImplemented: Row(
        501,
        "Syncpoint.NoTunnel",
        "http_request_error",
        "This proxy makes no tunnels, and traces nothing that it logs in for.",
    ),
}
BUG = Row(500, "Syncpoint.Unexpected", "proxy_internal_error", "Something went wrong in the proxy.")


def error_response(error: Exception, accept: str | None, format_option: str | None = None) -> web.Response:
    """An OData error document in the client's format, marked as the proxy's own.

    `format_option`: the client's `$format`.
    """
    row = next((row for kind, row in TABLE.items() if isinstance(error, kind)), BUG)
    message = row.message or str(error)
    if error_format(accept, format_option) == "json":
        text = verbose_json.write_error(row.code, message)
        content_type = "application/json;charset=utf-8"
    else:
        text = atom.write_error(row.code, message)
        content_type = "application/xml;charset=utf-8"
    response = web.Response(
        status=row.status,
        body=text.encode(),
        headers={
            "Content-Type": content_type,
            "DataServiceVersion": "1.0;",
            "Cache-Control": "no-cache",
            "Proxy-Status": f"syncpoint; error={row.proxy_error}",
        },
    )
    if isinstance(error, web.HTTPException):
        response.force_close()  # what is left of the request must not be taken for the next one
    if isinstance(error, AuthorityMoving):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, LoginRequired):
        for challenge in error.challenges:
            response.headers.add("WWW-Authenticate", challenge)
    if isinstance(error, TooManyLogins):
        response.headers["Retry-After"] = "60"
    if isinstance(error, ReadRefused):
        response.set_status(error.status)
        if error.status == 405:
            response.headers["Allow"] = error.allow
    return response
