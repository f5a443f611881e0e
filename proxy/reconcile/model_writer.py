"""The driver of writes under the names that new services chose.

A write is translated and goes through the ordinary writer; what only the mirror keeps is written once
upstream has taken the rest. A model without an entity set is written in the mirror alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntityKey
from proxy.odata.errors import ODataError
from proxy.odata.headers import effective_method
from proxy.odata.media import is_atom
from proxy.odata.models import Mapped, MappedSet
from proxy.odata.operation import CreateEntity, DeleteEntity, MergeEntity
from proxy.odata.uri import ResourcePath, entity_path, parse_resource_path
from proxy.reconcile.background import Background
from proxy.reconcile.errors import ReadRefused, WritesRefused
from proxy.reconcile.exchange import Answer, Ask, FromMirror, Relayed
from proxy.reconcile.model_view import raw_of
from proxy.reconcile.models import ModelReader, below, told
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.ports import Provenance, Source, Stored, StoreUnavailable
from proxy.reconcile.writer import Writer

_ALLOWED = "GET, HEAD, POST, MERGE, PATCH, DELETE"


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a create: the entity, and its URL."""

    shown: FromMirror
    location: str


class ModelWriter:
    """Carries out POST to a model, and MERGE, PATCH and DELETE of its entities."""

    def __init__(self, reader: ModelReader, writer: Writer, background: Background, observe: Observe) -> None:
        self._reader = reader
        self._writer = writer
        self._background = background
        self._observe = observe

    async def write(self, ask: Ask, root: str, mapped: Mapped) -> Answer | Created | None:
        """Carry out a write below `root`, to its end even if the client leaves. None: done, nothing to show.

        Raises SyncError and UpstreamFailure.
        """
        writing = _Writing(self._reader, self._writer, self._observe, ask, root, mapped)
        try:
            return await self._background.finish("model write", writing.carry_out())
        except ODataError as error:
            raise ReadRefused(error, _ALLOWED) from error
        except StoreUnavailable as error:
            self._observe(StoreFailed("write", str(error)))
            raise WritesRefused("The mirror's database is not available: nothing was written.") from error


@dataclass(frozen=True, slots=True)
class _Writing:
    """One write being carried out."""

    reader: ModelReader
    writer: Writer
    observe: Observe
    ask: Ask
    root: str
    mapped: Mapped

    async def carry_out(self) -> Answer | Created | None:
        path = parse_resource_path(below(self.ask, self.root)[0], self.mapped.model)
        method = effective_method(self.ask.request.method, self.ask.request.headers)
        method = "MERGE" if method == "PATCH" else method
        allowed = ("MERGE", "DELETE") if path.key else ("POST",)
        entity_set, key = path.entity_set, path.key
        if entity_set is None or path != ResourcePath(entity_set, key) or method not in allowed:
            message = f"{method} is not answered here: entities are created, merged and deleted."
            raise ODataError(message, status=405)
        of = self.mapped.sets[entity_set.name]
        rights = self.ask.rights.under(self.mapped)
        rights.require_write(entity_set.name)
        posted = {} if method == "DELETE" else self._posted(of)
        for name in posted:
            rights.require_property(entity_set, name)
        if of.own_values(posted):
            self.ask.rights.require_write(f"model/{entity_set.name}")
        if of.source is None:
            return await self._in_mirror(of, method, key, posted)
        return await self._through_upstream(of, method, key, posted)

    def _posted(self, of: MappedSet) -> dict[str, Any]:
        """What is posted, by property. Raises ODataError."""
        entity_type = of.entity_set.entity_type
        content_type = self.ask.request.headers.get("Content-Type")
        parse = atom.parse_entry_body if is_atom(content_type) else verbose_json.parse_posted
        posted = parse(self.ask.request.body, entity_type, self.mapped.model)
        for name in posted.keys() & entity_type.navigation_properties.keys():
            raise ODataError(
                f"'{name}' cannot be written as an entity: '{name}_id' takes its key.", token=name
            )
        return posted

    async def _through_upstream(
        self, of: MappedSet, method: str, key: EntityKey | None, posted: Mapping[str, Any]
    ) -> Answer | Created | None:
        answer = await self._sent(of, method, key, posted)
        if isinstance(answer, Relayed) and not 200 <= answer.reply.status < 300:
            return told(answer)
        if key is not None:
            await self._keep(of, key, posted)
            return None
        row = self.reader.row_in(answer, of, ())
        made = None if row is None else ((of.key.name, of.key.value_in(raw_of(row))),)
        await self._keep(of, made, posted)
        if row is None or made is None:
            return told(answer) if self.reader.rights(self.ask.rights, self.mapped).sees_all else None
        return await self._created(of, made, replace(row, key=made), answer)

    async def _sent(
        self, of: MappedSet, method: str, key: EntityKey | None, posted: Mapping[str, Any]
    ) -> Answer:
        """What upstream says to the part of a write that is for it."""
        assert of.source is not None
        write, source = self.writer.write, self.mapped.source
        body = "" if method == "DELETE" else of.source_body(posted, source, new=key is None)
        if key is None:
            target = f"{self.reader.upstream_path}/{of.source.name}"
            ask = self.reader.to_upstream(self.ask, method, target, body or "{}")
            return await write(CreateEntity(of.source), ask, source)
        if method == "MERGE" and not body:  # nothing to change there; but it knows whether the entity exists
            return await self.reader.check(of, key, self.ask, self.mapped)
        source_key = of.source_key(key)
        target = f"{self.reader.upstream_path}/{entity_path(of.source, source_key)}"
        ask = self.reader.to_upstream(self.ask, method, target, body)
        kind = DeleteEntity if method == "DELETE" else MergeEntity
        return await write(kind(of.source, source_key), ask, source)

    async def _keep(self, of: MappedSet, key: EntityKey | None, posted: Mapping[str, Any]) -> None:
        """Write what only the mirror keeps, now that upstream has taken the rest. Raises ReadRefused."""
        kept = of.own_values(posted)
        if not kept:
            return
        named = of.entity_set.name if key is None else entity_path(of.entity_set, key)
        try:
            if key is not None:
                await self.reader.store.keep(of, key, kept, self._provenance())
                return
        except StoreUnavailable as error:
            self.observe(StoreFailed("write", str(error)))
        names = ", ".join(each.name for each in of.own if each.name in posted)
        message = f"Upstream has taken the write of {named}; what only the mirror keeps ({names}) was not"
        raise ReadRefused(ODataError(f"{message} written: merge it once more.", status=503))

    async def _in_mirror(
        self, of: MappedSet, method: str, key: EntityKey | None, posted: Mapping[str, Any]
    ) -> Created | None:
        """A write of an entity that only the mirror has. Raises ODataError and StoreUnavailable."""
        store, kept = self.reader.store, of.own_values(posted)
        if key is None:
            key = ((of.key.name, posted.get(of.key.name) or uuid.uuid4()),)
            if not await store.keep(of, key, kept, self._provenance(), exists=False):
                raise ODataError(f"{entity_path(of.entity_set, key)} exists already.", status=409)
            return await self._created(of, key, None, None)
        if method == "DELETE":
            found = await store.remove(of, key, self._provenance())
        else:
            found = await store.keep(of, key, kept, self._provenance(), exists=True)
        if not found:
            raise ODataError(f"Resource not found: {entity_path(of.entity_set, key)}.", status=404)
        return None

    async def _created(
        self, of: MappedSet, key: EntityKey, row: Stored | None, answer: Answer | None
    ) -> Created:
        shown = await self.reader.shown(of.entity_set, key, row, self.ask, self.root, self.mapped)
        if answer is not None:
            shown = replace(shown, status=answer.status)
        return Created(shown, f"{self.root}/{entity_path(of.entity_set, key)}")

    def _provenance(self) -> Provenance:
        return self.ask.provenance(Source.CLIENT_WRITE)
