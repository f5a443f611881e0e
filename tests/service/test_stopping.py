"""SIGTERM while writes are under way: the command's own process settles them before it ends."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import pytest
from command import ANY_PORT, TIMEOUT_S, Command, running
from storing import query, revisions
from yarl import URL

from proxy.sandbox import Fault, Sandbox

HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


@dataclass
class Stopping:
    """The command, told to stop while `writes` wait for upstream; `sent` are what upstream got of them."""

    sandbox: Sandbox
    command: Command
    writes: list[asyncio.Task[tuple[int, bytes]]]
    held: list[Fault]

    @property
    def sent(self) -> list[str]:
        return [entry.method for entry in self.sandbox.journal if entry.method not in ("GET", "HEAD")]

    def release(self) -> None:
        for fault in self.held:
            assert fault.event is not None
            fault.event.set()

    async def ended(self) -> int:
        """The exit code, once the command has ended by itself."""
        await asyncio.wait_for(self.command.errors(), TIMEOUT_S)
        return await asyncio.wait_for(self.command.process.wait(), TIMEOUT_S)


async def write(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes | None
) -> tuple[int, bytes]:
    target = URL(url, encoded=True)
    async with session.request(method, target, data=body, headers=HEADERS) as response:
        return response.status, await response.read()


@asynccontextmanager
async def stopping(database_url: str, signal_number: int, **environment: str) -> AsyncIterator[Stopping]:
    sandbox = Sandbox(rows=10)
    merged, deleted = sandbox.organisation.keys("AccountSet")[:2]
    async with sandbox.serve() as root, aiohttp.ClientSession() as session:
        arguments = ("--listen", ANY_PORT, "--services-listen", ANY_PORT, "--upstream", root)
        environment["SYNCPOINT_DATABASE_URL"] = database_url
        async with running("serve", *arguments, **environment) as command:
            url = (await command.says(r"answers at (\S+),"))[1] + urlsplit(root).path
            wanted = [
                ("MERGE", f"/AccountSet(guid'{merged}')", b'{"Name":"Renamed"}'),
                ("DELETE", f"/AccountSet(guid'{deleted}')", None),
                ("POST", "/AccountSet", b'{"Name":"Made"}'),
            ]
            held = [sandbox.faults.add(Fault(kind="hold", method=method)) for method, _, _ in wanted]
            writes = [
                asyncio.create_task(write(session, method, url + path, body)) for method, path, body in wanted
            ]
            for fault in held:
                await asyncio.wait_for(fault.reached.wait(), TIMEOUT_S)
            command.process.send_signal(signal_number)
            await command.logs("proxy_stopping")
            place = Stopping(sandbox, command, writes, held)
            try:
                yield place
            finally:
                place.release()


def assert_settled(database_url: str) -> None:
    """Every intent applied, every row and revision there."""
    outcomes = query(database_url, "SELECT method, outcome FROM syncpoint.intents ORDER BY method")
    methods = ["CreateEntity", "DeleteEntity", "MergeEntity"]
    assert outcomes == [(method, "applied") for method in methods]
    rows = query(
        database_url,
        'SELECT "Name" FROM mirror."AccountSet" WHERE document IS NOT NULL AND "Name" IN (%s, %s) ORDER BY 1',
        "Made",
        "Renamed",
    )
    assert rows == [("Made",), ("Renamed",)]
    recorded = revisions(database_url, "method, source, deleted")
    assert sorted(row for row in recorded if row[0] is not None) == [
        ("CreateEntity", "client write", False),
        ("DeleteEntity", "client write", True),
        ("MergeEntity", "client write", False),
    ]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_writes_in_flight_are_settled_and_answered_first(database_url: str, signal_number: int) -> None:
    async with stopping(database_url, signal_number) as place:
        assert query(database_url, "SELECT count(*) FROM syncpoint.intents WHERE outcome IS NULL") == [(3,)]
        assert not any(task.done() for task in place.writes)
        place.release()
        merged, deleted, made = await asyncio.wait_for(asyncio.gather(*place.writes), TIMEOUT_S)
        assert (merged, deleted) == ((204, b""), (204, b""))
        assert made[0] == 201
        assert json.loads(made[1])["d"]["Name"] == "Made"
        assert await place.ended() == 0
        assert sorted(place.sent) == ["DELETE", "MERGE", "POST"]
    assert_settled(database_url)


async def test_writes_that_take_longer_than_clients_are_waited_for_are_settled_all_the_same(
    database_url: str,
) -> None:
    async with stopping(database_url, signal.SIGTERM, SYNCPOINT_LIMITS__SHUTDOWN_S="0.1") as place:
        broken = await asyncio.wait_for(asyncio.gather(*place.writes, return_exceptions=True), TIMEOUT_S)
        # aiohttp repeats a DELETE by itself, and then finds nobody listening any more.
        assert all(isinstance(error, aiohttp.ClientConnectionError) for error in broken)
        place.release()
        assert await place.ended() == 0
        assert sorted(place.sent) == ["DELETE", "MERGE", "POST"]
    assert_settled(database_url)
