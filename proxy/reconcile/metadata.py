"""The metadata document in use: upstream's own, or the one last seen while upstream does not answer.

It may change while the proxy runs: it is read again on a schedule, and as soon as an entity shows other
properties than it declares. Every version is kept; the mirror's tables grow with it (`store.tables`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b

from multidict import CIMultiDict

from proxy.odata.csdl import parse_metadata
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError
from proxy.reconcile.exchange import Ask
from proxy.reconcile.observations import MetadataChanged, MetadataLoaded, MetadataUnusable, Observe
from proxy.reconcile.ports import Request, Store, StoreUnavailable, Upstream, UpstreamFailure

_PAUSE_S = 5.0  # between attempts while there is none of upstream's
_REST_S = 60.0  # an upstream whose entities never fit its document is not asked for it all the time


class Metadata:
    """Holds the model. Until there is one, nothing is understood and everything is forwarded.

    `headers`: the proxy's own login upstream. `adopt` is told of each model before it is used.
    """

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        root_path: str,
        headers: Mapping[str, str],
        adopt: Callable[[Model], None],
        observe: Observe,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._root_path = root_path
        self._headers = headers
        self._adopt = adopt
        self._observe = observe
        self._digest = b""
        self._suspected = asyncio.Event()
        self.model: Model | None = None

    async def load(self, ask: Ask | None = None) -> bool:
        """Read the document from upstream, else from the store. True where it is upstream's.

        `ask`: on whose behalf; None: as the proxy itself.
        """
        self._suspected.clear()
        target = f"{self._root_path}/$metadata"
        request = ask.own_read(target) if ask else Request("GET", target, CIMultiDict(self._headers))
        headers = CIMultiDict(request.headers)
        headers["Accept"] = "application/xml"
        request = replace(request, headers=headers)
        try:
            reply = await self._upstream.send(request)
            if reply.status == 200 and await self.see(reply.body):
                return True
            self._observe(MetadataUnusable(f"upstream answered {reply.status} {reply.media_type}"))
        except UpstreamFailure as error:
            self._observe(MetadataUnusable(f"upstream: {type(error).__name__}"))
        if self.model is None:
            await self.load_stored()
        return False

    @property
    def is_wanted(self) -> bool:
        """True where there is no document, or one that an entity does not fit."""
        return self.model is None or self._suspected.is_set()

    def suspect(self) -> None:
        """An entity does not fit the document: there may be a newer one."""
        self._suspected.set()

    async def watch(self, every_s: float) -> None:
        """Read the document again whenever that is due or suspected, until cancelled."""
        while True:
            wait_s = every_s if self._digest else _PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._suspected.wait()
            is_suspected = self._suspected.is_set()
            await self.load()
            if is_suspected:
                await asyncio.sleep(_REST_S)

    async def see(self, document: bytes) -> bool:
        """Use a document that upstream gave, and keep it for the next start. False: it is unusable."""
        digest = blake2b(document).digest()
        if digest == self._digest:
            return True
        before = self.model or await self._stored_model()
        if not await self._use(document, "upstream"):
            return False
        self._digest = digest
        if before is not None and self.model is not None:
            old, new = _properties(before), _properties(self.model)
            if old != new:
                self._observe(MetadataChanged(len(new - old), len(old - new)))
        try:
            await self._store.save_metadata(document)
        except StoreUnavailable as error:
            self._observe(MetadataUnusable(f"not kept: {error}"))
        return True

    async def _stored_model(self) -> Model | None:
        with suppress(StoreUnavailable, ODataError):
            document = await self._store.latest_metadata()
            return await asyncio.to_thread(parse_metadata, document) if document else None
        return None

    async def load_stored(self) -> None:
        """Use the document last seen, where there is one."""
        try:
            document = await self._store.latest_metadata()
        except StoreUnavailable as error:
            self._observe(MetadataUnusable(f"store: {error}"))
            return
        if document is not None:
            await self._use(document, "store")

    async def _use(self, document: bytes, source: str) -> bool:
        try:
            model = await asyncio.to_thread(parse_metadata, document)
        except ODataError as error:
            self._observe(MetadataUnusable(error.message))
            return False
        self._adopt(model)
        self.model = model
        self._observe(MetadataLoaded(source, len(self.model.entity_sets)))
        return True


def _properties(model: Model) -> set[tuple[str, str, str]]:
    """Every property of every entity set, with its type."""
    return {
        (entity_set.name, declared.name, declared.type)
        for entity_set in model.entity_sets.values()
        for declared in entity_set.entity_type.properties.values()
    }
