"""What commands work with that stand beside running proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.app.parts import open_parts, service_of, utc_now
from proxy.events import Events
from proxy.metrics import Metrics
from proxy.odata.edm import Model
from proxy.reconcile.backfill import Backfill, Load
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import UpstreamUnreachable
from proxy.reconcile.service import Service
from proxy.settings import Settings, SettingsError
from proxy.tls import Tls


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[tuple[Service, Model]]:
    """What a command needs that works on the mirror beside the running proxies, under the proxy's identity.

    Raises StoreUnavailable, SettingsError without an identity or for certificates that cannot be used,
    UpstreamUnreachable without a metadata document.
    """
    if settings.service_headers() is None:
        raise SettingsError(["upstream.service: not set; background work needs its own identity"])
    async with AsyncExitStack() as stack:
        parts = await open_parts(stack, settings, Events(Metrics()), Tls(settings), utc_now)
        await parts.metadata.load()
        if parts.metadata.model is None:
            raise UpstreamUnreachable("neither upstream nor the store has a metadata document")
        await parts.sets.authorities.read()
        yield service_of(parts), parts.metadata.model


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
