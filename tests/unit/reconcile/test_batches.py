"""What requests in a batch mean, and what replies say of them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from batching import MIXED, changeset, part, written
from multidict import CIMultiDict, CIMultiDictProxy
from storing import ACCOUNTS, a_model

from proxy.odata.batch import ChangeSet, ResponsePart, write_batch
from proxy.odata.errors import ODataError
from proxy.odata.operation import (
    CreateEntity,
    DeleteEntity,
    Forwarded,
    MergeEntity,
    Opaque,
    ReadCollection,
    ReadEntity,
)
from proxy.reconcile.batches import Batch, intended_by, read_batch, replies_to
from proxy.reconcile.ports import Reply

ROOT = "/Crm/Data.svc"
MODEL = a_model(ACCOUNTS)
ONE = f"AccountSet(guid'{uuid.UUID(int=1)}')"
NOW = datetime(2026, 3, 4, tzinfo=UTC)


def batch(*parts: Any) -> Batch:
    return read_batch(written(*parts), MIXED, ROOT, MODEL)


def key(number: int) -> tuple[tuple[str, uuid.UUID], ...]:
    return (("AccountId", uuid.UUID(int=number)),)


@pytest.mark.parametrize(
    ("method", "target", "operation", "rooted"),
    [
        ("GET", ONE, ReadEntity, f"{ROOT}/{ONE}"),
        ("GET", f"{ROOT}/{ONE}", ReadEntity, f"{ROOT}/{ONE}"),
        ("GET", f"https://crm:5555{ROOT.upper()}/AccountSet?$top=1", ReadCollection, None),
        ("GET", "AccountSet?$filter=Name%20eq%20'http://x'", ReadCollection, None),
        ("DELETE", ONE, DeleteEntity, None),
        ("POST", "AccountSet", CreateEntity, None),
        ("GET", "$metadata", Forwarded, None),
        ("MERGE", "$1", Forwarded, None),
        ("GET", "https://elsewhere/x", Opaque, "/x"),
        ("GET", "https://elsewhere", Opaque, "/"),
        ("PATCH", ONE, MergeEntity, None),
    ],
)
def test_targets(method: str, target: str, operation: type, rooted: str | None) -> None:
    (step,) = batch(part(method, target)).steps
    assert isinstance(step.operation, operation)
    assert rooted is None or step.target == rooted


@pytest.mark.parametrize("root", ["", f"{ROOT}/", f"https://crm{ROOT}/"])
def test_references_lead_to_what_a_changeset_makes_and_no_further(root: str) -> None:
    found = batch(
        changeset(
            part("POST", "AccountSet", {}, "1"),
            part("MERGE", f"{root}$1", {}, "2"),
            part("MERGE", ONE, {}, Content_ID="x"),
            part("DELETE", "$x"),
            part("MERGE", "$2", {}),
        ),
        changeset(part("MERGE", "$1", {})),
    )
    if root.startswith("/"):
        # A rooted path is taken by its word: only relative and absolute URLs can begin with a reference.
        assert isinstance(found.steps[1].operation, Forwarded)
        return
    made, merged, known, deleted, again, outside = found.steps
    assert isinstance(made.operation, CreateEntity)
    assert isinstance(merged.operation, MergeEntity)
    assert [step.refers for step in found.steps] == [False, True, False, False, True, False]
    assert isinstance(deleted.operation, DeleteEntity)
    assert known.written == deleted.written
    assert (merged.written, again.written, made.written) == (None, None, None)
    assert isinstance(outside.operation, Forwarded)


def test_what_is_no_batch_is_an_error() -> None:
    with pytest.raises(ODataError):
        read_batch(b"--b", MIXED, ROOT, MODEL)


def test_intentions_fold_by_entity() -> None:
    two = f"AccountSet(guid'{uuid.UUID(int=2)}')"
    three = f"AccountSet(guid'{uuid.UUID(int=3)}')"
    found = batch(
        changeset(
            part("MERGE", ONE, {"Name": "a"}),
            part("POST", "AccountSet", {"Name": "new"}, "n"),
            part("MERGE", "$n", {"Name": "other"}),
            part("MERGE", two, {"Name": "b"}),
            part("DELETE", two),
            part("MERGE", three, {"NoSuch": 1}),
        ),
        changeset(part("MERGE", ONE, {"Name": "c"}), part("MERGE", three, {"Name": "d"})),
    )
    assert [(one.key, one.deletes, one.posted) for one in intended_by(found.writes, MODEL)] == [
        (key(1), False, {"Name": "c"}),
        (key(2), True, None),
        (key(3), False, None),
        (None, False, {"Name": "new"}),
    ]


# Replies


def response(status: int, content_id: str | None = None) -> ResponsePart:
    return ResponsePart(status, "", CIMultiDict(), b"", content_id)


def reply(status: int = 202, *parts: Any, body: bytes | None = None, content_type: str = MIXED) -> Reply:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": content_type}))
    return Reply(status, "", headers, write_batch(parts, "b") if body is None else body, NOW, NOW)


def statuses(found: list[Reply | None]) -> list[int | None]:
    return [one and one.status for one in found]


PAIR = changeset(part("MERGE", ONE, {}, "1"), part("DELETE", ONE, None, "2"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # One to one.
        ([response(200), ChangeSet((response(204), response(205)))], [200, 204, 205]),
        # By Content-ID, whatever the order; by order where the IDs do not say.
        ([response(200), ChangeSet((response(204, "2"), response(205, "1")))], [200, 205, 204]),
        ([response(200), ChangeSet((response(204, "2"), response(205, "2")))], [200, 204, 205]),
        ([response(200), ChangeSet((response(204, "9"), response(205, "1")))], [200, 204, 205]),
        # A changeset that failed: its one error, beside or within.
        ([response(404), response(400)], [404, 400, 400]),
        ([response(404), ChangeSet((response(400),))], [404, 400, 400]),
        ([response(404), ChangeSet((response(400, "2"),))], [404, 400, 400]),
        # A success beside an error may have been undone.
        ([response(200), ChangeSet((response(204), response(400)))], [200, None, 400]),
        # Too little, too much, or another shape.
        ([response(200)], [200, None, None]),
        ([], [None, None, None]),
        ([response(200), response(204)], [200, None, None]),
        ([response(200), ChangeSet((response(204),))], [200, None, None]),
        ([response(200), ChangeSet((response(204),) * 3)], [200, None, None]),
        ([response(200), ChangeSet((response(204),) * 2), response(200)], [None, None, None]),
        ([ChangeSet((response(200),)), ChangeSet((response(204),) * 2)], [200, 204, 204]),
    ],
)
def test_replies_join_their_requests(parts: list[Any], expected: list[int | None]) -> None:
    assert statuses(replies_to(batch(part("GET", ONE), PAIR), reply(202, *parts))) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (reply(404, body=b"no"), 404),
        (reply(501, body=b"no"), 501),
        (reply(302, body=b""), 302),
        (reply(200, body=b"<html>", content_type="text/html; charset=utf-8"), 200),
        (reply(500, body=b"no"), None),
        (reply(503, body=b"no"), None),
        (reply(202, body=b"--b\r\n"), None),
        (reply(202, body=json.dumps({}).encode(), content_type="application/json"), None),
    ],
)
def test_an_answer_to_the_whole_is_one_to_each_where_it_is_certain(said: Reply, expected: int | None) -> None:
    assert statuses(replies_to(batch(part("GET", ONE), PAIR), said)) == [expected] * 3


def test_a_part_is_an_answer_of_its_own() -> None:
    alone = ResponsePart(200, "Fine", CIMultiDict({"Content-Type": "application/json"}), b"{}")
    (found,) = replies_to(batch(part("GET", ONE)), reply(202, alone))
    assert found is not None
    assert (found.reason, found.media_type, found.body, found.sent_at) == (
        "Fine",
        "application/json",
        b"{}",
        NOW,
    )
