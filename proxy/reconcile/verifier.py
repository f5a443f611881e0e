"""Compares a set with upstream, entity by entity: is the mirror what it claims to be?

A mirror that was not asked for a while is behind, and nobody is the worse for it: the next check sees it.
What should not be are contents that differ under equal stamps, and entities on one side only.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.uri import format_key, key_test
from proxy.reconcile.changes import ChangeLog
from proxy.reconcile.mirror import next_link, read_json
from proxy.reconcile.ports import Fetched, Provenance, Source, Stored
from proxy.reconcile.readiness import Verification
from proxy.reconcile.service import Service
from proxy.reconcile.stamp import Comparison, Stamp, compare

_KEYS_PER_REQUEST = 20  # longer or-chains may exceed what IIS takes as a query string
_ROWS = 500
_EXAMPLES = 5


class Drift(enum.Enum):
    """How the mirror differs from upstream."""

    MISSING = "missing"  # upstream has it, the mirror does not
    EXTRA = "extra"  # the mirror has it, upstream says it does not exist
    BEHIND = "behind"  # upstream's stamp is another one, and not older
    AHEAD = "ahead"  # the mirror's stamp is newer: a conflict
    CONTENT = "content"  # equal stamps, different contents


@dataclass(slots=True)
class Verified:
    """What was found of one set. `upstream`, `mirror`: entities on each side. `contents`: so many were
    compared. `under_way`: left out, since a write is. `examples`: keys, a few of each kind. `repaired`:
    entities that the mirror holds as upstream does now. `error`: why it ended early."""

    entity_set: str
    upstream: int = 0
    mirror: int = 0
    contents: int = 0
    under_way: int = 0
    repaired: int = 0
    drift: Counter[Drift] = field(default_factory=Counter)
    examples: dict[Drift, list[str]] = field(default_factory=dict)
    error: str = ""

    def found(self, kind: Drift, key: EntityKey, entity_set: EntitySet) -> None:
        self.drift[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(format_key(key, entity_set.entity_type))


class Verifier:
    """Compares sets. `log`: pages through the mirror."""

    def __init__(self, service: Service, log: ChangeLog) -> None:
        self._service = service
        self._log = log

    async def verify(
        self, entity_set: EntitySet, model: Model, *, sample: int | None = None, repair: bool = False
    ) -> Verified:
        """Compare keys, stamps and contents; `sample`: contents of so many entities only, chosen at random.

        `repair`: take in what upstream shows, by the rules for any fetch (what is ahead becomes a recorded
        conflict), and bury what it says is gone. Raises StoreUnavailable, UpstreamFailure, ODataError where
        upstream's answer is no page.
        """
        result = Verified(entity_set.name)
        began_at, began = self._service.now(), await self._service.store.next_fetch_number()
        seen: set[EntityKey] = set()
        if sample is None:
            async for states in self._whole(entity_set, model):
                seen.update(state.key for state in states)
                await self._compare(entity_set, states, result, repair=repair)
        else:
            await self._sampled(entity_set, model, sample, seen, result, repair=repair)
        result.upstream = len(seen)
        await self._extra(entity_set, model, seen, began, result, repair=repair)
        if sample is None:
            counts = (result.upstream, result.mirror, result.contents, result.drift.total(), result.repaired)
            verification = Verification(began_at, began, *counts)
            await self._service.store.save_verification(entity_set.name, verification)
        return result

    async def _whole(self, entity_set: EntitySet, model: Model) -> AsyncIterator[Sequence[Fetched]]:
        target: str | None = f"{self._service.root_path}/{entity_set.name}"
        while target is not None:
            number = await self._service.store.next_fetch_number()
            page = self._service.mirror.read_page(await self._service.get(target), entity_set, model, number)
            yield page.fetched
            target = self._service.target_of(page.next_link)

    async def _sampled(
        self,
        entity_set: EntitySet,
        model: Model,
        sample: int,
        seen: set[EntityKey],
        result: Verified,
        *,
        repair: bool,
    ) -> None:
        """Compare all keys and stamps without contents, then the contents of a few and of what drifts."""
        chosen: list[EntityKey] = []
        drifting: list[EntityKey] = []
        async for stamps in self._stamps(entity_set):
            held = await self._service.store.get(entity_set, list(stamps))
            for key, stamp in stamps.items():
                seen.add(key)
                kind = _judge(held.get(key), stamp)
                if kind is not None:
                    drifting.append(key)
                elif len(chosen) < sample:  # reservoir sampling: each entity with the same chance
                    chosen.append(key)
                elif (place := random.randrange(len(seen))) < sample:  # noqa: S311
                    chosen[place] = key
        for some in _batches([*drifting, *chosen], _KEYS_PER_REQUEST):
            await self._compare(entity_set, await self._some(entity_set, model, some), result, repair=repair)

    async def _stamps(self, entity_set: EntitySet) -> AsyncIterator[Mapping[EntityKey, Stamp]]:
        mirror = self._service.mirror
        names = ",".join(mirror.stamp_names(entity_set))
        target: str | None = f"{self._service.root_path}/{entity_set.name}?$select={names}"
        while target is not None:
            text, sliced = read_json(await self._service.get(target))
            if sliced.kind != "collection":
                raise ODataError("The reply is no collection.")
            yield {mirror.key_of(raw, entity_set): mirror.stamp_of(raw, entity_set) for raw in sliced.values}
            target = self._service.target_of(next_link(text, sliced))

    async def _some(
        self, entity_set: EntitySet, model: Model, keys: Sequence[EntityKey]
    ) -> Sequence[Fetched]:
        tests = "%20or%20".join(key_test(entity_set, key) for key in keys)
        number = await self._service.store.next_fetch_number()
        reply = await self._service.get(f"{self._service.root_path}/{entity_set.name}?$filter={tests}")
        return self._service.mirror.read_page(reply, entity_set, model, number).fetched

    async def _compare(
        self, entity_set: EntitySet, states: Sequence[Fetched], result: Verified, *, repair: bool
    ) -> None:
        held = await self._service.store.get(entity_set, [state.key for state in states])
        drifting = []
        for state in states:
            row = held.get(state.key)
            if row is not None and (row.intents or row.fetch_number > state.fetch_number):
                result.under_way += 1
                continue
            result.contents += 1
            kind = _judge(row, state.stamp)
            if kind is None and row is not None and row.digest != state.digest:
                kind = Drift.CONTENT
            if kind is not None:
                result.found(kind, state.key, entity_set)
                drifting.append(state)
        if repair and drifting:
            provenance = Provenance(Source.COMPARISON)
            absorbed = await self._service.mirror.absorb(entity_set, drifting, provenance)
            result.repaired += len(drifting) - len(absorbed.conflicts)

    async def _extra(
        self,
        entity_set: EntitySet,
        model: Model,
        seen: set[EntityKey],
        began: int,
        result: Verified,
        *,
        repair: bool,
    ) -> None:
        """Ask for what the mirror has and upstream did not list, each by its own URL (rule 11)."""
        after: EntityKey | None = None
        while page := await self._log.page(entity_set, after, _ROWS):
            result.mirror += len(page)
            for row in page:
                if row.key in seen or row.intents or row.fetch_number > began:
                    continue
                look = await self._service.look(entity_set, row.key, model)
                if not self._service.is_gone(look):
                    continue
                result.found(Drift.EXTRA, row.key, entity_set)
                if repair:
                    provenance = Provenance(Source.COMPARISON)
                    result.repaired += await self._service.store.bury(
                        entity_set, row.key, look.number, provenance
                    )
            after = page[-1].key


def _judge(held: Stored | None, seen: Stamp) -> Drift | None:
    """What a stamp alone tells."""
    if held is None or held.document is None:
        return None if held is not None and held.intents else Drift.MISSING
    match compare(held.stamp, seen):
        case Comparison.SAME | Comparison.SILENT:
            return None
        case Comparison.MIRROR_NEWER:
            return Drift.AHEAD
        case _:
            return Drift.BEHIND


def _batches(keys: Sequence[EntityKey], size: int) -> Iterable[Sequence[EntityKey]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
