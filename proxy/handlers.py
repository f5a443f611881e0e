"""The one handler of the main listener: what does the client mean, and who carries it out?"""

from __future__ import annotations

import math
from hashlib import blake2b

from aiohttp import web
from multidict import CIMultiDict

from proxy.middleware import ENTITY_SET, OPERATION, REQUEST_ID
from proxy.odata.edm import Model
from proxy.odata.headers import parse_cache_control
from proxy.odata.media import response_format
from proxy.odata.operation import (
    Forwarded,
    Opaque,
    ReadCollection,
    ReadEntity,
    SendBatch,
    Write,
    parse_operation,
)
from proxy.odata.origins import rewrite_origins
from proxy.odata.uri import split_target
from proxy.passthrough import pass_through, upstream_target
from proxy.reconcile.authority import Authorities
from proxy.reconcile.batch_writer import BatchWriter
from proxy.reconcile.errors import NotInMirror
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, FromMirror, MirrorAsk, Relayed
from proxy.reconcile.freshness import allowed_age
from proxy.reconcile.messages import Messages
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.ports import Caller, Directives, Request, UpstreamTooLong
from proxy.reconcile.reader import Reader
from proxy.reconcile.writer import Writer
from proxy.responses import Responses
from proxy.soap import is_message, pass_message
from proxy.uploads import Upload
from proxy.upstream.client import UpstreamClient
from proxy.upstream.headers import request_headers

_NOTHING_KNOWN = Model("", {}, {}, {})
_MOST_SECONDS = 2**31  # stands for all that is longer (RFC 9111, 1.2.2)
# What is asked about a representation, rather than for it, only upstream can answer.
_CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range")


class Handler:
    """Answers every request of the main listener; all its paths are upstream's."""

    def __init__(
        self,
        reader: Reader,
        mirror_reader: MirrorReader,
        writer: Writer,
        batch_writer: BatchWriter,
        metadata: Metadata,
        upstream: UpstreamClient,
        responses: Responses,
        messages: Messages,
        authorities: Authorities,
        *,
        root_path: str,
        upstream_origin: str,
        public_origin: str,
        body_limit_bytes: int,
    ) -> None:
        self._reader = reader
        self._mirror_reader = mirror_reader
        self._writer = writer
        self._batch_writer = batch_writer
        self._metadata = metadata
        self._upstream = upstream
        self._responses = responses
        self._messages = messages
        self._authorities = authorities
        self._root_path = root_path
        self._upstream_origin = upstream_origin
        self._public_origin = public_origin
        self._body_limit_bytes = body_limit_bytes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        model = self._metadata.model or _NOTHING_KNOWN
        headers = request_headers(request.raw_headers)
        target = upstream_target(request)
        operation = parse_operation(request.method, target, headers, self._root_path, model)
        request[OPERATION] = type(operation).__name__
        origin = self._public_origin or f"{request.scheme}://{request.host}"
        if not isinstance(operation, Opaque):
            if operation.entity_set is not None:
                request[ENTITY_SET] = operation.entity_set.name
                await self._authorities.follow([operation.entity_set.name])
            directives = _directives(headers)
            if directives.only_if_cached and request.method == "GET":
                caller = _caller(request, headers)
                answer: Answer = await self._from_mirror_alone(target, headers, directives, caller, origin)
                return await self._responses.respond(request, answer, origin)
        if isinstance(operation, Opaque) and is_message(request.method, target):
            return await pass_message(
                request,
                self._upstream,
                self._messages,
                model,
                request_id=request[REQUEST_ID],
                client_origin=origin,
                body_limit=self._body_limit_bytes,
            )
        if isinstance(operation, Opaque) or _is_streamed(operation, request.method, target):
            return await pass_through(
                request, self._upstream, client_origin=origin, body_limit=self._body_limit_bytes
            )
        ask = await self._ask(request, target, headers, origin)
        try:
            answer = await self._answer(operation, ask, model)
        except UpstreamTooLong:
            if request.method != "GET" or ask.request.body:
                raise
            return await pass_through(request, self._upstream, client_origin=origin)
        return await self._responses.respond(request, answer, origin)

    async def _answer(
        self, operation: ReadEntity | ReadCollection | Write | SendBatch | Forwarded, ask: Ask, model: Model
    ) -> Answer:
        headers = ask.request.headers
        match operation:
            case Forwarded():
                answer = await self._reader.forward(ask, CacheStatus(fwd="bypass"))
                await self._learn(answer, ask)
                return answer
            case ReadEntity() | ReadCollection() if any(name in headers for name in _CONDITIONS):
                return await self._reader.forward(ask, CacheStatus(fwd="bypass", detail="conditional"))
            case ReadEntity() | ReadCollection():
                return await self._reader.read(operation, ask, model)
            case SendBatch():
                return await self._batch_writer.send(ask, model)
            case _:
                return await self._writer.write(operation, ask, model)

    async def _from_mirror_alone(
        self, target: str, headers: CIMultiDict[str], directives: Directives, caller: Caller, origin: str
    ) -> FromMirror:
        """Answer `only-if-cached`, no older than the request allows. Raises NotInMirror."""
        if caller.credentials is not None:  # rule 8
            raise NotInMirror("What these credentials may see, only upstream can say.")
        path, query = split_target(target)
        length = len(self._root_path)
        ask = MirrorAsk(origin + path[:length], path[length:], query, headers, only_if_cached=True)
        answer = await self._mirror_reader.read(ask, self._metadata.model)
        limit = allowed_age(directives)
        if limit < math.inf and (answer.age is None or answer.age >= limit):
            raise NotInMirror("What the mirror holds is older than the request allows.")
        return answer

    async def _learn(self, answer: Answer, ask: Ask) -> None:
        """The metadata document, when a client reads it, is read along."""
        is_document = ask.path.endswith("/$metadata") and ask.request.method == "GET"
        if is_document and isinstance(answer, Relayed) and answer.reply.status == 200 and not answer.cut:
            await self._metadata.see(answer.reply.body)

    async def _ask(self, request: web.Request, target: str, headers: CIMultiDict[str], origin: str) -> Ask:
        headers.popall("Content-Length", None)
        body = self._to_upstream(await Upload(request, self._body_limit_bytes).whole(), headers)
        return Ask(
            request=Request(request.method, target, headers, body),
            origin=origin,
            format=response_format(", ".join(headers.getall("Accept", [])) or None),
            caller=_caller(request, headers),
            directives=_directives(headers),
            request_id=request[REQUEST_ID],
        )

    def _to_upstream(self, body: bytes, headers: CIMultiDict[str]) -> bytes:
        """The client's body, with upstream's origin where it names the proxy's (rule 12)."""
        if not body or "Content-Encoding" in headers:
            return body
        return rewrite_origins(body, headers.get("Content-Type"), self._root_path, self._upstream_origin)


def _is_streamed(operation: object, method: str, target: str) -> bool:
    """Replies that may be long and name no origin."""
    path = split_target(target)[0]
    return isinstance(operation, Forwarded) and (path.endswith("/$value") or method == "HEAD")


def _caller(request: web.Request, headers: CIMultiDict[str]) -> Caller:
    shown = [f"{name}:{value}" for name in ("Authorization", "Cookie") for value in headers.getall(name, ())]
    credentials = blake2b("\n".join(shown).encode("utf-8", "surrogateescape")).digest() if shown else None
    return Caller(credentials, None, request.remote)


def _directives(headers: CIMultiDict[str]) -> Directives:
    """The request's Cache-Control; `Pragma: no-cache` counts where there is none (RFC 9111, 5.4)."""
    given = parse_cache_control(headers.getall("Cache-Control", []))
    if not given and "no-cache" in headers.get("Pragma", "").lower():
        given = {"no-cache": None}
    stale = math.inf if "max-stale" in given and given["max-stale"] is None else _seconds(given, "max-stale")
    return Directives(
        no_cache="no-cache" in given,
        no_store="no-store" in given,
        only_if_cached="only-if-cached" in given,
        max_age=_seconds(given, "max-age"),
        max_stale=stale,
    )


def _seconds(given: dict[str, str | None], name: str) -> int | None:
    value = given.get(name)
    if not value or not value.isascii() or not value.isdigit():
        return None
    return min(int(value.lstrip("0")[:11] or "0"), _MOST_SECONDS)
