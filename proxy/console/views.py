"""What the drivers know, as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.odata.verbose_json import restore_origins
from proxy.reconcile.authority import Holding
from proxy.reconcile.history import (
    Conflict,
    IntentLine,
    LearnedEffect,
    Question,
    Revision,
    SetOverview,
    ShadowCount,
    Side,
)
from proxy.reconcile.operator import Written, differences
from proxy.reconcile.policy import Policy


def instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def document(text: str | None, origin: str) -> Any:
    """A stored document, its links below `origin`; text that is no JSON (a posted Atom body) as a string."""
    if text is None:
        return None
    whole = restore_origins(text, origin)
    try:
        return json.loads(whole)
    except ValueError:
        return whole


def revision(shown: Revision) -> dict[str, Any]:
    """A revision without its document."""
    return {
        "id": shown.id,
        "entity_set": shown.entity_set,
        "key": shown.key,
        "recorded_at": instant(shown.recorded_at),
        "effective_at": instant(shown.effective_at),
        "source": shown.provenance.source.value,
        "user": shown.provenance.user,
        "client": shown.provenance.client,
        "request_id": shown.provenance.request_id,
        "method": shown.method,
        "changed": None if shown.changed is None else list(shown.changed),
        "deleted": shown.deleted,
        "unseen": shown.unseen,
        "gap": shown.gap,
        "seen_until": instant(shown.seen_until),
    }


def changes(before: str | None, after: str | None, entity_set: EntitySet) -> list[dict[str, Any]]:
    """The properties in which two documents differ. Raises ODataError where one is no JSON object."""
    return [
        {"property": name, "before": one, "after": other}
        for name, (one, other) in differences(before, after, entity_set).items()
    ]


def holding(shown: Holding) -> dict[str, Any]:
    return {
        "entity_set": shown.entity_set,
        "authority": shown.authority.value,
        "answers": shown.answers.value,
        "epoch": shown.epoch,
        "since": instant(shown.since),
        "by": shown.by,
    }


def conflict(shown: Conflict, entity_set: EntitySet | None, origin: str) -> dict[str, Any]:
    """Both states side by side; `entity_set` None while the metadata document does not know it."""
    sides = {"held": side(shown.held, origin), "seen": side(shown.seen, origin)}
    return {
        "id": shown.id,
        "entity_set": shown.entity_set,
        "key": shown.key,
        "found_at": instant(shown.found_at),
        "request_id": shown.request_id,
        "settled_at": instant(shown.settled_at),
        **sides,
        "differences": entity_set and changes(shown.held.document, shown.seen.document, entity_set),
    }


def side(shown: Side, origin: str) -> dict[str, Any]:
    return {
        "modified_on": shown.modified_on and f"{shown.modified_on.isoformat()}Z",
        "version_number": shown.version_number,
        "document": document(shown.document, origin),
    }


def shadow(shown: ShadowCount, entity_set: EntitySet | None, origin: str) -> dict[str, Any]:
    """`entity_set` None while the metadata document does not know it."""
    return {
        "entity_set": shown.entity_set,
        "shape": shown.shape,
        "requests": shown.requests,
        "same": shown.same,
        "different": shown.different,
        "not_compared": shown.not_compared,
        "selections": {"alike": shown.alike, "unlike": shown.unlike, "unsure": shown.unsure},
        "last_at": instant(shown.last_at),
        "examples": [
            {
                "key": example.key,
                "kind": example.kind,
                "query": example.query,
                "mirror": document(example.mirror, origin),
                "upstream": document(example.upstream, origin),
                "differences": entity_set and changes(example.mirror, example.upstream, entity_set),
            }
            for example in shown.examples
        ],
    }


def question(shown: Question) -> dict[str, Any]:
    return {
        "id": shown.id,
        "entity_set": shown.entity_set,
        "kind": shown.kind,
        "detail": shown.detail,
        "found_at": instant(shown.found_at),
    }


def learned_effect(shown: LearnedEffect) -> dict[str, Any]:
    """`declaration`: for the configuration; None while nothing tells which property names what changed."""
    via = ", ".join(f'"{name}"' for name in shown.via)
    declaration = f'[sets.{shown.entity_set}]\neffects = [{{ set = "{shown.changed_set}", via = [{via}] }}]'
    return {
        "entity_set": shown.entity_set,
        "operation": shown.operation,
        "changed_set": shown.changed_set,
        "times": shown.times,
        "named": shown.named,
        "via": list(shown.via),
        "declaration": declaration if shown.via else None,
    }


def intent(shown: IntentLine) -> dict[str, Any]:
    return {
        "id": shown.id,
        "operation": shown.method,
        "entity_set": shown.entity_set,
        "key": shown.key,
        "opened_at": instant(shown.opened_at),
        "outcome": "open" if shown.closed_at is None else "undetermined",
        "user": shown.user,
        "client": shown.client,
        "request_id": shown.request_id,
    }


def entity_set(shown: SetOverview, policy: Policy) -> dict[str, Any]:
    """A set at a glance, with what to do where it was taken off the mirror."""
    state = shown.state
    return {
        "name": shown.name,
        "mode": policy.mode.value,
        "forward_reason": state.forward_reason,
        "way_out": way_out(shown),
        "lies": state.lies,
        "hits_audited": state.hits_audited,
        "entities": shown.entities,
        "open_conflicts": shown.open_conflicts,
    }


def way_out(shown: SetOverview) -> list[dict[str, Any]] | None:
    """The steps back to being served from the mirror; None for a set that is."""
    if shown.state.forward_reason is None:
        return None
    of = f"/api/sets/{shown.name}"
    conflicts = f"{shown.open_conflicts} conflicts are open: look at them, then let one side win"
    return [
        {"step": "find out what happened upstream", "reason": shown.state.forward_reason},
        {
            "step": conflicts,
            "done": shown.open_conflicts == 0,
            "see": f"/api/conflicts?set={shown.name}",
            "do": f"POST {of}/conflicts/resolve",
        },
        {"step": "compare the set with upstream", "do": f"syncpoint verify {shown.name} --repair"},
        {"step": "serve it again", "do": f"POST {of}/serve"},
    ]


def written(shown: Written) -> dict[str, Any]:
    return {"changed": list(shown.changed), "status": shown.status, "error": shown.error}
