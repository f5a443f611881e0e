"""The parts that the proxy and its commands are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast
from urllib.parse import urlsplit
from uuid import UUID

from proxy.events import Events
from proxy.reconcile.authority import Authorities
from proxy.reconcile.background import Background
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.local_batch import LocalBatches
from proxy.reconcile.local_reader import LocalReader
from proxy.reconcile.local_service import LocalService
from proxy.reconcile.local_writer import LocalWriter
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.observations import LoggedIn, LoginFailed, Observe
from proxy.reconcile.pace import Pace
from proxy.reconcile.reader import Reader, Settle
from proxy.reconcile.sending import Sender
from proxy.reconcile.service import Service
from proxy.reconcile.sets import Sets
from proxy.reconcile.writer import Writer
from proxy.setting_tables import LoginSettings
from proxy.settings import Settings
from proxy.store import PostgresStore
from proxy.store.embedded import EmbeddedPostgres
from proxy.tls import Tls
from proxy.upstream.client import UpstreamClient
from proxy.upstream.login import LOGIN_MODES, AnyClient, Gate, Mode, logged_in
from proxy.upstream.login.web import Web


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Identities:
    """Upstream as it is seen: by `client`, as who it is told to be; by `callers`, on behalf of clients; by
    `own`, as the proxy itself (None: it is nobody there). `gates`: what the proxy's logins go through."""

    client: UpstreamClient
    callers: AnyClient
    own: AnyClient | None
    gates: Sequence[Gate] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """What drivers are made of. `in_flight`: the intents that this process is working on."""

    settings: Settings
    store: PostgresStore
    upstream: Identities
    sets: Sets
    metadata: Metadata
    local: LocalService
    events: Events
    background: Background
    now: Callable[[], datetime]
    in_flight: set[int] = field(default_factory=set)

    @property
    def root_path(self) -> str:
        """The path of upstream's service root, which is ours too."""
        return urlsplit(self.settings.upstream.service_root).path

    @property
    def upstream_origin(self) -> str:
        parts = urlsplit(self.settings.upstream.service_root)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class Drivers:
    """What carries out requests under one identity upstream."""

    mirror: Mirror
    feeder: Feeder
    reader: Reader
    sender: Sender
    writer: Writer


async def open_parts(
    stack: AsyncExitStack, settings: Settings, events: Events, tls: Tls, now: Callable[[], datetime]
) -> Parts:
    """Raises StoreUnavailable; that upstream is down is nothing to be told here."""
    store = await _open_store(stack, settings)
    upstream = await _open_upstream(stack, settings, events, tls, now)
    metadata = Metadata(
        store,
        upstream.own or upstream.client,
        urlsplit(settings.upstream.service_root).path,
        settings.service_headers() or {},
        store.use_model,
        events.observe,
    )
    authorities = Authorities(store, events.observe, wait_s=settings.cutover.wait_s)
    sets = Sets(store, settings.policies(), events.observe, authorities)
    local = local_service(settings, store, sets, events.observe, now)
    return Parts(settings, store, upstream, sets, metadata, local, events, Background(events.observe), now)


def local_service(
    settings: Settings, store: PostgresStore, sets: Sets, observe: Observe, now: Callable[[], datetime]
) -> LocalService:
    """Upstream's endpoint for what was cut over."""
    root_path, spoken = urlsplit(settings.upstream.service_root).path, settings.spoken()
    reader = LocalReader(store, sets, spoken, now, root_path=root_path)
    user = UUID(settings.dialect.user) if settings.dialect.user else None
    writer = LocalWriter(store, sets, reader, settings.sync_rules(), now, root_path=root_path, user=user)
    return LocalService(
        reader,
        writer,
        LocalBatches(reader, writer, spoken),
        sets.authorities,
        observe,
        now,
        root_path=root_path,
        server_headers=settings.dialect.headers,
    )


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
    stack: AsyncExitStack, settings: Settings, events: Events, tls: Tls, now: Callable[[], datetime]
) -> Identities:
    parts = urlsplit(settings.upstream.service_root)
    client = await stack.enter_async_context(
        UpstreamClient(
            f"{parts.scheme}://{parts.netloc}",
            connections=settings.upstream.connections,
            connect_timeout_s=settings.upstream.connect_timeout_s,
            read_timeout_s=settings.upstream.read_timeout_s,
            reply_limit_bytes=settings.upstream.reply_limit_bytes,
            now=now,
            tls=tls.upstream,
        )
    )
    auth, service = settings.upstream.auth, settings.upstream.service
    if auth.mode == "caller":
        if service.mode in LOGIN_MODES:
            identity, gate = await _logged_in(stack, settings, service, client, events, tls)
            return Identities(client, client, identity, [gate])
        return Identities(client, client, client if settings.service_headers() else None)
    if auth.mode == "service":
        return Identities(client, client, client)
    identity, gate = await _logged_in(stack, settings, auth, client, events, tls)
    return Identities(client, identity, identity, [gate])


async def _logged_in(
    stack: AsyncExitStack,
    settings: Settings,
    login: LoginSettings,
    client: UpstreamClient,
    events: Events,
    tls: Tls,
) -> tuple[AnyClient, Gate]:
    origins = (client.origin, *login.login_origins, *filter(None, [login.token_url]))
    return logged_in(
        client,
        await stack.enter_async_context(Web(origins, tls.upstream)),
        cast(Mode, login.mode),
        root_path=urlsplit(settings.upstream.service_root).path,
        user=login.user,
        password=login.read_password,
        connections=settings.upstream.connections,
        token_url=login.token_url,
        scope=login.scope,
        home_realm=login.home_realm,
        notice=lambda problem: events.observe(LoginFailed(problem) if problem else LoggedIn()),
    )


def callers_drivers(parts: Parts, draw: Callable[[], float], settle: Settle | None) -> Drivers:
    """Those of the main listener, where each caller may be somebody else to upstream."""
    return _drivers(parts, parts.upstream.callers, draw, settle, is_own=False)


def own_drivers(parts: Parts, draw: Callable[[], float], callers: Drivers) -> Drivers:
    """Those of the services listener, whose clients upstream does not know: the proxy asks as itself."""
    own = parts.upstream.own
    if own is None or (own is parts.upstream.callers and not parts.settings.sync_rules().per_caller):
        return callers
    return _drivers(parts, own, draw, None, is_own=True)


def _drivers(
    parts: Parts, upstream: AnyClient, draw: Callable[[], float], settle: Settle | None, *, is_own: bool
) -> Drivers:
    rules, observe, now = parts.settings.sync_rules(), parts.events.observe, parts.now
    if is_own:
        rules = replace(rules, per_caller=False)
    mirror = Mirror(
        parts.store, upstream, parts.sets, rules, parts.root_path, observe, parts.metadata.suspect
    )
    feeder = Feeder(mirror, parts.background, observe, parts.store)
    sender = Sender(mirror, upstream, observe, parts.in_flight)
    return Drivers(
        mirror,
        feeder,
        Reader(mirror, upstream, feeder, observe, now, draw, settle, parts.local.answer),
        sender,
        Writer(mirror, upstream, sender, feeder, parts.background, now, parts.local.write),
    )


def service_of(parts: Parts) -> Service:
    """Background work's hands."""
    settings = parts.settings
    own = parts.upstream.own
    rules = settings.sync_rules()
    return Service(
        parts.store,
        Pace(
            own or parts.upstream.client,
            in_flight=settings.background.requests_in_flight,
            per_second=settings.background.requests_per_s,
            now=parts.now,
        ),
        parts.sets,
        replace(rules, per_caller=False) if own else rules,
        parts.root_path,
        parts.events.observe,
        parts.now,
        settings.service_headers() or {},
        parts.metadata.suspect,
    )
