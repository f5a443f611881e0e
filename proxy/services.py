"""The services listener: what is ours, apart from upstream's namespace."""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.authentication import CALLER, Authenticator
from proxy.events import Events
from proxy.metrics import Metrics
from proxy.middleware import ENTITY_SET, OPERATION, canonical_line, known_callers
from proxy.mirror_batch import answer_batch
from proxy.odata.errors import ODataError
from proxy.odata.uri import split_target
from proxy.passthrough import drop_added_headers, upstream_target
from proxy.reconcile.errors import ReadRefused
from proxy.reconcile.exchange import MirrorAsk
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.ports import Store, StoreUnavailable
from proxy.responses import Responses

MIRROR = "/mirror"


class MirrorRoute:
    """`/mirror/`: an OData service root of its own, answered from what Postgres holds."""

    def __init__(self, reader: MirrorReader, metadata: Metadata, responses: Responses) -> None:
        self._reader = reader
        self._metadata = metadata
        self._responses = responses

    def covers(self, target: str) -> bool:
        path = split_target(target)[0]
        return path == MIRROR or path.startswith(f"{MIRROR}/")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, query = split_target(upstream_target(request))
        origin = f"{request.scheme}://{request.host}"
        if request.method == "POST" and re.fullmatch(r"/+\$batch", unquote(path[len(MIRROR) :])):
            request[OPERATION] = "MirrorBatch"
            return await answer_batch(
                request, origin + MIRROR, self._reader, self._metadata.model, _read_only(), request[CALLER]
            )
        request[OPERATION] = "MirrorRead"
        if request.method not in ("GET", "HEAD"):
            raise _read_only()
        path = path[len(MIRROR) :]
        ask = MirrorAsk(origin + MIRROR, path, query, request.headers, rights=request[CALLER])
        answer = await self._reader.read(ask, self._metadata.model)
        if answer.entity_set is not None:
            request[ENTITY_SET] = answer.entity_set
        return await self._responses.respond(request, answer, origin)


def _read_only() -> ReadRefused:
    return ReadRefused(
        ODataError(
            "The mirror is read here and not written: writes go to upstream's own path on the main listener,"
            " which sends them on and mirrors what became of them.",
            status=405,
        )
    )


def services_app(
    store: Store,
    metadata: Metadata,
    metrics: Metrics,
    mirror: MirrorRoute,
    events: Events,
    authenticator: Authenticator,
) -> web.Application:
    """`/mirror/`: see there. `/healthz`: the process answers. `/readyz`: it can do its work. `/metrics`:
    Prometheus text. Who may come at all is for `authenticator` to say."""
    line = canonical_line(events)

    @web.middleware
    async def mirror_first(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Not a route: those are matched by decoded paths, and what belongs to OData is read from the raw one.
        if mirror.covers(upstream_target(request)):
            return await line(request, mirror.handle)
        return await handler(request)

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        try:
            database = await store.is_ready()
        except StoreUnavailable:
            database = False
        parts = {"database": database, "metadata": metadata.model is not None}
        return web.json_response(parts, status=200 if all(parts.values()) else 503)

    async def show_metrics(request: web.Request) -> web.Response:
        request[CALLER].require_metrics()
        try:
            known = len(await store.open_intents()) if metadata.model else float("nan")
        except StoreUnavailable:
            known = float("nan")
        metrics.open_intents.set(known)
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.content_type})

    app = web.Application(middlewares=[known_callers(authenticator), mirror_first])
    app.on_response_prepare.append(drop_added_headers)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app
