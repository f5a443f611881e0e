"""`$batch` on the mirror's own service root: reads, each answered as if it had come alone."""

from __future__ import annotations

import uuid
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import error_response
from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_requests, write_batch
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError
from proxy.odata.headers import effective_method
from proxy.odata.uri import split_target
from proxy.reconcile.batches import rooted
from proxy.reconcile.errors import ReadRefused, SyncError
from proxy.reconcile.exchange import MirrorAsk
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.rights import Rights


async def answer_batch(
    request: web.Request,
    root: str,
    reader: MirrorReader,
    model: Model | None,
    read_only: ReadRefused,
    rights: Rights,
) -> web.Response:
    """Answer a POST to `$batch` below `root`, scheme and host included.

    A part that is refused gets its own error, and any write gets `read_only`, a changeset once for all of
    its parts. Raises ReadRefused for what is no batch.
    """
    try:
        parts = read_requests(await request.read(), request.headers.get("Content-Type"))
    except ODataError as error:
        raise ReadRefused(error) from error
    answers: list[ResponsePart | ChangeSet[ResponsePart]] = []
    for part in parts:
        if isinstance(part, RequestPart):
            answers.append(await _answer(part, root, reader, model, read_only, rights))
        elif part.parts:
            answers.append(_refused(part.parts[0], read_only))
        else:
            answers.append(ChangeSet(()))
    boundary = f"batchresponse_{uuid.uuid4()}"
    headers = {
        "Content-Type": f"multipart/mixed; boundary={boundary}",
        "DataServiceVersion": "1.0;",
        "Cache-Control": "no-cache",
        "Cache-Status": "syncpoint; hit",
    }
    return web.Response(status=202, body=write_batch(answers, boundary), headers=headers)


async def _answer(
    part: RequestPart,
    root: str,
    reader: MirrorReader,
    model: Model | None,
    read_only: ReadRefused,
    rights: Rights,
) -> ResponsePart:
    root_path = "/" + root.partition("://")[2].partition("/")[2]
    path, query = split_target(rooted(part.target, root_path)[0])
    try:
        if effective_method(part.method, part.headers) != "GET":
            raise read_only
        if not f"{path}/".startswith(f"{root_path}/"):
            raise ReadRefused(ODataError(f"The URI '{part.target}' is not based on '{root}/'.", status=404))
        ask = MirrorAsk(root, path[len(root_path) :], query, part.headers, rights=rights)
        answer = await reader.read(ask, model)
    except SyncError as error:
        return _refused(part, error)
    headers = CIMultiDict({"DataServiceVersion": answer.version, "Cache-Control": "no-cache"})
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    if answer.age is not None:
        headers["Age"] = str(answer.age)
    return _identified(ResponsePart(200, "OK", headers, answer.body), part)


def _refused(part: RequestPart, error: SyncError) -> ResponsePart:
    made = error_response(error, ", ".join(part.headers.getall("Accept", [])))
    assert isinstance(made.body, bytes)
    headers = CIMultiDict(made.headers)
    headers.popall("Content-Length", None)
    reply = ResponsePart(made.status, HTTPStatus(made.status).phrase, headers, made.body)
    return _identified(reply, part)


def _identified(reply: ResponsePart, part: RequestPart) -> ResponsePart:
    """With the request's Content-ID, where the request had it."""
    if "Content-ID" not in part.headers:
        return replace(reply, content_id=part.content_id)
    headers = CIMultiDict(reply.headers)
    headers["Content-ID"] = part.headers["Content-ID"]
    return replace(reply, headers=headers)
