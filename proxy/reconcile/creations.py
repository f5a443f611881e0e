"""Looks for the entity that a create without an answer may have made (rule 6).

Upstream makes the key, so there is nothing to read back: what it created in that time is compared with what
was posted. A key that the client chose is simply read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import CreateEntity
from proxy.odata.primitives import PRIMITIVES
from proxy.reconcile.exchange import Ask
from proxy.reconcile.mirror import Mirror, read_json
from proxy.reconcile.outcomes import Creations, key_from, requested_changes
from proxy.reconcile.ports import Fetched, Intent, Reply
from proxy.reconcile.writer import read_posted

CREATED_ON = "CreatedOn"
# How far upstream's clock may be from ours: Kerberos takes no more between the servers of a domain either.
CLOCK_SLACK = timedelta(minutes=5)
# Sets CreatedOn to any day in the past (field manual, 6.7).
_MOVES_CREATED_ON = "OverriddenCreatedOn"
_ROWS = 50  # what a page of upstream holds
_STRINGS = 3  # to ask for; IIS takes a query of 2,048 characters
_STRING_LENGTH = 100


async def look_for(
    intent: Intent, entity_set: EntitySet, model: Model, mirror: Mirror, ask: Ask
) -> Creations | None:
    """Ask upstream. None: it says nothing that can be used. Raises StoreUnavailable, UpstreamFailure."""
    posted = _posted(intent, entity_set, model, mirror)
    if posted is None:
        return Creations(None, (), (), False, intent.fetch_number)
    key = key_from(posted, entity_set.entity_type.key)
    if key is not None:
        seen = await _by_key(key, entity_set, model, mirror, ask)
    else:
        seen = await _by_content(intent, posted, entity_set, model, mirror, ask)
    if seen is None:
        return None
    number, shown, is_complete = seen
    claimed = await mirror.store.claimed(entity_set, [state.key for state in shown], intent.fetch_number)
    found = [state for state in shown if state.key not in claimed]
    since, until = _window(intent, mirror)
    others = await mirror.store.unsettled_creates(entity_set, since - (until - since), until)
    rivals = [_posted(other, entity_set, model, mirror) for other in others if other.id != intent.id]
    return Creations(posted, found, rivals, is_complete, number)


_Seen = tuple[int, Sequence[Fetched], bool]  # the fetch's number, what it shows, whether that is all


async def _by_key(
    key: EntityKey, entity_set: EntitySet, model: Model, mirror: Mirror, ask: Ask
) -> _Seen | None:
    look = await mirror.fetch_key(entity_set, key, model, ask)
    if look.fetched is not None:
        return look.number, [look.fetched], True
    return (look.number, (), True) if mirror.is_gone(look.reply, ask) else None


async def _by_content(
    intent: Intent, posted: Mapping[str, Any], entity_set: EntitySet, model: Model, mirror: Mirror, ask: Ask
) -> _Seen | None:
    created_on = entity_set.entity_type.properties.get(CREATED_ON)
    if created_on is None or created_on.type != "Edm.DateTime" or posted.get(_MOVES_CREATED_ON) is not None:
        return intent.fetch_number, (), False
    window = _window(intent, mirror)
    # Upstream refuses to compare long texts, and the metadata document does not say which are (3.1).
    for by_strings in (True, False):
        query = creation_query(entity_set, posted, *window, by_strings=by_strings)
        number, reply = await mirror.ask_upstream(f"{mirror.root_path}/{entity_set.name}?{query}", ask)
        try:
            shown = mirror.read_entities(reply, entity_set, model, number)
        except ODataError:
            continue
        has_more = len(shown) >= _ROWS or read_json(reply)[1].next_span is not None
        return number, shown, not has_more and _clock_is_near(reply)
    return (number, (), False) if 400 <= reply.status < 500 else None


def creation_query(
    entity_set: EntitySet, posted: Mapping[str, Any], since: datetime, until: datetime, *, by_strings: bool
) -> str:
    """A query for what was created between two instants, aware, and shows one of some strings posted.

    Within what Dynamics 2011 can filter by (field manual, 3.1).
    """
    literal = PRIMITIVES["Edm.DateTime"].to_literal
    tests = [
        f"{CREATED_ON} {operator} {literal(at.astimezone(UTC).replace(microsecond=0, tzinfo=None))}"
        for operator, at in (("ge", since), ("le", until))
    ]
    if by_strings:
        quoted = PRIMITIVES["Edm.String"].to_literal
        strings = [
            f"{name} eq {quoted(value)}"
            for name, value in posted.items()
            if (declared := entity_set.entity_type.properties.get(name)) is not None
            if declared.type == "Edm.String" and value and len(value) <= _STRING_LENGTH
        ][:_STRINGS]
        # Any of them, so that what a plug-in has changed in part is not taken for absent.
        tests += [f"({' or '.join(strings)})"] if strings else []
    return f"$filter={quote(' and '.join(tests), safe='')}&$top={_ROWS}"


def _posted(intent: Intent, entity_set: EntitySet, model: Model, mirror: Mirror) -> dict[str, Any] | None:
    posted = read_posted(CreateEntity(entity_set), intent.body, intent.content_type, model)
    rules = mirror.rules
    filled = frozenset({rules.modified_property, rules.version_property, CREATED_ON})
    return None if posted is None else requested_changes(posted, None, filled)


def _window(intent: Intent, mirror: Mirror) -> tuple[datetime, datetime]:
    """When the entity can have been created, by upstream's clock."""
    last = intent.opened_at + timedelta(seconds=mirror.rules.write_limit_s)
    return intent.opened_at - CLOCK_SLACK, last + CLOCK_SLACK


def _clock_is_near(reply: Reply) -> bool:
    return reply.upstream_sent_at is not None and abs(reply.upstream_sent_at - reply.sent_at) <= CLOCK_SLACK
