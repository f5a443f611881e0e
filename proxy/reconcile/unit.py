"""What belongs together when the authority moves: a unit of entity sets is cut over whole. Pure.

Along come the sets whose entities refer to what moves: upstream would not know what is made after the
cutover, and would refuse a reference to it. What the moving entities themselves refer to (owners, currencies,
business units) may stay: the mirror shows it as before. Sets that share a relationship of many to many, and
those that a write of one changes in the other, come along both ways. Only what is in use counts: sets that
the mirror holds something of, and references that it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from proxy.odata.edm import Model
from proxy.odata.relationships import Relationships, logical_name
from proxy.reconcile.history import LearnedEffect
from proxy.reconcile.policy import Effect
from proxy.reconcile.readiness import Tie

# Entity set name, lookup, logical names that it was seen to refer to.
References = Mapping[str, Mapping[str, frozenset[str]]]


def ties(
    model: Model,
    effects: Mapping[str, Iterable[Effect]],
    learned: Iterable[LearnedEffect],
    references: References,
) -> list[Tie]:
    """Who has to come along with whom. `effects`: those declared, by set; `references`: of every set that the
    mirror holds something of."""
    return [
        tie
        for tie in (
            *_referring(model, references),
            *_linked(model, references.keys()),
            *_changing(effects, learned, model),
        )
        if tie.entity_set != tie.other
    ]


def _referring(model: Model, references: References) -> Iterator[Tie]:
    by_logical_name = {logical_name(each): each.name for each in model.entity_sets.values()}
    for name, lookups in references.items():
        for lookup, logical_names in lookups.items():
            for each in sorted(logical_names & by_logical_name.keys()):
                yield Tie(by_logical_name[each], name, f"its {lookup} refers to {by_logical_name[each]}")


def _linked(model: Model, held: Collection[str]) -> Iterator[Tie]:
    relationships = Relationships(model)
    for name in held:
        entity_set = model.entity_sets[name]
        for relationship in relationships.each(entity_set):
            pairs = relationship.intersect
            if relationship.kind == "links" and pairs is not None and pairs.entity_set.name in held:
                why = f"{relationship.name} links them"
                yield Tie(name, relationship.target.name, why)
                yield Tie(name, pairs.entity_set.name, f"{why}, and it shows the pairs")
                yield Tie(pairs.entity_set.name, name, f"its rows are the pairs of {relationship.name}")


def _changing(
    declared: Mapping[str, Iterable[Effect]], learned: Iterable[LearnedEffect], model: Model
) -> Iterator[Tie]:
    changes = {
        (name, effect.entity_set): f"a write of {name} is declared to change {effect.entity_set}"
        for name, effects in declared.items()
        for effect in effects
    }
    for effect in learned:
        if effect.named:
            pair = (effect.entity_set, effect.changed_set)
            changes.setdefault(pair, f"writes of {pair[0]} were seen to change {pair[1]}")
    for (one, other), why in changes.items():
        if one in model.entity_sets and other in model.entity_sets:
            yield Tie(one, other, why)
            yield Tie(other, one, why)


def closure(
    named: Collection[str], left: Collection[str], known: Iterable[Tie]
) -> tuple[list[Tie], list[Tie]]:
    """What has to come along and was not named, and what is left behind on purpose, each once and with why.

    Nothing is followed through a set that is left.
    """
    by_set: dict[str, list[Tie]] = {}
    for tie in known:
        by_set.setdefault(tie.entity_set, []).append(tie)
    seen, waiting = set(named), deque(sorted(named))
    missing: list[Tie] = []
    behind: list[Tie] = []
    while waiting:
        for tie in by_set.get(waiting.popleft(), ()):
            if tie.other in seen:
                continue
            seen.add(tie.other)
            if tie.other in left:
                behind.append(tie)
            else:
                missing.append(tie)
                waiting.append(tie.other)
    return missing, behind
