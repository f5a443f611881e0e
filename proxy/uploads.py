"""The body of a client's request, while it comes: in pieces, within a limit, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

# How long a client may leave an upload lie: it holds a connection to upstream. aiohttp's own parser makes
# it necessary too: after a chunk that is none, it lets the reader wait until the client leaves.
CLIENT_PATIENCE_S = 120.0


class UnknownCoding(web.HTTPNotImplemented):
    """The body is in a transfer coding other than chunked, which ends at this proxy (RFC 9112, 6.1)."""


class Upload:
    """A body on its way up. `error`: what the client is told where it did not come whole."""

    def __init__(self, request: web.BaseRequest, limit: int | None) -> None:
        """`limit`: bytes that the body may have. Raises HTTPRequestEntityTooLarge where it announces more,
        UnknownCoding."""
        if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            raise UnknownCoding
        self._content = request.content
        self._limit = limit
        self.error: web.HTTPException | None = None
        if limit is not None and (request.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; it ends only where the whole body came.

        Raises HTTPRequestTimeout where nothing more comes, HTTPBadRequest where it breaks off,
        HTTPRequestEntityTooLarge over the limit; the same is in `error` then.
        """
        size = 0
        while piece := await self._next():
            size += len(piece)
            if self._limit is not None and size > self._limit:
                self.error = web.HTTPRequestEntityTooLarge(self._limit, size)
                raise self.error
            yield piece

    async def whole(self) -> bytes:
        """The body in one piece. Raises what `pieces` raises."""
        return b"".join([piece async for piece in self.pieces()])

    async def _next(self) -> bytes:
        """The next bytes; empty at the end."""
        try:
            async with asyncio.timeout(CLIENT_PATIENCE_S):
                return await self._content.readany()
        except TimeoutError:
            self.error = web.HTTPRequestTimeout()
            raise self.error from None
        except Exception as error:  # whatever it is, there is no whole body
            self.error = web.HTTPBadRequest()
            raise self.error from error
