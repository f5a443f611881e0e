"""From a commit to a subscriber of the change feed, at a steady rate of writes.

    python benchmarks/feed.py [--rate N] [--seconds N]

Runs a sandbox, an embedded Postgres, the proxy and the writer in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from proxy.app import running
from proxy.events import configure_logging
from proxy.reconcile.ports import Fetched, Provenance, Source
from proxy.reconcile.stamp import Stamp
from proxy.sandbox import Sandbox
from proxy.settings import Settings


async def measure(folder: Path, rate: int, seconds: int) -> list[float]:
    """Milliseconds from each commit to the subscriber, sorted."""
    committed: dict[str, float] = {}
    taken: list[float] = []
    async with AsyncExitStack() as stack:
        root = await stack.enter_async_context(Sandbox().serve())
        listen = {"listen": "127.0.0.1:0", "services_listen": "127.0.0.1:0"}
        settings = Settings.load(None, {"upstream.service_root": root, "data_dir": folder, **listen})
        proxy = await stack.enter_async_context(running(settings))
        assert proxy.metadata.model is not None
        accounts = proxy.metadata.model.entity_sets["AccountSet"]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        response = await session.get(
            f"{proxy.services_url}/changes?cursor=now", headers={"Accept": "text/event-stream"}
        )
        await response.content.readline()

        async def listen_to() -> None:
            async for line in response.content:
                if line.startswith(b"data: "):
                    number = line.partition(b'"Name":"')[2].partition(b'"')[0].decode()
                    # The subscriber may have it before the writer knows that it is committed.
                    now = time.perf_counter()
                    taken.append((now - committed.setdefault(number, now)) * 1000)

        listening = asyncio.create_task(listen_to())
        key = ((accounts.entity_type.key[0], uuid.UUID(int=1)),)
        base = Fetched(key, "", {}, Stamp(), b"", True, 0, datetime.now(UTC))
        started = time.perf_counter()
        for number in range(rate * seconds):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            state = replace(
                base,
                document=f'{{"Name":"{number}","Filler":"{"x" * 6000}"}}',
                digest=str(number).encode(),
                fetch_number=await proxy.store.next_fetch_number(),
            )
            await proxy.store.put(accounts, [state], Provenance(Source.POLL))
            committed.setdefault(str(number), time.perf_counter())
        await asyncio.sleep(1)
        listening.cancel()
        response.close()
    assert len(taken) == rate * seconds, f"{len(taken)} of {rate * seconds} came"
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    configure_logging("error", "json")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        taken = asyncio.run(measure(Path(folder), arguments.rate, arguments.seconds))
    for share in (0.5, 0.99, 1.0):
        print(f"p{share * 100:.0f} {taken[min(int(len(taken) * share), len(taken) - 1)]:8.1f} ms")


if __name__ == "__main__":
    main()
