"""`$batch` where the mirror is the authority: each part answered as if it had come alone, a changeset as a
whole ([MS-ODATA] 2.2.7.6)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from http import HTTPStatus

from proxy.odata import dialect
from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_requests, write_batch
from proxy.odata.dialect import Dialect
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError
from proxy.odata.uri import split_target
from proxy.reconcile.authority import Epochs
from proxy.reconcile.batches import rooted
from proxy.reconcile.local import LocalAnswer, LocalAsk, refusal
from proxy.reconcile.local_reader import LocalReader
from proxy.reconcile.local_store import CommitUncertain, LocalTransaction
from proxy.reconcile.local_writer import LocalWriter
from proxy.reconcile.ports import AuthorityMoved, StoreUnavailable


class LocalBatches:
    """Answers batches."""

    def __init__(self, reader: LocalReader, writer: LocalWriter, spoken: Dialect) -> None:
        self._reader = reader
        self._writer = writer
        self._dialect = spoken

    async def answer(self, ask: LocalAsk, model: Model, epochs: Epochs) -> LocalAnswer:
        """Raises ODataError for what is no batch: then nothing was done; and as `LocalWriter.write`."""
        dialect.meant_method(ask.method, ask.headers)
        dialect.check_headers(ask.headers)
        if not self._dialect.batches:
            raise dialect.not_found("$batch")
        if "X-HTTP-Method" in ask.headers:
            raise ODataError("A batch cannot be tunnelled.")
        parts = read_requests(ask.body, ask.headers.get("Content-Type"))
        replies: list[ResponsePart | ChangeSet[ResponsePart]] = []
        for part in parts:
            if isinstance(part, RequestPart):
                replies.append(await self._read(part, ask, model))
                continue
            try:
                replies.append(await self._written(part, ask, model, epochs))
            except (AuthorityMoved, StoreUnavailable) as error:
                if not any(isinstance(reply, ChangeSet) for reply in replies):
                    raise
                # What is committed stays so, and the batch is not begun again.
                replies.append(_refused(part.parts[0], _not_now(error)))
        # The same for the same batch, so that its answers can be compared.
        boundary = f"batchresponse_{uuid.uuid5(uuid.NAMESPACE_OID, ask.body.hex())}"
        content_type = f"multipart/mixed; boundary={boundary}"
        return LocalAnswer(202, write_batch(replies, boundary), content_type)

    async def _read(self, part: RequestPart, batch: LocalAsk, model: Model) -> ResponsePart:
        try:
            ask = _alone(part, batch, {})
            _check_place(ask, is_write=False)
            return _response(part, await self._reader.read(ask, model))
        except ODataError as error:
            return _refused(part, error)

    async def _written(
        self, changeset: ChangeSet[RequestPart], batch: LocalAsk, model: Model, epochs: Epochs
    ) -> ResponsePart | ChangeSet[ResponsePart]:
        """The changeset's replies, or its one refusal: then nothing of it was done."""
        name = str(uuid.uuid4())
        tried = 0

        async def work(transaction: LocalTransaction) -> ChangeSet[ResponsePart]:
            nonlocal tried
            made: dict[str, str] = {}
            replies = []
            for tried, part in enumerate(changeset.parts):  # noqa: B007 - which one was refused
                ask = _alone(part, batch, made)
                _check_place(ask, is_write=True)
                answered = await self._writer.within(transaction, ask, model, name)
                if part.content_id is not None:
                    location = answered.headers.get("Location")
                    made[part.content_id] = ask.below_root(location) or "" if location else ask.path
                replies.append(_response(part, answered))
            return ChangeSet(tuple(replies))

        try:
            return await self._writer.together(epochs, work)
        except ODataError as error:
            return _refused(changeset.parts[tried], error)


def _alone(part: RequestPart, batch: LocalAsk, made: dict[str, str]) -> LocalAsk:
    """The part as a request of its own. `made`: paths below the root by Content-ID. Raises ODataError."""
    target, _ = rooted(part.target, batch.root_path, made)
    path = split_target(target)[0]
    if not f"{path}/".lower().startswith(f"{batch.root_path}/".lower()):
        raise ODataError(f"The URI '{part.target}' is not based on '{batch.root}/'.")
    return replace(batch, method=part.method, target=target, headers=part.headers, body=part.body)


def _check_place(ask: LocalAsk, *, is_write: bool) -> None:
    if ask.path == "/$batch" or (dialect.meant_method(ask.method, ask.headers) != "GET") is not is_write:
        raise ODataError(f"The method {ask.method} does not belong at this place of a batch.")


def _not_now(error: Exception) -> ODataError:
    uncertain = ": whether it was made is not known" if isinstance(error, CommitUncertain) else ""
    return ODataError(f"The changeset could not be written now{uncertain}.", status=503)


def _refused(part: RequestPart, error: ODataError) -> ResponsePart:
    return _response(part, refusal(error, part.headers.get("Accept")))


def _response(part: RequestPart, answered: LocalAnswer) -> ResponsePart:
    headers = answered.fields()
    if "Content-ID" in part.headers:
        headers["Content-ID"] = part.headers["Content-ID"]
    reason = HTTPStatus(answered.status).phrase
    return ResponsePart(answered.status, reason, headers, answered.body, part.content_id)
