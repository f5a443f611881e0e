"""The two listeners: what answers on them, and the sockets."""

from __future__ import annotations

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.app.parts import Drivers, Parts
from proxy.authentication import Authenticator
from proxy.changes import Pulse, changes_handler
from proxy.console.api import Api
from proxy.console.pages import Console
from proxy.console.sessions import Sessions
from proxy.handlers import Handler
from proxy.metrics import Metrics
from proxy.middleware import canonical_line, upstreams_callers
from proxy.model_route import ModelRoute
from proxy.passthrough import drop_added_headers, server_options
from proxy.reconcile.batch_writer import BatchWriter
from proxy.reconcile.changes import Event, Feed
from proxy.reconcile.messages import Messages
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.model_view import Models
from proxy.reconcile.model_writer import ModelWriter
from proxy.reconcile.models import ModelReader
from proxy.reconcile.operator import Desk
from proxy.reconcile.restricted import event_for
from proxy.reconcile.rights import Rights
from proxy.reconcile.service import Service
from proxy.responses import Responses
from proxy.services import MirrorRoute, services_app
from proxy.setting_types import Address
from proxy.settings import Settings
from proxy.tls import Tls


def main_app(parts: Parts, drivers: Drivers, authenticator: Authenticator) -> web.Application:
    """Upstream's namespace and nothing else."""
    settings, events = parts.settings, parts.events
    logs_in = parts.upstream.callers is not parts.upstream.client
    public_name = urlsplit(settings.public_origin).hostname or ""
    handler = Handler(
        drivers.reader,
        _mirror_reader(parts),
        drivers.writer,
        BatchWriter(
            drivers.mirror,
            drivers.sender,
            drivers.reader,
            drivers.feeder,
            parts.background,
            events.observe,
            parts.now,
            parts.local.write_batch,
        ),
        parts.metadata,
        parts.upstream.callers,
        Responses(parts.root_path, parts.upstream_origin),
        Messages(drivers.mirror, parts.in_flight, events.observe, parts.now),
        parts.sets.authorities,
        parts.local,
        root_path=parts.root_path,
        upstream_origin=parts.upstream_origin,
        public_origin=settings.public_origin,
        body_limit_bytes=settings.limits.request_body_bytes,
        learns_from_callers=parts.upstream.own is None,
        logs_in=logs_in,
    )
    known = upstreams_callers(authenticator, lends=logs_in, public_name=public_name)
    app = web.Application(middlewares=[canonical_line(events), known, _all_to(handler)])
    app.on_response_prepare.append(drop_added_headers)
    return app


def services_listener(
    parts: Parts,
    drivers: Drivers,
    service: Service,
    models: Models,
    metrics: Metrics,
    authenticator: Authenticator,
) -> web.Application:
    """Everything of ours: the mirror's own service root, models, changes, the admin API, the console,
    health, metrics."""
    store, metadata, events = parts.store, parts.metadata, parts.events
    responses = Responses(parts.root_path, parts.upstream_origin)
    mirror_route = MirrorRoute(_mirror_reader(parts), metadata, responses)
    app = services_app(store, metadata, metrics, mirror_route, events, authenticator)
    pulse = Pulse(store)
    feed = Feed(store, lambda: metadata.model)

    def show(rights: Rights, event: Event) -> Event:
        name = event.entity_set if event.revision is None else event.revision.entity_set
        return event_for(parts.sets.shown_to(rights, [name]), event, metadata.model)

    changes = changes_handler(feed, pulse, show, lambda: authenticator.edition)
    app.router.add_get("/changes", changes)
    app.on_shutdown.append(pulse.stop)
    desk = Desk(service, drivers.writer, store, store, lambda: metadata.model, events.observe)
    app.add_subapp("/api/", Api(desk, store, store, parts.sets).app())
    console = Console(desk, store, store, parts.sets, Sessions(authenticator), events.recent)
    app.router.add_get("/console", _to_the_console)
    app.add_subapp("/console/", console.app())
    model_reader = ModelReader(
        models,
        drivers.reader,
        parts.sets,
        events.observe,
        parts.now,
        upstream_path=parts.root_path,
        page_limit=parts.settings.limits.mirror_page,
        headers=service.headers,
    )
    model_writer = ModelWriter(model_reader, drivers.writer, parts.background, events.observe)
    body_limit = parts.settings.limits.request_body_bytes
    ModelRoute(model_reader, model_writer, metadata, responses, body_limit).join(app, events)
    return app


async def _to_the_console(_request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": "/console/"})


async def listen(
    stack: AsyncExitStack, app: web.Application, address: Address, settings: Settings, tls: Tls
) -> str:
    """Answer at an address until `stack` ends; gives the URL. Raises OSError."""
    runner = web.AppRunner(app, shutdown_timeout=settings.limits.shutdown_s, **server_options())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, reuse_address=True, ssl_context=tls.listeners)
    await site.start()
    _, port, *_ = runner.addresses[0]
    return f"{'http' if tls.listeners is None else 'https'}://{Address(address.host, port)}"


def _mirror_reader(parts: Parts) -> MirrorReader:
    return MirrorReader(
        parts.store,
        parts.sets,
        parts.events.observe,
        parts.now,
        root_path=parts.root_path,
        page_limit=parts.settings.limits.mirror_page,
        past=parts.store.at,
    )


def _all_to(door: Handler) -> Middleware:
    """Gives every request to `door`: routes start with a slash, and the target of `OPTIONS *` does not."""

    @web.middleware
    async def answer(request: web.Request, handler: object) -> web.StreamResponse:
        return await door.handle(request)

    return answer
