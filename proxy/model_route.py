"""`/model/` on the services listener: entity sets under the names that new services chose."""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from proxy.authentication import CALLER
from proxy.events import Events
from proxy.middleware import ENTITY_SET, OPERATION, REQUEST_ID, canonical_line
from proxy.mirror_batch import answer_batch
from proxy.odata.errors import ODataError
from proxy.odata.headers import parse_cache_control
from proxy.odata.uri import split_target
from proxy.passthrough import upstream_target
from proxy.reconcile.errors import ReadRefused
from proxy.reconcile.exchange import Ask
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.model_writer import Created, ModelWriter
from proxy.reconcile.models import ModelReader
from proxy.reconcile.ports import Caller, Directives, Request
from proxy.responses import Responses
from proxy.uploads import Upload

MODEL = "/model"


class ModelRoute:
    """An OData service root of its own, read and written."""

    def __init__(
        self,
        reader: ModelReader,
        writer: ModelWriter,
        metadata: Metadata,
        responses: Responses,
        body_limit_bytes: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._metadata = metadata
        self._responses = responses
        self._body_limit_bytes = body_limit_bytes

    def join(self, services: web.Application, events: Events) -> None:
        """Answer below MODEL what comes to this application."""
        line = canonical_line(events)

        @web.middleware
        async def model_first(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = split_target(upstream_target(request))[0]
            if path == MODEL or path.startswith(f"{MODEL}/"):
                return await line(request, self.handle)
            return await handler(request)

        services.middlewares.append(model_first)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        mapped = await self._reader.mapped(self._metadata.model)
        target = upstream_target(request)
        origin = f"{request.scheme}://{request.host}"
        root = origin + MODEL
        path = split_target(target)[0][len(MODEL) :]
        if request.method == "POST" and re.fullmatch(r"/+\$batch", unquote(path)):
            request[OPERATION] = "ModelBatch"
            reader = self._reader.mirror_reader(mapped, root)
            rights = self._reader.rights(request[CALLER], mapped)
            return await answer_batch(request, root, reader, mapped.model, _read_only(), rights)
        reads = request.method in ("GET", "HEAD")
        request[OPERATION] = "ModelRead" if reads else "ModelWrite"
        named = re.match(r"/+(\w+)", path)
        if named and named[1] in mapped.sets:
            request[ENTITY_SET] = named[1]
        body = b"" if reads else await Upload(request, self._body_limit_bytes).whole()
        ask = Ask(
            request=Request(request.method, target, CIMultiDict(request.headers), body),
            origin=origin,
            format=None,
            caller=Caller(user=request[CALLER].user, client=request.remote),
            directives=_directives(request),
            request_id=request[REQUEST_ID],
            rights=request[CALLER],
        )
        if reads:
            return await self._responses.respond(request, await self._reader.read(ask, root, mapped), origin)
        answer = await self._writer.write(ask, root, mapped)
        if answer is None:
            headers = {"DataServiceVersion": "1.0;", "Cache-Control": "no-cache"}
            return web.Response(status=204, headers=headers)
        if not isinstance(answer, Created):
            return await self._responses.respond(request, answer, origin)
        response = await self._responses.respond(request, answer.shown, origin)
        response.set_status(201)
        response.headers["Location"] = answer.location
        return response


def _directives(request: web.Request) -> Directives:
    """The request's Cache-Control, as far as it means anything here (docs/models.md)."""
    given = parse_cache_control(request.headers.getall("Cache-Control", []))
    return Directives(no_cache="no-cache" in given, only_if_cached="only-if-cached" in given)


def _read_only() -> ReadRefused:
    return ReadRefused(
        ODataError("A batch reads here; what is written comes by itself.", status=405), "GET, HEAD"
    )
