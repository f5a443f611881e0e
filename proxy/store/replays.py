"""What became upstream of the mirror's own writes, on the way back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import ARRAY, Text, bindparam, cast, delete, func, select, update
from sqlalchemy.dialects import postgresql

from proxy.reconcile.replays import Ended, Pending, Replayed
from proxy.store.columns import storable
from proxy.store.engine import compiled
from proxy.store.part import Part
from proxy.store.schema import LOCAL_WRITES, REPLAYS, VERIFICATIONS

_sets = cast(bindparam("sets"), ARRAY(Text))
_WRITE = ("id", "entity_set", "entity_key", "operation", "method", "path", "body", "content_type", "posted")
_PENDING = compiled(
    select(*(LOCAL_WRITES.c[name] for name in _WRITE), REPLAYS.c.sent_at)
    .select_from(LOCAL_WRITES.outerjoin(REPLAYS, REPLAYS.c.local_write == LOCAL_WRITES.c.id))
    .where(LOCAL_WRITES.c.entity_set == func.any(_sets), REPLAYS.c.outcome.is_(None))
    .order_by(LOCAL_WRITES.c.id)
    .limit(bindparam("limit"))
)
_BACKLOG = compiled(
    select(func.count())
    .select_from(LOCAL_WRITES.outerjoin(REPLAYS, REPLAYS.c.local_write == LOCAL_WRITES.c.id))
    .where(LOCAL_WRITES.c.entity_set == func.any(_sets), REPLAYS.c.outcome.is_(None))
)
_sent = postgresql.insert(REPLAYS).values(
    {name: bindparam(name) for name in ("local_write", "entity_set", "entity_key", "sent_at")}
)
_NOTE_SENT = compiled(
    _sent.on_conflict_do_update(
        index_elements=[REPLAYS.c.local_write], set_={"sent_at": _sent.excluded.sent_at}
    )
)
_FORGET = compiled(delete(REPLAYS).where(REPLAYS.c.local_write == bindparam("of_write")))
_NOTE_ENDED = compiled(
    update(REPLAYS)
    .values(
        outcome=bindparam("ended"),
        status=bindparam("said"),
        message=bindparam("why"),
        ended_at=func.clock_timestamp(),
    )
    .where(REPLAYS.c.local_write == bindparam("of_write"))
)
_REPLAYED = compiled(
    select(REPLAYS.c.entity_set, REPLAYS.c.entity_key, func.bool_or(REPLAYS.c.outcome == "refused"))
    .where(REPLAYS.c.entity_set == func.any(_sets), REPLAYS.c.taken_over.is_(False))
    .group_by(REPLAYS.c.entity_set, REPLAYS.c.entity_key)
    .order_by(REPLAYS.c.entity_set, REPLAYS.c.entity_key)
)
_TAKEN_OVER = compiled(
    update(REPLAYS)
    .values(taken_over=True)
    .where(REPLAYS.c.entity_set == func.any(_sets), REPLAYS.c.outcome.is_not(None))
)
_REFUSED = compiled(
    select(
        REPLAYS.c.local_write,
        LOCAL_WRITES.c.operation,
        REPLAYS.c.entity_set,
        REPLAYS.c.entity_key,
        REPLAYS.c.status,
        REPLAYS.c.message,
    )
    .join_from(REPLAYS, LOCAL_WRITES, LOCAL_WRITES.c.id == REPLAYS.c.local_write)
    .where(
        REPLAYS.c.entity_set == func.any(_sets),
        REPLAYS.c.outcome == "refused",
        REPLAYS.c.taken_over.is_(False),
    )
    .order_by(REPLAYS.c.local_write)
)
_FORGET_VERIFICATIONS = compiled(delete(VERIFICATIONS).where(VERIFICATIONS.c.entity_set == func.any(_sets)))


class Replays(Part):
    """Implements `proxy.reconcile.replays.ReplayStore`."""

    async def pending(self, entity_sets: Collection[str], limit: int) -> Sequence[Pending]:
        """The mirror's own writes that upstream has not got, or may not have, in their order."""
        rows = await self._engine.fetch(_PENDING, {"sets": list(entity_sets), "limit": limit})
        return [
            Pending(
                number, name, key, operation, method, path, bytes(body), content_type, posted, _utc(sent_at)
            )
            for number, name, key, operation, method, path, body, content_type, posted, sent_at in rows
        ]

    async def backlog(self, entity_sets: Collection[str]) -> int:
        """How many these are."""
        ((count,),) = await self._engine.fetch(_BACKLOG, {"sets": list(entity_sets)})
        return int(count)

    async def note_sent(self, write: Pending, at: datetime) -> None:
        """It is about to be sent."""
        parameters = {
            "local_write": write.id,
            "entity_set": write.entity_set,
            "entity_key": write.key,
            "sent_at": at,
        }
        await self._engine.transaction(lambda connection: connection.execute(_NOTE_SENT, parameters))

    async def note_not_sent(self, write: Pending) -> None:
        """It was not, for certain."""
        await self._engine.transaction(lambda connection: connection.execute(_FORGET, {"of_write": write.id}))

    async def note_ended(self, write: Pending, ended: Ended) -> None:
        """What became of it is known."""
        parameters = {
            "of_write": write.id,
            "ended": "refused" if ended.refusal is not None else "replayed",
            "said": ended.status,
            "why": None if ended.refusal is None else storable(ended.refusal),
        }
        await self._engine.transaction(lambda connection: connection.execute(_NOTE_ENDED, parameters))

    async def replayed(self, entity_sets: Collection[str]) -> Sequence[tuple[str, str, bool]]:
        """Entities that were written, with what upstream made of them not taken over yet: set, key, and
        whether one of their writes was refused."""
        rows = await self._engine.fetch(_REPLAYED, {"sets": list(entity_sets)})
        return [(entity_set, key, is_refused) for entity_set, key, is_refused in rows]

    async def note_taken_over(self, entity_sets: Collection[str]) -> None:
        """Upstream is the authority: what was replayed until now is done with."""
        parameters = {"sets": list(entity_sets)}
        await self._engine.transaction(lambda connection: connection.execute(_TAKEN_OVER, parameters))

    async def refused(self, entity_sets: Collection[str]) -> Sequence[Replayed]:
        """What upstream refused on this way back."""
        rows = await self._engine.fetch(_REFUSED, {"sets": list(entity_sets)})
        return [Replayed(*row) for row in rows]

    async def forget_verifications(self, entity_sets: Collection[str]) -> None:
        """What was compared before says nothing any more."""
        parameters = {"sets": list(entity_sets)}
        await self._engine.transaction(
            lambda connection: connection.execute(_FORGET_VERIFICATIONS, parameters)
        )


def _utc(value: datetime | None) -> datetime | None:
    return value and value.astimezone(UTC)
