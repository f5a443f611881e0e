"""Pure rules of writing: what an answer means, what a write touches, how an open intent ends (rules 5, 6)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.media import is_atom
from proxy.odata.operation import ChangeLinks, CreateEntity, MergeEntity, UpdateEntity, Write
from proxy.reconcile.policy import Effect
from proxy.reconcile.ports import Fetched, Outcome, Reply, Touched

# A gateway in between may say these while the write goes on behind it.
_UNCERTAIN = frozenset({502, 503, 504})


def outcome_of(reply: Reply) -> Outcome | None:
    """What upstream's answer says of the write; None where it says nothing certain.

    An HTML page in the place of an answer is a login page: nothing was applied.
    """
    if reply.status in _UNCERTAIN:
        return None
    if 200 <= reply.status < 300 and reply.media_type != "text/html":
        return Outcome.APPLIED
    return Outcome.REFUSED


def touched_by(effects: Iterable[Effect], values: Mapping[str, Any], model: Model) -> list[Touched]:
    """The entities that a write of an entity with these values changes, as declared (rule 10)."""
    touched = []
    for effect in effects:
        entity_set = model.entity_sets.get(effect.entity_set)
        if entity_set is None or len(entity_set.entity_type.key) != 1:
            continue
        (name,) = entity_set.entity_type.key
        logical_name = entity_set.entity_type.name.lower()
        for via in effect.via:
            key = _key_named(values.get(via), logical_name)
            if key is not None:
                touched.append(Touched(entity_set, ((name, key),)))
    return touched


def _key_named(value: Any, logical_name: str) -> Any:
    """The key in a property that names an entity: its own value, or a lookup of that type."""
    if isinstance(value, Mapping):
        named = value.get("LogicalName")
        return value.get("Id") if named in (None, logical_name) else None
    return value


def read_posted(operation: Write, body: bytes, content_type: str, model: Model) -> dict[str, Any] | None:
    """What a create or update posts, by property; None where it is not readable as an entity."""
    if not isinstance(operation, CreateEntity | MergeEntity | UpdateEntity) or not body:
        return None
    parse = atom.parse_entry_body if is_atom(content_type) else verbose_json.parse_posted
    try:
        return parse(body, operation.entity_set.entity_type, model)
    except ODataError:
        return None


def requested_changes(
    posted: Mapping[str, Any], before: Mapping[str, Any] | None, leave_out: frozenset[str]
) -> dict[str, Any]:
    """The properties that a write asks to change, against the state seen before it."""
    return {
        name: value
        for name, value in posted.items()
        if name not in leave_out and (before is None or not is_reflected(value, before.get(name)))
    }


def shows(changes: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """True where every requested change is seen in the state `after`."""
    return all(name not in after or is_reflected(value, after[name]) for name, value in changes.items())


def is_reflected(posted: Any, seen: Any) -> bool:
    """True where `seen` is what Dynamics makes of `posted`: '' is null, lookup names are its own."""
    if isinstance(posted, Mapping):
        if not isinstance(seen, Mapping):
            return False
        members = (name for name in posted if name not in ("Name", "__metadata", "LogicalName"))
        return all(is_reflected(posted[name], seen.get(name)) for name in members)
    if posted in ("", None):
        return seen in ("", None)
    return bool(posted == seen)


def key_from(values: Mapping[str, Any], key: tuple[str, ...]) -> EntityKey | None:
    """The key that a client chose for a new entity; None where upstream makes it."""
    if any(values.get(name) in (None, uuid.UUID(int=0)) for name in key):
        return None
    return tuple((name, values[name]) for name in key)


def sets_written(operation: Write, body: bytes, content_type: str, model: Model) -> frozenset[str]:
    """Names of the entity sets that a write writes to: a link's other end and those of a deep insert too."""
    names = {operation.entity_set.name}
    if isinstance(operation, ChangeLinks) and operation.target:
        names.add(operation.target.name)
    if isinstance(operation, CreateEntity):
        posted = read_posted(operation, body, content_type, model)
        names.update(_sets_inserted(operation.entity_set, posted or {}, model))
    return frozenset(names)


def _sets_inserted(entity_set: EntitySet, posted: Mapping[str, Any], model: Model) -> Iterator[str]:
    """Names of the sets of entities that are posted inside another's (field manual, 6.5)."""
    for name in posted.keys() & entity_set.entity_type.navigation_properties.keys():
        target = model.navigation_target(entity_set, name)
        if target is None:
            continue
        yield target.name
        inner = posted[name]
        if isinstance(inner, Mapping):
            inner = inner.get("results", [inner])
        for entity in inner if isinstance(inner, list) else ():
            if isinstance(entity, Mapping):
                yield from _sets_inserted(target, entity, model)


def chosen_key(operation: Write, body: bytes, content_type: str, model: Model) -> EntityKey | None:
    """The key that a create posts; None for any other write, and where upstream makes it."""
    posted = read_posted(operation, body, content_type, model)
    if posted is None or not isinstance(operation, CreateEntity):
        return None
    return key_from(posted, operation.entity_set.entity_type.key)


def decide_settlement(
    *,
    deletes: bool,
    before: bytes | None,
    changes: Mapping[str, Any] | None,
    seen: Fetched | None,
    is_late: bool,
) -> Outcome | None:
    """What reading upstream back says of a write that was never answered; None: wait and look again.

    before: digest of the state before the write. changes: what it asked for, None where unreadable.
    seen: the state read back, None for "does not exist". "Not seen" means refused only when it `is_late`,
    since the write may still be on its way before. A write that asked for what was there already, or that
    nobody can read, leaves nothing to see either way.
    """
    if deletes:
        if seen is None:
            return Outcome.APPLIED
        return Outcome.REFUSED if is_late else None
    if seen is not None and changes and shows(changes, seen.values) and seen.digest != before:
        return Outcome.APPLIED
    if not is_late:
        return None
    if seen is not None and seen.digest == before and changes and not shows(changes, seen.values):
        return Outcome.REFUSED
    return Outcome.UNDETERMINED


@dataclass(frozen=True, slots=True)
class Creations:
    """What upstream shows that a create without an answer may have made.

    `posted`: by property, without what upstream fills by itself; None where it is not readable. `found`: the
    entities that no other write is known to have made. `rivals`: what other creates posted whose outcome is
    not known either. `is_complete`: had it been applied, its entity would be among `found`. `number`: of the
    fetch that showed them.
    """

    posted: Mapping[str, Any] | None
    found: Sequence[Fetched]
    rivals: Sequence[Mapping[str, Any] | None]
    is_complete: bool
    number: int


def decide_creation(creations: Creations, *, is_late: bool) -> tuple[Outcome | None, Fetched | None]:
    """How a create ended that was never answered, and what it made. None: wait and look again."""
    posted = creations.posted or {}
    matches = [state for state in creations.found if shows(posted, state.values)]
    says_something = any(value not in ("", None) for value in posted.values())
    if creations.is_complete and says_something and len(matches) == 1:
        (made,) = matches
        # Which of two equal creates made it, nobody can tell.
        if not any(rival is None or shows(rival, made.values) for rival in creations.rivals):
            return Outcome.APPLIED, made
    if not is_late:
        return None, None
    # An entity that shows only some of what was posted may be what a plug-in made of it.
    is_refused = creations.is_complete and not creations.found
    return (Outcome.REFUSED if is_refused else Outcome.UNDETERMINED), None
