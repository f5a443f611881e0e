"""What background work acts through: the proxy's own identity upstream, and leases in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from multidict import CIMultiDict

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.uri import key_test
from proxy.reconcile.background import cancelled
from proxy.reconcile.exchange import Ask
from proxy.reconcile.mirror import KEYS_PER_REQUEST, Look, Mirror
from proxy.reconcile.observations import LeaseNotKept, Observe, StoreFailed
from proxy.reconcile.policy import SyncRules
from proxy.reconcile.ports import (
    Caller,
    Directives,
    Provenance,
    Reply,
    Request,
    Source,
    StoreUnavailable,
    Upstream,
)
from proxy.reconcile.progress import LeaseLost, LifecycleStore
from proxy.reconcile.sets import Sets

# A process that was killed holds up the others for so long (the lifetime of its lease).
LEASE_S = 8.0


@dataclass(frozen=True, slots=True)
class Service:
    """Background work's hands. `headers`: its login upstream (`[upstream.service]`); `upstream`: paced.

    `store` is the whole store, or under a lease what `held` gives: then every write checks it.
    """

    store: LifecycleStore
    upstream: Upstream
    sets: Sets
    rules: SyncRules
    root_path: str
    observe: Observe
    now: Callable[[], datetime]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    suspect_drift: Callable[[], None] = lambda: None
    on_behalf_of: Ask | None = None

    @property
    def mirror(self) -> Mirror:
        return Mirror(
            self.store,
            self.upstream,
            self.sets,
            self.rules,
            self.root_path,
            self.observe,
            self.suspect_drift,
        )

    @property
    def ask(self) -> Ask:
        """The proxy's own asking, with no client behind it; or `on_behalf_of` the one whose ask that is."""
        if self.on_behalf_of is not None:
            return self.on_behalf_of
        headers = CIMultiDict({**self.headers, "Accept": "application/json"})
        return Ask(Request("GET", self.root_path, headers), "", "json", Caller(), Directives(), "")

    async def get(self, target: str) -> Reply:
        """Raises UpstreamFailure."""
        return await self.upstream.send(self.ask.own_read(target))

    async def look(self, entity_set: EntitySet, key: EntityKey, model: Model) -> Look:
        """Ask for one entity by its own URL. Raises StoreUnavailable, UpstreamFailure."""
        return await self.mirror.fetch_key(entity_set, key, model, self.ask)

    def target_of(self, link: str | None) -> str | None:
        """The raw request target in a link to the next page; blanks that a server left in it are encoded.

        Raises ODataError where it does not lead below the service root.
        """
        if link is None:
            return None
        at = link.lower().find(self.root_path.lower())
        if at < 0:
            raise ODataError("The link to the next page leads elsewhere.")
        return link[at:].replace(" ", "%20")

    def is_gone(self, look: Look, *, was_deleted: bool = False) -> bool:
        """True where upstream told the proxy's own identity, or after a delete of ours, that the entity does
        not exist (rule 11)."""
        return look.fetched is None and self.mirror.is_gone(look.reply, self.ask, was_deleted=was_deleted)

    async def refresh(
        self, entity_set: EntitySet, keys: list[EntityKey], model: Model, source: Source
    ) -> None:
        """Fetch these entities whole and let them into the mirror; what cannot be read counts as stale.

        Raises StoreUnavailable, UpstreamFailure, ODataError where upstream answers none of it.
        """
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            some = keys[start : start + KEYS_PER_REQUEST]
            tests = "%20or%20".join(key_test(entity_set, key) for key in some)
            number = await self.store.next_fetch_number()
            reply = await self.get(f"{self.root_path}/{entity_set.name}?$filter={tests}")
            page = self.mirror.read_page(reply, entity_set, model, number)
            await self.mirror.absorb(entity_set, page.fetched, Provenance(source))
            shown = {state.key for state in page.fetched}
            if unseen := [key for key in some if key not in shown]:
                await self.store.make_stale(entity_set, unseen)

    async def repeat(
        self,
        name: str,
        work: Callable[[Service, Model], Awaitable[None]],
        model: Callable[[], Model | None],
        every_s: float,
        retry_s: float | None = None,
    ) -> None:
        """Do `work` every `every_s` until cancelled, whenever no other process holds the lease `name`.

        `retry_s`: how long to wait before asking for the lease again; `every_s` where not given.
        """
        while True:
            try:
                async with self.held(name) as service:
                    while service is not None:
                        document = model()
                        if document is not None:
                            await work(service, document)
                        await asyncio.sleep(every_s)
            except StoreUnavailable as error:
                self.observe(StoreFailed(name, str(error)))
            await asyncio.sleep(every_s if retry_s is None else retry_s)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[Service | None]:
        """Hold the lease `name`, renewed for as long as the block runs; None: another process has it.

        Raises StoreUnavailable.
        """
        lease = await self.store.acquire_lease(name, LEASE_S)
        if lease is None:
            yield None
            return

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 4)
                with suppress(StoreUnavailable):  # tried again; what is written meanwhile is refused
                    if not await self.store.renew_lease(lease, LEASE_S):
                        self.observe(LeaseNotKept(name))
                        return

        renewing = asyncio.create_task(renew(), name=f"lease {name}")
        try:
            yield replace(self, store=self.store.under(lease))
        except LeaseLost:
            self.observe(LeaseNotKept(name))
        finally:
            await cancelled([renewing])
            with suppress(StoreUnavailable):
                await self.store.release_lease(lease)


async def stay_alive(store: LifecycleStore) -> None:
    """Hold the lease that says this process lives, until cancelled."""
    lease = None
    while True:
        with suppress(StoreUnavailable):
            if lease is None or not await store.renew_lease(lease, LEASE_S):
                lease = await store.acquire_lease(store.holder, LEASE_S)
        await asyncio.sleep(LEASE_S / 4)
