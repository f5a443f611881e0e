"""The one handler of the main listener: what does the client mean, and who carries it out?"""

from __future__ import annotations

import asyncio
import math
from hashlib import blake2b

from aiohttp import web
from multidict import CIMultiDict

from proxy.authentication import CALLER
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
from proxy.odata.relationships import Relationships
from proxy.odata.uri import split_target
from proxy.passthrough import fields_for_upstream, pass_through, proxy_origin, upstream_target
from proxy.reconcile.authority import Authorities
from proxy.reconcile.batch_writer import BatchWriter
from proxy.reconcile.errors import NotInMirror
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, FromMirror, MirrorAsk, Relayed
from proxy.reconcile.freshness import allowed_age
from proxy.reconcile.local_service import LocalService
from proxy.reconcile.messages import Messages
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.permission import Permission
from proxy.reconcile.ports import Caller, Directives, Request, UpstreamTooLong
from proxy.reconcile.reader import Reader
from proxy.reconcile.rights import Rights
from proxy.reconcile.writer import Writer
from proxy.responses import Responses
from proxy.soap import is_message, pass_message
from proxy.uploads import Upload
from proxy.upstream.login import AnyClient

_NOTHING_KNOWN = Model("", {}, {}, {})
_MOST_SECONDS = 2**31  # stands for all that is longer (RFC 9111, 1.2.2)
_LOAD_PAUSE_S = 5.0
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
        upstream: AnyClient,
        responses: Responses,
        messages: Messages,
        authorities: Authorities,
        local: LocalService,
        *,
        root_path: str,
        upstream_origin: str,
        public_origin: str,
        body_limit_bytes: int,
        learns_from_callers: bool = False,
        logs_in: bool = False,
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
        self._local = local
        self._root_path = root_path
        self._upstream_origin = upstream_origin
        self._public_origin = public_origin
        self._body_limit_bytes = body_limit_bytes
        self._learns_from_callers = learns_from_callers
        self._logs_in = logs_in
        self._next_load = 0.0
        self._relationships: tuple[Model, Relationships] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self._logs_in and request.method == "TRACE":  # would show the proxy's own login
            raise web.HTTPNotImplemented
        origin = proxy_origin(request, self._public_origin)
        model = self._metadata.model or _NOTHING_KNOWN
        headers = fields_for_upstream(request)
        target = upstream_target(request)
        connection = self._upstream.pin(request.task, headers)
        operation = parse_operation(request.method, target, headers, self._root_path, model)
        request[OPERATION] = type(operation).__name__
        permission = self._permission(request, model)
        permission.require(operation, Request(request.method, target, headers))
        ask: Ask | None = None
        if await self._local.takes(request.method, target, headers, model):
            ask = await self._ask(request, target, headers, origin, connection)
            permission.require_body(operation, ask.request)
            if (local := await self._local.answer(ask, model)) is not None:
                return await self._responses.respond(request, local, origin)
        if not isinstance(operation, Opaque):
            if operation.entity_set is not None:
                request[ENTITY_SET] = operation.entity_set.name
                await self._authorities.follow([operation.entity_set.name])
            if _directives(headers).only_if_cached and request.method == "GET":
                caller = self._caller(request, headers, connection)
                answer: Answer = await self._from_mirror_alone(
                    operation, target, headers, caller, origin, request[CALLER]
                )
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
                connection=connection,
            )
        if isinstance(operation, Opaque) or _is_streamed(operation, request.method, target):
            return await pass_through(
                request,
                self._upstream,
                client_origin=origin,
                body_limit=self._body_limit_bytes,
                connection=connection,
            )
        if ask is None:
            ask = await self._ask(request, target, headers, origin, connection)
        permission.require_body(operation, ask.request)
        try:
            answer = await self._answer(operation, ask, model)
        except UpstreamTooLong:
            if request.method != "GET" or ask.request.body:
                raise
            return await pass_through(request, self._upstream, client_origin=origin, connection=connection)
        return await self._responses.respond(request, answer, origin)

    def _permission(self, request: web.Request, model: Model) -> Permission:
        if self._relationships is None or self._relationships[0] is not model:
            self._relationships = (model, Relationships(model))
        return Permission(request[CALLER], model, self._relationships[1], self._root_path)

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
                local = await self._local.batch(ask, model)
                return local or await self._batch_writer.send(ask, model)
            case _:
                return await self._writer.write(operation, ask, model)

    async def _from_mirror_alone(
        self,
        operation: object,
        target: str,
        headers: CIMultiDict[str],
        caller: Caller,
        origin: str,
        rights: Rights,
    ) -> FromMirror:
        """Answer `only-if-cached`, no older than the request allows. Raises NotInMirror."""
        if not self._reader.visibility.may_be_shown(operation, caller):
            raise NotInMirror("What this caller may see, only upstream can say.")
        path, query = split_target(target)
        length = len(self._root_path)
        ask = MirrorAsk(
            origin + path[:length], path[length:], query, headers, only_if_cached=True, rights=rights
        )
        answer = await self._mirror_reader.read(ask, self._metadata.model)
        limit = allowed_age(_directives(headers))
        if limit < math.inf and (answer.age is None or answer.age >= limit):
            raise NotInMirror("What the mirror holds is older than the request allows.")
        return answer

    async def _learn(self, answer: Answer, ask: Ask) -> None:
        """The metadata document, when a client reads it, is read along."""
        if not isinstance(answer, Relayed) or answer.reply.status != 200 or answer.cut:
            return
        if ask.path.endswith("/$metadata") and ask.request.method == "GET":
            await self._metadata.see(answer.reply.body)
        elif self._learns_from_callers and self._metadata.is_wanted:
            # With no identity of our own a caller's has to do; not with every request, should it fail.
            now = asyncio.get_running_loop().time()
            if now >= self._next_load:
                self._next_load = now + _LOAD_PAUSE_S
                await self._metadata.load(ask)

    async def _ask(
        self,
        request: web.Request,
        target: str,
        headers: CIMultiDict[str],
        origin: str,
        connection: object | None,
    ) -> Ask:
        headers.popall("Content-Length", None)
        body = self._to_upstream(await Upload(request, self._body_limit_bytes).whole(), headers)
        return Ask(
            request=Request(request.method, target, headers, body, connection),
            origin=origin,
            format=response_format(", ".join(headers.getall("Accept", [])) or None),
            caller=self._caller(request, headers, connection),
            directives=_directives(headers),
            request_id=request[REQUEST_ID],
        )

    def _caller(self, request: web.Request, headers: CIMultiDict[str], connection: object | None) -> Caller:
        credentials = None if self._logs_in else _credentials(headers, connection)
        return Caller(credentials, request[CALLER].user, request.remote)

    def _to_upstream(self, body: bytes, headers: CIMultiDict[str]) -> bytes:
        """The client's body, with upstream's origin where it names the proxy's (rule 12)."""
        if not body or "Content-Encoding" in headers:
            return body
        return rewrite_origins(body, headers.get("Content-Type"), self._root_path, self._upstream_origin)


def _is_streamed(operation: object, method: str, target: str) -> bool:
    """Replies that may be long and name no origin."""
    path = split_target(target)[0]
    return isinstance(operation, Forwarded) and (path.endswith("/$value") or method == "HEAD")


def _credentials(headers: CIMultiDict[str], connection: object | None) -> bytes | None:
    """A digest of what upstream is shown of the caller."""
    shown = [f"{name}:{value}" for name in ("Authorization", "Cookie") for value in headers.getall(name, ())]
    if connection is not None:  # what it was logged in with is upstream's knowledge
        shown.append(str(connection))
    return blake2b("\n".join(shown).encode("utf-8", "surrogateescape")).digest() if shown else None


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
