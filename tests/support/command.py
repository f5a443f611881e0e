"""The `syncpoint` command as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from yarl import URL

ANY_PORT = "127.0.0.1:0"
TIMEOUT_S = 60.0
PROJECT = Path(__file__).parents[2]


class Command:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line on standard output that matches."""
        assert self.process.stdout is not None
        seen = ""
        while line := (await asyncio.wait_for(self.process.stdout.readline(), TIMEOUT_S)).decode():
            seen += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern!r} in {seen!r}, but {await self.errors()}")

    async def logs(self, event: str) -> None:
        """Wait for an event in the log, on standard error."""
        assert self.process.stderr is not None
        seen = b""
        while line := await asyncio.wait_for(self.process.stderr.readline(), TIMEOUT_S):
            seen += line
            if json.loads(line)["event"] == event:
                return
        raise AssertionError(f"no {event!r} in {seen.decode()}")

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def end(self, signal_number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and standard error after a signal."""
        self.process.send_signal(signal_number)
        errors = await asyncio.wait_for(self.errors(), TIMEOUT_S)
        return await asyncio.wait_for(self.process.wait(), TIMEOUT_S), errors


@asynccontextmanager
async def running(*arguments: str, stdin: int | None = None, **environment: str) -> AsyncIterator[Command]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SYNCPOINT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=PROJECT,
        env=clean | environment,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.terminate()  # first: a killed owner leaves its database server behind
            with suppress(TimeoutError):
                await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends by itself."""
    async with running(*arguments, **environment) as command:
        output, errors = await asyncio.wait_for(command.process.communicate(), TIMEOUT_S)
        assert command.process.returncode is not None
        return command.process.returncode, output.decode(), errors.decode()


async def get(url: str, **headers: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(url, encoded=True), headers=headers) as response,
    ):
        return response.status, await response.read()
