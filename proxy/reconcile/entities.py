"""Held entities as JSON text, with what is expanded inside them, in their documents' own bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from proxy.odata import verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError, UnsupportedConstruct
from proxy.odata.projection import Projection
from proxy.odata.relationships import Relationship, Relationships
from proxy.odata.uri import entity_path
from proxy.reconcile.ports import Found, Stored

# Where a client does not say how many: upstream's own page (field manual, 4.1), of expanded entities too.
PAGE = 50
# Characters of the documents that one reply may need, and of what is put together from them.
REPLY_LIMIT = 256 * 1024 * 1024
_NOTHING = Found(())


class Relating(Protocol):
    """The part of the store that tells where relationships lead."""

    async def related(
        self, relationship: Relationship, sources: Sequence[EntityKey], page: int
    ) -> Mapping[EntityKey, Found]: ...


def own_token(entity_set: EntitySet, page: Found) -> str | None:
    """The store's own skip token for what follows a page."""
    return page.next


class Entities:
    """The entities of one reply. `root`: the service root as the client wrote it; `page_limit`: entities that
    one statement may bring; `kept`: raw options that stay in next links of what is expanded. `token`: what
    such a link says of the page before it; `is_whole`: what is not held does not exist. `shown`: those that
    the reply shows so far."""

    def __init__(
        self,
        store: Relating,
        model: Model,
        relationships: Relationships,
        root: str,
        page_limit: int,
        kept: Sequence[str] = (),
        *,
        token: Callable[[EntitySet, Found], str | None] = own_token,
        is_whole: bool = False,
    ) -> None:
        self._token = token
        self._is_whole = is_whole
        self._store = store
        self._kept = kept
        self._model = model
        self._relationships = relationships
        self._root = root
        self._page_limit = page_limit
        self._characters_left = REPLY_LIMIT
        self.shown: list[tuple[EntitySet, Stored]] = []

    def relationship(self, entity_set: EntitySet, name: str) -> Relationship:
        """Raises UnsupportedConstruct for a navigation property that leads to no entity set."""
        relationship = self._relationships.of(entity_set, name)
        if relationship is None:
            raise UnsupportedConstruct(f"The navigation property '{name}' is bound to no entity set.")
        return relationship

    def show(self, rows: Sequence[Stored], entity_set: EntitySet) -> None:
        """Note that the reply shows these. Raises ODataError over REPLY_LIMIT."""
        self.shown += ((entity_set, row) for row in rows)
        self._spend(sum(len(row.document or "") for row in rows))

    def _spend(self, characters: int) -> None:
        self._characters_left -= characters
        if self._characters_left < 0:
            raise ODataError(
                f"The reply would be larger than the limit of {REPLY_LIMIT >> 20} MiB: ask for a shorter"
                " page, or expand less."
            )

    async def texts(
        self,
        rows: Sequence[Stored],
        entity_set: EntitySet,
        projection: Projection,
        select: Sequence[str] | None,
    ) -> list[str]:
        """The entities' objects; `select` is what they show, None for all, with `projection`'s expansions.

        Raises ODataError over REPLY_LIMIT, and as `Store.related`.
        """
        self.show(rows, entity_set)
        inlined: list[dict[str, str]] = [{} for _ in rows]
        for name, below in projection.expanded.items():
            texts = await self._expanded(rows, self.relationship(entity_set, name), below)
            for row, into in zip(rows, inlined, strict=True):
                if row.key in texts:
                    into[name] = texts[row.key]
                    self._spend(len(texts[row.key]))
        return [
            verbose_json.entity_from_document(
                row.document or "", entity_set.entity_type, self._model, select=select, inlined=into
            )
            for row, into in zip(rows, inlined, strict=True)
        ]

    async def _expanded(
        self, rows: Sequence[Stored], relationship: Relationship, below: Projection
    ) -> Mapping[EntityKey, str]:
        """What a relationship leads to, by the key of the entity that it starts from.

        An entity that names a target which the mirror does not hold is left out: null would be a lie.
        """
        found = await self._related(rows, relationship)
        targets = {row.key: row for page in found.values() for row in page.rows}
        written = await self.texts(list(targets.values()), relationship.target, below, below.select)
        texts = dict(zip(targets, written, strict=True))
        expanded: dict[EntityKey, str] = {}
        for row in rows:
            page = found.get(row.key, _NOTHING)
            members = [texts[target.key] for target in page.rows]
            if relationship.many:
                self._spend(sum(map(len, members)))
                next_link = self._next_link(row.key, relationship, below, page)
                expanded[row.key] = verbose_json.write_collection(members, next_link)
            elif members or self._is_whole or not names_target(row, relationship):
                expanded[row.key] = members[0] if members else "null"
        return expanded

    async def _related(self, rows: Sequence[Stored], relationship: Relationship) -> Mapping[EntityKey, Found]:
        """The first page for each row, in as few statements as the page limit allows."""
        sources = list({row.key: None for row in rows})
        at_once = max(1, self._page_limit // PAGE) if relationship.many else self._page_limit
        found: dict[EntityKey, Found] = {}
        for start in range(0, len(sources), at_once):
            pages = await self._store.related(relationship, sources[start : start + at_once], PAGE)
            self._spend(sum(len(row.document or "") for page in pages.values() for row in page.rows))
            found.update(pages)
        return found

    def _next_link(
        self, key: EntityKey, relationship: Relationship, below: Projection, page: Found
    ) -> str | None:
        token = self._token(relationship.target, page)
        if token is None:
            return None
        path = f"{entity_path(relationship.source, key)}/{relationship.name}"
        return f"{self._root}/{path}?{'&'.join((*self._kept, *below.query(), f'$skiptoken={token}'))}"


def names_target(row: Stored, relationship: Relationship) -> bool:
    """True where the entity itself says that the relationship leads to a target."""
    document = row.document or ""
    values = [verbose_json.value_at(document, near) for near, _ in relationship.ties]
    if relationship.kind != "lookup" or any(value in (None, "null") for value in values):
        return False
    kind = verbose_json.value_at(document, (relationship.lookup, "LogicalName"))
    # A lookup of several types holds one of them, and each has a navigation property of its own.
    return not relationship.logical_name or kind in (None, "null", f'"{relationship.logical_name}"')
