"""A sandbox being served, and a client that sends exact bytes to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from proxy.sandbox import Clock, Sandbox, Switches

NOON = datetime(2016, 8, 25, 16, 0, 0, tzinfo=UTC)
JSON = {"Accept": "application/json"}
POSTED = JSON | {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def d(self) -> Any:
        return json.loads(self.body)["d"]

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, code and message."""
        error = json.loads(self.body)["error"]
        return self.status, error["code"], error["message"]["value"]


@dataclass(frozen=True, slots=True)
class Served:
    """`root` is the service root's URL, `own_root` the server's own spelling of it."""

    sandbox: Sandbox
    root: str
    session: aiohttp.ClientSession

    @property
    def own_root(self) -> str:
        return self.root.replace("/XRMServices/", "/xrmservices/")

    @property
    def origin(self) -> str:
        return self.root.removesuffix("/XRMServices/2011/OrganizationData.svc")

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`path` below the service root, or a whole URL; a body that is no bytes is sent as JSON text."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            fields.setdefault("Content-Type", "application/json; charset=utf-8")
            body = json.dumps(body).encode()
        fields.setdefault("Accept", "application/json")
        url = URL(path if path.startswith("http") else self.root + path, encoded=True)
        async with self.session.request(
            method, url, data=body, headers=fields, allow_redirects=False
        ) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, **headers)


@asynccontextmanager
async def served(
    rows: int | None = 0, metadata: bytes | None = None, **switches: Any
) -> AsyncIterator[Served]:
    """A sandbox whose clock stands at NOON."""
    clock = Clock()
    clock.freeze(NOON)
    sandbox = Sandbox(metadata, rows, switches=Switches(**switches), clock=clock)
    async with (
        sandbox.serve() as root,
        aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        yield Served(sandbox, root, session)
