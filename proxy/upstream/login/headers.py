"""Basic, and a bearer token that does not change: logins that are a header field and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable

from multidict import CIMultiDict

from proxy.reconcile.ports import Reply, Request
from proxy.upstream.client import UpstreamClient
from proxy.upstream.login.gate import LoginUnclear, PasswordRefused, Proof


def basic(user: str) -> Callable[[str], str]:
    """Makes the field's value of a password (RFC 7617, in UTF-8)."""
    return lambda password: f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(token: str) -> str:
    """The field's value of a token (RFC 6750, 2.1)."""
    return f"Bearer {token}"


class HeaderLogin:
    """Tries the field on the service root first: so that one request finds out, not all that wait."""

    def __init__(self, client: UpstreamClient, root_path: str, value: Callable[[str], str]) -> None:
        self._client = client
        self._root_path = root_path
        self._value = value

    async def log_in(self, password: str) -> Proof:
        fields = {"Authorization": self._value(password)}
        headers = CIMultiDict({"Accept": "application/json", **fields})
        reply = await self._client.send(Request("GET", f"{self._root_path}/", headers))
        if reply.status == 401:
            raise PasswordRefused
        if reply.status >= 500:
            raise LoginUnclear(f"upstream answered {reply.status} to the login")
        return Proof(fields)

    def is_over(self, status: int, headers: CIMultiDict[str], page: bytes, *, odata: bool) -> bool:
        return status == 401

    def learn(self, proof: Proof, reply: Reply) -> None:
        """Nothing prolongs it."""
