"""A real process killed again and again while clients write; its database and its upstream are not."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from histories import MARK, Attempt, disagreements
from lifecycle import load
from storing import query
from world import World, world
from yarl import URL

SEED = int(os.environ.get("SYNCPOINT_FAULT_SEED", "20160825"))
KILLS = 20
CLIENTS = 4
WRITE_LIMIT_S = 3.0
SETTLED_IN_S = 30.0


@asynccontextmanager
async def serving(root: str, database_url: str) -> AsyncIterator[tuple[Process, str]]:
    """A process of its own that serves, and its service root; killed at the end if it still lives."""
    settings = {
        "LISTEN": "127.0.0.1:0",
        "SERVICES_LISTEN": "127.0.0.1:0",
        "DATABASE_URL": database_url,
        "UPSTREAM__SERVICE_ROOT": root,
        "UPSTREAM__WRITE_LIMIT_S": str(WRITE_LIMIT_S),
        "LOG__LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve"),
        stdout=PIPE,
        env={**os.environ, **{f"SYNCPOINT_{name}": value for name, value in settings.items()}},
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()  # "Syncpoint answers at URL, its services at …"
        yield process, line.split()[3].rstrip(",") + urlsplit(root).path
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def write(session: aiohttp.ClientSession, url: str, number: int, text: str) -> int | None:
    """The status; None where no answer came."""
    headers: Mapping[str, str] = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Request-Id": f"attempt-{number}",
        MARK: str(number),
    }
    body = f'{{"Name":"{text}"}}'.encode()
    try:
        async with session.request("MERGE", URL(url, encoded=True), data=body, headers=headers) as reply:
            await reply.read()
            return reply.status
    except (aiohttp.ClientError, ConnectionError):
        return None


class Clients:
    """Writers, each of a row of entities of its own that it writes once each."""

    def __init__(self, place: World) -> None:
        self._keys = [str(key) for key in place.sandbox.organisation.keys("AccountSet")]
        self.attempts: list[Attempt] = []
        self.proxy_root = ""

    async def write_until_cut(self) -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._client(session) for _ in range(CLIENTS)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        status: int | None = 204
        while status is not None and self._keys:
            key, number = self._keys.pop(), len(self._keys)
            text = f"text-{number}-end"
            status = await write(session, f"{self.proxy_root}/AccountSet(guid'{key}')", number, text)
            self.attempts.append(Attempt(number, "merge", key, text, status))


@pytest.mark.slow
async def test_no_kill_loses_or_invents_a_write(database_url: str) -> None:
    chance = random.Random(SEED)
    async with world(database_url, rows=3000) as place:
        keys = place.sandbox.organisation.keys("AccountSet")
        for key in keys:  # renames must change no other account
            place.sandbox.organisation.tables.change("AccountSet", key, {"ParentAccountId": None})
        await load(place)
        place.clear()
        clients = Clients(place)
        for _ in range(KILLS):
            async with serving(place.direct_root, database_url) as (process, clients.proxy_root):
                writing = asyncio.create_task(clients.write_until_cut())
                aim = len(clients.attempts) + chance.randrange(1, 40)
                while len(clients.attempts) < aim:  # noqa: ASYNC110
                    await asyncio.sleep(chance.random() / 100)
                process.kill()
                await writing
        unanswered = sum(attempt.status is None for attempt in clients.attempts)
        assert unanswered >= KILLS, f"seed {SEED}: every kill must cut somebody's write"
        async with serving(place.direct_root, database_url), asyncio.timeout(SETTLED_IN_S + WRITE_LIMIT_S):
            open_intents = "SELECT count(*) FROM syncpoint.intents WHERE closed_at IS NULL"
            while query(database_url, open_intents) != [(0,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        told = await disagreements(clients.attempts, place, database_url)
        assert "\n".join(told) == "", f"seed {SEED}"
