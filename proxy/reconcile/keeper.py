"""Keeps the history in its bounds: room for what comes, and an end for what is older than its set keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.reconcile.history import History
from proxy.reconcile.observations import Observe, RevisionsDropped, StoreFailed
from proxy.reconcile.policy import Policies
from proxy.reconcile.ports import StoreUnavailable

_PAUSE_S = 3600.0


class Keeper:
    """Looks at the history every hour. Several processes may: one waits for the other, and finds it done."""

    def __init__(self, history: History, policies: Callable[[], Policies], observe: Observe) -> None:
        self._history = history
        self._policies = policies
        self._observe = observe

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            await self.keep()
            await asyncio.sleep(_PAUSE_S)

    async def keep(self) -> None:
        """Make and drop partitions as the policies say."""
        policies = self._policies()
        days = {name: policy.keep_revisions_days for name, policy in policies.by_set.items()}
        try:
            dropped = await self._history.drop_revisions(days, policies.default.keep_revisions_days)
        except StoreUnavailable as error:
            self._observe(StoreFailed("retention", str(error)))
            return
        if dropped:
            self._observe(RevisionsDropped(tuple(dropped)))
