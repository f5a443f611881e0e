"""Shadow mode: what would the mirror have answered? Compared with what upstream did, at equal stamps.

A checked read shows upstream's own reply with the mirror's documents in the places of the entities: so they
are compared, entity by entity. A read from the mirror alone also says which entities a query finds, and in
which order: so are these, with the entities of equal stamps as evidence. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from proxy.odata.edm import EntityKey
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection, ReadEntity
from proxy.odata.uri import format_key
from proxy.odata.verbose_json import hold_origins, null_members, select_members
from proxy.reconcile.freshness import in_sync
from proxy.reconcile.history import Difference, Shadowed
from proxy.reconcile.mirror import Mirror, read_json
from proxy.reconcile.ports import Reply, Stored

_EXAMPLES = 5


def shadowed(
    operation: ReadEntity | ReadCollection, reply: Reply, held: Mapping[EntityKey, Stored], mirror: Mirror
) -> Shadowed:
    """Compare a reply with what was held when it came. Atom and `$expand` are not compared: the mirror does
    not answer those before our rendering has been proven, or at all. Raises ODataError for no entities."""
    entity_set, options = operation.entity_set, operation.options
    shape = shape_of(operation)
    if reply.media_type != "application/json" or options.expand is not None:
        return Shadowed(entity_set.name, shape, 0, 0, 1)
    text, sliced = read_json(reply)
    if sliced.kind not in ("entity", "collection"):
        raise ODataError("The reply holds no entities.")
    secured = mirror.sets.secured(entity_set)
    examples: list[Difference] = []
    same = different = not_compared = 0
    for (start, end), raw in zip(sliced.spans, sliced.values, strict=True):
        try:
            key = mirror.key_of(raw, entity_set)
            row = held.get(key)
            document = row.document if row and in_sync(row, mirror.stamp_of(raw, entity_set)) else None
        except ODataError:
            document = None
        if document is None:
            not_compared += 1
            continue
        ours = document if options.select is None else select_members(document, options.select)
        theirs = hold_origins(null_members(text[start:end], secured), mirror.root_path)
        if ours == theirs:
            same += 1
            continue
        different += 1
        if len(examples) < _EXAMPLES:
            examples.append(Difference(format_key(key, entity_set.entity_type), ours or "", theirs))
    return Shadowed(entity_set.name, shape, same, different, not_compared, examples)


@dataclass(frozen=True, slots=True)
class Selection:
    """How what the mirror finds differs from a page of upstream's.

    `lacking`: upstream shows them and the mirror does not find them; `extra`: the reverse, where they would
    stand on this page; `displaced`: the first that stands elsewhere.
    """

    lacking: tuple[EntityKey, ...]
    extra: tuple[EntityKey, ...]
    displaced: EntityKey | None


def selection(
    shown: Sequence[EntityKey], found: Sequence[EntityKey], same: Set[EntityKey], *, is_cut: bool
) -> Selection:
    """Compare the keys that upstream `shown` with those the mirror `found`, more than fit on a page.

    `same`: those whose stamps are equal, which alone say anything of an order. `is_cut`: upstream has more.
    """
    common = set(shown) & set(found)
    theirs = [key for key in shown if key in common & same]
    ours = [key for key in found if key in common & same]
    displaced = next((one for one, other in zip(theirs, ours, strict=True) if one != other), None)
    if is_cut:  # what the mirror finds behind the end of the page may stand on the next one
        ends = next((key for key in reversed(shown) if key in common), None)
        found = [] if ends is None else found[: found.index(ends)]
    return Selection(
        tuple(key for key in shown if key not in common),
        tuple(key for key in found if key not in common),
        displaced,
    )


def shape_of(operation: ReadEntity | ReadCollection) -> str:
    """What is read, and the names of its query options: `collection $filter $top`."""
    what = "entity" if isinstance(operation, ReadEntity) else "collection"
    return " ".join((what, *sorted(operation.options.names)))
