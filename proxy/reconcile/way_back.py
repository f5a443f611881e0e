"""Gives a unit of sets back to upstream: what was written without it is sent to it, in order.

Most of that happens while the mirror is still the authority; only the rest, while writes wait. Nobody else
writes to these sets upstream, so each write is sent with no intent: its row in `replays` is the mark. One
that was sent and not answered is looked for before it is sent again. The mirror's rows are left alone until
all is sent, since reads show them; then each takes over what upstream made of it, stamps included. An entity
with a refused write becomes a conflict, for the operator to end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from multidict import CIMultiDict

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.uri import parse_key
from proxy.odata.verbose_json import parse_posted
from proxy.reconcile.authority import Authority
from proxy.reconcile.cutover import CannotMove, Plan, everybody_knows, move_to, moving
from proxy.reconcile.operator import refusal_of
from proxy.reconcile.outcomes import outcome_of, shows
from proxy.reconcile.ports import (
    Fetched,
    NewConflict,
    Outcome,
    Provenance,
    Request,
    Source,
    UpstreamFailure,
)
from proxy.reconcile.replays import Ended, Pending, Replayed, ReplayStore
from proxy.reconcile.service import Service

_AT_ONCE = 100
# So many may be left when writes begin to wait.
_FEW = 20


class WayBack:
    """Moves units back. `alone`: the lease of cutovers; `report` is told of each step."""

    def __init__(
        self,
        store: ReplayStore,
        model: Model,
        alone: Callable[[], AbstractAsyncContextManager[Service]],
        report: Callable[[str], None],
    ) -> None:
        self._store = store
        self._model = model
        self._alone = alone
        self._report = report

    async def move(self, plan: Plan) -> Sequence[Replayed]:
        """Make upstream the authority again; what it refused. Raises CannotMove, StoreUnavailable,
        UpstreamFailure; then the mirror is the authority still."""
        async with self._alone() as service:
            sent = await self._send_most(service, plan)
            async with moving(service, plan, Authority.MIRROR) as epochs:
                since = asyncio.get_running_loop().time()
                self._report("new writes wait; the last ones are sent")
                while writes := await self._store.pending(plan.names, _AT_ONCE):
                    sent += await self._replay(service, writes)
                refused = await self._store.refused(plan.names)
                self._report(
                    f"{sent} writes sent, {len(refused)} refused; what upstream made of them is taken over"
                )
                await self._take_over(service, plan)
                await self._store.forget_verifications(plan.names)
                await everybody_knows(since)
                await move_to(Authority.UPSTREAM, service, epochs, plan)
            await self._store.note_taken_over(plan.names)
            self._report("upstream is the authority")
            return refused

    # Sending

    async def _send_most(self, service: Service, plan: Plan) -> int:
        """Send until little is left, or clients write as fast as that goes; how many were sent."""
        sent, left = 0, await self._store.backlog(plan.names)
        while left > _FEW:
            ends_at = sent + left
            while sent < ends_at:
                writes = await self._store.pending(plan.names, min(_AT_ONCE, ends_at - sent))
                sent += await self._replay(service, writes)
            self._report(f"{sent} writes sent")
            before, left = left, await self._store.backlog(plan.names)
            if left > before / 2:
                break
        return sent

    async def _replay(self, service: Service, writes: Sequence[Pending]) -> int:
        for write in writes:
            await self._store.note_ended(write, await self._ended(service, write))
        return len(writes)

    async def _ended(self, service: Service, write: Pending) -> Ended:
        """Send it, unless it was applied already. Raises CannotMove where that cannot be told."""
        if write.sent_at is not None:
            if await self._is_shown(service, write):
                return Ended(None)
            late = write.sent_at + timedelta(seconds=service.rules.write_limit_s)
            if (wait_s := (late - service.now()).total_seconds()) > 0:
                raise CannotMove(
                    f"local write {write.id} may still be applied: again in {wait_s:.0f} seconds"
                )
        await self._store.note_sent(write, service.now())
        try:
            reply = await service.upstream.send(self._request(service, write))
        except UpstreamFailure as failure:
            if not failure.sent:
                await self._store.note_not_sent(write)
                raise
            raise CannotMove(f"upstream did not answer local write {write.id}: begin again") from failure
        outcome = outcome_of(reply)
        if outcome is Outcome.APPLIED:
            return Ended(reply.status)
        if outcome is Outcome.REFUSED:
            # Of what is there already, or gone, Dynamics says no more than that.
            is_done = write.operation in ("CreateEntity", "DeleteEntity") and await self._is_shown(
                service, write
            )
            return Ended(reply.status, None if is_done else refusal_of(reply))
        raise CannotMove(f"upstream answered {reply.status} to local write {write.id}: begin again")

    def _request(self, service: Service, write: Pending) -> Request:
        headers = CIMultiDict({**service.headers, "Accept": "application/json"})
        body = write.body
        if write.operation == "CreateEntity":  # with the key that the mirror chose
            entity_set = self._model.entity_sets[write.entity_set]
            key = {
                name: value if isinstance(value, int) else str(value)
                for name, value in self._key(write, entity_set)
            }
            body = json.dumps({**json.loads(write.posted or "{}"), **key}).encode()
            headers["Content-Type"] = "application/json"
        elif write.content_type:
            headers["Content-Type"] = write.content_type
        return Request(write.method, f"{service.root_path}{write.path}", headers, body)

    async def _is_shown(self, service: Service, write: Pending) -> bool:
        """Whether upstream shows what the write asks for; of what nobody can tell, False."""
        entity_set = self._model.entity_sets[write.entity_set]
        look = await service.look(entity_set, self._key(write, entity_set), self._model)
        if write.operation == "DeleteEntity":
            return service.is_gone(look)
        if look.fetched is None or not write.posted:
            return False
        try:
            posted = parse_posted(write.posted.encode(), entity_set.entity_type, self._model)
        except ODataError:
            return False
        rules = service.rules
        changes = {
            name: value
            for name, value in posted.items()
            if name not in (rules.modified_property, rules.version_property)
        }
        return shows(changes, look.fetched.values)

    def _key(self, write: Pending, entity_set: EntitySet) -> EntityKey:
        return parse_key(write.key, entity_set.entity_type)

    # Taking over

    async def _take_over(self, service: Service, plan: Plan) -> None:
        entities = await self._store.replayed(plan.names)
        for name, text, is_refused in entities:
            entity_set = self._model.entity_sets[name]
            key = parse_key(text, entity_set.entity_type)
            await self._take_over_one(service, entity_set, key, is_refused=is_refused)

    async def _take_over_one(
        self, service: Service, entity_set: EntitySet, key: EntityKey, *, is_refused: bool
    ) -> None:
        look = await service.look(entity_set, key, self._model)
        provenance = Provenance(Source.COMPARISON)
        if look.fetched is None and not service.is_gone(look):
            raise CannotMove(f"{entity_set.name}: upstream answered {look.reply.status} for a written entity")
        if is_refused:
            await self._conflict(service, entity_set, key, look.fetched)
        elif look.fetched is None:
            await service.store.bury(entity_set, key, look.number, provenance)
        else:
            await service.store.put(entity_set, [look.fetched], provenance)

    async def _conflict(
        self, service: Service, entity_set: EntitySet, key: EntityKey, seen: Fetched | None
    ) -> None:
        """What upstream lacks altogether is only listed: there is nothing to MERGE with."""
        held = (await service.store.get(entity_set, [key])).get(key)
        if held is not None and seen is not None:
            await service.store.record_conflict(NewConflict(entity_set, held, seen, seen.fetched_at, ""))
