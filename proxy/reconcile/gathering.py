"""Gathers what a cutover is decided by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from proxy.odata.edm import EntitySet, Model
from proxy.reconcile.authority import Authority
from proxy.reconcile.changes import ChangeLog
from proxy.reconcile.computed import rule_of
from proxy.reconcile.history import Casebook
from proxy.reconcile.progress import LifecycleStore, Stage
from proxy.reconcile.readiness import Computed, Evidence, SetEvidence
from proxy.reconcile.replays import ReplayStore
from proxy.reconcile.service import Service
from proxy.reconcile.unit import closure, ties


class CutoverStore(LifecycleStore, ChangeLog, Casebook, ReplayStore, Protocol):
    """The whole store."""


async def gather(
    service: Service,
    store: CutoverStore,
    model: Model,
    named: Collection[str],
    left: Collection[str],
    callers: str,
) -> Evidence:
    """What is known of these sets, and of what belongs to them. Raises StoreUnavailable."""
    authorities = service.sets.authorities
    await authorities.read()
    held = [name for name in await store.kept_sets() if name in model.entity_sets]
    references = {name: await store.references(model.entity_sets[name]) for name in held}
    effects = {name: service.sets.policy(each).effects for name, each in model.entity_sets.items()}
    known = ties(model, effects, await store.learned_effects(), references)
    upstreams = [tie for tie in known if authorities.of(tie.other)[0] is Authority.UPSTREAM]
    missing, behind = closure(named, left, upstreams)
    loaded = await store.finished_walks(Stage.BACKFILL)
    verifications = await store.verifications()
    began = {name: verifications[name].began_at if name in verifications else None for name in named}
    undetermined, foreign = await store.undetermined(began), await store.foreign(named)
    computed = await store.computed()
    sets = []
    for name in named:
        entity_set = model.entity_sets[name]
        differences, compared = await store.differences(name, began[name])
        sets.append(
            SetEvidence(
                name,
                authorities.of(name)[0],
                name in loaded,
                (await store.set_state(entity_set)).forward_reason,
                verifications.get(name),
                await store.conflict_count(entity_set),
                undetermined.get(name, ()),
                differences,
                compared,
                _explained(computed, entity_set, service),
                service.sets.policy(entity_set).secured or (),
                foreign.get(name),
            )
        )
    intents = await store.intents_naming(named)
    return Evidence(sets, intents, missing, behind, callers, service.sets.policies.per_caller)


def _explained(
    computed: Mapping[str, Collection[Computed]], entity_set: EntitySet, service: Service
) -> list[Computed]:
    policy = service.sets.policy(entity_set)
    return [
        Computed(
            each.property,
            each.differed,
            each.changed,
            each.filled,
            rule_of(entity_set, each.property, service.rules, policy),
        )
        for each in computed.get(entity_set.name, ())
    ]
