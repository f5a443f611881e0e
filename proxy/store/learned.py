"""What the proxy has learned: about entity sets, and the metadata documents it has seen."""

from __future__ import annotations

import hashlib

from sqlalchemy import LargeBinary, Text, bindparam, cast, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.odata.edm import EntitySet
from proxy.reconcile.ports import SetState
from proxy.store.columns import storable
from proxy.store.engine import Connection, compiled
from proxy.store.part import Part
from proxy.store.schema import METADATA_VERSIONS, SET_STATES

_METADATA_LOCK = 0x4D455441  # "META"

_STATE = ("title", "proven", "forward_reason", "lies", "hits_audited")
_FIND_STATE = compiled(
    select(*(SET_STATES.c[name] for name in _STATE)).where(SET_STATES.c.entity_set == bindparam("of_set"))
)
_new_state = postgresql.insert(SET_STATES).values(
    entity_set=bindparam("of_set"),
    proven=cast(bindparam("proven"), ARRAY(Text)),
    **{name: bindparam(name) for name in _STATE if name != "proven"},
)
_SAVE_STATE = compiled(
    _new_state.on_conflict_do_update(
        index_elements=[SET_STATES.c.entity_set], set_={name: _new_state.excluded[name] for name in _STATE}
    )
)
_first_lie = postgresql.insert(SET_STATES).values(
    entity_set=bindparam("of_set"), proven=cast([], ARRAY(Text)), lies=1, hits_audited=0
)
_COUNT_LIE = compiled(
    _first_lie.on_conflict_do_update(
        index_elements=[SET_STATES.c.entity_set], set_={"lies": SET_STATES.c.lies + 1}
    ).returning(SET_STATES.c.lies)
)
_LATEST = select(METADATA_VERSIONS).order_by(METADATA_VERSIONS.c.id.desc()).limit(1).subquery()
_FIND_METADATA = compiled(select(_LATEST.c.document))
_LOCK_METADATA = compiled(select(func.pg_advisory_xact_lock(_METADATA_LOCK)))
_digest = cast(bindparam("digest"), LargeBinary)
_SAVE_METADATA = compiled(
    insert(METADATA_VERSIONS).from_select(
        ["document", "digest"],
        select(cast(bindparam("document"), LargeBinary), _digest).where(
            _digest.is_distinct_from(select(_LATEST.c.digest).scalar_subquery())
        ),
    )
)


class Learned(Part):
    """The part of the port that is about sets as such and the metadata document."""

    async def set_state(self, entity_set: EntitySet) -> SetState:
        """What was learned about the set; nothing at first."""
        rows = await self._engine.fetch(_FIND_STATE, {"of_set": entity_set.name})
        for title, proven, forward_reason, lies, hits_audited in rows:
            return SetState(title, frozenset(proven), forward_reason, lies, hits_audited)
        return SetState()

    async def save_set_state(self, entity_set: EntitySet, state: SetState) -> None:
        """Put it in the place of what was known."""
        parameters = {
            "of_set": entity_set.name,
            "title": state.title,
            "proven": sorted(state.proven),
            "forward_reason": state.forward_reason and storable(state.forward_reason),
            "lies": state.lies,
            "hits_audited": state.hits_audited,
        }
        await self._engine.transaction(lambda connection: connection.execute(_SAVE_STATE, parameters))

    async def count_lie(self, entity_set: EntitySet) -> int:
        """Raise the set's `lies` by one, and give what they are now."""

        async def work(connection: Connection) -> int:
            ((lies,),) = await connection.fetch(_COUNT_LIE, {"of_set": entity_set.name})
            return int(lies)

        return await self._engine.transaction(work)

    async def latest_metadata(self) -> bytes | None:
        """The metadata document last seen from upstream."""
        for (document,) in await self._engine.fetch(_FIND_METADATA):
            return bytes(document)
        return None

    async def save_metadata(self, document: bytes) -> None:
        """Record a version, unless it is the latest already."""
        parameters = {"document": document, "digest": hashlib.sha256(document).digest()}

        async def work(connection: Connection) -> None:
            await connection.fetch(_LOCK_METADATA)
            await connection.execute(_SAVE_METADATA, parameters)

        await self._engine.transaction(work)
