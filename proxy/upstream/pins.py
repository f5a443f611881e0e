"""Connections to upstream that belong to one client's connection each (sync contract, rule 8).

NTLM and Negotiate log in a connection, not a request. From the first message of such a login a client's
connection has an upstream connection of its own, for all its requests and for what is asked on its
behalf, one after another; it is closed with the client's and never given to another.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

# Each costs a socket on both sides; clients that never end their connections must not take them all.
MAX_PINS = 1000
# Upstream decides when a login ends, not we.
KEEPALIVE_S = 3600.0


class Pin:
    """One connection. `in_login`: upstream waits for the next message of a login, and for nothing else.

    `str` of it is a name that no other ever has.
    """

    __slots__ = ("_name", "in_login", "session")

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._name = uuid.uuid4().hex
        self.session = session
        self.in_login = False

    def __str__(self) -> str:
        return self._name


class Pins:
    """The pins of one client of upstream. `new_session` makes a session that has one connection."""

    def __init__(self, new_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._new_session = new_session
        self._pins: dict[asyncio.Task[Any], Pin] = {}
        self._lone: set[Pin] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._pins)

    def get(self, connection: asyncio.Task[Any]) -> Pin | None:
        """The pin of a client's connection, which is known by the task that serves it."""
        return self._pins.get(connection)

    def make(self, connection: asyncio.Task[Any]) -> Pin:
        """A pin that is closed when `connection` ends. Raises RuntimeError where there are too many."""
        if len(self._pins) >= MAX_PINS:
            raise RuntimeError("too many connections are logged in")
        pin = self._pins[connection] = Pin(self._new_session())
        connection.add_done_callback(self._end)
        return pin

    def lone(self) -> Pin:
        """A connection of the proxy's own, until it is dropped."""
        pin = Pin(self._new_session())
        self._lone.add(pin)
        return pin

    async def drop(self, pin: Pin) -> None:
        self._lone.discard(pin)
        await pin.session.close()

    def _end(self, connection: asyncio.Task[Any]) -> None:
        closing = asyncio.create_task(self._pins.pop(connection).session.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for connection in tuple(self._pins):
            connection.remove_done_callback(self._end)
            self._end(connection)
        await asyncio.gather(*self._closing, *map(self.drop, tuple(self._lone)))
