"""Which entity sets the background follows, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set

from proxy.odata.edm import EntitySet, Model
from proxy.reconcile.policy import Mode, SyncRules
from proxy.reconcile.sets import Sets

# Types whose order upstream and Postgres agree on, guids by a function of ours.
_ORDERED = frozenset({"Edm.Guid", "Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64"})


def followed_sets(model: Model, sets: Sets, backfilled: Set[str]) -> Iterable[EntitySet]:
    """Sets that were loaded, and those that are to be served by age; never those that are only forwarded, and
    none of which the mirror is the authority."""
    for entity_set in model.entity_sets.values():
        mode = sets.policy(entity_set).mode
        if mode is Mode.MIRROR:
            continue
        if mode is Mode.BOUNDED or (mode is not Mode.FORWARD and entity_set.name in backfilled):
            yield entity_set


def why_not_polled(entity_set: EntitySet, rules: SyncRules) -> str | None:
    """None where the set's entities say when they changed (field manual 7.2: 49 sets of CDMS do not)."""
    declared = entity_set.entity_type.properties.get(rules.modified_property)
    if declared is None or declared.type != "Edm.DateTime":
        return f"its entities have no {rules.modified_property} to poll by"
    return None


def why_not_swept(entity_set: EntitySet) -> str | None:
    """None where the order of the set's keys is known."""
    entity_type = entity_set.entity_type
    types = [entity_type.properties[name].type for name in entity_type.key]
    if len(types) == 1 and types[0] in _ORDERED:
        return None
    return "the order of its keys is not known, so deletes cannot be swept for"
