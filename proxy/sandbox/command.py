"""The sandbox as a program: served until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys

from proxy.sandbox.server import Sandbox
from proxy.sandbox.switches import Switches


async def run_sandbox(
    host: str = "127.0.0.1",
    port: int = 0,
    metadata: bytes | None = None,
    rows: int | None = None,
    latency_ms: float = 0.0,
    *,
    until_stdin_closes: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, or until standard input ends; port 0 takes a free one.

    Writes one line to standard output, its last word the service root. The records of the demo organisation
    are made before that, so that no request waits for them. Raises what `Sandbox` raises, and OSError where
    the address is taken.
    """
    sandbox = Sandbox(metadata, rows, switches=Switches(latency_ms=latency_ms))
    if metadata is None:
        sandbox.fill()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with sandbox.serve(host, port) as root:
        sys.stdout.write(f"A Dynamics 2011 organisation answers at {root}\n")
        sys.stdout.flush()
        if until_stdin_closes:
            await _either(stopped, await _stdin())
        else:
            await stopped.wait()


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _either(stopped: asyncio.Event, reader: asyncio.StreamReader) -> None:
    """Wait for the event or the end of the stream, whichever comes first."""
    waits = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(reader.read())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
