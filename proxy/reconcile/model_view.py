"""The mirror in the names of models: what the store has to give for it, and how it looks to who reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from proxy.odata import verbose_json
from proxy.odata.csdl_writer import write_metadata
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.models import NAMESPACE, Mapped, MappedSet, ModelDefinition, check, derive
from proxy.odata.relationships import Relationship
from proxy.reconcile.ports import Found, Provenance, Query, SetState, Stored


class ModelStore(Protocol):
    """What the mirror holds under the names of models; `proxy.store.models` says more."""

    async def follow(self, mapped: Mapped) -> None: ...

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]: ...

    async def find(self, query: Query) -> Found: ...

    async def count_of(self, query: Query) -> int: ...

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]: ...

    async def kept(
        self, mapped: MappedSet, keys: Sequence[EntityKey]
    ) -> Mapping[EntityKey, Mapping[str, Any]]: ...

    async def keep(
        self,
        mapped: MappedSet,
        key: EntityKey,
        values: Mapping[str, tuple[str, Any]],
        provenance: Provenance,
        *,
        exists: bool | None = None,
    ) -> bool: ...

    async def remove(self, mapped: MappedSet, key: EntityKey, provenance: Provenance) -> bool: ...


class Models:
    """The models in force: the definitions, under upstream's metadata document as it is at the moment."""

    def __init__(self, definitions: Mapping[str, ModelDefinition], store: ModelStore) -> None:
        self._definitions = definitions
        self.store = store
        self._mapped: Mapped | None = None
        self._lock = asyncio.Lock()

    async def start(self, source: Model | None) -> None:
        """Raises MappingError; what needs upstream's document is looked at later where there is none yet."""
        if source is None:
            check(self._definitions)
        else:
            await self.of(source)

    async def of(self, source: Model) -> Mapped:
        """The models under this document, their views made. Raises MappingError and StoreUnavailable."""
        async with self._lock:
            if self._mapped is None or self._mapped.source is not source:
                mapped = derive(self._definitions, source)
                await self.store.follow(mapped)
                self._mapped = mapped
            return self._mapped


@dataclass(frozen=True, slots=True)
class View:
    """The store, as far as reads need it, in the names of models. `known`: entities just checked."""

    store: ModelStore
    mapped: Mapped
    root: str
    known: Mapping[tuple[str, EntityKey], Stored]

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        known = {key: row for key in keys if (row := self.known.get((entity_set.name, key)))}
        unknown = [key for key in keys if key not in known]
        held = dict(await self.store.get(entity_set, unknown)) if unknown else {}
        rows = [*known.values(), *held.values()]
        return {row.key: row for row in await self._named(entity_set, rows)}

    async def find(self, query: Query) -> Found:
        found = await self.store.find(query)
        return replace(found, rows=await self._named(query.entity_set, found.rows))

    async def count_of(self, query: Query) -> int:
        return await self.store.count_of(query)

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        found = await self.store.related(relationship, sources, page)
        rows = {row.key: row for each in found.values() for row in each.rows}
        named = {row.key: row for row in await self._named(relationship.target, list(rows.values()))}
        return {key: replace(each, rows=[named[row.key] for row in each.rows]) for key, each in found.items()}

    async def latest_metadata(self) -> bytes:
        return write_metadata(self.mapped.model, NAMESPACE)

    async def set_state(self, entity_set: EntitySet) -> SetState:
        return SetState()

    async def _named(self, entity_set: EntitySet, rows: Sequence[Stored]) -> list[Stored]:
        """The rows with documents in the model's names."""
        of = self.mapped.sets[entity_set.name]
        kept = await self.store.kept(of, [row.key for row in rows]) if of.own and rows else {}
        named = []
        for row in rows:
            document = row.document
            if document is not None:
                values = of.values(raw_of(row), kept.get(row.key, {}))
                values[of.key.name] = row.key[0][1]
                document = verbose_json.write_entity(values, of.entity_set, self.mapped.model, self.root)
            named.append(replace(row, document=document))
        return named


def raw_of(row: Stored) -> Mapping[str, Any]:
    """The document as parsed JSON, the marks of held origins left out."""
    raw = json.loads((row.document or "{}").replace("\x01", "").replace("\x02", ""))
    assert isinstance(raw, dict)
    return raw
