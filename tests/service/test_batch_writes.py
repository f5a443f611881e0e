"""Batches on the checked route: forwarded whole and once, one intent, one transaction, history once each."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from batching import MIXED, changeset, part, replies, told, written
from storing import query
from world import Answer, World, world

from proxy.odata.batch import ChangeSet
from proxy.reconcile.ports import StoreUnavailable
from proxy.sandbox import Fault, Switches

SERVING = Switches(batch="serve")


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, switches=SERVING) as made:
        yield made


async def send(place: World, *parts: Any, direct: bool = False) -> Answer:
    body = written(*parts)
    return await place.ask("/$batch", "POST", direct=direct, body=body, Content_Type=MIXED)


def path_of(place: World, entity_set: str = "AccountSet", number: int = 0) -> str:
    return f"{entity_set}(guid'{place.a_key(entity_set, number)}')"


async def aged(place: World, path: str) -> Answer:
    """What the mirror holds."""
    return await place.ask(f"/{path}", Cache_Control="only-if-cached")


def batches(place: World) -> int:
    return sum(entry.target.endswith("/$batch") for entry in place.sandbox.journal)


def revisions(database_url: str, columns: str = "document") -> list[Any]:
    """The history, oldest first, without the addresses that go along with accounts and contacts."""
    shown = "entity_set <> 'CustomerAddressSet'"
    return query(database_url, f"SELECT {columns} FROM syncpoint.revisions WHERE {shown} ORDER BY id")


def outcomes(database_url: str) -> list[Any]:
    return query(database_url, "SELECT method, outcome FROM syncpoint.intents ORDER BY id")


async def test_what_a_batch_wrote_is_in_the_mirror_and_once_in_the_history(
    place: World, database_url: str
) -> None:
    first, second, third = (path_of(place, number=number) for number in (0, 1, 2))
    contact = path_of(place, "ContactSet")
    for path in (first, second, third, contact):
        await place.ask(f"/{path}")
    before = len(revisions(database_url))
    place.clear()
    answer = await send(
        place,
        changeset(
            part("MERGE", first, {"Name": "Merged"}),
            part("PUT", f"{place.proxy_root}/{second}", {"Name": "Put"}),
            part("DELETE", third),
            part("POST", "AccountSet", {"Name": "Made"}, "9"),
        ),
        part("GET", first),
        changeset(part("MERGE", contact, {"FirstName": "In another"})),
    )
    found = replies(answer)
    assert told(found) == [[204, 204, 204, 201], 200, [204]]
    assert answer.cache == "syncpoint; fwd=method; fwd-status=202; stored"
    assert batches(place) == 1
    assert isinstance(found[0], ChangeSet)
    made = json.loads(found[0].parts[3].body)["d"]
    assert made["__metadata"]["uri"].startswith(place.proxy.url)
    assert found[0].parts[3].headers["Location"].startswith(place.proxy.url)
    assert (await aged(place, first)).json()["d"]["Name"] == "Merged"
    assert (await aged(place, second)).json()["d"]["Name"] == "Put"
    assert (await aged(place, contact)).json()["d"]["FirstName"] == "In another"
    assert (await aged(place, f"AccountSet(guid'{made['AccountId']}')")).json()["d"] == made
    assert (await place.ask(f"/{third}")).status == 404
    recorded = revisions(database_url, "entity_key, source, method, deleted, gap")[before:]
    keys = [path[path.index("(") + 1 : -1] for path in (first, second, third, contact)]
    assert sorted(recorded) == sorted(
        [
            (keys[0], "client write", "Batch", False, False),
            (keys[1], "client write", "Batch", False, False),
            (keys[2], "client write", "Batch", True, False),
            (keys[3], "client write", "Batch", False, False),
            (f"guid'{made['AccountId']}'", "client write", "Batch", False, False),
        ]
    )
    assert outcomes(database_url) == [("Batch", "applied")]


async def test_writes_that_change_nothing_are_in_the_history_too(place: World, database_url: str) -> None:
    path, other = path_of(place), path_of(place, number=1)
    name = (await place.ask(f"/{path}")).json()["d"]["Name"]
    await place.ask(f"/{other}")
    before = len(revisions(database_url))
    parts = [part("MERGE", path, {"Name": name}), part("MERGE", path, {"Name": name}), part("DELETE", other)]
    await send(place, changeset(*parts))
    assert revisions(database_url, "source, deleted")[before:] == [
        ("client write", False),
        ("client write", True),
    ]


async def test_an_intent_names_every_key_while_the_batch_is_under_way(
    place: World, database_url: str
) -> None:
    first, contact = path_of(place), path_of(place, "ContactSet")
    hold = place.sandbox.faults.add(Fault(kind="hold", path="$batch"))
    answer: list[Answer] = []

    async def write() -> None:
        parts = changeset(part("MERGE", first, {"Name": "x"}), part("DELETE", contact))
        answer.append(await send(place, parts))

    place.proxy.background.spawn("test", write())
    await hold.reached.wait()
    (intent,) = await place.proxy.store.open_intents()
    named = {(name, str(dict(key).popitem()[1])) for name, key in intent.touched}
    assert {("AccountSet", place.a_key("AccountSet")), ("ContactSet", place.a_key("ContactSet"))} <= named
    assert (await aged(place, first)).status == 504
    assert hold.event is not None
    hold.event.set()
    await place.idle()
    assert told(replies(answer[0])) == [[204, 204]]
    assert outcomes(database_url) == [("Batch", "applied")]


async def test_what_is_made_and_referred_to_is_read_back(place: World) -> None:
    answer = await send(
        place,
        changeset(
            part("POST", "AccountSet", {"Name": "Parent"}, "1"),
            part("POST", "$1/contact_customer_accounts", {"LastName": "Child"}, "2"),
            part("MERGE", "$1", {"Name": "Renamed"}),
        ),
    )
    (found,) = replies(answer)
    assert isinstance(found, ChangeSet)
    parent, child = (json.loads(one.body)["d"] for one in found.parts[:2])
    assert (await aged(place, f"AccountSet(guid'{parent['AccountId']}')")).json()["d"]["Name"] == "Renamed"
    held = (await aged(place, f"ContactSet(guid'{child['ContactId']}')")).json()["d"]
    assert held["ParentCustomerId"]["Id"] == parent["AccountId"]


async def test_refused_parts_leave_nothing(place: World, database_url: str) -> None:
    first, second = path_of(place), path_of(place, number=1)
    held = [(await place.ask(f"/{path}")).body for path in (first, second)]
    before = len(revisions(database_url))
    answer = await send(
        place,
        changeset(part("MERGE", first, {"Name": "x"}), part("MERGE", second, {"NoSuchProperty": 1})),
        changeset(part("POST", "NothingSet", {})),
    )
    assert told(replies(answer)) == [400, 404]
    assert answer.cache == "syncpoint; fwd=method; fwd-status=202"
    assert [(await aged(place, path)).body for path in (first, second)] == held
    assert len(revisions(database_url)) == before
    assert outcomes(database_url) == [("Batch", "refused")]


async def test_parts_that_were_applied_are_stored_though_others_were_refused(
    place: World, database_url: str
) -> None:
    first, second = path_of(place), path_of(place, number=1)
    answer = await send(
        place,
        changeset(part("MERGE", first, {"Name": "Applied"})),
        changeset(part("MERGE", second, {"Name": "Refused"}), part("DELETE", "AccountSet(guid'0')")),
    )
    assert told(replies(answer)) == [[204], 400]
    assert (await aged(place, first)).json()["d"]["Name"] == "Applied"
    assert (await aged(place, second)).json()["d"]["Name"] != "Refused"
    assert outcomes(database_url) == [("Batch", "applied")]


async def test_reads_feed_the_mirror(place: World, database_url: str) -> None:
    path = path_of(place)
    answer = await send(place, part("GET", path), part("GET", "ContactSet?$top=2"), part("GET", "NothingSet"))
    found = replies(answer)
    assert told(found) == [200, 200, 404]
    assert answer.cache == "syncpoint; fwd=bypass; fwd-status=202"
    await place.idle()
    assert (await aged(place, path)).json() == json.loads(found[0].body)  # type: ignore[union-attr]
    contacts = json.loads(found[1].body)["d"]  # type: ignore[union-attr]
    for one in contacts["results"] if isinstance(contacts, dict) else contacts:
        assert (await aged(place, f"ContactSet(guid'{one['ContactId']}')")).json()["d"] == one
    assert outcomes(database_url) == []


async def test_reads_beside_writes_feed_it_too_and_never_undo_them(place: World) -> None:
    path, contact = path_of(place), path_of(place, "ContactSet")
    answer = await send(
        place, part("GET", path), part("GET", contact), changeset(part("MERGE", path, {"Name": "Later"}))
    )
    assert told(replies(answer)) == [200, 200, [204]]
    await place.idle()
    assert (await aged(place, path)).json()["d"]["Name"] == "Later"
    assert (await aged(place, contact)).json() == json.loads(replies(answer)[1].body)  # type: ignore[union-attr]


async def test_no_store_keeps_what_was_read_out_of_the_mirror(place: World) -> None:
    path = path_of(place)
    body = written(part("GET", path))
    await place.ask("/$batch", "POST", body=body, Content_Type=MIXED, Cache_Control="no-store")
    await place.idle()
    assert (await aged(place, path)).status == 504


async def test_side_effects_are_refreshed(place: World) -> None:
    path = path_of(place)
    address = (await place.ask(f"/{path}")).json()["d"]["Address1_AddressId"]
    side = f"CustomerAddressSet(guid'{address}')"
    await place.ask(f"/{side}")
    await send(place, changeset(part("MERGE", path, {"Address1_City": "Elsewhere"})))
    await place.idle()
    assert (await aged(place, side)).json()["d"]["City"] == "Elsewhere"


async def test_a_change_of_upstreams_own_is_recorded_before_that_of_the_batch(
    place: World, database_url: str
) -> None:
    path, key = path_of(place), place.sandbox.organisation.keys("AccountSet")[0]
    await place.ask(f"/{path}")
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Upstream's"})
    await send(place, changeset(part("MERGE", path, {"Name": "Ours"})))
    told_so = [
        (source, json.loads(document, strict=False)["Name"])
        for source, document in revisions(database_url, "source, document")[1:]
    ]
    assert told_so == [("upstream refresh", "Upstream's"), ("client write", "Ours")]


# Faults


@pytest.mark.parametrize("kind", ["applied_no_answer", "cut", "garbled"])
async def test_without_a_whole_answer_the_intent_stays_open_until_it_is_read_back(
    place: World, database_url: str, kind: Any
) -> None:
    first, second, third = (path_of(place, number=number) for number in (0, 1, 2))
    for path in (first, second):
        await place.ask(f"/{path}")
    before = len(revisions(database_url))
    place.clear()
    place.sandbox.faults.add(Fault(kind=kind, path="$batch"))
    parts = changeset(
        part("MERGE", first, {"Name": "One"}), part("DELETE", second), part("MERGE", third, {"Name": "Three"})
    )
    if kind == "cut":
        with pytest.raises(Exception, match="payload"):
            await send(place, parts)
        await place.idle()
    else:
        answer = await send(place, parts)
        assert answer.status == (504 if kind == "applied_no_answer" else 200)
    (intent,) = await place.proxy.store.open_intents()
    if kind == "applied_no_answer":
        assert str(intent.id) in answer.json()["error"]["message"]["value"]
    assert batches(place) == 1
    assert (await aged(place, first)).status == 504
    await place.proxy.settler.settle(place.proxy.metadata.model)  # type: ignore[arg-type]
    assert outcomes(database_url) == [("Batch", "applied")]
    assert (await aged(place, first)).json()["d"]["Name"] == "One"
    assert (await aged(place, third)).json()["d"]["Name"] == "Three"
    assert (await place.ask(f"/{second}")).status == 404
    recorded = revisions(database_url, "source, deleted")[before:]
    assert sorted(recorded) == [
        ("client write", False),
        ("client write", False),
        ("client write", True),
        ("upstream refresh", False),  # of the third, which the mirror had not seen before
    ]


async def test_a_batch_that_was_not_applied_is_refused_once_it_is_late(database_url: str) -> None:
    settings = {"upstream__write_limit_s": 0.0}
    async with world(database_url, switches=SERVING, **settings) as place:
        path = path_of(place)
        held = await place.ask(f"/{path}")
        place.sandbox.faults.add(Fault(kind="reset_before", path="$batch"))
        assert (await send(place, changeset(part("MERGE", path, {"Name": "Lost"})))).status == 504
        await place.proxy.settler.settle(place.proxy.metadata.model)  # type: ignore[arg-type]
        assert outcomes(database_url) == [("Batch", "refused")]
        assert (await aged(place, path)).body == held.body


async def test_a_create_that_nobody_answered_stays_undetermined(database_url: str) -> None:
    settings = {"upstream__write_limit_s": 0.0}
    async with world(database_url, switches=SERVING, **settings) as place:
        path = path_of(place)
        place.sandbox.faults.add(Fault(kind="applied_no_answer", path="$batch"))
        parts = changeset(part("POST", "AccountSet", {"Name": "New"}), part("MERGE", path, {"Name": "Known"}))
        assert (await send(place, parts)).status == 504
        await place.proxy.settler.settle(place.proxy.metadata.model)  # type: ignore[arg-type]
        assert outcomes(database_url) == [("Batch", "undetermined")]
        assert (await aged(place, path)).json()["d"]["Name"] == "Known"


async def test_a_batch_that_can_no_longer_be_read_is_given_up_once_it_is_late(
    place: World, database_url: str
) -> None:
    path = path_of(place)
    await place.ask(f"/{path}")
    place.sandbox.faults.add(Fault(kind="applied_no_answer", path="$batch"))
    assert (await send(place, changeset(part("MERGE", path, {"Name": "Known"})))).status == 504
    query(database_url, "UPDATE syncpoint.intents SET body = 'no batch'")
    model = place.proxy.metadata.model
    await place.proxy.settler.settle(model)  # type: ignore[arg-type]
    assert len(await place.proxy.store.open_intents()) == 1
    query(database_url, "UPDATE syncpoint.intents SET opened_at = opened_at - interval '1 day'")
    await place.proxy.settler.settle(model)  # type: ignore[arg-type]
    assert outcomes(database_url) == [("Batch", "undetermined")]
    (shown,) = await place.proxy.store.intent_lines()
    assert shown.closed_at is not None
    assert (await aged(place, path)).json()["d"]["Name"] == "Known"


@pytest.mark.parametrize(
    ("status", "outcome"), [(404, "refused"), (501, "refused"), (500, None), (503, None)]
)
async def test_an_answer_to_the_whole_is_the_clients_and_is_believed_as_far_as_it_is_certain(
    place: World, database_url: str, status: int, outcome: str | None
) -> None:
    place.sandbox.faults.add(Fault(kind="status", path="$batch", status=status, body="no"))
    answer = await send(place, changeset(part("MERGE", path_of(place), {"Name": "x"})))
    assert (answer.status, answer.body) == (status, b"no")
    assert outcomes(database_url) == [("Batch", outcome)]


async def test_a_state_that_somebody_replaced_is_recorded_by_its_request(
    place: World, database_url: str
) -> None:
    path, key = path_of(place), place.sandbox.organisation.keys("AccountSet")[0]
    await place.ask(f"/{path}")
    answers: list[Answer] = []

    async def write() -> None:
        answers.append(await send(place, changeset(part("MERGE", path, {"Name": "Ours"}))))

    sent = place.sandbox.faults.add(Fault(kind="hold", path="$batch"))
    place.proxy.background.spawn("test", write())
    await sent.reached.wait()
    read_back = place.sandbox.faults.add(Fault(kind="hold", path=path[11:-1], method="GET"))
    assert sent.event is not None
    assert read_back.event is not None
    sent.event.set()
    await read_back.reached.wait()
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Theirs"})
    read_back.event.set()
    await place.idle()
    assert told(replies(answers[0])) == [[204]]
    assert revisions(database_url, "source, unseen")[1:] == [("client write", True), ("settlement", False)]
    assert (await aged(place, path)).json()["d"]["Name"] == "Theirs"


async def test_without_postgres_writes_are_not_sent_and_reads_are(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> None:
        raise StoreUnavailable("down")

    for name in ("open_intent", "get", "put", "next_fetch_number"):
        monkeypatch.setattr(place.proxy.store, name, down)
    path = path_of(place)
    answer = await send(place, part("GET", path), changeset(part("MERGE", path, {"Name": "x"})))
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "Syncpoint.WritesRefused"
    assert batches(place) == 0
    assert told(replies(await send(place, part("GET", path)))) == [200]
    assert batches(place) == 1


# What is no batch, or names nothing we know


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"--b\r\n", MIXED), (b"\xff\x00", MIXED), (b"{}", "application/json"), (b"--b--", MIXED)],
)
async def test_what_is_no_batch_is_passed_on_as_it_is(place: World, body: bytes, content_type: str) -> None:
    direct = await place.ask("/$batch", "POST", direct=True, body=body, Content_Type=content_type)
    place.clear()
    answer = await place.ask("/$batch", "POST", body=body, Content_Type=content_type)
    assert (answer.status, answer.body) == (direct.status, direct.body)
    (entry,) = place.sandbox.journal
    assert entry.body == body


async def test_only_origins_differ_upstream(place: World) -> None:
    path = path_of(place)
    entity = {"__metadata": {"uri": f"{place.proxy_root}/{path}"}, "WebSiteURL": f"{place.proxy_root}/x"}
    body = written(
        part("GET", f"{place.proxy_root}/{path}", Host="proxy:1"), changeset(part("MERGE", path, entity, "1"))
    )
    await place.ask("/$batch", "POST", body=body, Content_Type=MIXED)
    (entry,) = [entry for entry in place.sandbox.journal if entry.target.endswith("/$batch")]
    proxy, direct = place.proxy_root.encode(), place.direct_root.encode()
    expected = body.replace(b"GET " + proxy, b"GET " + direct).replace(
        b'"uri": "' + proxy, b'"uri": "' + direct
    )
    expected = expected.replace(b"Host: proxy:1", b"Host: " + direct.split(b"/")[2])
    assert entry.body == expected != body


async def test_a_server_without_batches_says_so(database_url: str) -> None:
    async with world(database_url) as place:
        parts = changeset(part("MERGE", path_of(place), {"Name": "x"}))
        direct = await send(place, parts, direct=True)
        answer = await send(place, parts)
        assert (answer.status, answer.body) == (direct.status, direct.body)
        assert answer.status == 404
        assert outcomes(database_url) == [("Batch", "refused")]


async def test_what_passed_unseen_before_a_batch_is_not_denied(place: World, database_url: str) -> None:
    path = path_of(place)
    await place.ask(f"/{path}")
    place.sandbox.faults.add(Fault(kind="cut", method="GET"))
    await send(place, changeset(part("MERGE", path, {"Name": "Merged"})))
    assert revisions(database_url, "source, gap")[1:] == [("client write", True)]


async def test_what_fails_unexpectedly_costs_nobody_upstreams_answer(
    place: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RecursionError("a surprise")

    monkeypatch.setattr(place.proxy.store, "settle_intent", fail)
    answer = await send(place, changeset(part("MERGE", path_of(place), {"Name": "x"})))
    assert told(replies(answer)) == [[204]]
    assert outcomes(database_url) == [("Batch", None)]


async def test_only_its_own_deletes_tell_a_caller_with_credentials_what_is_gone(
    place: World, database_url: str
) -> None:
    body = written(changeset(part("DELETE", path_of(place)), part("DELETE", path_of(place, number=1))))
    await place.ask("/$batch", "POST", body=body, Content_Type=MIXED, Cookie="a=1")
    assert outcomes(database_url) == [("Batch", "applied")]
    absent = Fault(kind="status", status=404, body='{"code":"-2147220969"}', method="GET", times=9)
    place.sandbox.faults.add(absent)
    body = written(changeset(part("MERGE", path_of(place), {"Name": "x"})))
    await place.ask("/$batch", "POST", body=body, Content_Type=MIXED, Cookie="a=1")
    assert outcomes(database_url)[1:] == [("Batch", None)]


async def test_what_a_batch_makes_under_keys_of_its_clients_choice_leaves_no_gap(
    place: World, database_url: str
) -> None:
    entity = {"AccountId": str(uuid.uuid4()), "Name": "Made"}
    await send(place, changeset(part("POST", "AccountSet", entity)))
    assert revisions(database_url, "source, gap, document IS NULL") == [("client write", False, False)]
