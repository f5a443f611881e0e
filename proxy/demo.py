"""The first minute: a sandbox in a process of its own, an embedded Postgres and the proxy, all of them new.

The sandbox forgets what was written to it when it ends, so the mirror must not outlive it: the next
demonstration would find it newer than its upstream.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from proxy.app import serve
from proxy.events import configure_logging
from proxy.reconcile.ports import UpstreamUnreachable
from proxy.settings import Settings

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


def run_demo(config: Path | None) -> None:
    """Run until SIGTERM or SIGINT. Raises what `serve` raises, and UpstreamUnreachable without a sandbox."""
    with tempfile.TemporaryDirectory(prefix="syncpoint-demo-") as folder:
        # Started by root, Postgres runs as another user, who has to get there; the data itself stays closed.
        Path(folder).chmod(0o755)
        uvloop.run(_run(config, Path(folder)))


async def _run(config: Path | None, data_dir: Path) -> None:
    async with _sandbox() as service_root:
        settings = Settings.load(
            config, {"upstream.service_root": service_root, "database_url": "", "data_dir": data_dir}
        )
        configure_logging(settings.log.level, settings.log.format)
        await serve(settings, ready=lambda url, services_url: _welcome(service_root, url, services_url))


@asynccontextmanager
async def _sandbox() -> AsyncIterator[str]:
    """A sandbox for as long as it is needed; gives its service root.

    Its own session, so that an interrupt from the terminal leaves it running while the proxy finishes; its
    standard input, so that it ends with us however we end.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy", "sandbox", "--listen", "127.0.0.1:0", "--until-stdin-closes"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = b""
        with suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)
        if not line:
            raise UpstreamUnreachable("the sandbox did not start")
        yield line.decode().split()[-1]
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _welcome(service_root: str, url: str, services_url: str) -> None:
    path = urlsplit(service_root).path
    sys.stdout.write(
        f"""
  Dynamics (a sandbox)  {service_root}
  Syncpoint             {url}{path}
  its services          {services_url}/healthz /readyz /metrics

Try it, and once more to be answered from the mirror (Cache-Status tells):

  curl -i -H 'Accept: application/json' '{url}{path}/AccountSet?$top=2'

Ctrl-C ends everything.

"""
    )
    sys.stdout.flush()
