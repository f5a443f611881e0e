"""Queries that the mirror answers by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.odata.edm import EntityKey
from proxy.odata.errors import UnsupportedConstruct
from proxy.odata.relationships import Relationship
from proxy.reconcile.ports import Found, Query
from proxy.store.part import Part


class Finding(Part):
    """The part of the port that is about questions."""

    async def find(self, query: Query) -> Found:
        """A page of entities."""
        raise UnsupportedConstruct("The mirror does not answer queries yet.")

    async def count_of(self, query: Query) -> int:
        """How many entities pass the query's filter."""
        raise UnsupportedConstruct("The mirror does not answer queries yet.")

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]:
        """Where a relationship leads from each of these."""
        raise UnsupportedConstruct("The mirror does not answer queries yet.")
