"""Clients that log in their connection with NTLM or Negotiate, as .NET's do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import spnego
from world import Answer
from yarl import URL


class Connection:
    """One connection to `root`, logged in once; later requests on it say nothing of the user."""

    def __init__(self, root: str, session: aiohttp.ClientSession) -> None:
        self.root = root
        self._session = session

    async def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        fields = {"Accept": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
        url = URL(self.root + path, encoded=True)
        async with self._session.request(
            method, url, headers=fields, data=body, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def log_in(
        self, user: str, password: str, path: str, scheme: str = "NTLM", **request: Any
    ) -> Answer:
        """The handshake on `path`; gives the answer to its last message."""
        context = spnego.client(user, password, protocol=scheme.lower())
        token = context.step()
        while True:
            assert token is not None
            said = f"{scheme} {base64.b64encode(token).decode()}"
            answer = await self.ask(path, Authorization=said, **request)
            given, _, value = answer.headers.get("WWW-Authenticate", "").partition(" ")
            if answer.status != 401 or given != scheme or not value:
                return answer
            token = context.step(base64.b64decode(value))


@asynccontextmanager
async def connection(root: str) -> AsyncIterator[Connection]:
    connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=600)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Connection(root, session)
