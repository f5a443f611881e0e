"""What the proxy logs of requests that went through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs
from world import World, world

from proxy.sandbox import Fault


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


def path_of(place: World) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet')}')"


ABSENT = "/ContactSet(guid'00000000-0000-0000-0000-000000000001')"
ALONE = {"Cache_Control": "only-if-cached"}
JSON = {"Content_Type": "application/json"}
TUNNELLED = {"X_HTTP_Method": "MERGE"} | JSON
NAME = b'{"Name":"Written"}'
REQUESTS: list[tuple[str, str, bytes | None, dict[str, str], tuple[str, str, str | None, str]]] = [
    ("GET", "{0}", None, {}, ("GET", "ReadEntity", "AccountSet", "hit")),
    ("GET", "{0}?$select=Name", None, {}, ("GET", "ReadEntity", "AccountSet", "hit")),
    ("GET", "{0}", None, {"Cache_Control": "no-cache"}, ("GET", "ReadEntity", "AccountSet", "request")),
    ("GET", "{0}", None, ALONE, ("GET", "ReadEntity", "AccountSet", "hit")),
    ("GET", ABSENT, None, ALONE, ("GET", "ReadEntity", "ContactSet", "refused")),
    ("GET", "/ContactSet?$top=1", None, {}, ("GET", "ReadCollection", "ContactSet", "miss")),
    ("POST", "{0}", NAME, TUNNELLED, ("MERGE", "MergeEntity", "AccountSet", "method")),
    ("MERGE", "{0}", NAME, JSON, ("MERGE", "MergeEntity", "AccountSet", "method")),
    ("DELETE", "{0}", None, {}, ("DELETE", "DeleteEntity", "AccountSet", "method")),
    ("GET", "/$metadata", None, {}, ("GET", "Forwarded", None, "bypass")),
    ("GET", "{0}/Name/$value", None, {}, ("GET", "Forwarded", "AccountSet", "passed")),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "told"), REQUESTS)
async def test_one_line_for_each_request_with_all_that_it_took_of_upstream(
    place: World,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    told: tuple[str, str, str | None, str],
) -> None:
    await place.ask(path_of(place))
    await place.idle()
    place.clear()
    with capture_logs() as logs:
        answer = await place.ask(path.format(path_of(place)), method, body=body, **headers)
        (line,) = [entry for entry in logs if entry["event"] == "request_served"]
    assert (line["method"], line["operation"], line["entity_set"], line["decision"]) == told
    assert (line["status"], line["cache_status"]) == (answer.status, answer.headers.get("Cache-Status"))
    assert line["request_id"] == answer.headers.get("X-Request-Id", line["request_id"])
    calls = [(call["method"], call["path"], call["status"]) for call in line["upstream_calls"]]
    assert calls == [
        (entry.method, urlsplit(entry.target).path, entry.status)
        for entry in place.sandbox.journal[: len(calls)]
    ]
    assert bool(calls) == (headers is not ALONE)


async def test_what_upstream_shows_is_not_logged(place: World) -> None:
    shown = (await place.ask("/AccountSet?$top=1", direct=True)).text
    unfit = shown.replace('"NumberOfEmployees":', '"NumberOfEmployees":"Jane Doe","x":', 1)
    assert unfit != shown
    headers = {"Content-Type": "application/json;charset=utf-8"}
    place.sandbox.faults.add(Fault(kind="status", status=200, body=unfit, headers=headers))
    with capture_logs() as logs:
        assert (await place.ask("/AccountSet?$top=1")).status == 200
        await place.idle()
    failed: list[Any] = [entry for entry in logs if entry["event"] == "upstream_failed"]
    assert [entry["error"] for entry in failed] == ["ODataError"]
    assert "Jane" not in str(logs)


async def test_what_background_work_cannot_read_is_not_logged(place: World) -> None:
    """A value that does not fit the metadata document may be anybody's; the log names its entity only."""
    shown = (await place.ask("/AccountSet?$top=1", direct=True)).text
    unfit = shown.replace('"NumberOfEmployees":', '"NumberOfEmployees":"Jane Doe","x":', 1)
    assert unfit != shown
    headers = {"Content-Type": "application/json;charset=utf-8"}
    place.sandbox.faults.add(Fault(kind="status", status=200, body=unfit, headers=headers))
    model = place.proxy.metadata.model
    assert model is not None
    service = place.proxy.service
    with capture_logs() as logs:
        reply = await service.get(f"{service.root_path}/AccountSet?$top=1")
        page = service.mirror.read_page(reply, model.entity_sets["AccountSet"], model, 1)
    assert page.fetched == []
    (told,) = [entry for entry in logs if entry["event"] == "entity_unreadable"]
    assert (told["entity_set"], told["error"]) == ("AccountSet", "ODataError")
    assert "Jane" not in str(logs)
