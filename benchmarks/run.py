"""Comparisons in one run, as ratios: `python benchmarks/run.py` (needs `make install` first).

Every figure is requests per second of one load generator with some connections, upstream and what is
measured in processes of their own. The machine's speed drifts: only ratios within a run mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from proxy.store import EmbeddedPostgres

ROOT_PATH = "/XRMServices/2011/OrganizationData.svc"
BARE_PROXY = """
import sys
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from yarl import URL
upstream = sys.argv[1]
async def forward(request):
    body = await request.read()
    url = URL(upstream + request.raw_path, encoded=True)
    async with session.request(request.method, url, headers=request.headers, data=body or None) as reply:
        kind = {"Content-Type": reply.headers["Content-Type"]}
        return web.Response(status=reply.status, headers=kind, body=await reply.read())
async def start(app):
    global session
    connector = TCPConnector(limit=64)
    session = ClientSession(cookie_jar=DummyCookieJar(), connector=connector, auto_decompress=False)
app = web.Application()
app.on_startup.append(start)
app.router.add_route("*", "/{path:.*}", forward)
import uvloop; uvloop.install()
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
"""


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def process(core: int, *command: str, env: dict[str, str] | None = None) -> Iterator[None]:
    """A child on one core, ended at the end by its own id."""
    pinned = ["taskset", "-c", str(core), *command] if shutil.which("taskset") else list(command)
    child = subprocess.Popen(
        pinned, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


async def answer(port: int, target: str, headers: str = "") -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await exchange(reader, writer, wire(port, target, headers))
    finally:
        writer.close()


def wire(port: int, target: str, headers: str) -> bytes:
    host = f"127.0.0.1:{port}"
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{headers}\r\n".encode()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[bytes, bytes]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    return head, await reader.readexactly(length)


async def rate(
    port: int, target: str, headers: str = "", *, connections: int = 16, seconds: float = 3.0
) -> float:
    """Requests per second, every answer a 200."""
    request = wire(port, target, headers)
    done = 0
    ends = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        while time.perf_counter() < ends:
            head, _ = await exchange(reader, writer, request)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            done += 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return done / (time.perf_counter() - started)


async def up(port: int, path: str = "/") -> None:
    for _ in range(600):
        try:
            await answer(port, path)
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            await asyncio.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing answers on {port}")


@asynccontextmanager
async def place(latency_ms: int, database_url: str) -> AsyncIterator[dict[str, int]]:
    """A sandbox on core 1, where Postgres and the load are too; the proxy and a bare one on core 0."""
    ports = {name: free_port() for name in ("sandbox", "proxy", "services", "bare", "nginx")}
    syncpoint = str(Path(sys.executable).parent / "syncpoint")
    root = f"http://127.0.0.1:{ports['sandbox']}{ROOT_PATH}"
    quiet = {"SYNCPOINT_LOG__LEVEL": "warning", "SYNCPOINT_SYNC__AUDIT_SHARE": "0"}
    with (
        process(
            1, syncpoint, "sandbox", "--listen", f"127.0.0.1:{ports['sandbox']}", "--latency", str(latency_ms)
        ),
        process(
            0, sys.executable, "-c", BARE_PROXY, f"http://127.0.0.1:{ports['sandbox']}", str(ports["bare"])
        ),
    ):
        await up(ports["sandbox"], ROOT_PATH + "/$metadata")
        serve = (
            *(syncpoint, "serve", "--upstream", root, "--listen", f"127.0.0.1:{ports['proxy']}"),
            *("--services-listen", f"127.0.0.1:{ports['services']}", "--database-url", database_url),
        )
        with process(0, *serve, env=quiet):
            await up(ports["services"], "/readyz")
            yield ports


def row(name: str, figure: float, against: str, other: float) -> None:
    print(f"{name:<44} {figure:>9.0f}/s   {figure / other:>6.2f} of {against} ({other:.0f}/s)", flush=True)


async def measure(latency_ms: int, database_url: str) -> None:
    async with place(latency_ms, database_url) as ports:
        print(f"\nupstream latency {latency_ms} ms")
        _, page = await answer(ports["sandbox"], f"{ROOT_PATH}/AccountSet?$top=1")
        key = json.loads(page)["d"]["results"][0]["AccountId"]
        one = f"{ROOT_PATH}/AccountSet(guid'{key}')"
        many = f"{ROOT_PATH}/AccountSet?$orderby=Name"
        for target in (one, many):
            for _ in range(3):
                await answer(ports["proxy"], target)
                await asyncio.sleep(0.5)
        seconds = 3.0 if latency_ms == 0 else 4.0
        passed = await rate(ports["proxy"], "/gzip", seconds=seconds)
        bare = await rate(ports["bare"], "/gzip", seconds=seconds)
        row("pass-through, small reply", passed, "bare aiohttp proxy", bare)
        for name, target in (("checked read of one Account", one), ("checked read of a 50-row page", many)):
            head, _ = await answer(ports["proxy"], target)
            if b"; hit" not in head:
                raise RuntimeError("not a hit: " + head.decode())
            proxied = await rate(ports["proxy"], target, seconds=seconds)
            direct = await rate(ports["sandbox"], target, seconds=seconds)
            row(name, proxied, "direct", direct)
        if latency_ms == 0:
            held = await rate(ports["proxy"], one, "Cache-Control: only-if-cached\r\n", seconds=seconds)
            row("mirror-only read by key", held, "the required 1,500/s", 1500)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=int, nargs="*", default=[0, 80], help="upstream latencies, ms")
    for latency in parser.parse_args().latency:
        with tempfile.TemporaryDirectory(prefix="syncpoint-bench-") as folder:
            Path(folder).chmod(0o755)
            postgres = EmbeddedPostgres.start(Path(folder))
            try:
                asyncio.run(measure(latency, postgres.url()))
            finally:
                postgres.stop()


if __name__ == "__main__":
    main()
