"""What is known of an entity set while the proxy runs: its policy, what was learned, how it is doing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from cachetools import LRUCache, TTLCache

from proxy.odata.edm import EntitySet
from proxy.reconcile.authority import Authorities, Authority
from proxy.reconcile.computed import ComputedCounts
from proxy.reconcile.freshness import followed_at
from proxy.reconcile.observations import Observe, SetForwarded
from proxy.reconcile.policy import Mode, Policies, Policy
from proxy.reconcile.ports import SetState, Stored
from proxy.reconcile.progress import Following, LifecycleStore
from proxy.reconcile.rights import Rights

_STATE_LIFETIME_S = 10.0  # another process may have learned something
_FOLLOWING_LIFETIME_S = 1.0  # what is older only makes an Age greater than it need be


class Sets:
    """Policies and learned states by set; and how much of what is asked for the mirror holds.

    `policies` may be replaced at any time. `computed` counts what upstream made of writes.
    """

    def __init__(
        self,
        store: LifecycleStore,
        policies: Policies,
        observe: Observe,
        authorities: Authorities | None = None,
    ) -> None:
        self.authorities = authorities or Authorities(store, observe)
        self.computed = ComputedCounts(observe)
        self._store = store
        self.policies = policies
        self._observe = observe
        self._states: TTLCache[str, SetState] = TTLCache(maxsize=10_000, ttl=_STATE_LIFETIME_S)
        self._following: TTLCache[str, Following | None] = TTLCache(maxsize=10_000, ttl=_FOLLOWING_LIFETIME_S)
        self._coverage: dict[str, float] = {}
        # Whether upstream shows just what `$select` names, in its order; None until a check has shown it.
        self.follows_select: bool | None = None
        self._fed: LRUCache[str, bool] = LRUCache(maxsize=100_000)

    def policy(self, entity_set: EntitySet) -> Policy:
        """As configured; of mode MIRROR where reads show the mirror's own state."""
        configured = self.policies.of(entity_set.name)
        if self.authorities.answers(entity_set.name) is Authority.MIRROR:
            return replace(configured, mode=Mode.MIRROR)
        return configured

    def may_store(self, entity_set: EntitySet) -> bool:
        """False where nothing of the set may be kept or served (rule 8)."""
        return self.policies.may_store(entity_set.name)

    def secured(self, entity_set: EntitySet) -> frozenset[str]:
        """The properties that are asked for in each check and never stored."""
        return self.policy(entity_set).secured or frozenset()

    def shown_to(self, rights: Rights, names: Iterable[str]) -> Rights:
        """The caller's rights where the store's own state of the sets `names` is shown.

        What is secured is hidden from everybody: it may have been stored before that was stated (rule 8).
        What only the mirror keeps of models is upstream's to hide from nobody.
        """
        stated = {name: self.policies.of(name).secured for name in names if not name.startswith("model/")}
        return rights.without({name: secured for name, secured in stated.items() if secured})

    async def state(self, entity_set: EntitySet) -> SetState:
        """Raises StoreUnavailable."""
        state = self._states.get(entity_set.name)
        if state is None:
            state = self._states[entity_set.name] = await self._store.set_state(entity_set)
        return state

    async def is_forwarded(self, entity_set: EntitySet) -> bool:
        """True where the set is never served from the mirror. Raises StoreUnavailable."""
        if self.policy(entity_set).mode in (Mode.FORWARD, Mode.SHADOW) or not self.may_store(entity_set):
            return True
        return (await self.state(entity_set)).forward_reason is not None

    async def followed_at(self, entity_set: EntitySet, held: Stored | None) -> datetime | None:
        """When the background last saw the row to be as held, where the set's mode is `bounded`; else None.

        Raises StoreUnavailable.
        """
        policy = self.policy(entity_set)
        if held is None or policy.mode is not Mode.BOUNDED:
            return None
        following = await self.following(entity_set)
        return followed_at(held, following, deletes_may_lag=policy.deletes_may_lag)

    async def following(self, entity_set: EntitySet) -> Following | None:
        """How far the background has followed the set's changes. Raises StoreUnavailable."""
        if entity_set.name not in self._following:
            self._following[entity_set.name] = await self._store.following(entity_set)
        return self._following.get(entity_set.name)

    async def title(self, entity_set: EntitySet) -> str | None:
        """The property that Atom titles show; None while it is not known. Raises StoreUnavailable."""
        declared = self.policy(entity_set).title
        return declared if declared is not None else (await self.state(entity_set)).title

    async def learn(self, entity_set: EntitySet, **changes: object) -> None:
        """Change the learned state. Raises StoreUnavailable."""
        # Not what is remembered: others may have learned and counted since.
        state = replace(await self._store.set_state(entity_set), **changes)  # type: ignore[arg-type]
        await self._store.save_set_state(entity_set, state)
        self._states[entity_set.name] = state

    async def count_lie(self, entity_set: EntitySet) -> int:
        """Count one more, and say how many there are. Raises StoreUnavailable."""
        self._states.pop(entity_set.name, None)
        return await self._store.count_lie(entity_set)

    async def forward_from_now_on(self, entity_set: EntitySet, reason: str) -> None:
        if (await self.state(entity_set)).forward_reason is not None:
            return  # one alarm is enough
        await self.learn(entity_set, forward_reason=reason)
        self._observe(SetForwarded(entity_set.name, reason))

    async def worth_a_check(self, entity_set: EntitySet, check_target: str) -> bool:
        """False where a page check would most likely find rows missing. Raises StoreUnavailable."""
        if check_target in self._fed:
            return True
        coverage = self._coverage.get(entity_set.name)
        if coverage is None:
            coverage = 0.5 * await self._store.count(entity_set, at_most=1)
            self._coverage[entity_set.name] = coverage
        return coverage >= 0.5

    def page_seen(self, entity_set: EntitySet, rows: int, held: int) -> None:
        """Remember which share of a page's rows the mirror could have shown."""
        if rows:
            before = self._coverage.get(entity_set.name, 0.0)
            self._coverage[entity_set.name] = (before + held / rows) / 2

    def page_fed(self, check_target: str) -> None:
        """The page's rows are in the mirror now: asked again, it is worth a check."""
        self._fed[check_target] = True
