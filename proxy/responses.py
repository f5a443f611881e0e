"""From an answer to status, headers and bytes."""

from __future__ import annotations

import gzip
import zlib

from aiohttp import web
from multidict import CIMultiDict

from proxy.odata import origins, verbose_json
from proxy.passthrough import say_as_upstream
from proxy.reconcile.exchange import Answer, CacheStatus, FromMirror
from proxy.reconcile.ports import Reply
from proxy.upstream.headers import copy_headers, rewrite_origins


class Responses:
    """Makes responses. `root_path`, `upstream_origin`: what is rewritten in them (rule 12)."""

    def __init__(self, root_path: str, upstream_origin: str) -> None:
        self._root_path = root_path
        self._upstream_origin = upstream_origin

    async def respond(self, request: web.Request, answer: Answer, origin: str) -> web.StreamResponse:
        """Send `answer` to the client, who knows the proxy as `origin`."""
        if isinstance(answer, FromMirror):
            return self._from_mirror(answer, origin)
        reply = answer.reply
        headers = self._headers(reply, origin)
        headers["Cache-Status"] = cache_status(answer.status, reply.status)
        body = reply.body if reply.is_coded else self._rewritten(reply, headers, origin)
        if answer.cut:
            return await _cut_short(request, reply, headers, body)
        response = web.Response(status=reply.status, reason=reply.reason, headers=headers, body=body)
        say_as_upstream(response)
        return response

    def _rewritten(self, reply: Reply, headers: CIMultiDict[str], origin: str) -> bytes:
        content_type = reply.headers.get("Content-Type")
        body = origins.rewrite_origins(reply.body, content_type, self._root_path, origin)
        return _encoded(body, reply, headers)

    def _from_mirror(self, answer: FromMirror, origin: str) -> web.Response:
        if answer.base is None:
            headers = CIMultiDict({"Cache-Control": "no-cache", "DataServiceVersion": answer.version})
        else:
            headers = self._headers(answer.base, origin)
        if answer.content_type is not None:
            headers["Content-Type"] = answer.content_type
        headers["Cache-Status"] = cache_status(answer.status, answer.base.status if answer.base else None)
        if answer.age is not None:
            headers["Age"] = str(answer.age)
        response = web.Response(headers=headers, body=_encoded(answer.body, answer.base, headers))
        if answer.base is not None:
            say_as_upstream(response)
        return response

    def _headers(self, reply: Reply, origin: str) -> CIMultiDict[str]:
        headers = copy_headers(reply)
        rewrite_origins(headers, self._upstream_origin, origin)
        for name in ("Location", "Content-Location"):
            if name in headers:
                headers[name] = self._located(headers[name], origin)
        return headers

    def _located(self, url: str, origin: str) -> str:
        """Upstream may know itself by another origin than we do; its service root gives it away."""
        text = verbose_json.rewrite_origins(f'{{"__metadata":{{"uri":"{url}"}}}}', self._root_path, origin)
        return text[22:-3]


def cache_status(status: CacheStatus, upstream_status: int | None) -> str:
    """The Cache-Status field (RFC 9211)."""
    parts = ["syncpoint"]
    if status.hit:
        parts.append("hit")
    if status.fwd:
        parts.append(f"fwd={status.fwd}")
        if upstream_status is not None:
            parts.append(f"fwd-status={upstream_status}")
    if status.stored:
        parts.append("stored")
    if status.detail:
        parts.append(f"detail={status.detail}")
    return "; ".join(parts)


def _encoded(body: bytes, reply: Reply | None, headers: CIMultiDict[str]) -> bytes:
    """`body` in the content coding that upstream's reply had, where we write it too."""
    coding = reply.headers.get("Content-Encoding", "").strip().lower() if reply and body else ""
    if coding not in ("gzip", "deflate"):
        return body
    headers["Content-Encoding"] = coding
    return gzip.compress(body, 6, mtime=0) if coding == "gzip" else zlib.compress(body)


async def _cut_short(
    request: web.Request, reply: Reply, headers: CIMultiDict[str], body: bytes
) -> web.StreamResponse:
    """Send what came of a body, and let the client see that more was meant to come."""
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=headers)
    response.content_length = len(body) + 1
    await response.prepare(request)
    await response.write(body)
    if request.transport is not None:
        request.transport.close()
    return response
