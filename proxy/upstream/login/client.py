"""A client of upstream whose every request carries the proxy's own login in header fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.reconcile.ports import Reply, Request, UpstreamLoginFailed
from proxy.upstream.client import UpstreamClient
from proxy.upstream.headers import headers_from_wire
from proxy.upstream.login.gate import Gate, Login, Proof
from proxy.upstream.streamed import StreamedReply

# A session may end between its renewal and its use; a proxy that repeats for ever is worse than an error.
ATTEMPTS = 3
# Whose they are, clients and upstream do not speak of any more.
OF_CLIENTS = ("Authorization", "Cookie")
OF_UPSTREAM = ("Set-Cookie", "WWW-Authenticate", "Authentication-Info", "Persistent-Auth")


class LoggedInClient:
    """An `UpstreamClient` to those who use it: a `proxy.reconcile.ports.Upstream`, and streams.

    Credentials of clients stay here, as do upstream's cookies. A request that upstream did not take for want
    of a login is sent again after one; nothing of it was carried out (field manual, 9.2).
    """

    def __init__(self, client: UpstreamClient, gate: Gate, login: Login, root_path: str) -> None:
        self._client = client
        self._gate = gate
        self._login = login
        self._root = root_path.lower()

    @property
    def origin(self) -> str:
        return self._client.origin

    def pin(self, connection: asyncio.Task[Any], headers: CIMultiDict[str]) -> None:
        """Clients' connections are nothing to upstream."""

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        """As `UpstreamClient.send`. Raises UpstreamLoginFailed too."""
        proof = await self._gate.proof()
        for _ in range(ATTEMPTS):
            reply = await self._client.send(
                replace(request, headers=_with(request.headers, proof)), joinable=joinable
            )
            if not self._is_over(request.target, reply.status, reply.headers, reply.body):
                proof.worked = True
                self._login.learn(proof, reply)
                return replace(reply, headers=CIMultiDictProxy(without(reply.headers, OF_UPSTREAM)))
            proof = await self._gate.renewed(proof)
        raise UpstreamLoginFailed("upstream asks for a login again and again")

    async def stream(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: AsyncIterator[bytes] | None,
        connection: object | None = None,
    ) -> StreamedReply:
        """As `UpstreamClient.stream`. UpstreamLoginFailed where a body would have to be sent again."""
        proof = await self._gate.proof()
        for _ in range(ATTEMPTS):
            reply = await self._client.stream(method, target, _with(headers, proof), body)
            if not self._is_over(target, reply.status, headers_from_wire(reply.raw_headers), b""):
                proof.worked = True
                reply.drop(OF_UPSTREAM)
                return reply
            async with reply:  # gives it up
                proof = await self._gate.renewed(proof)
            if body is not None:
                raise UpstreamLoginFailed("the login had ended; nothing was carried out, send it again")
        raise UpstreamLoginFailed("upstream asks for a login again and again")

    def _is_over(
        self, target: str, status: int, headers: CIMultiDict[str] | CIMultiDictProxy[str], page: bytes
    ) -> bool:
        is_odata = target.lower().startswith(self._root)
        return self._login.is_over(status, CIMultiDict(headers), page, odata=is_odata)


def _with(headers: CIMultiDict[str] | CIMultiDictProxy[str], proof: Proof) -> CIMultiDict[str]:
    own = without(headers, OF_CLIENTS)
    own.update(proof.fields)
    return own


def without(headers: CIMultiDict[str] | CIMultiDictProxy[str], names: tuple[str, ...]) -> CIMultiDict[str]:
    """A copy that lacks these fields."""
    copy = CIMultiDict(headers)
    for name in names:
        copy.popall(name, None)
    return copy
