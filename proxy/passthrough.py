"""What is not understood is passed through, streamed, byte for byte (sync contract, rule 9).

What cannot be the same on both sides of a proxy is not: hop-by-hop fields, chunk sizes, trailers, and
the origin in fields that name one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict

from proxy.authentication import CALLER
from proxy.reconcile.ports import UpstreamFailure
from proxy.reconcile.rights import ANYBODY
from proxy.uploads import CLIENT_PATIENCE_S, Upload
from proxy.upstream.client import (
    MAX_HEADERS,
    MAX_LINE_BYTES,
    READ_BUFFER_BYTES,
)
from proxy.upstream.headers import passed_headers, request_headers, rewrite_origins
from proxy.upstream.login import AnyClient
from proxy.upstream.streamed import StreamedReply
from proxy.upstream.wire import exact_head, replace_head

# As IIS: how long a client's connection may lie idle, or take for the head of a request.
CLIENT_IDLE_S = 120.0
# What can stand in a Host field (RFC 3986, 3.2.2, without user and spare delimiters): it goes into answers.
_HOST = re.compile(r"(?:[\w.~%-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?", re.ASCII)
_ADDED_BY_AIOHTTP = ("Server", "Date", "Content-Type")
_SAID: web.ResponseKey[CIMultiDict[str]] = web.ResponseKey("said", CIMultiDict)
_AFTER_AUTHORITY = re.compile(r"\A[^:/?#]+://[^/?#]*")


def server_options() -> dict[str, Any]:
    """How the server reads requests: keyword arguments of `aiohttp.web.AppRunner`.

    Long request lines and fields (filters, Kerberos tokens), but no patience without end; request bodies as
    they came, compressed ones too; buffers that keep a gigabyte at memory speed; no access log, because the
    app writes one line of its own. Handlers go on when their client leaves: a write that was sent on has to
    be settled.
    """
    return {
        "max_line_size": MAX_LINE_BYTES,
        "max_field_size": MAX_LINE_BYTES,
        "max_headers": MAX_HEADERS,
        "auto_decompress": False,
        "read_bufsize": READ_BUFFER_BYTES,
        "handler_cancellation": False,
        "keepalive_timeout": CLIENT_IDLE_S,
        "access_log": None,
    }


def say_as_upstream(response: web.StreamResponse) -> None:
    """Mark a response whose headers are upstream's: it leaves with these (`drop_added_headers`)."""
    response[_SAID] = response.headers.copy()


async def drop_added_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal: undo what aiohttp does to the headers of an answer.

    A response of ours loses the name of the server software only. A marked one loses whatever of
    Server, Date and Content-Type upstream did not say, and gets back the Content-Length that aiohttp
    strikes from answers without a body (a 304 tells of the body it stands for; some servers say 0 on a 204).
    """
    headers = response.headers
    said = response.get(_SAID)
    if said is None:
        if headers.get("Server") == SERVER_SOFTWARE:
            del headers["Server"]
        return
    for name in _ADDED_BY_AIOHTTP:
        if name not in said:
            headers.popall(name, None)
    length = said.get("Content-Length")
    if length is not None and (response.status == 304 or (response.status == 204 and length == "0")):
        headers["Content-Length"] = length


async def pass_through(
    request: web.Request,
    upstream: AnyClient,
    *,
    client_origin: str,
    body_limit: int | None = None,
    connection: object | None = None,
    through: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] | None = None,
) -> web.StreamResponse:
    """Forward a request and stream upstream's answer down.

    `client_origin`: scheme, host and port that the client used; takes the place of upstream's in headers.
    `body_limit`: bytes that the request's body may have. `connection`: as in `Request`. `through`: watches
    the body go up. The returned response is sent already; where upstream broke off, or the client left, its
    connection is closed. Raises UpstreamFailure while nothing has been answered; HTTPRequestEntityTooLarge
    over the limit, HTTPBadRequest or HTTPRequestTimeout for a body that does not come whole (upstream then
    gets a request it can see is cut, or none), HTTPNotImplemented for CONNECT, which asks for a tunnel.
    """
    target = upstream_target(request)
    headers = fields_for_upstream(request)
    upload = Upload(request, body_limit) if request.body_exists else None
    response = None
    try:
        body = upload.pieces() if upload else None
        if body is not None and through is not None:
            body = through(body)
        async with await upstream.stream(request.method, target, headers, body, connection) as reply:
            response = _response(reply, upstream.origin, client_origin)
            await _relay(reply, response, request)
    except UpstreamFailure:
        if response is not None:
            _break_off(request, response)
        elif upload is not None and upload.error is not None:
            raise upload.error from None
        else:
            raise
    return response


def fields_for_upstream(request: web.Request) -> CIMultiDict[str]:
    """The request's fields that go on, without what says to the proxy itself who is calling."""
    headers = request_headers(request.raw_headers)
    if request.get(CALLER, ANYBODY).who:
        headers.popall("Authorization", None)
    return headers


def upstream_target(request: web.Request) -> str:
    """The request target as upstream gets it: the client's own, to the byte.

    Of the absolute form (RFC 9112, 3.2.2), which may come to any server, upstream gets what follows the
    authority; of an OPTIONS without a path that is `*` (3.2.4). Raises HTTPNotImplemented for CONNECT.
    """
    target = request.raw_path
    if request.method == "CONNECT":
        raise web.HTTPNotImplemented
    if target.startswith("/") or target == "*":
        return target
    after_authority = _AFTER_AUTHORITY.sub("", target, count=1)
    if not after_authority and request.method == "OPTIONS":
        return "*"
    return after_authority if after_authority.startswith("/") else "/" + after_authority


class BadHost(web.HTTPBadRequest):
    """The request's Host is none."""


def proxy_origin(request: web.Request, public_origin: str) -> str:
    """Scheme, host and port by which the client knows the proxy. Raises BadHost where it says nonsense.

    The parser lets no other number of Host fields through than RFC 9112 (3.2) wants. HTTP/1.0 may have none:
    then it is the address that was reached.
    """
    named = request.headers.get("Host")
    if named is not None and not _HOST.fullmatch(named):
        raise BadHost
    if public_origin or named:
        return public_origin or f"{request.scheme}://{named}"
    host, port, *_ = request.transport.get_extra_info("sockname") if request.transport else ("localhost", 0)
    return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class _PassedResponse(web.StreamResponse):
    """Its head waits for the first bytes of the body, so that a small answer is one packet."""

    _send_headers_immediately = False


def _response(reply: StreamedReply, upstream_origin: str, client_origin: str) -> web.StreamResponse:
    headers = passed_headers(reply.raw_headers)
    rewrite_origins(headers, upstream_origin, client_origin)
    response = _PassedResponse(status=reply.status, reason=reply.reason, headers=headers)
    say_as_upstream(response)
    return response


async def _relay(reply: StreamedReply, response: web.StreamResponse, request: web.Request) -> None:
    """Send the answer down; returns early where the client has left. Raises UpstreamFailure."""
    try:
        writer = await response.prepare(request)
        assert writer is not None
        replace_head(writer, exact_head(_status_line(request, response), response.headers))
        last = b""
        while not reply.is_whole:
            if reply.is_waiting:
                writer.send_headers()
            try:
                piece = await reply.read()
            except UpstreamFailure:
                writer.send_headers()
                raise
            if reply.is_whole:
                last = piece
            else:
                async with asyncio.timeout(CLIENT_PATIENCE_S):
                    await response.write(piece)
        await response.write_eof(last)
    except ConnectionError:
        response.force_close()
    except TimeoutError:  # who does not read must not keep a connection to upstream
        response.force_close()
        if request.transport is not None:
            request.transport.abort()


def _status_line(request: web.BaseRequest, response: web.StreamResponse) -> str:
    major, minor = request.version
    return f"HTTP/{major}.{minor} {response.status} {response.reason}"


def _break_off(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Close the client's connection so that the body cannot be taken for whole.

    Closing is enough where a length or a last chunk is missing, and lets through what was sent. A body
    that ends with its connection needs a reset.
    """
    response.force_close()
    transport = request.transport
    if transport is None:
        return
    if request.version >= HttpVersion11 or "Content-Length" in response.headers:
        transport.close()
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
