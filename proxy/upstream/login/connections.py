"""NTLM and Negotiate as the proxy's own login: connections that are logged in before anything is sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Literal

import spnego
from multidict import CIMultiDict, CIMultiDictProxy
from spnego.exceptions import SpnegoError
from yarl import URL

from proxy.reconcile.ports import Reply, Request, UpstreamLoginFailed, UpstreamTimeout
from proxy.upstream.client import KEEPALIVE_S, UpstreamClient
from proxy.upstream.flights import Flights
from proxy.upstream.login.client import OF_CLIENTS, OF_UPSTREAM, without
from proxy.upstream.login.gate import Gate, LoginUnclear, PasswordRefused, Proof
from proxy.upstream.pins import Pin
from proxy.upstream.streamed import StreamedReply

_SCHEMES = {"ntlm": "NTLM", "negotiate": "Negotiate"}
# Of one login: three for NTLM, a few more for what Negotiate may settle on.
_MESSAGES = 6
_ATTEMPTS = 2


class _Lane:
    """A connection that one request at a time uses. `proof`: it is logged in, since that login."""

    __slots__ = ("pin", "proof", "used_at")

    def __init__(self) -> None:
        self.pin: Pin | None = None
        self.proof: Proof | None = None
        self.used_at = 0.0


class LoggedInConnections:
    """An `UpstreamClient` to those who use it, and the `Login` of its gate, which is set by who made both.

    The gate's login proves the password on a connection of its own; the others log in one after another, so
    that a password that has become wrong is not tried by all of them.
    """

    gate: Gate

    def __init__(
        self,
        client: UpstreamClient,
        scheme: Literal["ntlm", "negotiate"],
        user: str,
        root_path: str,
        connections: int,
    ) -> None:
        self._client = client
        self._scheme = scheme
        self._user = user
        self._root_path = root_path
        self._lanes: asyncio.LifoQueue[_Lane] = asyncio.LifoQueue()
        for _ in range(connections):
            self._lanes.put_nowait(_Lane())
        self._one_login = asyncio.Lock()
        self._password = ""
        self._flights: Flights[Reply] = Flights(self._exchange)

    @property
    def origin(self) -> str:
        return self._client.origin

    def pin(self, connection: asyncio.Task[Any], headers: CIMultiDict[str]) -> None:
        """Clients' connections are nothing to upstream."""

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        """As `UpstreamClient.send`. Raises UpstreamLoginFailed too."""
        request = replace(request, headers=without(request.headers, OF_CLIENTS), connection=None)
        if joinable and not request.body:
            return (await self._flights.join(request))[0]
        return await self._exchange(request, lambda: None)

    async def stream(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: AsyncIterator[bytes] | None,
        connection: object | None = None,
    ) -> StreamedReply:
        """As `UpstreamClient.stream`. UpstreamLoginFailed where a body would have to be sent again."""
        lane = await self._free_lane()
        try:
            for _ in range(1 if body else _ATTEMPTS):
                pin = await self._logged_in(lane)
                reply = await self._client.stream(method, target, without(headers, OF_CLIENTS), body, pin)
                if reply.status != 401:
                    reply.drop(OF_UPSTREAM)
                    reply.when_done = lambda is_whole: self._give_back(lane, is_whole=is_whole)
                    return reply
                await self._end_login(lane, reply)
            raise UpstreamLoginFailed("upstream does not take the login; nothing was carried out")
        except BaseException:
            self._give_back(lane, is_whole=False)
            raise

    async def _exchange(self, request: Request, leaves: Callable[[], None]) -> Reply:
        lane = await self._free_lane()
        is_whole = False
        try:
            for _ in range(_ATTEMPTS):
                pin = await self._logged_in(lane)
                leaves()
                reply = await self._client.send(replace(request, connection=pin))
                if reply.status != 401:
                    is_whole = True
                    return replace(reply, headers=CIMultiDictProxy(without(reply.headers, OF_UPSTREAM)))
                lane.proof = None
            raise UpstreamLoginFailed("upstream does not take the login; nothing was carried out")
        finally:
            self._give_back(lane, is_whole=is_whole)

    # Connections

    async def _free_lane(self) -> _Lane:
        try:
            async with asyncio.timeout(self._client.patience_s):
                return await self._lanes.get()
        except TimeoutError as error:
            failure = UpstreamTimeout("no connection has become free in time")
            failure.sent = False
            raise failure from error

    def _give_back(self, lane: _Lane, *, is_whole: bool) -> None:
        if not is_whole:
            lane.proof = None
        lane.used_at = asyncio.get_running_loop().time()
        self._lanes.put_nowait(lane)

    async def _end_login(self, lane: _Lane, reply: StreamedReply) -> None:
        lane.proof = None
        async with reply:
            pass

    async def _logged_in(self, lane: _Lane) -> Pin:
        """The lane's connection, logged in. Raises UpstreamFailure."""
        proof = await self.gate.proof()
        # Upstream may close what lies idle, and a login ends with its connection.
        is_fresh = asyncio.get_running_loop().time() - lane.used_at < KEEPALIVE_S
        if lane.pin is not None and lane.proof is proof and is_fresh:
            return lane.pin
        if lane.pin is not None:
            await self._client.pins.drop(lane.pin)
        lane.pin = pin = self._client.pins.lone()
        async with self._one_login:
            proof = await self.gate.proof()
            try:
                await self._shake_hands(pin, self._password)
            except PasswordRefused:
                await self.gate.renewed(proof)
                raise UpstreamLoginFailed("the login was refused once") from None
            except LoginUnclear as error:
                raise UpstreamLoginFailed(str(error)) from error
        lane.proof = proof
        proof.worked = True
        return pin

    # The login itself

    async def log_in(self, password: str) -> Proof:
        """Prove the password, as `Login.log_in`."""
        pin = self._client.pins.lone()
        try:
            await self._shake_hands(pin, password)
        finally:
            await self._client.pins.drop(pin)
        self._password = password
        return Proof()

    async def _shake_hands(self, pin: Pin, password: str) -> None:
        scheme = _SCHEMES[self._scheme]
        try:
            context = spnego.client(
                self._user,
                password,
                hostname=URL(self.origin).host or "",
                service="HTTP",
                protocol=self._scheme,
            )
            token = await asyncio.to_thread(context.step)  # Kerberos asks its own server for a ticket
            for _ in range(_MESSAGES):
                if token is None:
                    break
                said = {"Authorization": f"{scheme} {base64.b64encode(token).decode()}"}
                headers = CIMultiDict({"Accept": "application/json", **said})
                reply = await self._client.send(
                    Request("GET", f"{self._root_path}/", headers, connection=pin)
                )
                if reply.status >= 500:
                    raise LoginUnclear(f"upstream answered {reply.status} to the login")
                if reply.status != 401:
                    return
                token = await asyncio.to_thread(context.step, _challenge(reply, scheme))
        except (SpnegoError, ValueError) as error:
            raise LoginUnclear(f"{scheme}: {type(error).__name__}") from error
        raise PasswordRefused


def _challenge(reply: Reply, scheme: str) -> bytes:
    """What upstream answers to a message of the login. Raises PasswordRefused where it begins anew."""
    offers = [value.partition(" ") for value in reply.headers.getall("WWW-Authenticate", ())]
    own = [token.strip() for name, _, token in offers if name.lower() == scheme.lower()]
    if not own:
        raise LoginUnclear(f"upstream does not offer {scheme}")
    if not any(own):
        raise PasswordRefused
    return base64.b64decode(next(filter(None, own)))
