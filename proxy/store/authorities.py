"""Who decides what is true of each entity set, and the check that a write still sees it right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from sqlalchemy import bindparam, func, select

from proxy.reconcile.authority import Authority, Epochs, Holding
from proxy.store.columns import storable
from proxy.store.engine import Connection, compiled
from proxy.store.epochs import EPOCHS, SETS, epoch_values
from proxy.store.part import Part
from proxy.store.schema import AUTHORITIES

_HOLDING = ("entity_set", "authority", "answers", "epoch", "since", "by")
_LIST = compiled(select(*(AUTHORITIES.c[name] for name in _HOLDING)).order_by(AUTHORITIES.c.entity_set))
_MOVE = compiled(
    select(
        func.syncpoint.move_authorities(
            SETS, EPOCHS, bindparam("authority"), bindparam("answers"), bindparam("who")
        )
    )
)


class AuthorityTable(Part):
    """Implements `proxy.reconcile.authority.AuthorityStore`."""

    async def holdings(self) -> Sequence[Holding]:
        """Of every set that was ever moved."""
        return [
            Holding(name, Authority(authority), Authority(answers), epoch, since.astimezone(UTC), by)
            for name, authority, answers, epoch, since, by in await self._engine.fetch(_LIST)
        ]

    async def move_authorities(
        self, epochs: Epochs, authority: Authority, answers: Authority, by: str
    ) -> Epochs | None:
        """Give all these sets to another authority at once; their epochs from now on. None: one of them has
        another epoch than this."""
        parameters = {
            "authority": authority.value,
            "answers": answers.value,
            "who": storable(by),
            **epoch_values(epochs),
        }

        async def work(connection: Connection) -> bool:
            ((is_moved,),) = await connection.fetch(_MOVE, parameters)
            return bool(is_moved)

        is_moved = await self._engine.transaction(work)
        return {name: epoch + 1 for name, epoch in epochs.items()} if is_moved else None
