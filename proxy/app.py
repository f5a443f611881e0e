"""The wiring: the only module that knows both sides of a port.

`running` starts everything and gives the running proxy; `serve` keeps it until a signal ends it.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

import proxy
from proxy.events import Events
from proxy.handlers import Handler
from proxy.metrics import Metrics
from proxy.middleware import canonical_line
from proxy.passthrough import drop_added_headers, server_options
from proxy.reconcile.background import Background, cancelled
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.observations import LoggedIn, LoginFailed
from proxy.reconcile.reader import Reader
from proxy.reconcile.sets import Sets
from proxy.reconcile.sweeper import Sweeper
from proxy.reconcile.writer import Writer
from proxy.responses import Responses
from proxy.services import services_app
from proxy.settings import Address, Settings, SettingsError
from proxy.store import PostgresStore
from proxy.store.embedded import EmbeddedPostgres
from proxy.tls import Tls
from proxy.upstream.client import UpstreamClient
from proxy.upstream.login import LOGIN_MODES, AnyClient, Gate, logged_in
from proxy.upstream.login.web import Web


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where it listens, and the parts that tests look at.

    `reload` reads certificates again, for connections to come, and lets refused passwords be tried again.
    """

    url: str
    services_url: str
    reload: Callable[[], None]
    store: PostgresStore
    upstream: UpstreamClient
    logins: Sequence[Gate]
    metadata: Metadata
    background: Background
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

    Raises SettingsError for certificates that cannot be used, StoreUnavailable where Postgres cannot be had,
    OSError where an address cannot be listened on. An upstream that is down keeps nothing from starting.
    """
    parts = urlsplit(settings.upstream.service_root)
    upstream_origin, root_path = f"{parts.scheme}://{parts.netloc}", parts.path
    rules = settings.sync_rules()
    metrics = Metrics()
    events = Events(metrics)
    tls = Tls(settings)
    async with AsyncExitStack() as stack:
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
        client = await stack.enter_async_context(
            UpstreamClient(
                upstream_origin,
                connections=settings.upstream.connections,
                connect_timeout_s=settings.upstream.connect_timeout_s,
                read_timeout_s=settings.upstream.read_timeout_s,
                reply_limit_bytes=settings.upstream.reply_limit_bytes,
                now=now,
                tls=tls.upstream,
            )
        )
        upstream, own, gates = await _identities(stack, settings, client, events, tls)
        background = Background(events.observe)
        sets = Sets(store, settings.policies(), events.observe)
        mirror = Mirror(store, upstream, sets, rules, root_path, events.observe)
        feeder = Feeder(mirror, upstream, background, events.observe)
        writer = Writer(mirror, upstream, feeder, background, events.observe, now)
        metadata = Metadata(store, own or upstream, root_path, store.use_model, events.observe)
        grace_s = settings.upstream.read_timeout_s + settings.upstream.connect_timeout_s
        own_rules = replace(rules, per_caller=False)
        own_mirror = Mirror(store, own, sets, own_rules, root_path, events.observe) if own else mirror
        sweeper = Sweeper(own_mirror, writer.in_flight, events.observe, now, grace_s=grace_s)
        settle = None if own else sweeper.settle_seen
        reader = Reader(mirror, upstream, feeder, events.observe, now, draw, settle)
        handler = Handler(
            reader,
            writer,
            metadata,
            upstream,
            Responses(root_path, upstream_origin),
            root_path=root_path,
            upstream_origin=upstream_origin,
            public_origin=settings.public_origin,
            body_limit_bytes=settings.limits.request_body_bytes,
            learns_from_callers=own is None,
            logs_in=upstream is not client,
        )
        tasks = []
        if own is None:  # nobody to ask as
            await metadata.load_stored()
        else:
            if not await metadata.load():
                tasks.append(asyncio.create_task(metadata.keep_trying()))
            tasks.append(asyncio.create_task(sweeper.run(lambda: metadata.model)))
        stack.push_async_callback(background.drain)
        stack.push_async_callback(cancelled, tasks)
        services = services_app(store, metadata, metrics)
        services_url = await _listen(stack, services, settings.services_listen, settings, tls)
        main = web.Application(middlewares=[canonical_line(events), _all_to(handler)])
        main.on_response_prepare.append(drop_added_headers)
        url = await _listen(stack, main, settings.listen, settings, tls)
        events.proxy_started(
            version=proxy.__version__,
            url=url + root_path,
            services_url=services_url,
            service_root=settings.upstream.service_root,
        )

        def reload() -> None:
            problems: Sequence[str] = ()
            try:
                tls.reload()
            except SettingsError as error:
                problems = error.problems
            for gate in gates:
                gate.forget()
            events.proxy_reloaded(problems=problems)

        yield Proxy(url, services_url, reload, store, client, gates, metadata, background, sweeper, metrics)
        events.proxy_stopping(requests_in_flight=len(writer.in_flight))
    events.proxy_stopped()


async def _identities(
    stack: AsyncExitStack, settings: Settings, client: UpstreamClient, events: Events, tls: Tls
) -> tuple[AnyClient, AnyClient | None, list[Gate]]:
    """Upstream as clients' requests see it, as the proxy itself does (None: not at all), and the logins."""
    auth, service = settings.upstream.auth, settings.upstream.service
    login = service if auth.mode == "caller" else auth
    if login is None or login.mode not in LOGIN_MODES:
        return client, None if auth.mode == "caller" else client, []
    origins = (client.origin, *login.login_origins, *filter(None, [login.token_url]))
    identity, gate = logged_in(
        client,
        await stack.enter_async_context(Web(origins, tls.upstream)),
        login.mode,
        root_path=urlsplit(settings.upstream.service_root).path,
        user=login.user,
        password=login.read_password,
        connections=settings.upstream.connections,
        token_url=login.token_url,
        scope=login.scope,
        home_realm=login.home_realm,
        notice=lambda problem: events.observe(LoginFailed(problem) if problem else LoggedIn()),
    )
    return client if auth.mode == "caller" else identity, identity, [gate]


async def serve(settings: Settings, *, ready: Callable[[str, str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reloads (`Proxy.reload`).

    `ready` is called with both URLs once they answer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as started:
        loop.add_signal_handler(signal.SIGHUP, started.reload)
        if ready is not None:
            ready(started.url, started.services_url)
        await stop.wait()


def _all_to(door: Handler) -> Middleware:
    """Gives every request to `door`: routes start with a slash, and the target of `OPTIONS *` does not."""

    @web.middleware
    async def answer(request: web.Request, handler: object) -> web.StreamResponse:
        return await door.handle(request)

    return answer


async def _listen(
    stack: AsyncExitStack, app: web.Application, address: Address, settings: Settings, tls: Tls
) -> str:
    runner = web.AppRunner(app, shutdown_timeout=settings.limits.shutdown_s, **server_options())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, reuse_address=True, ssl_context=tls.listeners)
    await site.start()
    _, port, *_ = runner.addresses[0]
    return f"{'http' if tls.listeners is None else 'https'}://{Address(address.host, port)}"
