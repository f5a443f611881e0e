"""What shadow mode found, counted by entity set and query shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from itertools import groupby

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.dialects import postgresql

from proxy.reconcile.history import Difference, ShadowCount, Shadowed
from proxy.store.columns import storable
from proxy.store.engine import Connection, compiled
from proxy.store.part import Part
from proxy.store.schema import SHADOW, SHADOW_EXAMPLES

_EXAMPLES = 5
_OF = ("entity_set", "shape")
_COUNTED = ("requests", "same", "different", "not_compared")
_new = postgresql.insert(SHADOW).values(
    **{name: bindparam(name) for name in ("entity_set", "shape", *_COUNTED)}, last_at=func.clock_timestamp()
)
_COUNT = compiled(
    _new.on_conflict_do_update(
        index_elements=[SHADOW.c.entity_set, SHADOW.c.shape],
        set_={name: SHADOW.c[name] + _new.excluded[name] for name in _COUNTED}
        | {"last_at": _new.excluded.last_at},
    )
)
_EXAMPLE = ("entity_set", "shape", "entity_key", "request_id", "mirror", "upstream")
_KEEP = compiled(insert(SHADOW_EXAMPLES).values(**{name: bindparam(name) for name in _EXAMPLE}))
_of_shape = (
    SHADOW_EXAMPLES.c.entity_set == bindparam("of_set"),
    SHADOW_EXAMPLES.c.shape == bindparam("of_shape"),
)
_newest = (
    select(SHADOW_EXAMPLES.c.id).where(*_of_shape).order_by(SHADOW_EXAMPLES.c.id.desc()).limit(_EXAMPLES)
)
_FORGET = compiled(delete(SHADOW_EXAMPLES).where(*_of_shape, SHADOW_EXAMPLES.c.id.not_in(_newest)))
_LIST = compiled(
    select(
        *(SHADOW.c[name] for name in ("entity_set", "shape", *_COUNTED, "last_at")),
        *(SHADOW_EXAMPLES.c[name] for name in ("entity_key", "mirror", "upstream")),
    )
    .select_from(
        SHADOW.outerjoin(
            SHADOW_EXAMPLES,
            (SHADOW_EXAMPLES.c.entity_set == SHADOW.c.entity_set)
            & (SHADOW_EXAMPLES.c.shape == SHADOW.c.shape),
        )
    )
    .order_by(SHADOW.c.entity_set, SHADOW.c.shape, SHADOW_EXAMPLES.c.id.desc())
)


class Shadow(Part):
    """Implements `proxy.reconcile.history.ShadowLog`."""

    async def note_shadow(self, found: Shadowed, request_id: str) -> None:
        """Add to the counts of its shape, and keep the newest examples."""
        of = {"entity_set": found.entity_set, "shape": storable(found.shape)}
        counts = {"requests": 1, **{name: getattr(found, name) for name in _COUNTED[1:]}}

        async def work(connection: Connection) -> None:
            await connection.execute(_COUNT, of | counts)
            for example in found.examples:
                texts = {"mirror": example.mirror, "upstream": example.upstream, "entity_key": example.key}
                named = {name: storable(text) for name, text in texts.items()}
                await connection.execute(_KEEP, of | named | {"request_id": storable(request_id)})
            if found.examples:
                await connection.execute(_FORGET, {"of_set": of["entity_set"], "of_shape": of["shape"]})

        await self._engine.transaction(work)

    async def shadow_counts(self) -> Sequence[ShadowCount]:
        """By entity set and shape."""
        rows = await self._engine.fetch(_LIST)
        counts = []
        for shown, of_shape in groupby(rows, lambda row: row[:7]):
            examples = [Difference(*row[7:]) for row in of_shape if row[7] is not None]
            entity_set, shape, requests, same, different, not_compared, last_at = shown
            at = last_at.astimezone(UTC)
            counts.append(
                ShadowCount(entity_set, shape, requests, same, different, not_compared, at, examples)
            )
        return counts
