"""`$batch`: each part answered as if it had come alone, a changeset as a whole ([MS-ODATA] 2.2.7.6).

What the framework does, since no Dynamics was seen to serve it (field manual 6.8): reads stand outside of
changesets and writes within, and a changeset that fails is answered by its one error.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from multidict import CIMultiDict

from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_requests, write_batch
from proxy.odata.errors import ODataError
from proxy.odata.uri import split_target
from proxy.sandbox.journal import PartEntry
from proxy.sandbox.messages import Answer, Incoming, Roots, meant_method, not_allowed, refusal
from proxy.sandbox.tables import Tables


class Batches:
    """Answers batches. `answer_one` carries a request out, and raises ODataError where it is refused."""

    def __init__(self, answer_one: Callable[[Incoming], Answer], tables: Tables) -> None:
        self._answer_one = answer_one
        self._tables = tables

    def answer(self, request: Incoming, roots: Roots) -> Answer:
        """Raises ODataError for what is no batch; then nothing was done."""
        if request.method != "POST":
            raise not_allowed("POST")
        if "X-HTTP-Method" in request.headers:
            raise ODataError("A batch cannot be tunnelled.")
        parts = read_requests(request.body, request.headers.get("Content-Type"))
        served = [_Served(self._answer_one, self._tables, request, roots) for _ in parts]
        replies = [one.serve(part) for one, part in zip(served, parts, strict=True)]
        boundary = f"batchresponse_{uuid.uuid5(uuid.NAMESPACE_OID, request.body.hex())}"
        entries = [entry for one in served for entry in one.entries]
        return Answer(
            202,
            write_batch(replies, boundary),
            f"multipart/mixed; boundary={boundary}",
            applied=any(entry.applied for entry in entries),
            delay_s=sum(one.delay_s for one in served),
            parts=tuple(entries),
        )


class _Served:
    """One part of a batch being carried out, and what the journal will say of it."""

    def __init__(
        self, answer_one: Callable[[Incoming], Answer], tables: Tables, batch: Incoming, roots: Roots
    ) -> None:
        self._answer_one = answer_one
        self._tables = tables
        self._batch = batch
        self._roots = roots
        self._referred: dict[str, str] = {}
        self.entries: list[PartEntry] = []
        self.delay_s = 0.0

    def serve(self, part: RequestPart | ChangeSet[RequestPart]) -> ResponsePart | ChangeSet[ResponsePart]:
        if isinstance(part, RequestPart):
            try:
                return self._reply(part, is_write=False)
            except ODataError as error:
                return self._refused(part, error)
        try:
            with self._tables.all_or_nothing():
                return ChangeSet(tuple(self._reply(inner, is_write=True) for inner in part.parts))
        except ODataError as error:
            self.entries = [replace(entry, applied=False) for entry in self.entries]
            return self._refused(part.parts[len(self.entries)], error)

    def _reply(self, part: RequestPart, *, is_write: bool) -> ResponsePart:
        target = self._target(part)
        incoming = Incoming(part.method, target, part.headers, part.body, self._batch.origin)
        is_batch = self._below_root(target) == "/$batch"
        if is_batch or (meant_method(incoming) != "GET") is not is_write:
            raise ODataError(f"The method {part.method} does not belong at this place of a batch.")
        answer = self._answer_one(incoming)
        if part.content_id is not None:
            location = answer.headers.get("Location")
            path = location[len(self._roots.own) :] if location else self._below_root(target)
            self._referred[part.content_id] = path
        self.delay_s += answer.delay_s
        return self._response(part, answer)

    def _target(self, part: RequestPart) -> str:
        """The raw target, from an absolute, a rooted or a relative URL, or one that begins with `$<id>`."""
        target, requested = part.target, self._roots.requested
        root_path = requested[len(self._batch.origin) :]
        if "://" in split_target(target)[0]:
            below = target[len(requested) :]
            if target[: len(requested)].lower() != requested.lower() or below[:1] not in ("", "/", "?"):
                raise ODataError(f"The URI '{target}' is not based on '{requested}/'.")
            target = below.removeprefix("/")
        elif target.startswith("/"):
            return target
        first, slash, rest = target.partition("/")
        if first.startswith("$") and first[1:] in self._referred:
            return f"{root_path}{self._referred[first[1:]]}{slash}{rest}"
        return f"{root_path}/{target}"

    def _below_root(self, target: str) -> str:
        return split_target(target)[0][len(self._roots.requested) - len(self._batch.origin) :]

    def _refused(self, part: RequestPart, error: ODataError) -> ResponsePart:
        return self._response(part, refusal(error, part.headers.get("Accept")))

    def _response(self, part: RequestPart, answer: Answer) -> ResponsePart:
        self.entries.append(PartEntry(part.method, part.target, answer.status, answer.applied))
        headers = CIMultiDict({"Cache-Control": "no-cache", "DataServiceVersion": answer.version})
        headers.update(answer.headers)
        if answer.content_type is not None:
            headers["Content-Type"] = answer.content_type
        if "Content-ID" in part.headers:
            headers["Content-ID"] = part.headers["Content-ID"]
        reason = HTTPStatus(answer.status).phrase
        return ResponsePart(answer.status, reason, headers, answer.body, part.content_id)
