"""Held entities with the names that what they refer to bears now.

A lookup shows the name of the entity that it holds. Upstream shows the present one; a document keeps the one
of its own day, since a rename is one stored record and not a million (rule 10). Where the mirror is the
authority nobody can be asked for a newer document, so the names are put right as it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationship, is_reference, logical_name
from proxy.reconcile.local_store import NamedAnswers
from proxy.reconcile.ports import Found, Query, Stored
from proxy.reconcile.sets import Sets

# Where the name of an entity usually stands, until it is learned which property upstream shows as its title.
_USUAL = ("FullName", "Name", "Subject", "Title")

Reference = tuple[str, str]  # logical name and id, as documents write them


class CurrentNames:
    """The store's answers to reads, with names put right. Raises what `Store` raises."""

    def __init__(self, store: NamedAnswers, sets: Sets, model: Model) -> None:
        self._store = store
        self._sets = sets
        self._model = model
        self._by_logical_name = {logical_name(each): each for each in model.entity_sets.values()}

    async def get(self, entity_set: EntitySet, key: EntityKey) -> Stored | None:
        """The entity; None where there is none."""
        held = (await self._store.get(entity_set, [key])).get(key)
        if held is None or held.document is None:
            return None
        ((row,),) = (await self._named(entity_set, [held]),)
        return row

    async def find(self, query: Query) -> Found:
        found = await self._store.find(query)
        return replace(found, rows=await self._named(query.entity_set, found.rows))

    async def count_of(self, query: Query) -> int:
        return await self._store.count_of(query)

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        found = await self._store.related(relationship, sources, page)
        rows = {row.key: row for each in found.values() for row in each.rows}
        named = dict(zip(rows, await self._named(relationship.target, list(rows.values())), strict=True))
        return {key: replace(each, rows=[named[row.key] for row in each.rows]) for key, each in found.items()}

    async def title(self, entity_set: EntitySet) -> str:
        """The property that Atom titles and lookups show; "" for none."""
        known = await self._sets.title(entity_set)
        if known is not None:
            return known
        properties = entity_set.entity_type.properties
        return next((name for name in _USUAL if name in properties), "")

    async def names(self, references: Iterable[Reference]) -> Mapping[Reference, str]:
        """The JSON text of the name of each of these; left out where the mirror does not hold it."""
        wanted: dict[str, list[str]] = {}
        for logical, identity in dict.fromkeys(references):
            wanted.setdefault(logical, []).append(identity)
        found: dict[Reference, str] = {}
        for logical, identities in wanted.items():
            target = self._by_logical_name.get(logical)
            if target is None or len(target.entity_type.key) != 1:
                continue
            title = await self.title(target)
            (part,) = target.entity_type.key
            declared = PRIMITIVES[target.entity_type.properties[part].type]
            keys: dict[EntityKey, str] = {
                ((part, declared.from_json(identity)),): identity for identity in identities
            }
            for key, row in (await self._store.get(target, list(keys))).items():
                if row.document is not None:
                    text = verbose_json.value_at(row.document, (title,)) if title else None
                    found[logical, keys[key]] = text or "null"
        return found

    async def _named(self, entity_set: EntitySet, rows: Sequence[Stored]) -> list[Stored]:
        lookups = [each.name for each in entity_set.entity_type.properties.values() if is_reference(each)]
        if not lookups or not rows:
            return list(rows)
        last = await self._store.last_rename()
        doubted = {
            row.key: _references(row.document or "", lookups) for row in rows if row.fetch_number < last
        }
        if not doubted:
            return list(rows)
        asked = (reference for held in doubted.values() for reference, _ in held.values())
        names = await self.names(asked)
        return [_renamed(row, doubted[row.key], names) if row.key in doubted else row for row in rows]


def _references(document: str, lookups: Sequence[str]) -> dict[str, tuple[Reference, dict[str, Any]]]:
    """What the lookups hold, by their names; those that hold nothing are left out."""
    found = {}
    for name in lookups:
        value = json.loads(verbose_json.value_at(document, (name,)) or "null")
        if value and value.get("Id") and value.get("LogicalName"):
            found[name] = ((value["LogicalName"], value["Id"]), value)
    return found


def _renamed(
    row: Stored,
    held: Mapping[str, tuple[Reference, dict[str, Any]]],
    names: Mapping[Reference, str],
) -> Stored:
    document = row.document or ""
    changed = {}
    for lookup, (reference, value) in held.items():
        text = names.get(reference)
        if text is not None and json.loads(text) != value.get("Name"):
            shown = verbose_json.value_at(document, (lookup,)) or ""
            changed[lookup] = verbose_json.put_members(shown, {"Name": text})
    return replace(row, document=verbose_json.put_members(document, changed)) if changed else row
