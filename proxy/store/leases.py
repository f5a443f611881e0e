"""Leases: who may do alone what must be done by one process at a time, and transactions that check it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Self, TypeVar

from sqlalchemy import Interval, bindparam, cast, delete, func, literal, select, update
from sqlalchemy.dialects import postgresql

from proxy.reconcile.progress import Lease, LeaseLost
from proxy.store.engine import Connection, Row, Statement, compiled
from proxy.store.part import Database, Part
from proxy.store.schema import LEASES

T = TypeVar("T")

_NOW = func.clock_timestamp()
_expires_at = _NOW + cast(bindparam("lifetime"), Interval)
_offer = postgresql.insert(LEASES).values(
    name=bindparam("lease"), holder=bindparam("by"), fence=bindparam("first", 1), expires_at=_expires_at
)
_ACQUIRE = compiled(
    _offer.on_conflict_do_update(
        index_elements=[LEASES.c.name],
        set_={
            "holder": _offer.excluded.holder,
            "fence": LEASES.c.fence + literal(1),
            "expires_at": _offer.excluded.expires_at,
        },
        where=LEASES.c.expires_at <= _NOW,
    ).returning(LEASES.c.fence)
)
_is_held = (
    LEASES.c.name == bindparam("lease"),
    LEASES.c.fence == bindparam("fenced"),
    LEASES.c.expires_at > _NOW,
)
_RENEW = compiled(update(LEASES).values(expires_at=_expires_at).where(*_is_held))
_RELEASE = compiled(update(LEASES).values(expires_at=_NOW).where(*_is_held))
# Locked until the transaction ends: whoever takes the lease over waits for what was written under it.
_CHECK = compiled(select(LEASES.c.fence).where(*_is_held).with_for_update(read=True))
# Names of processes are never used again.
_FORGET = compiled(
    delete(LEASES).where(
        LEASES.c.expires_at < _NOW - cast(literal("1 day"), Interval), LEASES.c.name == LEASES.c.holder
    )
)


class Leases(Part):
    """The part of the port that is about leases. `holder`: this process."""

    holder: str

    async def acquire_lease(self, name: str, lifetime_s: float) -> Lease | None:
        """Take a lease that nobody holds, or whose holder let it run out. None: it is held."""
        parameters = {"lease": name, "by": self.holder, "lifetime": timedelta(seconds=lifetime_s)}

        async def work(connection: Connection) -> list[Row]:
            await connection.execute(_FORGET)
            return await connection.fetch(_ACQUIRE, parameters)

        for (fence,) in await self._engine.transaction(work):
            return Lease(name, int(fence))
        return None

    async def renew_lease(self, lease: Lease, lifetime_s: float) -> bool:
        """False: it ran out, or is another's."""
        parameters = {**_named(lease), "lifetime": timedelta(seconds=lifetime_s)}
        return bool(await self._engine.transaction(lambda connection: connection.execute(_RENEW, parameters)))

    async def release_lease(self, lease: Lease) -> None:
        """Let others have it now."""
        await self._engine.transaction(lambda connection: connection.execute(_RELEASE, _named(lease)))

    def under(self, lease: Lease) -> Self:
        """The same store, whose every transaction holds the lease while it commits, or raises LeaseLost."""
        other = copy.copy(self)
        other._engine = _Fenced(self._engine, lease)
        return other


class _Fenced:
    """A database whose transactions begin by asking whether the lease is still held."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        return await self._database.fetch(statement, parameters)

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        async def guarded(connection: Connection) -> T:
            if not await connection.fetch(_CHECK, _named(self._lease)):
                raise LeaseLost(self._lease.name)
            return await work(connection)

        return await self._database.transaction(guarded, timeout_s=timeout_s)


def _named(lease: Lease) -> dict[str, Any]:
    return {"lease": lease.name, "fenced": lease.fence}
