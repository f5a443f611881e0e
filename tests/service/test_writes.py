"""Writes by rules 5 and 6: each leaves exactly once, and the mirror shows what upstream shows."""

from __future__ import annotations

import asyncio

import pytest
from storing import query, revisions
from world import World, world

from proxy.sandbox import Fault


@pytest.fixture
async def place(database_url):
    async with world(database_url) as made:
        yield made


def writes(place: World) -> list[str]:
    return [entry.method for entry in place.sandbox.journal if entry.method not in ("GET", "HEAD")]


async def test_a_merge_leaves_once_and_is_read_back(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    answer = await place.merge(path, '{"Name":"Renamed"}')
    assert answer.status == 204
    assert writes(place) == ["MERGE"]
    assert answer.cache == "syncpoint; fwd=method; fwd-status=204; stored"
    aged = await place.ask(path, Cache_Control="only-if-cached")
    assert aged.json()["d"]["Name"] == "Renamed"


async def test_a_tunnelled_merge_is_the_same(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    answer = await place.ask(
        path, "POST", body=b'{"Name":"Tunnelled"}', Content_Type="application/json", X_HTTP_Method="MERGE"
    )
    assert answer.status == 204
    assert writes(place) == ["POST"]
    aged = await place.ask(path, Cache_Control="only-if-cached")
    assert aged.json()["d"]["Name"] == "Tunnelled"


async def test_a_create_is_stored_from_its_answer(place: World) -> None:
    answer = await place.ask("/AccountSet", "POST", body=b'{"Name":"Made"}', Content_Type="application/json")
    assert answer.status == 201
    assert answer.headers["Location"].startswith(place.proxy.url)
    key = answer.json()["d"]["AccountId"]
    aged = await place.ask(f"/AccountSet(guid'{key}')", Cache_Control="only-if-cached")
    assert aged.json() == answer.json()
    assert writes(place) == ["POST"]


async def test_a_delete_is_gone_and_so_are_its_addresses(place: World) -> None:
    key = place.a_key("AccountSet")
    path = f"/AccountSet(guid'{key}')"
    address = (await place.ask(path)).json()["d"]["Address1_AddressId"]
    await place.ask(f"/CustomerAddressSet(guid'{address}')")
    answer = await place.ask(path, "DELETE")
    assert answer.status == 204
    assert writes(place) == ["DELETE"]
    assert (await place.ask(path)).status == 404
    assert (await place.ask(f"/CustomerAddressSet(guid'{address}')")).status == 404


async def test_side_effects_are_refreshed(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    address = (await place.ask(path)).json()["d"]["Address1_AddressId"]
    side = f"/CustomerAddressSet(guid'{address}')"
    await place.ask(side)
    assert (await place.merge(path, '{"Address1_City":"Elsewhere"}')).status == 204
    await place.idle()
    aged = await place.ask(side, Cache_Control="only-if-cached")
    assert aged.json()["d"]["City"] == "Elsewhere"


async def test_a_refusal_is_verbatim_and_leaves_the_mirror_alone(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    before = await place.ask(path)
    body = b'{"NoSuchProperty":1}'
    direct = await place.ask(path, "MERGE", direct=True, body=body, Content_Type="application/json")
    answer = await place.ask(path, "MERGE", body=body, Content_Type="application/json")
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert answer.status == 400
    aged = await place.ask(path, Cache_Control="only-if-cached")
    assert aged.body == before.body
    assert await place.proxy.store.open_intents() == []


async def test_a_put_replaces_and_a_property_put_is_a_write(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    assert (
        await place.ask(path, "PUT", body=b'{"Name":"Put"}', Content_Type="application/json")
    ).status == 204
    assert (
        await place.ask(path + "/Name", "PUT", body=b'{"Name":"One"}', Content_Type="application/json")
    ).status == 204
    assert writes(place) == ["PUT", "PUT"]
    aged = await place.ask(path, Cache_Control="only-if-cached")
    assert aged.json()["d"]["Name"] == "One"


@pytest.mark.parametrize("method", ["MERGE", "PUT", "DELETE"])
async def test_applied_but_not_answered_is_unknown_and_then_settled(place: World, method: str) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.ask(path)
    place.clear()
    place.sandbox.faults.add(Fault(kind="applied_no_answer", method=method))
    body = None if method == "DELETE" else b'{"Name":"Silent"}'
    answer = await place.ask(path, method, body=body, Content_Type="application/json")
    assert answer.status == 504
    assert answer.json()["error"]["code"] == "Syncpoint.OutcomeUnknown"
    assert writes(place) == [method]
    (intent,) = await place.proxy.store.open_intents()
    assert str(intent.id) in answer.json()["error"]["message"]["value"]
    assert (await place.ask(path, Cache_Control="only-if-cached")).status == 504
    place.proxy.sweeper.grace_s = 0
    await place.proxy.sweeper.sweep(place.proxy.metadata.model)
    assert await place.proxy.store.open_intents() == []
    after = await place.ask(path)
    assert after.status == (404 if method == "DELETE" else 200)
    if method != "DELETE":
        assert after.json()["d"]["Name"] == "Silent"


async def test_a_write_never_sent_leaves_nothing(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.ask(path)
    place.sandbox.faults.add(Fault(kind="reset_before", method="MERGE"))
    answer = await place.merge(path, '{"Name":"Lost"}')
    assert answer.status == 504
    assert writes(place) == ["MERGE"]
    assert len(await place.proxy.store.open_intents()) == 1


async def test_a_state_that_another_wrote_over_is_in_the_history_by_its_request(
    place: World, database_url: str
) -> None:
    key = place.sandbox.organisation.keys("AccountSet")[0]
    path = f"/AccountSet(guid'{key}')"
    await place.ask(path)
    sending = place.sandbox.faults.add(Fault(kind="hold", method="MERGE"))
    merging = asyncio.create_task(place.merge(path, '{"Name":"Mine"}'))
    await sending.reached.wait()
    reading = place.sandbox.faults.add(Fault(kind="hold", method="GET"))
    assert sending.event is not None
    assert reading.event is not None
    sending.event.set()
    await reading.reached.wait()
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Theirs"})
    reading.event.set()
    assert (await merging).status == 204
    _, mine, theirs = revisions(database_url, "unseen, source, document")
    assert mine == (True, "client write", '{"Name":"Mine"}')
    assert theirs[:2] == (False, "settlement")
    assert '"Theirs"' in theirs[2]


@pytest.mark.parametrize("held", [False, True])
async def test_what_moved_before_a_write_is_recorded_before_it(
    place: World, database_url: str, held: bool
) -> None:
    key = place.sandbox.organisation.keys("AccountSet")[0]
    path = f"/AccountSet(guid'{key}')"
    if held:
        await place.ask(path)
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Theirs"})
    assert (await place.merge(path, '{"Name":"Mine"}')).status == 204
    theirs, mine = revisions(database_url, "source, document")[-2:]
    assert (theirs[0], mine[0]) == ("upstream refresh", "client write")
    assert '"Theirs"' in theirs[1]
    assert '"Mine"' in mine[1]


async def test_after_an_error_of_upstreams_the_entity_is_fetched_and_not_checked(
    place: World, database_url: str
) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.ask(path)
    place.sandbox.faults.add(Fault(kind="status", status=500, method="MERGE"))
    assert (await place.merge(path, '{"Name":"Half"}')).status == 500
    assert query(database_url, "SELECT outcome FROM syncpoint.intents") == [("refused",)]
    place.clear()
    assert (await place.ask(path)).status == 200
    assert place.upstream_requests() == [f"GET {path}"]
