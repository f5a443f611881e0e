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
import socket
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

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream sandbox {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen};
    location / {{ proxy_pass http://sandbox; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
COUNTED = {
    "requests": "syncpoint_upstream_requests_total",
    "bytes": "syncpoint_upstream_received_bytes_total",
    "cpu": "process_cpu_seconds_total",
}


def free_port() -> int:
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


@contextmanager
def nginx(upstream: int, listen: int) -> Iterator[None]:
    """nginx's proxy_pass on core 0, where it is installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="syncpoint-bench-") as folder:
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, upstream=upstream, listen=listen))
        with process(0, program, "-p", folder, "-c", str(configuration)):
            yield


@asynccontextmanager
async def place(latency_ms: int, database_url: str) -> AsyncIterator[dict[str, int]]:
    """A sandbox on core 1, where Postgres and the load are too; what is measured on core 0."""
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
        nginx(ports["sandbox"], ports["nginx"]),
    ):
        await up(ports["sandbox"], ROOT_PATH + "/$metadata")
        serve = (
            *(syncpoint, "serve", "--upstream", root, "--listen", f"127.0.0.1:{ports['proxy']}"),
            *("--services-listen", f"127.0.0.1:{ports['services']}", "--database-url", database_url),
        )
        with process(0, *serve, env=quiet):
            await up(ports["services"], "/readyz")
            yield ports


async def counted(port: int) -> dict[str, float]:
    """What the proxy counts, summed over labels."""
    _, body = await answer(port, "/metrics")
    sums = dict.fromkeys(COUNTED, 0.0)
    for line in body.decode().splitlines():
        for short, name in COUNTED.items():
            if line.startswith((f"{name} ", f"{name}{{")):
                sums[short] += float(line.rpartition(" ")[2])
    return sums


class Table:
    """Prints one line for each comparison; all against the proxy behind `ports`."""

    def __init__(self, ports: dict[str, int], seconds: float) -> None:
        self._ports = ports
        self._seconds = seconds
        print(f"{'':<34}{'rate':>8}  {'against':<24}{'ratio':>6}{'CPU':>9}{'upstream per read':>24}")

    async def row(self, name: str, target: str, *others: str, headers: str = "") -> None:
        """Measure the proxy, then the same request at `others`, which are names of ports."""
        before = await counted(self._ports["services"])
        figure = await rate(self._ports["proxy"], target, headers, seconds=self._seconds)
        after = await counted(self._ports["services"])
        reads = figure * self._seconds
        cpu_ms, requests, size = ((after[key] - before[key]) / reads for key in ("cpu", "requests", "bytes"))
        used = f"{cpu_ms * 1000:>6.2f} ms{requests:>9.2f} req {size:>8.0f} B"
        for other in others:
            rated = await rate(self._ports[other], target, headers, seconds=self._seconds)
            print(f"{name:<34}{figure:>6.0f}/s  {f'{other} {rated:.0f}/s':<24}{figure / rated:>6.2f}{used}")
            name = used = ""
        if not others:
            print(f"{name:<34}{figure:>6.0f}/s  {'':<24}{'':>6}{used}")
        sys.stdout.flush()


async def measure(latency_ms: int, database_url: str) -> None:
    async with place(latency_ms, database_url) as ports:
        print(f"\nupstream latency {latency_ms} ms")
        _, page = await answer(ports["sandbox"], f"{ROOT_PATH}/AccountSet?$top=1")
        key = json.loads(page)["d"]["results"][0]["AccountId"]
        one = f"{ROOT_PATH}/AccountSet(guid'{key}')"
        many = f"{ROOT_PATH}/AccountSet?$orderby=Name"
        for target in (one, many):
            await warm(ports["proxy"], target)
            _, body = await answer(ports["sandbox"], target)
            print(f"{len(body):>9} B is the answer to {target.removeprefix(ROOT_PATH)}")
        table = Table(ports, 3.0 if latency_ms == 0 else 4.0)
        proxies = ("bare", "nginx") if await listens(ports["nginx"]) else ("bare",)
        await table.row("pass-through, small reply", "/gzip", *proxies)
        await table.row("checked read of one Account", one, "sandbox")
        await table.row("checked read of a 50-row page", many, "sandbox")
        if latency_ms == 0:
            await table.row("mirror-only read by key", one, headers="Cache-Control: only-if-cached\r\n")


async def warm(port: int, target: str) -> None:
    """Ask until the mirror answers: it takes rows in beside the requests."""
    for _ in range(100):
        head, _ = await answer(port, target)
        if b"; hit" in head:
            return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"never a hit: {target}")


async def listens(port: int) -> bool:
    try:
        await answer(port, "/gzip")
    except OSError:
        print("nginx is not installed: not compared")
        return False
    return True


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
