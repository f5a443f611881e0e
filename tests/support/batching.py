"""Batches for tests: parts made briefly, sent, and told briefly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from multidict import CIMultiDict

from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_responses, write_batch

MIXED = "multipart/mixed; boundary=b"

Parts = Sequence[RequestPart | ChangeSet[RequestPart]]
Replies = list[ResponsePart | ChangeSet[ResponsePart]]


def part(
    method: str, target: str, body: Any = None, content_id: str | None = None, **named: str
) -> RequestPart:
    """A request; `body` is sent as JSON, `named` are header fields with `_` for `-`."""
    headers = CIMultiDict({"Accept": "application/json"} | {k.replace("_", "-"): v for k, v in named.items()})
    if body is None:
        return RequestPart(method, target, headers, b"", content_id)
    headers["Content-Type"] = "application/json"
    return RequestPart(method, target, headers, json.dumps(body).encode(), content_id)


def changeset(*parts: RequestPart) -> ChangeSet[RequestPart]:
    return ChangeSet(parts)


def written(*parts: RequestPart | ChangeSet[RequestPart]) -> bytes:
    """A body for the media type `MIXED`."""
    return write_batch(parts, "b")


def replies(answer: Any) -> Replies:
    """The parts of an answer with `status`, `headers` and `body`."""
    assert answer.status == 202, answer.body
    return read_responses(answer.body, answer.headers["Content-Type"])


def told(found: Replies) -> list[Any]:
    """Statuses, those of a changeset in a list."""
    return [
        [inner.status for inner in reply.parts] if isinstance(reply, ChangeSet) else reply.status
        for reply in found
    ]
