"""What comes of one request: its answer while the body still comes, and what is recorded of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import aiohttp

from proxy.reconcile.ports import UpstreamBroken, UpstreamCut, UpstreamTimeout
from proxy.upstream.calls import UpstreamCall, record
from proxy.upstream.headers import RawHeaders
from proxy.upstream.wire import ConnectionLost

LOST = (ConnectionLost, aiohttp.ClientError, OSError, RuntimeError)


class StreamedReply:
    """Upstream's answer while its body still comes: an async context manager.

    `raw_headers` are all of them, as they came. Leaving the context before the end gives up the connection.
    `when_done` is told whether the body came whole once the context is left.
    """

    __slots__ = ("_call", "_content", "_response", "raw_headers", "reason", "status", "when_done")

    def __init__(self, response: aiohttp.ClientResponse, call: Call) -> None:
        self.status = call.status = response.status
        self.reason = response.reason or ""
        self.raw_headers: RawHeaders = response.raw_headers
        self.when_done: Callable[[bool], None] | None = None
        self._call = call
        self._response = response
        self._content = response.content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_whole:
            self._response.release()
        else:
            self._response.close()
        if error is not None:
            self._call.failed(error)
        self._call.record()
        if self.when_done is not None:
            self.when_done(self.is_whole)

    def drop(self, names: Iterable[str]) -> None:
        """Take these fields off the answer."""
        dropped = {name.lower().encode() for name in names}
        self.raw_headers = tuple(field for field in self.raw_headers if field[0].lower() not in dropped)

    @property
    def is_waiting(self) -> bool:
        """True while nothing of the body is here that has not been read, and more must come."""
        return self._content.total_bytes == self._call.bytes and not self._content.is_eof()

    @property
    def is_whole(self) -> bool:
        """True once the last byte has been read."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """The next bytes, as many as there are; empty at the end. Raises UpstreamBroken or UpstreamTimeout
        where the body does not come whole."""
        try:
            chunk = await self._content.readany()
        except LOST as error:
            failure = UpstreamTimeout if isinstance(error, TimeoutError) else UpstreamBroken
            raise failure(f"the body did not come whole: {describe(error)}") from error
        self._call.bytes += len(chunk)
        return chunk


class Call:
    """What is recorded of one request when it ends."""

    __slots__ = ("_error", "_method", "_path", "_started", "bytes", "shared", "status")

    def __init__(self, method: str, target: str) -> None:
        self._method = method
        self._path = target.partition("?")[0]
        self._started = time.perf_counter()
        self._error: str | None = None
        self.status: int | None = None
        self.bytes = 0
        self.shared = False

    def failed(self, error: BaseException) -> None:
        self._error = type(error).__name__
        if isinstance(error, UpstreamCut):
            self.status, self.bytes = error.reply.status, len(error.reply.body)

    def record(self) -> None:
        elapsed_ms = (time.perf_counter() - self._started) * 1000
        call = UpstreamCall(
            self._method, self._path, self.status, self._error, elapsed_ms, self.bytes, self.shared
        )
        record(call)


def describe(error: Exception) -> str:
    """In a few words without any URL: queries hold personal data, and aiohttp quotes them."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"no HTTP: {error.message.partition(chr(10))[0].rstrip(':')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
