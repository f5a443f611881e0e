"""The driver of reads under the names that new services chose.

They go to the reader of the mirror route, for which a `View` puts the names of models in the place of the
set's own. An entity asked for by its key is first read through the ordinary reader, unless the request says
`only-if-cached`: it is checked as any other. Whatever else a path, a query or an expansion leads to comes
from the mirror alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.models import Mapped, MappedSet, MappingError
from proxy.odata.operation import ReadEntity
from proxy.odata.query_options import parse_query
from proxy.odata.uri import entity_path, parse_resource_path, split_target
from proxy.reconcile.errors import NotInMirror, ReadRefused
from proxy.reconcile.exchange import Answer, Ask, FromMirror, MirrorAsk, Relayed
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.model_view import Models, View
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.policy import Policies, Policy
from proxy.reconcile.ports import Request, Stored, StoreUnavailable
from proxy.reconcile.progress import LifecycleStore
from proxy.reconcile.reader import Reader
from proxy.reconcile.rights import Rights
from proxy.reconcile.sets import Sets
from proxy.reconcile.stamp import Stamp

# What a client of models is told of upstream's answers: its cookies and its caching are the proxy's business.
_TOLD = frozenset({"content-type", "content-encoding", "dataserviceversion", "retry-after"})


class ModelReader:
    """Answers GETs below the models' service root. `now`: aware UTC; `upstream_path`: upstream's root;
    `headers`: by which the proxy says there who it is."""

    def __init__(
        self,
        models: Models,
        reader: Reader,
        sets: Sets,
        observe: Observe,
        now: Callable[[], datetime],
        *,
        upstream_path: str,
        page_limit: int,
        headers: Mapping[str, str],
    ) -> None:
        self._models = models
        self._reader = reader
        self._sets = sets
        self._observe = observe
        self._now = now
        self._page_limit = page_limit
        self._headers = headers
        self.upstream_path = upstream_path
        self.store = models.store

    async def mapped(self, source: Model | None) -> Mapped:
        """The models under upstream's metadata document. Raises NotInMirror and ReadRefused."""
        if source is None:
            raise NotInMirror("No metadata document is known yet.")
        try:
            return await self._models.of(source)
        except MappingError as error:
            problems = "; ".join(error.problems)
            message = f"The models do not go with upstream's metadata document any more: {problems}."
            raise ReadRefused(ODataError(message, status=503)) from error
        except StoreUnavailable as error:
            self._observe(StoreFailed("models", str(error)))
            raise NotInMirror("The mirror's database is not available.") from error

    async def read(self, ask: Ask, root: str, mapped: Mapped) -> Answer:
        """Answer a GET below `root`, scheme and host included. Raises SyncError and UpstreamFailure.

        What the caller may not see is not asked of upstream."""
        path, query = below(ask, root)
        addressed = None if ask.directives.only_if_cached else _entity_in(path, mapped)
        if addressed is None:
            asked = self._from(ask, root, path, query, mapped)
            return await self.mirror_reader(mapped, root).read(asked, mapped.model)
        of, key = addressed
        rights = self.rights(ask.rights, mapped)
        rights.require_read(of.entity_set.name)
        checked = await self.check(of, key, ask, mapped)
        row = self.row_in(checked, of, key)
        if row is None:
            if not rights.sees_all and isinstance(checked, Relayed) and checked.reply.status < 400:
                raise NotInMirror("Upstream's answer cannot be read, so it is not known what it shows.")
            return told(checked)
        reader = self.mirror_reader(mapped, root, {(of.entity_set.name, key): row})
        answer = await reader.read(self._from(ask, root, path, query, mapped), mapped.model)
        age = None if isinstance(checked, Relayed) else checked.age
        return replace(answer, status=checked.status, age=age)

    async def shown(
        self, entity_set: EntitySet, key: EntityKey, row: Stored | None, ask: Ask, root: str, mapped: Mapped
    ) -> FromMirror:
        """An entity that was just written; `row` as upstream showed it, None where only the mirror has it."""
        known = {} if row is None else {(entity_set.name, key): row}
        path = f"/{entity_path(entity_set, key)}"
        reader = self.mirror_reader(mapped, root, known)
        asked = self._from(ask, root, path, None, mapped)
        return replace(await reader.read(asked, mapped.model), age=None)

    def rights(self, rights: Rights, mapped: Mapped) -> Rights:
        """What is shown to a caller with these rights, in the names of the models."""
        sources = {of.source.name for of in mapped.sets.values() if of.source is not None}
        return self._sets.shown_to(rights, sources).under(mapped)

    async def check(self, of: MappedSet, key: EntityKey, ask: Ask, mapped: Mapped) -> Answer:
        """The entity of upstream's that a model maps, read through the ordinary reader."""
        assert of.source is not None
        source_key = of.source_key(key)
        target = f"{self.upstream_path}/{entity_path(of.source, source_key)}"
        operation = ReadEntity(of.source, source_key, parse_query(None))
        return await self._reader.read(operation, self.to_upstream(ask, "GET", target), mapped.source)

    def to_upstream(self, ask: Ask, method: str, target: str, body: str = "") -> Ask:
        """The proxy's own request: what the services listener is told for itself is not for upstream."""
        headers = CIMultiDict({**self._headers, "Accept": "application/json"})
        if body:
            headers["Content-Type"] = "application/json"
        return replace(ask, request=Request(method, target, headers, body.encode()), format="json")

    def row_in(self, answer: Answer, of: MappedSet, key: EntityKey) -> Stored | None:
        """The entity that upstream's set has answered with, as a row; None where it did not.

        Without what is secured: who may see that, only upstream can say (rule 8).
        """
        if isinstance(answer, Relayed) and (answer.cut or answer.reply.status not in (200, 201)):
            return None
        body = answer.reply.body if isinstance(answer, Relayed) else answer.body
        age = 0 if isinstance(answer, Relayed) else answer.age or 0
        try:
            text = body.decode("utf-8-sig")
            sliced = verbose_json.slice_reply(text)
        except (UnicodeDecodeError, ODataError):
            return None
        if sliced.kind != "entity":
            return None
        start, end = sliced.spans[0]
        at = self._now() - timedelta(seconds=age)
        secured = self._sets.secured(of.source) if of.source else frozenset()
        document = verbose_json.null_members(text[start:end], secured)
        return Stored(key, document, Stamp(), b"", settled=True, fetch_number=0, fetched_at=at)

    def _from(self, ask: Ask, root: str, path: str, query: str | None, mapped: Mapped) -> MirrorAsk:
        return MirrorAsk(root, path, query, ask.request.headers, rights=self.rights(ask.rights, mapped))

    def mirror_reader(
        self, mapped: Mapped, root: str, known: Mapping[tuple[str, EntityKey], Stored] | None = None
    ) -> MirrorReader:
        """Reads from the mirror alone, but for the entities `known`."""
        store = cast("LifecycleStore", View(self.store, mapped, root, known or {}))  # as far as reads go
        sets = Sets(store, Policies(Policy(title="")), self._observe)
        root_path = "/" + root.partition("://")[2].partition("/")[2]
        return MirrorReader(
            store, sets, self._observe, self._now, root_path=root_path, page_limit=self._page_limit
        )


def below(ask: Ask, root: str) -> tuple[str, str | None]:
    """The raw path below the models' service root, and the raw query."""
    path, query = split_target(ask.request.target)
    return path[len(root) - len(ask.origin) :], query


def told(answer: Answer) -> Answer:
    """Upstream's answer as clients of models see it."""
    if not isinstance(answer, Relayed):
        return answer
    reply = answer.reply
    headers = CIMultiDict(item for item in reply.headers.items() if item[0].lower() in _TOLD)
    return replace(answer, reply=replace(reply, headers=CIMultiDictProxy(headers)))


def _entity_in(path: str, mapped: Mapped) -> tuple[MappedSet, EntityKey] | None:
    """The entity of upstream's that a path begins with; None also for a path with an error in it."""
    try:
        resource = parse_resource_path(path, mapped.model)
    except ODataError:
        return None
    if resource.entity_set is None or resource.key is None:
        return None
    of = mapped.sets[resource.entity_set.name]
    return None if of.source is None else (of, resource.key)
