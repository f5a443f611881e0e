"""The running proxy: both listeners, the background, and their orderly end."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import proxy
from proxy.app.listeners import listen, main_app, services_listener
from proxy.app.parts import Parts, callers_drivers, open_parts, own_drivers, service_of, utc_now
from proxy.app.reloading import Reloading
from proxy.authentication import Authenticator
from proxy.caller_settings import problems_with
from proxy.events import Events
from proxy.metrics import Metrics
from proxy.odata.models import MappingError
from proxy.reconcile.authority import Authority
from proxy.reconcile.background import Background, cancelled
from proxy.reconcile.cutover import guard
from proxy.reconcile.keeper import Keeper
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.model_view import Models
from proxy.reconcile.poller import Poller
from proxy.reconcile.service import Service, stay_alive
from proxy.reconcile.settler import Settler
from proxy.reconcile.sweeper import Sweeper
from proxy.settings import Settings, SettingsError, exposed
from proxy.store import PostgresStore
from proxy.tls import Tls
from proxy.upstream.client import UpstreamClient
from proxy.upstream.login import Gate


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where it listens, and the parts that tests look at.

    `reload` reads the configuration again, see `proxy.app.reloading`.
    """

    url: str
    services_url: str
    reload: Callable[[], None]
    store: PostgresStore
    upstream: UpstreamClient
    logins: Sequence[Gate]
    metadata: Metadata
    background: Background
    service: Service
    settler: Settler
    poller: Poller
    sweeper: Sweeper
    metrics: Metrics


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    read: Callable[[], Settings] | None = None,
    now: Callable[[], datetime] = utc_now,
    draw: Callable[[], float] = random.random,
) -> AsyncIterator[Proxy]:
    """Start the proxy; at the end, finish what is under way, then close everything.

    `read` gives the settings that a reload finds, those given where it is None.

    Raises StoreUnavailable where Postgres cannot be had, OSError where an address cannot be listened on,
    SettingsError for certificates that cannot be used, where models or callers do not go with upstream's
    metadata document, and where a listener would be open to strangers. An upstream that is down keeps
    nothing from starting.
    """
    if problems := exposed(settings):
        raise SettingsError(problems)
    metrics = Metrics()
    events = Events(metrics)
    tls = Tls(settings)
    async with AsyncExitStack() as stack:
        parts = await open_parts(stack, settings, events, tls, now)
        metadata, upstream = parts.metadata, parts.upstream
        service = service_of(parts)
        settler = Settler(service, parts.in_flight)
        poller = Poller(service, settings.poll_rules())
        sweeper = Sweeper(service, settings.sweep_rules())
        callers = callers_drivers(parts, draw, None if upstream.own else settler.settle_seen)
        models = await _models(parts)
        authenticator = _authenticator(parts)
        # Where clients log in upstream as themselves, what they say of it is for upstream.
        asks_itself = settings.upstream.auth.mode != "caller"
        nobody = Authenticator({}, events.observe)
        main = main_app(parts, callers, authenticator if asks_itself else nobody)
        tasks = _tasks(parts, service, (settler, poller, sweeper))
        stack.push_async_callback(parts.background.stop)
        stack.push_async_callback(cancelled, tasks)
        own = own_drivers(parts, draw, callers)
        services = services_listener(parts, own, service, models, metrics, authenticator)
        services_url = await listen(stack, services, settings.services_listen, settings, tls)
        url = await listen(stack, main, settings.listen, settings, tls)
        events.proxy_started(
            version=proxy.__version__,
            url=url + parts.root_path,
            services_url=services_url,
            service_root=settings.upstream.service_root,
        )
        yield Proxy(
            url,
            services_url,
            Reloading(settings, read or (lambda: settings), parts, tls, authenticator).reload,
            parts.store,
            upstream.client,
            upstream.gates,
            metadata,
            parts.background,
            service,
            settler,
            poller,
            sweeper,
            metrics,
        )
        events.proxy_stopping(requests_in_flight=len(parts.in_flight))
    events.proxy_stopped()


async def serve(
    settings: Settings,
    *,
    read: Callable[[], Settings] | None = None,
    ready: Callable[[str, str], None] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reloads (`Proxy.reload`).

    `read`: as of `running`. `ready` is called with both URLs once they answer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, read=read) as started:
        loop.add_signal_handler(signal.SIGHUP, started.reload)
        if ready is not None:
            ready(started.url, started.services_url)
        await stop.wait()


async def _models(parts: Parts) -> Models:
    """The models, with the metadata document that is to be had at the start. Raises SettingsError."""
    if parts.upstream.own is None:  # nobody to ask as
        await parts.metadata.load_stored()
    else:
        await parts.metadata.load()
    await parts.sets.authorities.follow([])
    if sets := _without_upstream(parts):
        raise SettingsError([f"upstream.auth.mode: 'caller' cannot be for sets of the mirror's own: {sets}"])
    models = Models(parts.settings.definitions(), parts.store.models())
    try:
        await models.start(parts.metadata.model)
    except MappingError as error:
        raise SettingsError(error.problems) from error
    return models


def _without_upstream(parts: Parts) -> str:
    """The sets whose authority is the mirror, where only upstream knows what callers may see (rule 8)."""
    if not parts.sets.policies.per_caller:
        return ""
    held = parts.sets.authorities.holdings()
    return ", ".join(sorted(each.entity_set for each in held if each.answers is Authority.MIRROR))


def _authenticator(parts: Parts) -> Authenticator:
    """Raises SettingsError where rights name what the metadata document does not have, and for passwords that
    cannot be read."""
    settings = parts.settings
    if wrong := [*problems_with(settings.callers, parts.metadata.model, settings.models)]:
        raise SettingsError(wrong)
    return Authenticator(settings.callers, parts.events.observe)


def _tasks(
    parts: Parts, service: Service, work: Sequence[Settler | Poller | Sweeper]
) -> list[asyncio.Task[None]]:
    """What goes on beside requests; without an identity, what needs none."""
    settings, metadata = parts.settings, parts.metadata
    tasks = [
        asyncio.create_task(stay_alive(parts.store)),
        asyncio.create_task(parts.sets.authorities.watch()),
        asyncio.create_task(guard(service)),
        asyncio.create_task(parts.sets.computed.run(parts.store)),
        asyncio.create_task(Keeper(parts.store, lambda: parts.sets.policies, parts.events.observe).run()),
    ]
    if parts.upstream.own is not None:
        tasks.append(asyncio.create_task(metadata.watch(settings.background.metadata_every_s)))
        if settings.background.enabled:
            tasks += [asyncio.create_task(each.run(lambda: metadata.model)) for each in work]
    return tasks
