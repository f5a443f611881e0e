"""SOAP through the proxy: streamed untouched; only its last bytes wait for the mark of what it names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from proxy.authentication import CALLER
from proxy.odata.edm import Model
from proxy.odata.soap import PATH
from proxy.passthrough import pass_through
from proxy.reconcile.errors import SyncError
from proxy.reconcile.messages import Messages
from proxy.reconcile.ports import Intent, Outcome, Provenance, Source, UpstreamFailure
from proxy.uploads import Upload
from proxy.upstream.login import AnyClient

# A message that names records is short; what is longer carries attachments, and is not held back to be read.
_READ_BYTES = 4 * 1024 * 1024


def is_message(method: str, target: str) -> bool:
    """True for what may be a message to the organisation service."""
    return method == "POST" and PATH.search(target) is not None


class _Watched:
    """The body of one message on its way up."""

    def __init__(self, messages: Messages, model: Model, provenance: Provenance) -> None:
        self._messages = messages
        self._model = model
        self._provenance = provenance
        self.intent: Intent | None = None
        self.refusal: SyncError | None = None

    async def first(self, body: bytes) -> Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]:
        """Mark what a message names that is here already, and give what sends it. Raises as `mark` does."""
        self.intent = await self._messages.mark(body, self._model, self._provenance)

        async def pieces(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield body

        return pieces

    async def pieces(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, the last ones after the mark of what the whole message names."""
        read: list[bytes] = []
        size, held_back = 0, b""
        async for piece in body:
            if held_back:
                yield held_back
            held_back = piece
            size += len(piece)
            if size <= _READ_BYTES:
                read.append(piece)
        if size <= _READ_BYTES:
            try:
                self.intent = await self._messages.mark(b"".join(read), self._model, self._provenance)
            except SyncError as error:
                self.refusal = error
                raise
        if held_back:
            yield held_back


async def pass_message(
    request: web.Request,
    upstream: AnyClient,
    messages: Messages,
    model: Model,
    *,
    request_id: str,
    client_origin: str,
    body_limit: int | None,
    connection: object | None,
) -> web.StreamResponse:
    """Pass a message through. Raises what `pass_through` and `Messages.mark` raise."""
    provenance = Provenance(Source.CLIENT_WRITE, request_id, request[CALLER].user, request.remote)
    watched = _Watched(messages, model, provenance)
    through: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] = watched.pieces
    # Where the mirror may be the authority of what is named, nobody is asked before that is known.
    if messages.may_refuse and 0 < (request.content_length or 0) <= _READ_BYTES:
        through = await watched.first(await Upload(request, body_limit).whole())
    outcome: Outcome | None = None
    try:
        response = await pass_through(
            request,
            upstream,
            client_origin=client_origin,
            body_limit=body_limit,
            connection=connection,
            through=through,
        )
        outcome = Outcome.APPLIED if 200 <= response.status < 300 else Outcome.REFUSED
        return response
    except UpstreamFailure as failure:
        outcome = None if failure.sent else Outcome.REFUSED
        if watched.refusal is not None:
            raise watched.refusal from None
        raise
    finally:
        if watched.intent is not None:
            await messages.answered(watched.intent, outcome, model)
