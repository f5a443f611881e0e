"""A proxy whose mirror holds a whole sandbox, and that the sandbox then leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from world import ATOM, World

from proxy.app import running
from proxy.reconcile.authority import Authority
from proxy.reconcile.backfill import Backfill
from proxy.sandbox import Clock, Sandbox, Switches
from proxy.settings import Settings


def dialect_of(switches: Switches) -> dict[str, Any]:
    """The settings that say what language a sandbox with these switches speaks."""
    return {"dialect.language": switches.language, "dialect.batches": switches.batch == "serve"}


async def load(place: World) -> None:
    """Have the mirror hold every entity, and know the titles of all sets."""
    model = place.proxy.metadata.model
    assert model is not None
    sets = list(model.entity_sets.values())
    loaded = await Backfill(place.proxy.service, lambda _: None).run(sets, model, at_once=3, again=True)
    assert loaded
    for entity_set in sets:
        await place.send(f"{place.proxy_root}/{entity_set.name}", headers=ATOM)
    await place.idle()


async def cut_over(place: World, *names: str) -> None:
    """Make the mirror the authority of these sets, or of all, at once."""
    model = place.proxy.metadata.model
    assert model is not None
    store = place.proxy.store
    held = {each.entity_set: each.epoch for each in await store.holdings()}
    epochs = {name: held.get(name, 0) for name in names or model.entity_sets}
    moved = await store.move_authorities(epochs, Authority.MIRROR, Authority.MIRROR, "a test")
    assert moved is not None
    await place.proxy.service.sets.authorities.read()


@asynccontextmanager
async def loaded_world(
    database_url: str,
    switches: Switches | None = None,
    *,
    rows: int | None = None,
    metadata: bytes | None = None,
    clock: Clock | None = None,
    prepare: Callable[[Sandbox], None] = lambda _: None,
    **settings: Any,
) -> AsyncIterator[tuple[World, Any]]:
    """A world whose mirror is whole, and a function that ends its sandbox's serving.

    `clock`: of both; `prepare` is called before the mirror is filled.
    """
    switches = switches or Switches()
    sandbox = Sandbox(metadata, rows, switches=switches, clock=clock)
    prepare(sandbox)
    serving = sandbox.serve()
    root = await serving.__aenter__()
    is_served = True

    async def switch_off() -> None:
        nonlocal is_served
        is_served = False
        await serving.__aexit__(None, None, None)

    overrides = {
        "listen": "127.0.0.1:0",
        "services_listen": "127.0.0.1:0",
        "database_url": database_url,
        "upstream.service_root": root,
        "upstream.connect_timeout_s": 1.0,
        "background.enabled": False,
        "background.requests_per_s": 1e6,
        **dialect_of(switches),
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    loaded = Settings.load(None, overrides, environment={})
    try:
        async with (
            running(loaded, **({} if clock is None else {"now": clock.now})) as proxy,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        ):
            place = World(sandbox, proxy, session, root)
            await load(place)
            sandbox.journal.clear()
            yield place, switch_off
    finally:
        if is_served:
            await serving.__aexit__(None, None, None)
