"""`$batch` on the mirror route: reads answered one by one without upstream, writes refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from batching import MIXED, changeset, part, replies, told, written
from world import Answer, World, world

from proxy.odata.batch import ResponsePart


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        for _ in range(2):
            await made.ask("/AccountSet?$top=3")
            await made.idle()
        made.clear()
        yield made


async def ask(place: World, path: str, **headers: str) -> Answer:
    return await place.send(f"{place.proxy.services_url}/mirror/{path}", headers=headers)


async def send(place: World, body: bytes, content_type: str = MIXED, path: str = "$batch") -> Answer:
    headers = {"Content-Type": content_type, "Accept": "application/json"}
    return await place.send(f"{place.proxy.services_url}/mirror/{path}", "POST", headers, body)


def only(found: Any) -> ResponsePart:
    assert isinstance(found, ResponsePart)
    return found


@pytest.mark.parametrize("path", ["$batch", "%24batch", "/$batch?x=1"])
async def test_reads_are_answered_as_if_each_had_come_alone(place: World, path: str) -> None:
    root = f"{place.proxy.services_url}/mirror"
    entity = f"AccountSet(guid'{place.a_key('AccountSet')}')"
    targets = [
        entity,
        f"{root}/{entity}/Name",
        "/mirror/AccountSet?$filter=startswith(Name,'')&$top=2&$inlinecount=allpages",
        "AccountSet/$count",
        f"{entity}/Name/$value",
    ]
    body = written(*(part("GET", target, None, str(number)) for number, target in enumerate(targets)))
    answer = await send(place, body, path=path)
    found = replies(answer)
    assert told(found) == [200] * len(targets)
    for number, (one, target) in enumerate(zip(found, targets, strict=True)):
        alone = await ask(
            place, target.removeprefix(f"{root}/").removeprefix("/mirror/"), Accept="application/json"
        )
        assert alone.status == 200
        for name in ("Content-Type", "DataServiceVersion"):
            assert only(one).headers[name] == alone.headers[name]
        assert ("Age" in only(one).headers) == ("Age" in alone.headers)
        assert (only(one).body, only(one).content_id) == (alone.body, str(number))
    assert answer.cache == "syncpoint; hit"
    assert place.upstream_requests() == []


async def test_each_part_has_its_own_error_and_its_own_format(place: World) -> None:
    entity = f"AccountSet(guid'{place.a_key('AccountSet')}')"
    answer = await send(
        place,
        written(
            part("GET", "NothingSet", Content_ID="7"),
            part("GET", "AccountSet?$filter=NoSuch eq 1"),
            part("GET", entity, Accept="application/atom+xml"),
            part("GET", "http://elsewhere/AccountSet"),
            part("GET", "/AccountSet"),
            part("GET", "http://elsewhere/mirror/$metadata"),
        ),
    )
    found = replies(answer)
    assert told(found) == [404, 400, 200, 404, 404, 200]
    assert only(found[0]).headers["Content-ID"] == "7"
    error = json.loads(only(found[1]).body)["error"]
    assert error["code"] == "Syncpoint.ReadRefused"
    assert "NoSuch" in error["message"]["value"]
    assert only(found[2]).headers["Content-Type"].startswith("application/atom+xml")


async def test_writes_are_refused_and_the_reads_beside_them_answered(place: World) -> None:
    entity = f"AccountSet(guid'{place.a_key('AccountSet')}')"
    before = (await ask(place, entity)).body
    answer = await send(
        place,
        written(
            part("DELETE", entity),
            changeset(part("MERGE", entity, {"Name": "x"}, "1"), part("POST", "AccountSet", {})),
            part("POST", entity, {}, X_HTTP_Method="MERGE"),
            part("GET", entity, Accept="application/atom+xml"),
            changeset(),
        ),
    )
    found = replies(answer)
    assert told(found) == [405, 405, 405, 200, []]
    assert only(found[1]).content_id == "1"
    assert "main listener" in json.loads(only(found[1]).body)["error"]["message"]["value"]
    assert (await ask(place, entity)).body == before
    assert place.upstream_requests() == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"--b", MIXED, 400),
        (b"{}", "application/json", 400),
        (b"--b\r\nContent-Type: application/http\r\n\r\nGET X\r\n" * 1001 + b"--b--", MIXED, 413),
    ],
)
async def test_what_is_no_batch_is_refused(place: World, body: bytes, content_type: str, status: int) -> None:
    answer = await send(place, body, content_type)
    assert answer.status == status
    assert answer.json()["error"]["code"] == "Syncpoint.ReadRefused"


async def test_elsewhere_a_post_is_refused_as_before(place: World) -> None:
    assert (await send(place, b"{}", path="AccountSet")).status == 405
    assert (await ask(place, "$batch")).status != 200
