"""OAuth 2.0 client credentials (RFC 6749, 4.4): a token that is fetched, and fetched anew before it ends."""

from __future__ import annotations

import asyncio
import json

from multidict import CIMultiDict
from yarl import URL

from proxy.reconcile.ports import Reply
from proxy.upstream.login.gate import LoginUnclear, PasswordRefused, Proof
from proxy.upstream.login.headers import bearer
from proxy.upstream.login.web import Web

# Sent this long before its end, a token still holds when it arrives.
_EARLY_S = 60.0
_REFUSALS = frozenset({"invalid_client", "unauthorized_client", "invalid_grant"})


class OAuthLogin:
    """Fetches tokens from `token_url` for the client `user`, whose secret is the password."""

    def __init__(self, web: Web, token_url: str, user: str, scope: str) -> None:
        self._web = web
        self._url = URL(token_url)
        self._form = {"grant_type": "client_credentials", "client_id": user}
        if scope:
            self._form["scope"] = scope

    async def log_in(self, password: str) -> Proof:
        page = await self._web.ask(self._url, form=self._form | {"client_secret": password})
        try:
            said = json.loads(page.body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise LoginUnclear(f"the token service answered {page.status} and no JSON object")
        if page.status == 401 or (page.status == 400 and said.get("error") in _REFUSALS):
            raise PasswordRefused
        token, lifetime = said.get("access_token"), said.get("expires_in")
        if page.status != 200 or not isinstance(token, str) or not token.isprintable():
            raise LoginUnclear(f"the token service answered {page.status} and no token")
        until = None
        if isinstance(lifetime, (int, float)):
            # Half of a life shorter than that: a token of no use to anybody must not be fetched each time.
            until = asyncio.get_running_loop().time() + max(lifetime - _EARLY_S, lifetime / 2)
        return Proof({"Authorization": bearer(token)}, until)

    def is_over(self, status: int, headers: CIMultiDict[str], page: bytes, *, odata: bool) -> bool:
        return status == 401

    def learn(self, proof: Proof, reply: Reply) -> None:
        """Nothing prolongs it."""
