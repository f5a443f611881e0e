"""What the mirror holds, as one caller may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.relationships import Relationship
from proxy.reconcile.changes import Event
from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Answers, Found, Query, Stored
from proxy.reconcile.rights import Rights


@dataclass(frozen=True, slots=True)
class Restricted:
    """The store, as far as reads of the mirror's own need it: every question and every document passes here.

    Every method raises RightMissing for what the caller may not ask.
    """

    answers: Answers
    rights: Rights
    model: Model

    async def get(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> Mapping[EntityKey, Stored]:
        self.rights.require_read(entity_set.name)
        held = await self.answers.get(entity_set, keys)
        return {key: self._masked(row, entity_set) for key, row in held.items()}

    async def find(self, query: Query) -> Found:
        self._check(query)
        found = await self.answers.find(query)
        return self._page(found, query.entity_set)

    async def count_of(self, query: Query) -> int:
        self._check(query)
        return await self.answers.count_of(query)

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        self.rights.require_way(relationship)
        found = await self.answers.related(relationship, sources, page)
        return {key: self._page(each, relationship.target) for key, each in found.items()}

    def _check(self, query: Query) -> None:
        self.rights.require_read(query.entity_set.name)
        if query.within is not None:
            self.rights.require_way(query.within.relationship)
        if query.filter is not None:
            self.rights.require_expression(query.filter, query.entity_set)
        for order in query.orderby:
            self.rights.require_expression(order.expression, query.entity_set)

    def _page(self, found: Found, entity_set: EntitySet) -> Found:
        return replace(found, rows=[self._masked(row, entity_set) for row in found.rows])

    def _masked(self, row: Stored, entity_set: EntitySet) -> Stored:
        if row.document is None:
            return row
        return replace(row, document=self.rights.masked(row.document, entity_set, self.model))


def seen_by(rights: Rights, revision: Revision, model: Model | None) -> Revision:
    """A revision of a set that the caller may read, without what is hidden of it.

    A document that cannot be masked (what was posted, by a state that was never seen; a set that the
    metadata document does not know) is left out.
    """
    if revision.entity_set not in rights.properties:
        return revision
    entity_set = None if model is None else model.entity_sets.get(revision.entity_set)
    if entity_set is None or model is None:
        return replace(revision, document=None, changed=None)
    document, changed = revision.document, revision.changed
    if document is not None:
        document = None if revision.unseen else rights.masked(document, entity_set, model)
    if changed is not None:
        changed = tuple(name for name in changed if rights.visible(entity_set, name))
    return replace(revision, document=document, changed=changed)


def event_for(rights: Rights, event: Event, model: Model | None) -> Event:
    """An event of a set that the caller may read, without what is hidden of it."""
    if event.revision is not None:
        return replace(event, revision=seen_by(rights, event.revision, model))
    if event.held is None or event.entity_set not in rights.properties:
        return event
    entity_set = None if model is None else model.entity_sets.get(event.entity_set)
    document = event.held.document
    if entity_set is None or model is None or document is None:
        return replace(event, held=None)
    masked = rights.masked(document, entity_set, model)
    return replace(event, held=replace(event.held, document=masked))
