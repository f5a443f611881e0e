"""The driver of shadow mode: what a forwarded reply is compared with, after the client has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection, ReadEntity
from proxy.odata.relationships import Relationships
from proxy.odata.uri import format_key
from proxy.odata.verbose_json import hold_origins
from proxy.reconcile.certain import PAGE, continued
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import in_sync
from proxy.reconcile.history import Difference, ShadowLog
from proxy.reconcile.mirror import KEYS_PER_REQUEST, Mirror, next_link, read_json
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import Query, Reply, Source, Stored, UpstreamFailure
from proxy.reconcile.questions import query_of
from proxy.reconcile.shadow import Selection, selection, shadowed

_BEYOND = 50  # entities behind the end of a page among which one that is lacking may stand
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class _Page:
    """What a reply shows: the entities' texts by key, those that the mirror holds with an equal stamp, and
    whether upstream has more."""

    texts: Mapping[EntityKey, str]
    same: frozenset[EntityKey]
    is_cut: bool


class Shadowing:
    """Notes what the mirror would have answered. `log` None: nowhere."""

    def __init__(self, mirror: Mirror, log: ShadowLog | None) -> None:
        self._mirror = mirror
        self._log = log
        self._relationships: tuple[Model, Relationships] | None = None

    async def note(
        self,
        operation: ReadEntity | ReadCollection,
        reply: Reply,
        held: Mapping[EntityKey, Stored],
        ask: Ask,
        model: Model,
        number: int,
    ) -> None:
        """Compare a reply whose request drew `number`; `held`: what of it the mirror held when it came.

        Raises StoreUnavailable, ODataError for a reply without entities.
        """
        if self._log is None or self._mirror.sets.policy(operation.entity_set).mode is not Mode.SHADOW:
            return
        noted = shadowed(operation, reply, held, self._mirror)
        if isinstance(operation, ReadCollection):
            differences = await self._selected(operation, reply, held, ask, model, number)
            examples = (*(differences or ()), *noted.examples)[:_EXAMPLES]
            noted = replace(noted, selection=_judged(differences), examples=examples)
        await self._log.note_shadow(noted, ask.request_id)

    async def _selected(
        self,
        operation: ReadCollection,
        reply: Reply,
        held: Mapping[EntityKey, Stored],
        ask: Ask,
        model: Model,
        number: int,
    ) -> Sequence[Difference] | None:
        """Where the mirror finds something else; None where that cannot be said."""
        entity_set = operation.entity_set
        try:
            page = self._page(operation, reply, held)
            query = self._query(operation, model)
            if query is None:
                return None
            rows = {
                row.key: row
                for row in (
                    await self._mirror.store.find(replace(query, page=len(page.texts) + _BEYOND))
                ).rows
            }
        except ODataError:
            return None
        # `$top=0` of the mirror's would be none: what is beyond the page is asked for, too.
        compared = selection([*page.texts], [*rows], page.same, is_cut=page.is_cut)
        if operation.options.skip and (compared.lacking or compared.extra):
            return None  # one that differs moves all behind it
        known = {key: row.document or "" for key, row in {**held, **rows}.items()}
        seen = await self._still_so(entity_set, compared, rows, ask, model, number)
        differences = [
            Difference(format_key(key, entity_set.entity_type), known.get(key, ""), text, kind, ask.query)
            for kind, texts in (
                ("order", {key: page.texts[key] for key in (compared.displaced,) if key is not None}),
                ("upstream only", {key: page.texts[key] for key in compared.lacking if key in page.same}),
                ("mirror only", seen),
            )
            for key, text in texts.items()
        ]
        is_sure = page.same.issuperset(compared.lacking) and seen.keys() == set(compared.extra)
        return differences if differences or is_sure else None

    def _page(self, operation: ReadCollection, reply: Reply, held: Mapping[EntityKey, Stored]) -> _Page:
        """Raises ODataError for a reply that does not show keys and stamps in JSON."""
        entity_set = operation.entity_set
        text, sliced = read_json(reply)
        texts: dict[EntityKey, str] = {}
        same = set()
        for (start, end), raw in zip(sliced.spans, sliced.values, strict=True):
            key = self._mirror.key_of(raw, entity_set)
            texts[key] = hold_origins(text[start:end], self._mirror.root_path)
            if in_sync(held.get(key), self._mirror.stamp_of(raw, entity_set)):
                same.add(key)
        top = operation.options.top
        is_cut = next_link(text, sliced) is not None or (top is not None and len(texts) >= top)
        return _Page(texts, frozenset(same), is_cut)

    def _query(self, operation: ReadCollection, model: Model) -> Query | None:
        """Raises ODataError where the mirror has no answer either."""
        options = operation.options
        if options.expand is not None:
            return None
        if self._relationships is None or self._relationships[0] is not model:
            self._relationships = (model, Relationships(model))
        plain = replace(
            options, items=tuple(i for i in options.items if i.name not in ("$top", "$skiptoken"))
        )
        related = self._relationships[1]
        query = query_of(plain, operation.entity_set, model, related, page=PAGE, page_limit=PAGE)
        if options.skiptoken is None:
            return query
        behind = continued(query, options)
        return None if behind is None else behind.query

    async def _still_so(
        self,
        entity_set: EntitySet,
        compared: Selection,
        rows: Mapping[EntityKey, Stored],
        ask: Ask,
        model: Model,
        number: int,
    ) -> dict[EntityKey, str]:
        """Of the entities that only the mirror finds those that upstream shows in the state held, as it does:
        they were so when it left them out."""
        asked = [key for key in compared.extra if rows[key].fetch_number < number][:KEYS_PER_REQUEST]
        if not asked:
            return {}
        try:
            fetched = await self._mirror.fetch_some(entity_set, asked, model, ask)
        except (UpstreamFailure, ODataError):  # the one that was asked for may be gone
            return {}
        still = {
            state.key: state.document or "" for state in fetched if in_sync(rows.get(state.key), state.stamp)
        }
        await self._mirror.absorb(entity_set, fetched, ask.provenance(Source.UPSTREAM_REFRESH))
        return still


def _judged(differences: Sequence[Difference] | None) -> Literal["alike", "unlike", "unsure"]:
    if differences is None:
        return "unsure"
    return "unlike" if differences else "alike"
