"""Whom upstream has shown which entity, and when (sync contract, rule 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from cachetools import LRUCache

from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.operation import ReadEntity
from proxy.reconcile.exchange import Ask
from proxy.reconcile.freshness import allowed_age
from proxy.reconcile.policy import SyncRules
from proxy.reconcile.ports import Caller
from proxy.reconcile.sets import Sets

_REMEMBERED = 100_000


class Visibility:
    """Says when the mirror may answer without asking upstream for this very request.

    Remembers nothing where nothing may come of it: without `per_caller`, or with no time to live.
    """

    def __init__(self, rules: SyncRules, sets: Sets, now: Callable[[], datetime]) -> None:
        self._per_caller = rules.per_caller
        self._ttl = timedelta(seconds=rules.visibility_ttl_s)
        self._sets = sets
        self._now = now
        self._seen: LRUCache[tuple[bytes | None, str, EntityKey], datetime] = LRUCache(maxsize=_REMEMBERED)

    def seen(self, ask: Ask, entity_set: EntitySet, keys: Iterable[EntityKey], at: datetime) -> None:
        """Upstream, asked at `at`, showed these entities to the caller; who showed nothing may be anybody."""
        if self._per_caller and self._ttl and ask.caller.credentials is not None:
            for key in keys:
                self._seen[ask.caller.credentials, entity_set.name, key] = at

    def refused(self, ask: Ask, entity_set: EntitySet, key: EntityKey) -> None:
        """Upstream did not show the entity to the caller: what it showed before counts for nothing."""
        self._seen.pop((ask.caller.credentials, entity_set.name, key), None)

    def allowed_age(self, ask: Ask, entity_set: EntitySet, key: EntityKey, lifetime_s: float) -> float:
        """Seconds by which the answer may lag behind upstream, as the request and the caller's rights say.

        `lifetime_s`: what the set's policy allows.
        """
        may = self.may_stand_in(ask.caller, entity_set, key)
        return allowed_age(ask.directives, lifetime_s) if may else 0.0

    def may_stand_in(self, caller: Caller, entity_set: EntitySet, key: EntityKey) -> bool:
        """True where what is held may be shown to the caller though upstream is not asked, or silent.

        Where all have the same rights: not to who shows credentials, because nobody has confirmed those.
        """
        if not self._per_caller:
            return caller.credentials is None
        at = self._seen.get((caller.credentials, entity_set.name, key))
        return at is not None and self._now() - at < self._ttl

    def may_list(self, entity_set: EntitySet, caller: Caller) -> bool:
        """True where the mirror may say by itself which entities of the set there are.

        Not to callers with rights of their own, nor of a set with properties that the mirror does not hold.
        """
        return not self._per_caller and caller.credentials is None and not self._sets.secured(entity_set)

    def may_be_shown(self, operation: object, caller: Caller) -> bool:
        """True where the mirror may answer the whole of a read by itself."""
        if not self._per_caller:
            return caller.credentials is None
        if not isinstance(operation, ReadEntity) or operation.options.expand is not None:
            return False
        return self.may_stand_in(caller, operation.entity_set, operation.key)
