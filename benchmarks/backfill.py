"""How fast sets are loaded: `python benchmarks/backfill.py` (needs `make install` first).

Upstream answers pages that were made before, it and Postgres on one core, the load on the other. Each figure
is one run of `syncpoint backfill` over a set of its own with all its work: fetch, parse, digest, store,
revision, progress after each page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import psutil
from aiohttp import web
from yarl import URL

from proxy.sandbox import Sandbox
from proxy.store import EmbeddedPostgres

NARROW = """<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx">
<edmx:DataServices m:DataServiceVersion="2.0"
  xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata">
<Schema Namespace="Microsoft.Crm.Sdk.Data.Services" xmlns="http://schemas.microsoft.com/ado/2006/04/edm">
<EntityType Name="Narrow"><Key><PropertyRef Name="NarrowId"/></Key>
<Property Name="NarrowId" Type="Edm.Guid" Nullable="false"/>{properties}
</EntityType>
<EntityContainer Name="Context" m:IsDefaultEntityContainer="true">
<EntitySet Name="NarrowSet" EntityType="Microsoft.Crm.Sdk.Data.Services.Narrow"/></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>"""
TYPES = ("String", "String", "String", "Int32", "Boolean", "Decimal", "Double", "DateTime", "DateTime")
NAMES = ("Name", "City", "Note", "Number", "IsOpen", "Amount", "Share", "ModifiedOn", "CreatedOn")


def narrow_document() -> bytes:
    """A set of ten properties, the key included."""
    properties = "".join(
        f'<Property Name="{name}" Type="Edm.{type_}"/>' for name, type_ in zip(NAMES, TYPES, strict=True)
    )
    return NARROW.format(properties=properties).encode()


async def pages(document: bytes, rows: int, entity_set: str) -> tuple[str, Mapping[str, bytes]]:
    """The service root's path, and the answers by target (decoded) that a load of the set asks for."""
    sandbox = Sandbox(metadata=document, rows=rows)
    answers = {}
    async with sandbox.serve() as root, aiohttp.ClientSession() as session:
        path = sandbox.root_path

        async def get(target: str) -> bytes:
            url = URL(root.removesuffix(path) + target, encoded=True)
            async with session.get(url, headers={"Accept": "application/json"}) as reply:
                return await reply.read()

        answers[f"{path}/$metadata"] = await get(f"{path}/$metadata")
        target: str | None = f"{path}/{entity_set}"
        while target is not None:
            answers[unquote(target)] = body = await get(target)
            link = re.search(rb'"__next":"http:[^"]*?(/XRMServices[^"]*)"', body.replace(b"\\/", b"/"))
            target = link[1].decode() if link else None
        return path, answers


def serve_pages(answers: Mapping[str, bytes], port_file: Path) -> None:
    """Answer with what was made before, on core 1, until killed."""
    pin(1)

    async def answer(request: web.BaseRequest) -> web.Response:
        body = answers.get(unquote(request.raw_path))
        kind = "application/xml" if request.raw_path.endswith("$metadata") else "application/json"
        return web.Response(status=200 if body else 404, body=body, headers={"Content-Type": kind})

    async def run() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port_file.with_suffix(".new").write_text(str(runner.addresses[0][1]))
        port_file.with_suffix(".new").rename(port_file)
        await asyncio.Event().wait()

    asyncio.run(run())


def pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def load(root: str, entity_set: str, database_url: str, profile: str | None) -> tuple[float, float, float]:
    """Seconds that one load takes, and of the processor that its process and Postgres take."""
    settings = {
        "SYNCPOINT_UPSTREAM__SERVICE_ROOT": root,
        "SYNCPOINT_DATABASE_URL": database_url,
        "SYNCPOINT_BACKGROUND__REQUESTS_PER_S": "1000000",
        "SYNCPOINT_LOG__LEVEL": "warning",
    }
    command = [str(Path(sys.executable).parent / "syncpoint"), "backfill", entity_set]
    if profile:
        command = [sys.executable, "-m", "cProfile", "-o", profile, *command]
    if shutil.which("taskset"):
        command = ["taskset", "-c", "0", *command]
    before = time.perf_counter(), children_cpu_s(), postgres_cpu_s()
    subprocess.run(command, env={**os.environ, **settings}, check=True, stdout=subprocess.DEVNULL)
    took_s, cpu_s = time.perf_counter() - before[0], children_cpu_s() - before[1]
    return took_s, cpu_s, postgres_cpu_s() - before[2]


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def postgres_cpu_s() -> float:
    """Of the server that this process started and all of its processes, those that have ended included."""
    (server,) = (child for child in psutil.Process().children() if child.name() == "postgres")
    ended = server.cpu_times()
    running = [ended]
    for process in server.children():
        with suppress(psutil.NoSuchProcess):  # a worker that ends meanwhile
            running.append(process.cpu_times())
    return ended.children_user + ended.children_system + sum(one.user + one.system for one in running)


def measure(name: str, document: bytes, entity_set: str, rows: int, goal: int, profile: str | None) -> None:
    path, answers = asyncio.run(pages(document, rows, entity_set))
    size = sum(map(len, answers.values())) - len(answers[f"{path}/$metadata"])
    with tempfile.TemporaryDirectory(prefix="syncpoint-bench-") as folder:
        Path(folder).chmod(0o755)
        port_file = Path(folder) / "port"
        child = os.fork()
        if child == 0:
            serve_pages(answers, port_file)
        pin(1)  # Postgres inherits it
        postgres = EmbeddedPostgres.start(Path(folder) / "data")
        try:
            while not port_file.exists():
                time.sleep(0.01)
            root = f"http://127.0.0.1:{port_file.read_text()}{path}"
            loading = load(root, entity_set, postgres.url(), profile)
            # Finds the set loaded: what is left is the start of the process.
            idle = load(root, entity_set, postgres.url(), None)
        finally:
            postgres.stop()
            os.kill(child, 9)
            os.waitpid(child, 0)
    took, cpu, database = (both - start for both, start in zip(loading, idle, strict=True))
    print(
        f"{name:<16}{rows:>7} rows of {size / rows:>6.0f} B {rows / took:>8.0f}/s (goal {goal}); each takes "
        f"{cpu / rows * 1000:.2f} ms of the load's core and {database / rows * 1000:.2f} ms of Postgres'"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata", type=Path, help="a document whose AccountSet is loaded as the wide set")
    parser.add_argument("--rows", type=int, default=20_000, help="of the narrow set; a tenth of the wide one")
    parser.add_argument("--profile", help="write a profile of the load of the last set here")
    given = parser.parse_args()
    measure("ten properties", narrow_document(), "NarrowSet", given.rows, 4000, given.profile)
    if given.metadata is not None:
        measure("Account", given.metadata.read_bytes(), "AccountSet", given.rows // 10, 500, given.profile)


if __name__ == "__main__":
    main()
