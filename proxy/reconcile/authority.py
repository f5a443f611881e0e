"""Who decides what is true of an entity set: upstream, until its cutover, then the mirror.

What holds is a row in the database, and every change of it raises the set's epoch. A write names the epochs
that it saw; its mark, or its local transaction, is not committed under others (AuthorityMoved), and it begins
again on the side that is right now. So no process has to hear of a change in time for writes to be safe.

Reads take what this process knows. It reads the table twice a second, and asks before it answers where that
is older than `TRUST_S` or a set is being moved. Whoever moves a set waits longer than that, so that every
process knows that it is moving, and from then on asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from proxy.reconcile.errors import AuthorityMoving
from proxy.reconcile.observations import AuthorityChanged, Observe, StoreFailed
from proxy.reconcile.ports import AuthorityMoved, StoreUnavailable

# Entity set names, and the epoch seen of each.
Epochs = Mapping[str, int]

TRUST_S = 2.0
_READ_EVERY_S = 0.5
_READ_WHILE_MOVING_S = 0.05


class Authority(StrEnum):
    """Who decides. MOVING: nobody yet; writes wait."""

    UPSTREAM = "upstream"
    MOVING = "moving"
    MIRROR = "mirror"


@dataclass(frozen=True, slots=True)
class Holding:
    """The authority of one set. `answers`: whose state reads show; while MOVING, that of before.

    `since`, `by`: when and by whom that was changed.
    """

    entity_set: str
    authority: Authority
    answers: Authority
    epoch: int
    since: datetime
    by: str


T = TypeVar("T")


class AuthorityStore(Protocol):
    """Where it is written. Every method raises StoreUnavailable."""

    async def holdings(self) -> Sequence[Holding]:
        """Of every set that was ever moved."""

    async def move_authorities(
        self, epochs: Epochs, authority: Authority, answers: Authority, by: str
    ) -> Epochs | None:
        """Give all these sets to another authority at once; their epochs from now on. None: one of them has
        another epoch than this."""


class Authorities:
    """What this process knows of it. `wait_s`: how long a write waits for a set that is being moved."""

    def __init__(self, store: AuthorityStore, observe: Observe, *, wait_s: float = 60.0) -> None:
        self._store = store
        self._observe = observe
        self._wait_s = wait_s
        self._held: Mapping[str, Holding] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    def of(self, entity_set: str) -> tuple[Authority, int]:
        """Authority and epoch, as far as known."""
        held = self._held.get(entity_set)
        return (Authority.UPSTREAM, 0) if held is None else (held.authority, held.epoch)

    def answers(self, entity_set: str) -> Authority:
        """Whose state reads show: UPSTREAM or MIRROR."""
        held = self._held.get(entity_set)
        return Authority.UPSTREAM if held is None else held.answers

    def holdings(self) -> Sequence[Holding]:
        """Of every set that was ever moved, as far as known."""
        return list(self._held.values())

    async def follow(self, entity_sets: Iterable[str]) -> None:
        """See to it that what `of` and `answers` say of these sets holds now.

        Where the database does not answer they say what was known last: then nothing is written anyway.
        Raises StoreUnavailable while nothing was ever known.
        """
        if self._is_fresh() and not any(self._is_moving(name) for name in entity_sets):
            return
        try:
            await self.read()
        except StoreUnavailable as error:
            if self._read_at is None:  # what was cut over would be asked of upstream
                raise
            self._observe(StoreFailed("authority", str(error)))
            self._read_at = self._now()  # not every request waits for it

    async def on_its_side(
        self,
        entity_sets: Collection[str],
        upstream: Callable[[Epochs], Awaitable[T]],
        mirror: Callable[[Epochs], Awaitable[T]],
    ) -> T:
        """Carry out a write that writes to these sets where their authority is; `mirror` where it is that of
        any of them. Begun again on the other side where it moves before the write is marked.

        Raises AuthorityMoving, and what they raise.
        """
        while True:
            epochs = await self.settled(entity_sets)
            is_mirrors = any(self.of(name)[0] is Authority.MIRROR for name in entity_sets)
            try:
                return await (mirror if is_mirrors else upstream)(epochs)
            except AuthorityMoved:
                await self.read()

    async def settled(self, entity_sets: Iterable[str]) -> Epochs:
        """Wait until none of these sets is being moved; the epochs that hold then.

        Raises AuthorityMoving where that takes longer than a write may wait.
        """
        names = list(entity_sets)
        await self.follow(names)
        gives_up_at = self._now() + self._wait_s
        while any(self._is_moving(name) for name in names):
            if self._now() >= gives_up_at:
                raise AuthorityMoving
            await asyncio.sleep(_READ_WHILE_MOVING_S)
            await self.follow(names)
        return {name: self.of(name)[1] for name in names}

    async def wait(self, entity_set: str) -> None:
        """Wait until the set is not being moved. Raises AuthorityMoving."""
        await self.settled([entity_set])

    async def read(self) -> None:
        """Learn what holds now; who comes while that goes on waits for the next. Raises StoreUnavailable."""
        if self._reading is not None:
            # It may have been sent before what the caller wants to know.
            await asyncio.wait([self._reading])
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="authorities")
            self._reading.add_done_callback(self._is_read)
        await asyncio.shield(self._reading)

    async def watch(self) -> None:
        """Keep what is known fresh, until cancelled."""
        while True:
            try:
                await self.read()
            except StoreUnavailable as error:
                self._observe(StoreFailed("authority", str(error)))
            await asyncio.sleep(_READ_EVERY_S)

    async def _read(self) -> None:
        sent_at = self._now()
        before, self._held = self._held, {held.entity_set: held for held in await self._store.holdings()}
        self._read_at = sent_at
        changed: dict[tuple[Authority, str], list[str]] = {}
        for name, held in self._held.items():
            if name not in before or before[name].authority is not held.authority:
                changed.setdefault((held.authority, held.by), []).append(name)
        for (authority, by), names in changed.items():
            self._observe(AuthorityChanged(tuple(names), authority.value, by))

    def _is_read(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # whoever waited has it

    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._now() - self._read_at < TRUST_S

    def _is_moving(self, entity_set: str) -> bool:
        return self.of(entity_set)[0] is Authority.MOVING

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
