"""Finds what an unanswered create may have made: only its content can tell (rule 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.reconcile.outcomes import shows
from proxy.reconcile.ports import Fetched, Intent
from proxy.reconcile.service import Service

_CREATED = "CreatedOn"
_BACKDATED = "OverriddenCreatedOn"  # sets CreatedOn into the past (field manual 6.7)
_MARGIN = timedelta(minutes=10)  # by which the two clocks may differ before upstream has shown its own
_MOST_PAGES = 40


async def find_created(
    service: Service,
    intent: Intent,
    entity_set: EntitySet,
    changes: Mapping[str, Any],
    model: Model,
    number: int,
) -> tuple[Sequence[Fetched], bool]:
    """Entities created since the intent was opened that show all it posted, and that no other write made.

    And whether that is all there can be: False where the set does not say when its entities were created,
    or too many were. `number` was drawn before. Raises StoreUnavailable, UpstreamFailure, ODataError.
    """
    declared = entity_set.entity_type.properties
    if _CREATED not in declared or _BACKDATED in changes:
        return [], False
    # A deep insert's children are entities of their own, and not shown by this one.
    changes = {name: value for name, value in changes.items() if name in declared}
    created, is_all = await _created_since(
        service, entity_set, intent.opened_at - _MARGIN, model, number, intent.opened_at
    )
    alike = [state for state in created if shows(changes, state.values)]
    claimed = await service.store.keys_created(entity_set, [state.key for state in alike])
    return [state for state in alike if state.key not in claimed], is_all


async def _created_since(
    service: Service,
    entity_set: EntitySet,
    since: datetime,
    model: Model,
    number: int,
    opened_at: datetime,
) -> tuple[list[Fetched], bool]:
    found: list[Fetched] = []
    literal = PRIMITIVES["Edm.DateTime"].to_literal(since.replace(tzinfo=None, microsecond=0))
    target = f"{service.root_path}/{entity_set.name}?$filter={_CREATED}%20ge%20{literal}&$orderby={_CREATED}"
    for page_number in range(_MOST_PAGES):
        reply = await service.get(target)
        if reply.status != 200:
            raise ODataError(f"Upstream answered {reply.status} {reply.reason}.")
        if not page_number and reply.upstream_sent_at is not None:
            behind = reply.sent_at - reply.upstream_sent_at
            if opened_at - behind - timedelta(seconds=5) < since:  # its clock is further back than assumed
                return await _created_since(
                    service, entity_set, opened_at - behind - _MARGIN, model, number, opened_at
                )
        page = service.mirror.read_page(reply, entity_set, model, number)
        found += page.fetched
        following = service.target_of(page.next_link)
        if following is None:
            return found, True
        target = following
    return found, False
