"""Who is calling, and how it is known: a token, a user's password, a connection's login, or the network.

What a request says of its caller (Authorization, RFC 9110, 11.6.2) is judged by itself: a credential that is
wrong is refused, wherever it comes from. A scheme that no caller uses says nothing. The address is the
connection's own; what header fields say of it (X-Forwarded-For, Forwarded) anybody can write.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from cachetools import TTLCache

from proxy.caller_settings import CallerSettings, Network
from proxy.connection_logins import ConnectionLogins
from proxy.passwords import PasswordHash, token_hash
from proxy.reconcile.errors import LoginRequired, RightMissing, TooManyLogins
from proxy.reconcile.observations import CallerRefused, Observe
from proxy.reconcile.rights import ANYBODY, Rights

# What the caller of a request may do, and its name.
CALLER: web.RequestKey[Rights] = web.RequestKey("caller", Rights)

_FAILURES = 10  # of one address within _FAILURES_S, and no more passwords of its are looked at
_FAILURES_S = 60.0
_REMEMBERED_S = 300.0
_AT_ONCE = 2  # passwords being looked at: each costs memory and a processor
_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class _Basic:
    rights: Rights
    hash: PasswordHash


class Authenticator:
    """Knows the callers of a configuration; without any, everybody may do everything."""

    def __init__(
        self,
        callers: Mapping[str, CallerSettings],
        observe: Observe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._key = secrets.token_bytes(32)
        self._right: TTLCache[bytes, Rights] = TTLCache(1000, _REMEMBERED_S, clock)
        self._failed: TTLCache[str, int] = TTLCache(_ADDRESSES, _FAILURES_S, clock)
        self._passwords = asyncio.Semaphore(_AT_ONCE)
        self._callers: Mapping[str, CallerSettings] = {}
        self.edition = 0  # of the callers: what was allowed under another may not be any more
        self.use(callers)

    def use(self, callers: Mapping[str, CallerSettings]) -> None:
        """Know these callers, and no others any more; who has logged in a connection has to do so again.

        Raises OSError and UnicodeDecodeError for a password that cannot be read (`login_problems`), and then
        nothing has changed.
        """
        logins = _connection_logins(callers)
        rights = {name: caller.rights(name) for name, caller in callers.items()}
        self.edition += callers != self._callers
        self._callers = callers
        self._right.clear()
        self._logins = logins
        self._tokens = [(each, rights[name]) for name in callers for each in callers[name].token_sha256]
        self._basic: dict[str, _Basic] = {}
        self._users: dict[str, Rights] = {}  # of a connection's login, in lower case
        self._networks: list[tuple[Network, frozenset[str], Rights]] = []
        for name, caller in callers.items():
            if caller.basic is not None and (kept := caller.basic.hash()) is not None:
                self._basic[caller.basic.user] = _Basic(rights[name], kept)
            for user in (caller.ntlm.user if caller.ntlm else "", caller.kerberos):
                self._users |= {user.lower(): rights[name]} if user else {}
            names = frozenset(map(str.lower, caller.names))
            self._networks += [(network, names, rights[name]) for network in caller.networks]
        self._networks.sort(key=lambda each: each[0].prefixlen, reverse=True)
        self._is_open = not callers
        # A user that is none takes as long as one that is.
        self._unknown = PasswordHash.of(secrets.token_urlsafe()) if self._basic else None

    async def rights_of(self, request: web.BaseRequest) -> Rights:
        """What the caller of this request may do. Raises LoginRequired, TooManyLogins and RightMissing."""
        if self._is_open:
            return ANYBODY
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        scheme, said = scheme.lower(), said.strip()
        if len(request.headers.getall("Authorization", ())) > 1:
            raise self._refused(request, "several", "two credentials")
        if scheme == "bearer" and self._tokens:
            return self.rights_of_token(request, said)
        if scheme == "basic" and self._basic:
            return await self._password(request, said)
        if self._logins is not None and scheme in map(str.lower, self._logins.schemes):
            return self._login(request, self._logins, scheme, said)
        return self._unsaid(request)

    @property
    def is_open(self) -> bool:
        """True where nobody has to say who they are."""
        return self._is_open

    def rights_with(self, hashed: str) -> Rights | None:
        """What who shows the token of this hash may do; None for nobody's."""
        found = None
        for kept, rights in self._tokens:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(hashed, kept):
                found = rights
        return found

    def rights_of_token(self, request: web.BaseRequest, token: str) -> Rights:
        """What who shows this token may do. Raises LoginRequired."""
        found = self.rights_with(token_hash(token))
        if found is None:
            raise self._refused(request, "bearer", "unknown token")
        return found

    async def _password(self, request: web.BaseRequest, said: str) -> Rights:
        try:
            user, _, password = base64.b64decode(said, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise self._refused(request, "basic", "unreadable") from None
        remembered = hmac.digest(self._key, f"{user}:{password}".encode(), "sha256")
        if (rights := self._right.get(remembered)) is not None:
            return rights
        self._check_failures(request)
        kept = self._basic.get(user)
        async with self._passwords:
            self._check_failures(request)  # those that waited with this one may have failed
            wanted = self._unknown if kept is None else kept.hash
            is_right = wanted is not None and await asyncio.to_thread(wanted.is_of, password)
        if kept is None or not is_right or self._basic.get(user) is not kept:
            raise self._refused(request, "basic", "wrong user or password")
        self._right[remembered] = kept.rights
        return kept.rights

    def _login(self, request: web.BaseRequest, logins: ConnectionLogins, scheme: str, said: str) -> Rights:
        """One message of a login; the last one's request is answered."""
        self._check_failures(request)
        try:
            result = logins.step(request, scheme, base64.b64decode(said, validate=True))
        except ValueError:
            raise self._refused(request, scheme, "login failed") from None
        if isinstance(result, bytes):
            name = next(each for each in logins.schemes if each.lower() == scheme)
            raise LoginRequired("The login goes on.", [f"{name} {base64.b64encode(result).decode()}"])
        rights = self._users.get(result.lower())
        if rights is None:
            raise self._refused(request, scheme, "unknown user")
        return rights

    def _unsaid(self, request: web.BaseRequest) -> Rights:
        """Who calls without a word of it."""
        user = None if self._logins is None else self._logins.user_of(request)
        if (known := self._users.get((user or "").lower())) is not None:
            return known
        address, name = _address_of(request), called_name(request)
        found = (each for each in self._networks if address is not None and address in each[0])
        for _, names, rights in found:
            # Another site's name server may give its own name our address, for browsers in the network.
            if not (_is_address(name) or name in ("", "localhost") or name in names):
                raise RightMissing(rights.who, "call under a name that names do not list")
            return rights
        if challenges := self._challenges():
            raise LoginRequired("Say who is calling.", challenges)
        self._observe(CallerRefused(request.remote, "network", "address not listed"))
        raise RightMissing(request.remote or "", "call from this address")

    def _challenges(self, error: str = "") -> list[str]:
        schemes = [*(self._logins.schemes if self._logins else ())]
        schemes += [f'Bearer realm="syncpoint"{error}'] if self._tokens else []
        schemes += ['Basic realm="syncpoint", charset="UTF-8"'] if self._basic else []
        return schemes

    def _refused(self, request: web.BaseRequest, scheme: str, reason: str) -> LoginRequired:
        """A credential that was wrong: told, and counted where guessing could find another."""
        if scheme != "bearer":
            source = _source(request)
            self._failed[source] = self._failed.get(source, 0) + 1
        self._observe(CallerRefused(request.remote, scheme, reason))
        error = ', error="invalid_token"' if scheme == "bearer" else ""
        return LoginRequired("What the request says of its caller is not right.", self._challenges(error))

    def _check_failures(self, request: web.BaseRequest) -> None:
        if self._failed.get(_source(request), 0) >= _FAILURES:
            self._observe(CallerRefused(request.remote, "password", "too many failures"))
            raise TooManyLogins("Too many logins from this address have failed. Try again in a minute.")


def is_of_another_site(request: web.BaseRequest) -> bool:
    """True for what another site's page has a browser send, with whatever the browser says of its user.

    A browser tells where a request comes from (Sec-Fetch-Site, and Origin for what is not a plain read).
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin != f"{request.scheme}://{request.host}"


def called_name(request: web.BaseRequest) -> str:
    """The host that the client says it calls, in lower case, without a port; "" where it says none, as no
    browser does."""
    return urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""


def is_loopback(host: str) -> bool:
    """Of an address, or a name."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connection_logins(callers: Mapping[str, CallerSettings]) -> ConnectionLogins | None:
    """None where no caller logs in so."""
    users = {each.ntlm.user: each.ntlm.read_password() for each in callers.values() if each.ntlm is not None}
    wanted = users or any(caller.kerberos for caller in callers.values())
    return ConnectionLogins(users) if wanted else None


def _address_of(request: web.BaseRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The other end of the connection; an IPv4 address as one also where the listener speaks IPv6."""
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _source(request: web.BaseRequest) -> str:
    """For counting: of IPv6 a whole network is one customer's."""
    address = _address_of(request)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
