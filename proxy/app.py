"""The wiring: the only module that knows both sides of a port.

`running` starts everything and gives the running proxy; `serve` keeps it until a signal ends it.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

import proxy
from proxy.changes import Pulse, changes_handler
from proxy.console.api import Api
from proxy.events import Events
from proxy.handlers import Handler
from proxy.metrics import Metrics
from proxy.middleware import canonical_line
from proxy.model_route import ModelRoute
from proxy.odata.edm import Model
from proxy.odata.models import MappingError
from proxy.passthrough import drop_added_headers, server_options
from proxy.reconcile.authority import Authorities
from proxy.reconcile.backfill import Backfill, Load
from proxy.reconcile.background import Background, cancelled
from proxy.reconcile.batch_writer import BatchWriter
from proxy.reconcile.changes import Feed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.keeper import Keeper
from proxy.reconcile.messages import Messages
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.model_view import Models
from proxy.reconcile.model_writer import ModelWriter
from proxy.reconcile.models import ModelReader
from proxy.reconcile.operator import Desk
from proxy.reconcile.pace import Pace
from proxy.reconcile.policy import Mode
from proxy.reconcile.poller import Poller
from proxy.reconcile.ports import UpstreamUnreachable
from proxy.reconcile.reader import Reader
from proxy.reconcile.sending import Sender
from proxy.reconcile.service import Service, stay_alive
from proxy.reconcile.sets import Sets
from proxy.reconcile.settler import Settler
from proxy.reconcile.sweeper import Sweeper
from proxy.reconcile.writer import Writer
from proxy.responses import Responses
from proxy.services import MirrorRoute, services_app
from proxy.setting_types import Address
from proxy.settings import Settings, SettingsError
from proxy.store import PostgresStore
from proxy.store.embedded import EmbeddedPostgres
from proxy.upstream.client import UpstreamClient


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where it listens, and the parts that tests look at."""

    url: str
    services_url: str
    store: PostgresStore
    metadata: Metadata
    background: Background
    service: Service
    settler: Settler
    poller: Poller
    sweeper: Sweeper
    metrics: Metrics


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    now: Callable[[], datetime] = utc_now,
    draw: Callable[[], float] = random.random,
) -> AsyncIterator[Proxy]:
    """Start the proxy; at the end, finish what is under way, then close everything.

    Raises StoreUnavailable where Postgres cannot be had, OSError where an address cannot be listened on.
    SettingsError where models do not go with upstream's metadata document. An upstream that is down keeps
    nothing from starting.
    """
    parts = urlsplit(settings.upstream.service_root)
    upstream_origin, root_path = f"{parts.scheme}://{parts.netloc}", parts.path
    rules = settings.sync_rules()
    metrics = Metrics()
    events = Events(metrics)
    async with AsyncExitStack() as stack:
        store = await _open_store(stack, settings)
        upstream = await _open_upstream(stack, settings, now)
        background = Background(events.observe)
        authorities = Authorities(store, events.observe, wait_s=settings.cutover.wait_s)
        sets = Sets(store, settings.policies(), events.observe, authorities)
        metadata = _metadata(settings, store, upstream, events)
        mirror = Mirror(store, upstream, sets, rules, root_path, events.observe, metadata.suspect)
        feeder = Feeder(mirror, background, events.observe, store)
        reader = Reader(mirror, upstream, feeder, events.observe, now, draw)
        sender = Sender(mirror, upstream, events.observe)
        writer = Writer(mirror, upstream, sender, feeder, background, now)
        batch_writer = BatchWriter(mirror, sender, reader, feeder, background, events.observe, now)
        service = _service(settings, store, upstream, sets, metadata, events, now)
        settler = Settler(service, sender.in_flight)
        poller = Poller(service, settings.poll_rules())
        sweeper = Sweeper(service, settings.sweep_rules())
        mirror_reader = MirrorReader(
            store,
            sets,
            events.observe,
            now,
            root_path=root_path,
            page_limit=settings.limits.mirror_page,
            past=store.at,
        )
        responses = Responses(root_path, upstream_origin)
        handler = Handler(
            reader,
            mirror_reader,
            writer,
            batch_writer,
            metadata,
            upstream,
            responses,
            Messages(mirror, sender.in_flight, events.observe, now),
            authorities,
            root_path=root_path,
            upstream_origin=upstream_origin,
            public_origin=settings.public_origin,
            body_limit_bytes=settings.limits.request_body_bytes,
        )
        await metadata.load()
        await authorities.follow([])
        models = Models(settings.definitions(), store.models())
        try:
            await models.start(metadata.model)
        except MappingError as error:
            raise SettingsError(error.problems) from error
        tasks = [
            asyncio.create_task(stay_alive(store)),
            asyncio.create_task(metadata.watch(settings.background.metadata_every_s)),
            asyncio.create_task(authorities.watch()),
        ]
        if settings.background.enabled and settings.service_headers() is not None:
            tasks += [
                asyncio.create_task(work.run(lambda: metadata.model)) for work in (settler, poller, sweeper)
            ]
        tasks.append(asyncio.create_task(Keeper(store, settings.policies(), events.observe).run()))
        stack.push_async_callback(background.stop)
        stack.push_async_callback(cancelled, tasks)
        mirror_route = MirrorRoute(mirror_reader, metadata, responses)
        services = services_app(store, metadata, metrics, mirror_route, events)
        pulse = Pulse(store)
        changes = changes_handler(Feed(store, lambda: metadata.model), pulse)
        services.router.add_get("/changes", changes)
        services.on_shutdown.append(pulse.stop)
        desk = Desk(service, writer, store, store, lambda: metadata.model, events.observe)
        services.add_subapp("/api/", Api(desk, store, store, sets).app())
        model_reader = ModelReader(
            models,
            reader,
            events.observe,
            now,
            upstream_path=root_path,
            page_limit=settings.limits.mirror_page,
        )
        model_writer = ModelWriter(model_reader, writer, background, events.observe)
        body_limit = settings.limits.request_body_bytes
        ModelRoute(model_reader, model_writer, metadata, responses, body_limit).join(services, events)
        services_url = await _listen(stack, services, settings.services_listen, settings)
        main = web.Application(middlewares=[canonical_line(events), _all_to(handler)])
        main.on_response_prepare.append(drop_added_headers)
        url = await _listen(stack, main, settings.listen, settings)
        events.proxy_started(
            version=proxy.__version__,
            url=url + root_path,
            services_url=services_url,
            service_root=settings.upstream.service_root,
        )
        yield Proxy(
            url, services_url, store, metadata, background, service, settler, poller, sweeper, metrics
        )
        events.proxy_stopping(requests_in_flight=len(sender.in_flight))
    events.proxy_stopped()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[tuple[Service, Model]]:
    """What a command needs that works on the mirror beside the running proxies, under the proxy's identity.

    Raises StoreUnavailable, SettingsError without an identity, UpstreamUnreachable without a metadata
    document.
    """
    if settings.service_headers() is None:
        raise SettingsError(["upstream.service.headers: not set; background work needs its own identity"])
    events = Events(Metrics())
    async with AsyncExitStack() as stack:
        store = await _open_store(stack, settings)
        upstream = await _open_upstream(stack, settings, utc_now)
        metadata = _metadata(settings, store, upstream, events)
        await metadata.load()
        if metadata.model is None:
            raise UpstreamUnreachable("neither upstream nor the store has a metadata document")
        authorities = Authorities(store, events.observe, wait_s=settings.cutover.wait_s)
        await authorities.read()
        sets = Sets(store, settings.policies(), events.observe, authorities)
        yield _service(settings, store, upstream, sets, metadata, events, utc_now), metadata.model


async def backfill(
    settings: Settings, names: Sequence[str], report: Callable[[Load], None], *, again: bool
) -> bool:
    """Load these entity sets, or all that are not forwarded; True where all of them are loaded now.

    Raises what `working` raises, and SettingsError for a set that the metadata document does not name.
    """
    async with working(settings) as (service, model):
        if unknown := [name for name in names if name not in model.entity_sets]:
            raise SettingsError([f"{name}: no entity set of the metadata document" for name in unknown])
        named = [model.entity_sets[name] for name in names] or [
            entity_set
            for entity_set in model.entity_sets.values()
            if service.sets.policy(entity_set).mode not in (Mode.FORWARD, Mode.MIRROR)
        ]
        at_once = settings.background.backfill_sets_at_once
        return await Backfill(service, report).run(named, model, at_once=at_once, again=again)


async def serve(settings: Settings, *, ready: Callable[[str, str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. `ready` is called with both URLs once they answer."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as started:
        if ready is not None:
            ready(started.url, started.services_url)
        await stop.wait()


async def _open_store(stack: AsyncExitStack, settings: Settings) -> PostgresStore:
    database_url = settings.database_url
    if not database_url:
        embedded = await asyncio.to_thread(EmbeddedPostgres.start, settings.data_dir)
        stack.push_async_callback(asyncio.to_thread, embedded.stop)
        database_url = embedded.url()
    store = PostgresStore(
        database_url,
        pool_size=settings.database.pool_size,
        connect_timeout_s=settings.database.connect_timeout_s,
        statement_timeout_s=settings.database.statement_timeout_s,
    )
    stack.push_async_callback(store.close)
    await store.open()
    return store


async def _open_upstream(
    stack: AsyncExitStack, settings: Settings, now: Callable[[], datetime]
) -> UpstreamClient:
    parts = urlsplit(settings.upstream.service_root)
    return await stack.enter_async_context(
        UpstreamClient(
            f"{parts.scheme}://{parts.netloc}",
            connections=settings.upstream.connections,
            connect_timeout_s=settings.upstream.connect_timeout_s,
            read_timeout_s=settings.upstream.read_timeout_s,
            reply_limit_bytes=settings.upstream.reply_limit_bytes,
            now=now,
        )
    )


def _metadata(settings: Settings, store: PostgresStore, upstream: UpstreamClient, events: Events) -> Metadata:
    root_path = urlsplit(settings.upstream.service_root).path
    headers = settings.service_headers() or {}
    return Metadata(store, upstream, root_path, headers, store.use_model, events.observe)


def _service(
    settings: Settings,
    store: PostgresStore,
    upstream: UpstreamClient,
    sets: Sets,
    metadata: Metadata,
    events: Events,
    now: Callable[[], datetime],
) -> Service:
    """Background work's hands."""
    background = settings.background
    return Service(
        store,
        Pace(
            upstream, in_flight=background.requests_in_flight, per_second=background.requests_per_s, now=now
        ),
        sets,
        settings.sync_rules(),
        urlsplit(settings.upstream.service_root).path,
        events.observe,
        now,
        settings.service_headers() or {},
        metadata.suspect,
    )


def _all_to(door: Handler) -> Middleware:
    """Gives every request to `door`: routes start with a slash, and the target of `OPTIONS *` does not."""

    @web.middleware
    async def answer(request: web.Request, handler: object) -> web.StreamResponse:
        return await door.handle(request)

    return answer


async def _listen(stack: AsyncExitStack, app: web.Application, address: Address, settings: Settings) -> str:
    runner = web.AppRunner(app, shutdown_timeout=settings.limits.shutdown_s, **server_options())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, reuse_address=True)
    await site.start()
    _, port, *_ = runner.addresses[0]
    return f"http://{Address(address.host, port)}"
