"""Whom upstream has shown which entity, and when (sync contract, rule 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from cachetools import LRUCache

from proxy.odata.edm import EntityKey, EntitySet
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import allowed_age
from proxy.reconcile.policy import SyncRules

_REMEMBERED = 100_000


class Visibility:
    """Says when the mirror may answer without asking upstream for this very request.

    Remembers nothing where nothing may come of it: without `per_caller`, or with no time to live.
    """

    def __init__(self, rules: SyncRules, now: Callable[[], datetime]) -> None:
        self._per_caller = rules.per_caller
        self._ttl = timedelta(seconds=rules.visibility_ttl_s)
        self._now = now
        self._seen: LRUCache[tuple[bytes | None, str, EntityKey], datetime] = LRUCache(maxsize=_REMEMBERED)

    def seen(self, ask: Ask, entity_set: EntitySet, keys: Iterable[EntityKey], at: datetime) -> None:
        """Upstream, asked at `at`, showed these entities to the caller."""
        if self._per_caller and self._ttl:
            for key in keys:
                self._seen[ask.caller.credentials, entity_set.name, key] = at

    def allowed_age(self, ask: Ask, entity_set: EntitySet, key: EntityKey) -> float:
        """Seconds by which the answer may lag behind upstream: as the request and the caller's rights say."""
        if self._per_caller:
            return allowed_age(ask.directives) if self.may_stand_in(ask, entity_set, key) else 0.0
        # Who shows credentials is always confirmed by upstream.
        return 0.0 if ask.caller.credentials else allowed_age(ask.directives)

    def may_stand_in(self, ask: Ask, entity_set: EntitySet, key: EntityKey) -> bool:
        """True where what is held may be shown to the caller though upstream does not answer."""
        if not self._per_caller:
            return True
        at = self._seen.get((ask.caller.credentials, entity_set.name, key))
        return at is not None and self._now() - at < self._ttl
