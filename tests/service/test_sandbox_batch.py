"""The sandbox's `$batch`: parts answered one by one, changesets applied as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from batching import MIXED, Replies, changeset, part, replies, told, written
from sandboxing import Served, served

from proxy.odata.batch import ChangeSet, ResponsePart


@pytest.fixture
async def service() -> AsyncIterator[Served]:
    async with served(rows=3, batch="serve") as made:
        yield made


async def batch(service: Served, *parts: Any) -> Replies:
    return replies(await service.send("POST", "/$batch", written(*parts), Content_Type=MIXED))


def entity(service: Served, number: int = 0) -> str:
    return f"AccountSet(guid'{service.sandbox.organisation.keys('AccountSet')[number]}')"


async def test_reads_and_a_changeset_are_answered_in_their_order(service: Served) -> None:
    path = entity(service)
    found = await batch(
        service,
        part("GET", f"{service.root}/{path}"),
        changeset(part("MERGE", path, {"Name": "Ü"}), part("POST", "AccountSet", {"Name": "New"}, "7")),
        part("GET", f"/XRMServices/2011/OrganizationData.svc/{path}?$select=Name"),
        part("GET", "NothingSet"),
    )
    assert told(found) == [200, [204, 201], 200, 404]
    assert isinstance(found[1], ChangeSet)
    assert found[1].parts[1].content_id == "7"
    assert isinstance(found[2], ResponsePart)
    assert json.loads(found[2].body)["d"]["Name"] == "Ü"
    assert (await service.get(f"/{path}")).d["Name"] == "Ü"


async def test_the_journal_lists_the_parts(service: Served) -> None:
    path = entity(service)
    await batch(service, part("GET", path), changeset(part("DELETE", path)), part("GET", path))
    (entry,) = service.sandbox.journal
    assert [(one.method, one.target, one.status, one.applied) for one in entry.parts] == [
        ("GET", path, 200, False),
        ("DELETE", path, 204, True),
        ("GET", path, 404, False),
    ]
    assert entry.applied


async def test_a_changeset_that_fails_leaves_nothing_behind(service: Served) -> None:
    first, second = entity(service, 0), entity(service, 1)
    contact = f"ContactSet(guid'{service.sandbox.organisation.keys('ContactSet')[0]}')"
    tied = {"PrimaryContactId": {"Id": contact[16:-2], "LogicalName": "contact"}}
    await service.send("MERGE", f"/{first}", tied)
    paths = [f"/{first}", f"/{second}", "/AccountSet", "/ContactSet", "/CustomerAddressSet"]
    before = [(await service.get(path)).body for path in paths]
    service.sandbox.journal.clear()
    found = await batch(
        service,
        changeset(
            part("DELETE", contact),
            part("MERGE", first, {"Name": "Changed", "Address1_City": "Elsewhere"}),
            part("DELETE", second),
            part("POST", "AccountSet", {"Name": "New"}),
            part("MERGE", first, {"NoSuchProperty": 1}, "5"),
            part("DELETE", first),
        ),
        part("GET", first),
    )
    assert told(found) == [400, 200]
    assert isinstance(found[0], ResponsePart)
    assert found[0].content_id == "5"
    assert [(await service.get(path)).body for path in paths] == before
    entry = service.sandbox.journal[0]
    assert [one.applied for one in entry.parts] == [False] * 6
    assert not entry.applied


@pytest.mark.parametrize("absolute", [False, True])
async def test_a_changeset_refers_to_what_it_made(service: Served, absolute: bool) -> None:
    root = f"{service.root}/" if absolute else ""
    found = await batch(
        service,
        changeset(
            part("POST", "AccountSet", {"Name": "Parent"}, "1"),
            part("POST", f"{root}$1/contact_customer_accounts", {"LastName": "Child"}, Content_ID="2"),
            part("MERGE", f"{root}$1", {"Name": "Renamed"}),
            part("MERGE", f"{root}$2", {"FirstName": "Given"}),
        ),
        part("GET", f"{root}$1"),
    )
    assert told(found) == [[201, 201, 204, 204], 404]
    assert isinstance(found[0], ChangeSet)
    parent, child = (json.loads(one.body)["d"] for one in found[0].parts[:2])
    assert found[0].parts[1].headers["Content-ID"] == "2"
    path = f"/AccountSet(guid'{parent['AccountId']}')"
    assert (await service.get(path)).d["Name"] == "Renamed"
    contacts = (await service.get(f"{path}/contact_customer_accounts")).d["results"]
    assert [(one["ContactId"], one["FirstName"]) for one in contacts] == [(child["ContactId"], "Given")]


async def test_what_stands_at_the_wrong_place_is_refused(service: Served) -> None:
    path = entity(service)
    found = await batch(
        service,
        part("MERGE", path, {"Name": "x"}),
        changeset(part("GET", path)),
        part("POST", "$batch", {}),
        changeset(part("POST", f"{service.root}/$batch", {})),
        part("GET", "http://elsewhere.example/AccountSet"),
        part("GET", f"{service.root}2/AccountSet"),
        part("POST", path, {"Name": "x"}, X_HTTP_Method="MERGE"),
        changeset(part("POST", path, {"Name": "Tunnelled"}, X_HTTP_Method="MERGE")),
        changeset(),
    )
    assert told(found) == [400, 400, 400, 400, 400, 400, 400, [204], []]
    assert (await service.get(f"/{path}")).d["Name"] == "Tunnelled"


@pytest.mark.parametrize(
    ("method", "body", "headers", "status"),
    [
        ("GET", None, {}, 405),
        ("POST", b"--b--", {"Content_Type": "text/plain"}, 400),
        ("POST", b"--b", {"Content_Type": MIXED}, 400),
        ("POST", b"--b--", {"Content_Type": MIXED, "X_HTTP_Method": "MERGE"}, 400),
        ("POST", b"--b--", {"Content_Type": MIXED}, 202),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(
    service: Served, method: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    assert (await service.send(method, "/$batch", body, **headers)).status == status


async def test_by_default_there_is_no_batch() -> None:
    async with served() as service:
        assert (await service.send("POST", "/$batch", b"--b--", Content_Type=MIXED)).status == 404
