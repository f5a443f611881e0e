"""A sandbox Dynamics, a proxy in front of it and a client, for tests of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from proxy.app import Proxy, running
from proxy.sandbox import Sandbox, Switches
from proxy.settings import Settings

JSON = {"Accept": "application/json"}
ATOM = {"Accept": "application/atom+xml"}


@dataclass
class Answer:
    """What a client saw."""

    status: int
    headers: Any
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def cache(self) -> str:
        return self.headers.get("Cache-Status", "")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    sandbox: Sandbox
    proxy: Proxy
    session: aiohttp.ClientSession
    direct_root: str

    @property
    def proxy_root(self) -> str:
        return self.proxy.url + urlsplit(self.direct_root).path

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        direct: bool = False,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """`path` below the service root, sent as it is; `headers` with `_` for `-`."""
        root = self.direct_root if direct else self.proxy_root
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Accept", "application/json")
        return await self.send(f"{root}{path}", method, named, body)

    async def send(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        target = URL(url, encoded=True)
        async with self.session.request(
            method, target, headers=headers, data=body, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def merge(self, path: str, text: str, **headers: str) -> Answer:
        return await self.ask(path, "MERGE", body=text.encode(), Content_Type="application/json", **headers)

    @property
    def mirror_root(self) -> str:
        return f"{self.proxy.services_url}/mirror"

    async def mirror(
        self, path: str, method: str = "GET", *, body: bytes | None = None, **headers: str
    ) -> Answer:
        """`path` below the mirror's own service root; as `ask` otherwise."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Accept", "application/json")
        return await self.send(f"{self.mirror_root}{path}", method, named, body)

    async def fill(self, *entity_sets: str, **headers: str) -> None:
        """Have the mirror hold all entities of these sets, as a client's reads bring them in."""
        for name in entity_sets:
            url: str | None = f"{self.proxy_root}/{name}"
            while url is not None:
                answer = await self.send(url.replace(" ", "%20"), headers=JSON | headers)
                assert answer.status == 200, answer.text
                url = answer.json()["d"].get("__next")
        await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is left to do in the background."""
        await self.proxy.background.drain()

    def upstream_requests(self) -> list[str]:
        """Since the last `clear`: method and target below the service root."""
        path = urlsplit(self.direct_root).path.lower()
        seen = []
        for entry in self.sandbox.journal:
            target = entry.target
            if target.lower().startswith(path):
                target = target[len(path) :]
            seen.append(f"{entry.method} {target}")
        return seen

    def clear(self) -> None:
        self.sandbox.journal.clear()

    def a_key(self, entity_set: str, number: int = 0) -> str:
        return str(self.sandbox.organisation.keys(entity_set)[number])

    def at_mirror(self, text: str) -> str:
        """Direct text as the mirror route should say it: one root in the place of both spellings."""
        root = re.escape(self.direct_root)
        return re.sub(rf"(?i:{root})", lambda _: self.mirror_root, text)

    def rooted(self, text: str) -> str:
        """Direct text as the proxy should say it: the proxy's origin in the place of the sandbox's."""
        direct = urlsplit(self.direct_root)
        return text.replace(f"{direct.scheme}://{direct.netloc}", self.proxy.url)


class Hands:
    """The proxy's clock, which a test sets forward together with the sandbox's."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def advance(self, place: World, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)
        place.sandbox.clock.advance(seconds)


@asynccontextmanager
async def world(
    database_url: str,
    *,
    switches: Switches | None = None,
    metadata: bytes | None = None,
    rows: int | None = None,
    audit: bool = False,
    now: Any = None,
    served: tuple[Sandbox, str] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """`settings`: overrides by dotted path with `__` for the dots. `served`: one that runs, its root."""
    async with AsyncExitStack() as stack:
        if served is None:
            sandbox = Sandbox(metadata=metadata, rows=rows, switches=switches or Switches())
            root = await stack.enter_async_context(sandbox.serve())
        else:
            sandbox, root = served
        overrides = {
            "listen": "127.0.0.1:0",
            "services_listen": "127.0.0.1:0",
            "database_url": database_url,
            "upstream.service_root": root,
            # Open intents are settled, and sets polled and swept, when a test says so, and not in between.
            "background.enabled": False,
            "background.requests_per_s": 1e6,
            "sync.audit_share": 1.0 if audit else 0.0,
            "sets.AccountSet.effects": [
                {"set": "CustomerAddressSet", "via": ["Address1_AddressId", "Address2_AddressId"]}
            ],
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        loaded = Settings.load(None, overrides, environment={})
        clock: Any = {} if now is None else {"now": now}
        jar = aiohttp.DummyCookieJar()
        async with running(loaded, **clock) as proxy, aiohttp.ClientSession(cookie_jar=jar) as session:
            sandbox.journal.clear()
            yield World(sandbox, proxy, session, root)
