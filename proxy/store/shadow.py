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
_ENTITIES = ("same", "different", "not_compared")
_SELECTIONS = ("alike", "unlike", "unsure")
_COUNTED = ("requests", *_ENTITIES, *_SELECTIONS)
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
_SHOWN = ("entity_key", "mirror", "upstream", "kind", "query")
_EXAMPLE = ("entity_set", "shape", "request_id", *_SHOWN)
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
        *(SHADOW.c[name] for name in (*_OF, *_COUNTED, "last_at")),
        *(SHADOW_EXAMPLES.c[name] for name in _SHOWN),
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
        counts = {"requests": 1, **{name: getattr(found, name) for name in _ENTITIES}}
        counts |= {name: int(found.selection == name) for name in _SELECTIONS}

        async def work(connection: Connection) -> None:
            await connection.execute(_COUNT, of | counts)
            for example in found.examples:
                texts = (example.key, example.mirror, example.upstream, example.kind, example.query)
                named = {
                    name: None if text is None else storable(text)
                    for name, text in zip(_SHOWN, texts, strict=True)
                }
                await connection.execute(_KEEP, of | named | {"request_id": storable(request_id)})
            if found.examples:
                await connection.execute(_FORGET, {"of_set": of["entity_set"], "of_shape": of["shape"]})

        await self._engine.transaction(work)

    async def shadow_counts(self) -> Sequence[ShadowCount]:
        """By entity set and shape."""
        rows = await self._engine.fetch(_LIST)
        counts = []
        length = len(_OF) + len(_COUNTED)
        for shown, of_shape in groupby(rows, lambda row: row[: length + 1]):
            examples = [Difference(*row[length + 1 :]) for row in of_shape if row[length + 1] is not None]
            named = dict(zip((*_OF, *_COUNTED), shown[:-1], strict=True))
            counts.append(ShadowCount(**named, last_at=shown[-1].astimezone(UTC), examples=examples))
        return counts
