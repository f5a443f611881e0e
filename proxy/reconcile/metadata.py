"""The metadata document in use: upstream's own, or the one last seen while upstream does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

from multidict import CIMultiDict

from proxy.odata.csdl import parse_metadata
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError
from proxy.reconcile.exchange import Ask
from proxy.reconcile.observations import MetadataLoaded, MetadataUnusable, Observe
from proxy.reconcile.ports import Request, Store, StoreUnavailable, Upstream, UpstreamFailure

_PAUSE_S = 5.0


class Metadata:
    """Holds the model. Until there is one, nothing is understood and everything is forwarded.

    `adopt` is told of each model before it is used.
    """

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        root_path: str,
        adopt: Callable[[Model], None],
        observe: Observe,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._root_path = root_path
        self._adopt = adopt
        self._observe = observe
        self._digest = b""
        self.model: Model | None = None

    async def load(self, ask: Ask | None = None) -> bool:
        """Read the document from upstream, else from the store. True where it is upstream's.

        `ask`: on whose behalf; None: as the proxy itself.
        """
        target = f"{self._root_path}/$metadata"
        request = ask.own_read(target) if ask else Request("GET", target, CIMultiDict())
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

    async def keep_trying(self) -> None:
        """Load until upstream has given the document."""
        while not await self.load():  # noqa: ASYNC110 (what is waited for happens elsewhere)
            await asyncio.sleep(_PAUSE_S)

    async def see(self, document: bytes) -> bool:
        """Use a document that upstream gave, and keep it for the next start. False: it is unusable."""
        digest = blake2b(document).digest()
        if digest == self._digest:
            return True
        if not await self._use(document, "upstream"):
            return False
        self._digest = digest
        try:
            await self._store.save_metadata(document)
        except StoreUnavailable as error:
            self._observe(MetadataUnusable(f"not kept: {error}"))
        return True

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
