"""A token service that runs: OAuth 2.0 client credentials (RFC 6749, 4.4), over HTTP on the loopback."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class TokenService:
    """Gives tokens to one client. `tokens`: the client's name by token, for whoever has to know.

    `lifetime_s`: what it says of a life. `answer`: what it answers instead. `failures`: wrong secrets.
    """

    def __init__(self, client: str, secret: str) -> None:
        self._client = client
        self._secret = secret
        self.tokens: dict[str, str] = {}
        self.lifetime_s: float = 3600
        self.answer: web.Response | None = None
        self.asked = 0
        self.failures = 0
        self.origin = ""

    @property
    def url(self) -> str:
        return f"{self.origin}/token"

    async def _give(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked += 1
        if self.answer is not None:
            answer, headers = self.answer, self.answer.headers
            return web.Response(status=answer.status, body=answer.body, headers=headers)
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if (form.get("client_id"), form.get("client_secret")) != (self._client, self._secret):
            self.failures += 1
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe()
        self.tokens[token] = self._client
        said = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}
        return web.json_response(said, headers={"Cache-Control": "no-store"})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/token", self._give)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()
