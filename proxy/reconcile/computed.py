"""What upstream makes of writes beside what they post: counted at every read-back.

After a cutover nobody does that any more but the mirror, by stated rules. So before one, every property that
upstream was seen to compute is either covered by a rule or shown to the operator.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.outcomes import is_reflected
from proxy.reconcile.policy import Policy, SyncRules
from proxy.reconcile.ports import StoreUnavailable
from proxy.reconcile.readiness import Computed, EvidenceStore

_FLUSH_EVERY_S = 5.0
_AUTHORS = frozenset(
    {"CreatedOn", "CreatedBy", "CreatedOnBehalfBy", "ModifiedOn", "ModifiedBy", "ModifiedOnBehalfBy"}
)
_OWNERS = frozenset({"OwnerId", "OwningUser", "OwningTeam", "OwningBusinessUnit"})
_BEGINNINGS = frozenset({"StateCode", "StatusCode", "statecode", "statuscode", "Merged", "ActivityTypeCode"})


def rule_of(entity_set: EntitySet, name: str, rules: SyncRules, policy: Policy) -> str | None:
    """The rule that says what the mirror makes of a property by itself; None where none does."""
    properties = entity_set.entity_type.properties
    if name in policy.computed:
        return "declared: left to nobody"
    if any(path.partition("/")[0] == name for path in policy.initial):
        return "declared: how it begins"
    if name.endswith("_AddressId") and any(name in effect.via for effect in policy.effects):
        return "rule: an address is an entity of its own"
    if name in entity_set.entity_type.key:
        return "rule: the key"
    if name in (rules.modified_property, rules.version_property):
        return "rule: the stamp"
    if name in _AUTHORS:
        return "rule: who and when"
    if name in _OWNERS:
        return "rule: the owner is who creates"
    if name in _BEGINNINGS or name.startswith("DoNot"):
        return "rule: as every entity begins"
    if name == "FullName" and "LastName" in properties:
        return "rule: from the names"
    if name.endswith("_Base") and name.removesuffix("_Base") in properties:
        return "rule: from the exchange rate"
    return None


def compared(
    posted: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> dict[str, str]:
    """How each property that upstream made something of became what it is: the names of counts in `Computed`.

    `before`: the state before an update, {} where that is not known; None: the write was a create.
    """
    found = {}
    for name, value in after.items():
        if name in posted:
            if not is_reflected(posted[name], value):
                found[name] = "differed"
        elif before is None:
            if _says_something(value):
                found[name] = "filled"
        elif name in before and not is_reflected(before[name], value):
            found[name] = "changed"
    return found


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_says_something(member) for member in value.values())
    return value not in (None, "")


class ComputedCounts:
    """Counts in memory, and adds to the store's every few seconds: a process that is killed forgets a few."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._counts: dict[str, Counter[tuple[str, str]]] = {}

    def note(
        self,
        entity_set: EntitySet,
        posted: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
    ) -> None:
        """A write was read back. `posted`: None where it is not readable; others as in `compared`."""
        if posted is None:
            return
        found = compared(posted, before, after)
        if found:
            self._counts.setdefault(entity_set.name, Counter()).update(found.items())

    async def flush(self, store: EvidenceStore) -> None:
        """Add what was counted. Kept for the next time where the store is not available."""
        for name in list(self._counts):
            counted = self._counts.pop(name)
            properties = sorted({each for each, _ in counted})
            rows = [
                Computed(each, counted[each, "differed"], counted[each, "changed"], counted[each, "filled"])
                for each in properties
            ]
            try:
                await store.count_computed(name, rows)
            except StoreUnavailable as error:
                self._observe(StoreFailed("count", str(error)))
                self._counts.setdefault(name, Counter()).update(counted)

    async def run(self, store: EvidenceStore) -> None:
        """Flush every few seconds, and a last time when cancelled."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_EVERY_S)
                await self.flush(store)
        except asyncio.CancelledError:
            await self.flush(store)
            raise
