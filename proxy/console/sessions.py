"""How a browser comes in: a token shown once in a form, and a cookie from then on.

A session is a random number in a cookie; the hash of the token it stands for is kept in this process alone,
and forgotten when the process ends. What a form posts carries a second number, which only a page of ours
could have shown.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from aiohttp import web
from cachetools import TTLCache

from proxy.authentication import CALLER, Authenticator
from proxy.passwords import token_hash
from proxy.reconcile.rights import Rights

LIFETIME_S = 8 * 3600.0
_SESSIONS = 1000
PATH = "/console/"


class Sessions:
    """The sessions of one process."""

    def __init__(self, authenticator: Authenticator, clock: Callable[[], float] = time.monotonic) -> None:
        self._authenticator = authenticator
        self._tokens: TTLCache[bytes, str] = TTLCache(_SESSIONS, LIFETIME_S, clock)
        self._key = secrets.token_bytes(32)

    @property
    def is_open(self) -> bool:
        """True where nobody has to say who they are."""
        return self._authenticator.is_open

    async def rights_of(self, request: web.Request) -> Rights:
        """What the browser may do: by its session, else as any other caller. Raises what that raises."""
        shown = self._tokens.get(_digest(request.cookies.get(_cookie(request), "")))
        # Asked anew each time: a token that is taken back ends its sessions.
        if shown is not None and (rights := self._authenticator.rights_with(shown)) is not None:
            return rights
        return await self._authenticator.rights_of(request)

    def begin(self, request: web.Request, token: str, response: web.Response) -> Rights:
        """Let in who shows this token. Raises LoginRequired, and RightMissing for who is no operator."""
        rights = self._authenticator.rights_of_token(request, token)
        rights.require_admin()
        session = secrets.token_urlsafe(32)
        self._tokens[_digest(session)] = token_hash(token)
        response.set_cookie(
            _cookie(request),
            session,
            path=PATH,
            max_age=int(LIFETIME_S),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return rights

    def end(self, request: web.Request, response: web.Response) -> None:
        """Forget the session, here and in the browser."""
        self._tokens.pop(_digest(request.cookies.get(_cookie(request), "")), None)
        response.del_cookie(_cookie(request), path=PATH)

    def form_token(self, request: web.Request) -> str:
        """What a form must post: of this process, this session and this caller."""
        said = f"{request.cookies.get(_cookie(request), '')}\n{request[CALLER].who}"
        return hmac.new(self._key, said.encode("utf-8", "surrogateescape"), "sha256").hexdigest()

    def is_ours(self, request: web.Request, token: str) -> bool:
        given = token.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self.form_token(request).encode())


def _cookie(request: web.Request) -> str:
    # Browsers take a name of this kind over TLS only, and from no other name of the same site.
    return "__Secure-syncpoint" if request.secure else "syncpoint"


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "surrogateescape")).digest()
