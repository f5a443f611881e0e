"""What is asked beside upstream while logging in: token services, at the origins that were named for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from proxy.reconcile.ports import UpstreamTimeout, UpstreamUnreachable
from proxy.upstream.login.gate import LoginUnclear

_PAGE_LIMIT = 1 << 20
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer. `cookies`: name and value, as set. `location`: absolute, None where it is no redirect."""

    url: URL
    status: int
    body: bytes
    location: URL | None
    cookies: Mapping[str, str]


class Web:
    """Asks `origins` and nobody else; no redirect is followed, no cookie kept. An async context manager."""

    def __init__(self, origins: Iterable[str], tls: ssl.SSLContext | None = None) -> None:
        self._origins = {URL(origin).origin() for origin in origins}
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def knows(self, url: URL) -> bool:
        """True for an address at one of the origins."""
        return url.scheme in ("http", "https") and url.origin() in self._origins

    async def ask(
        self,
        url: URL,
        *,
        form: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
    ) -> Page:
        """GET, or POST of a form. Raises LoginUnclear for any other origin, and UpstreamFailure."""
        if not self.knows(url):
            raise LoginUnclear(f"the login leads to {url.host}, which login_origins does not list")
        assert self._session is not None, "used outside its context"
        headers = {"Accept": "text/html, application/json"}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        try:
            async with self._session.request(
                "GET" if form is None else "POST", url, data=form, headers=headers, allow_redirects=False
            ) as response:
                body = await response.content.read(_PAGE_LIMIT)
                location = response.headers.get("Location")
                return Page(
                    url,
                    response.status,
                    body,
                    url.join(URL(location)) if location and 300 <= response.status < 400 else None,
                    {name: morsel.value for name, morsel in response.cookies.items()},
                )
        except TimeoutError as error:
            raise UpstreamTimeout("no answer to the login in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamUnreachable(f"no answer to the login: {type(error).__name__}") from error
