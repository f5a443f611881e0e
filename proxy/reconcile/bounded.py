"""The driver of pages in mode `bounded`: from the mirror alone, where it can be as sure as of one entity.

The background has seen every change up to the older of its last poll and its last sweep (`looked_at`), if the
set was loaded as a whole, and if no row is held that these looks do not vouch for. Then what a query finds is
what upstream would have shown at that moment or later, and that is the answer's age. Everything else has no
answer here: it is checked or forwarded.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection
from proxy.odata.relationships import Relationships
from proxy.reconcile.assembly import JSON_TYPE, Shape, page_from_mirror
from proxy.reconcile.certain import certain_query
from proxy.reconcile.exchange import Ask, CacheStatus, FromMirror
from proxy.reconcile.freshness import is_servable, looked_at
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import Stored
from proxy.reconcile.progress import Stage

_AGED = CacheStatus(hit=True, detail="age-allowed")


class BoundedPages:
    """Answers pages by age. `now`: aware UTC."""

    def __init__(self, mirror: Mirror, now: Callable[[], datetime]) -> None:
        self._store = mirror.store
        self._sets = mirror.sets
        self._now = now
        self._vouched: dict[str, datetime] = {}  # by set: up to when its rows are known to be vouched for
        self._relationships: tuple[Model, Relationships] | None = None

    async def page(
        self, operation: ReadCollection, ask: Ask, shape: Shape, allowed_age_s: float
    ) -> FromMirror | None:
        """The page, where it may be `allowed_age_s` old; None where it is not certain what upstream would
        show. Raises StoreUnavailable."""
        entity_set, options = operation.entity_set, operation.options
        if self._sets.policy(entity_set).mode is not Mode.BOUNDED:
            return None
        moment = await self._vouched_since(entity_set)
        if moment is None or (age := max(0.0, (self._now() - moment).total_seconds())) >= allowed_age_s:
            return None
        asked = certain_query(options, entity_set, shape.model, self._related(shape.model))
        if asked is None:
            return None
        try:
            found = await self._store.find(asked.query)
        except ODataError:  # an overflow: what upstream says of it is upstream's
            return None
        if not all(_is_shown(row, moment) for row in found.rows):
            return None
        link = None
        if found.next is not None:
            query = asked.next_query(options, tuple(found.rows))
            if query is None:
                return None
            link = f"{ask.origin}{ask.path}?{query}"
        text = page_from_mirror([row.document or "" for row in found.rows], link, shape, self._now())
        if text is None:
            return None
        content_type = shape.content_type or JSON_TYPE
        return FromMirror(text.encode(), content_type, None, _AGED, int(age), version="2.0;")

    async def _vouched_since(self, entity_set: EntitySet) -> datetime | None:
        """Up to when every change of the set has been seen; None where that cannot be said."""
        following = await self._sets.following(entity_set)
        if following is None:
            return None
        moment = looked_at(following, deletes_may_lag=self._sets.policy(entity_set).deletes_may_lag)
        if moment is None:
            return None
        if self._vouched.get(entity_set.name) == moment:
            return moment
        loaded = await self._store.walk(Stage.BACKFILL, entity_set)
        if loaded is None or loaded.finished_at is None or loaded.started_at < following.since:
            return None
        if await self._store.has_doubtful(entity_set, moment):
            return None
        # What comes to be doubtful from now on was stored after that moment, or is marked for a later write.
        self._vouched[entity_set.name] = moment
        return moment

    def _related(self, model: Model) -> Relationships:
        if self._relationships is None or self._relationships[0] is not model:
            self._relationships = (model, Relationships(model))
        return self._relationships[1]


def _is_shown(row: Stored, moment: datetime) -> bool:
    """False for a row that a write is under way on, in conflict, or that shows an old name."""
    return is_servable(row) and (row.settled or row.fetched_at >= moment)
