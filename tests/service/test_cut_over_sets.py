"""What a cut-over set is beyond its answers: its history, its log, its limits, and the other side."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg2
import pytest
from corpus import BATCH, ROOT
from cutover import cut_over, loaded_world
from world import JSON, Answer, World

from proxy.app import running
from proxy.odata.edm import EntitySet
from proxy.odata.uri import parse_key
from proxy.reconcile.authority import Authority
from proxy.reconcile.local_entities import LocalEntities
from proxy.reconcile.local_store import LoggedWrite
from proxy.reconcile.ports import StoreUnavailable
from proxy.sandbox import Switches
from proxy.sandbox.metadata import small_document
from proxy.settings import Settings
from proxy.store.engine import Connection

POSTED = {"Content_Type": "application/json"}


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    """All sets are the mirror's, and the sandbox is off."""
    switches = Switches(batch="serve", version_number="rising")
    async with loaded_world(database_url, switches, rows=5) as (made, switch_off):
        await cut_over(made)
        await switch_off()
        yield made


async def logged(place: World) -> list[LoggedWrite]:
    return list(await place.proxy.store.local_writes(0, 100))


async def create(place: World, name: str) -> str:
    made = await place.ask("/AccountSet", "POST", body=f'{{"Name":"{name}"}}'.encode(), **POSTED)
    assert made.status == 201, made.text
    return str(made.json()["d"]["AccountId"])


async def test_a_write_is_in_the_log_with_all_that_sending_it_again_needs(place: World) -> None:
    key = await create(place, "new")
    path = f"/AccountSet(guid'{key}')"
    body = '{"Name":"newer","Revenue":{"Value":"1.5"}}'
    await place.ask(path, "POST", body=body.encode(), X_HTTP_Method="MERGE", **POSTED)
    await place.ask(f"{path}/$links/account_primary_contact", "DELETE")
    await place.ask(path, "DELETE")
    first, second, third = await logged(place)  # what was refused is not in it: nothing was tied
    assert [one.write.operation for one in (first, second, third)] == [
        "CreateEntity",
        "MergeEntity",
        "DeleteEntity",
    ]
    assert first.id < second.id < third.id
    assert str(first.write.key[0][1]) == key
    assert (second.write.method, second.write.path, second.write.body) == ("MERGE", path, body.encode())
    assert json.loads(second.write.posted)["Revenue"]["Value"] == "1.5"
    assert second.write.content_type == "application/json"
    assert second.write.provenance.request_id


async def test_a_write_is_a_revision_and_a_refused_one_is_nothing(place: World) -> None:
    key = await create(place, "new")
    path = f"/AccountSet(guid'{key}')"
    await place.merge(path, '{"Name":"newer"}')
    await place.merge(path, '{"Name":7}')
    await place.ask(path, "DELETE")
    model = place.proxy.metadata.model
    assert model is not None
    accounts = model.entity_sets["AccountSet"]
    revisions = await place.proxy.store.revisions(
        accounts, parse_key(f"guid'{key}'", accounts.entity_type), limit=10
    )
    assert [(one.provenance.source.value, one.method) for one in revisions] == [
        ("local write", "DeleteEntity"),
        ("local write", "MergeEntity"),
        ("local write", "CreateEntity"),
    ]
    assert not any(one.gap for one in revisions)


async def test_stamps_rise_and_modified_on_never_goes_back(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    before = (await place.ask(path)).json()["d"]
    await place.merge(path, '{"Fax":"1"}')
    first = (await place.ask(path)).json()["d"]
    await asyncio.gather(*(place.merge(path, f'{{"Fax":"{number}"}}') for number in range(8)))
    last = (await place.ask(path)).json()["d"]
    versions = [int(one["VersionNumber"]) for one in (before, first, last)]
    assert versions == sorted(set(versions))
    assert versions[2] - versions[1] >= 8
    assert before["ModifiedOn"] < first["ModifiedOn"] <= last["ModifiedOn"]


async def test_writers_of_one_entity_take_turns(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    names = ("Fax", "Telephone1", "TickerSymbol", "WebSiteURL", "Description")
    answers = await asyncio.gather(*(place.merge(path, f'{{"{name}":"{name}"}}') for name in names))
    assert {answer.status for answer in answers} == {204}
    shown = (await place.ask(path)).json()["d"]
    assert {name: shown[name] for name in names} == {name: name for name in names}


async def test_of_many_who_choose_one_key_one_makes_the_entity(place: World) -> None:
    body = b'{"AccountId":"11111111-2222-3333-4444-555555555555","Name":"chosen"}'
    asked = (place.ask("/AccountSet", "POST", body=body, **POSTED) for _ in range(5))
    statuses = sorted(answer.status for answer in await asyncio.gather(*asked))
    assert statuses == [201, 500, 500, 500, 500]
    assert len(await logged(place)) == 1


async def test_what_is_referred_to_meanwhile_goes_with_what_refers_to_it(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await create(place, "goes")
    checked, go = asyncio.Event(), asyncio.Event()
    check = LocalEntities._check_targets

    async def waiting(self: LocalEntities, values: Any, entity_set: EntitySet) -> None:
        await check(self, values, entity_set)
        checked.set()
        await go.wait()

    monkeypatch.setattr(LocalEntities, "_check_targets", waiting)
    parent = {"Id": account, "LogicalName": "account"}
    body = json.dumps({"LastName": "x", "ParentCustomerId": parent}).encode()
    making = asyncio.create_task(place.ask("/ContactSet", "POST", body=body, **POSTED))
    await checked.wait()
    deleting = asyncio.create_task(place.ask(f"/AccountSet(guid'{account}')", "DELETE"))
    await asyncio.sleep(0.3)
    go.set()
    made, deleted = await making, await deleting
    assert (made.status, deleted.status) == (201, 204)
    assert (await place.ask(f"/ContactSet(guid'{made.json()['d']['ContactId']}')")).status == 404


def changeset(*parts: str) -> bytes:
    inner = "".join(
        f"--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {number}\r\n\r\n{part}\r\n"
        for number, part in enumerate(parts, 1)
    )
    return (f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--c--\r\n--b--\r\n").encode()


def part(method: str, target: str, body: str) -> str:
    head = "Content-Type: application/json\r\nAccept: application/json\r\n"
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n{body}"


async def batch(place: World, body: bytes) -> str:
    answer = await place.ask("/$batch", "POST", body=body, Content_Type="multipart/mixed; boundary=b")
    assert answer.status == 202, answer.text
    return answer.text


async def test_a_changeset_is_carried_out_whole_or_not_at_all(place: World) -> None:
    text = await batch(
        place,
        changeset(
            part("POST", "AccountSet", '{"Name":"from a batch"}'),
            part("MERGE", "$1", '{"Fax":"5"}'),
        ),
    )
    assert text.count("HTTP/1.1 201") == text.count("HTTP/1.1 204") == 1
    made, merged = await logged(place)
    assert made.write.changeset == merged.write.changeset is not None
    assert merged.write.key == made.write.key
    assert merged.write.path.startswith("/AccountSet(guid'")
    text = await batch(
        place,
        changeset(
            part("POST", "AccountSet", '{"Name":"undone"}'), part("POST", "AccountSet", '{"Nothing":1}')
        ),
    )
    assert "HTTP/1.1 400" in text
    assert "HTTP/1.1 201" not in text
    assert len(await logged(place)) == 2
    found = await place.ask("/AccountSet?$filter=Name%20eq%20'undone'")
    assert found.json()["d"]["results"] == []
    assert "HTTP/1.1 200" in await batch(place, BATCH)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PROPFIND", "LINK"])
async def test_methods_that_were_only_passed_through_end_with_the_cutover(place: World, method: str) -> None:
    answer = await place.ask("/AccountSet", method)
    assert answer.status == 501
    assert "http_request_denied" in answer.headers["Proxy-Status"]


@pytest.mark.parametrize("path", ["/Newest", "/Newest?$top=1", "//Newest()/Name", "/%4Eewest"])
async def test_functions_that_return_what_was_cut_over_end_with_it(database_url: str, path: str) -> None:
    function = b'<FunctionImport Name="Newest" EntitySet="AccountSet" ReturnType="X" />'
    document = small_document().replace(b"<AssociationSet ", function + b"<AssociationSet ", 1)
    async with loaded_world(database_url, rows=1, metadata=document) as (place, _):
        assert (await place.ask(path)).cache.startswith("syncpoint; fwd")
        await cut_over(place, "AccountSet")
        place.clear()
        answer = await place.ask(path)
        assert (answer.status, place.upstream_requests()) == (501, [])
        assert "Newest" in answer.text


async def send_message(place: World, message: str) -> Answer:
    body = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f"{message}</s:Body></s:Envelope>"
    )
    url = f"{place.proxy.url}/XRMServices/2011/Organization.svc/web"
    return await place.send(url, "POST", {"Content-Type": "text/xml"}, body.encode())


async def test_a_message_that_names_a_record_by_its_logical_name_is_not_sent(place: World) -> None:
    key = place.a_key("AccountSet")
    answer = await send_message(place, f"<Delete><entityName>account</entityName><id>{key}</id></Delete>")
    assert answer.status == 501
    assert "Syncpoint.OnlyUpstream" in answer.text
    assert (await place.ask(f"/AccountSet(guid'{key}')")).status == 200


async def test_a_proxy_that_starts_when_dynamics_has_gone(place: World, database_url: str) -> None:
    key = await create(place, "stays")
    overrides = {
        "listen": "127.0.0.1:0",
        "services_listen": "127.0.0.1:0",
        "database_url": database_url,
        "upstream.service_root": place.direct_root,
        "upstream.connect_timeout_s": 1.0,
    }
    async with running(Settings.load(None, overrides, environment={})) as other:
        answer = await place.send(f"{other.url}{ROOT}/AccountSet(guid'{key}')", headers=JSON)
        assert (answer.status, answer.json()["d"]["Name"]) == (200, "stays")
        assert (await place.send(f"{other.url}{ROOT}/$metadata")).status == 200


async def test_a_revert_is_a_write_of_the_mirrors_own(place: World) -> None:
    key = await create(place, "first")
    entity = f"AccountSet(guid'{key}')"
    await place.merge(f"/{entity}", '{"Name":"second","Fax":"2"}')
    revisions = await place.send(f"{place.proxy.services_url}/api/entities/{entity}/revisions")
    first = revisions.json()["revisions"][-1]["id"]
    reverted = await place.send(
        f"{place.proxy.services_url}/api/entities/{entity}/revert",
        "POST",
        {"Content-Type": "application/json"},
        json.dumps({"revision": first}).encode(),
    )
    assert reverted.status == 200, reverted.text
    shown = (await place.ask(f"/{entity}")).json()["d"]
    assert (shown["Name"], shown["Fax"]) == ("first", None)
    assert [one.write.method for one in await logged(place)] == ["POST", "MERGE", "MERGE"]


async def test_models_are_read_and_written_without_dynamics(database_url: str) -> None:
    properties = {"name": {"kind": "string", "of": "Name"}, "fax": {"kind": "string", "of": "Fax"}}
    settings = {"models": {"Organisation": {"set": "AccountSet", "properties": properties}}}
    async with loaded_world(database_url, rows=5, **settings) as (place, switch_off):
        await cut_over(place)
        await switch_off()
        entity = f"{place.proxy.services_url}/model/Organisation(guid'{place.a_key('AccountSet')}')"
        changed = await place.send(
            entity, "MERGE", JSON | {"Content-Type": "application/json"}, b'{"name":"renamed"}'
        )
        assert changed.status == 204, changed.text
        read = await place.send(entity, headers=JSON)
        assert (read.status, read.json()["d"]["name"]) == (200, "renamed")
        assert [one.write.operation for one in await logged(place)] == ["MergeEntity"]


# While Dynamics still has some of the sets


@pytest.fixture
async def half(database_url: str) -> AsyncIterator[World]:
    """Accounts, contacts and addresses are the mirror's, all else is upstream's."""
    async with loaded_world(database_url, Switches(batch="serve"), rows=5) as (made, _):
        await cut_over(made, "AccountSet", "ContactSet", "CustomerAddressSet")
        yield made


@pytest.mark.parametrize(
    "message",
    [
        "<Create><entity><Attributes/><Id>00000000-0000-0000-0000-000000000000</Id>"
        "<LogicalName>account</LogicalName></entity></Create>",
        "<Execute><request><Parameters><p><key>Target</key><value><LogicalName>account</LogicalName></value></p>"
        "</Parameters><RequestName>Create</RequestName></request></Execute>",
    ],
)
async def test_a_message_that_makes_a_record_of_a_cut_over_set_is_not_sent(half: World, message: str) -> None:
    answer = await send_message(half, message)
    assert answer.status == 501
    assert "Syncpoint.OnlyUpstream" in answer.text
    assert (await send_message(half, message.replace("account", "task"))).status == 200


async def test_a_message_is_not_sent_where_the_database_is_away(
    half: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(half.proxy.store, "get", away)
    monkeypatch.setattr(half.proxy.store, "open_intent", away)
    named = f"<Delete><entityName>account</entityName><id>{half.a_key('AccountSet')}</id></Delete>"
    assert (await send_message(half, named)).status == 501


async def test_each_side_is_asked_for_its_own(half: World) -> None:
    account = f"/AccountSet(guid'{half.a_key('AccountSet')}')"
    assert (await half.merge(account, '{"Name":"ours"}')).status == 204
    assert (await half.ask("/AccountSet?$filter=Name%20eq%20'ours'")).json()["d"]["results"]
    assert half.upstream_requests() == []
    task = f"/TaskSet(guid'{half.a_key('TaskSet')}')"
    assert (await half.merge(task, '{"Subject":"theirs"}')).status == 204
    assert (
        half.sandbox.organisation.entity("TaskSet", half.sandbox.organisation.keys("TaskSet")[0])["Subject"]
        == "theirs"
    )
    assert (await half.ask("/NothingSet")).cache.startswith("syncpoint; fwd")


async def test_what_stays_upstreams_is_referred_to_and_not_written(half: World) -> None:
    account, contact = half.a_key("AccountSet"), half.a_key("ContactSet")
    unknown = "99999999-2222-3333-4444-555555555555"
    path = f"/AccountSet(guid'{account}')"
    sector = f'{{"optevia_Sector":{{"Id":"{unknown}","LogicalName":"optevia_sector"}}}}'
    assert (await half.merge(path, sector)).status == 204  # Dynamics may have made it just now
    missing = f'{{"PrimaryContactId":{{"Id":"{unknown}","LogicalName":"contact"}}}}'
    assert (await half.merge(path, missing)).status == 404
    task = half.sandbox.organisation.insert(
        "TaskSet", {"RegardingObjectId": {"Id": uuid.UUID(contact), "LogicalName": "contact"}}
    )
    await half.ask(f"/TaskSet(guid'{task}')")
    await half.idle()
    assert (await half.ask(f"/ContactSet(guid'{contact}')", "DELETE")).status == 204
    assert (await half.ask(f"/TaskSet(guid'{task}')")).status == 200
    assert await logged(half) != []


@pytest.mark.parametrize(
    "path",
    [
        "/AccountSet(guid'{k}')?$expand=Account_Tasks",
        "/AccountSet(guid'{k}')/Account_Tasks",
        "/TaskSet?$expand=Account_Tasks",
        "/AccountSet(guid'{k}')/$links/user_accounts",
    ],
)
async def test_what_needs_both_sides_is_refused_by_their_names(half: World, path: str) -> None:
    answer = await half.ask(path.format(k=half.a_key("AccountSet")))
    assert answer.status == 501
    text = answer.json()["error"]["message"]["value"]
    assert "AccountSet" in text
    assert "TaskSet" in text or "SystemUserSet" in text
    assert half.upstream_requests() == []


async def test_a_batch_of_both_sides_is_refused_whole(half: World) -> None:
    body = changeset(
        part("POST", "AccountSet", '{"Name":"ours"}'), part("POST", "TaskSet", '{"Subject":"theirs"}')
    )
    answer = await half.ask("/$batch", "POST", body=body, Content_Type="multipart/mixed; boundary=b")
    assert answer.status == 501
    assert "AccountSet" in answer.text
    assert "TaskSet" in answer.text
    assert await logged(half) == []
    assert half.upstream_requests() == []


async def test_the_documents_about_the_service_are_the_mirrors(half: World) -> None:
    direct = await half.ask("/$metadata", direct=True)
    half.clear()
    answer = await half.ask("/$metadata")
    assert (answer.body, answer.headers["Content-Type"]) == (direct.body, direct.headers["Content-Type"])
    assert (await half.send(f"{half.proxy.url}{ROOT}/", headers=JSON)).status == 200
    assert half.upstream_requests() == []


async def test_a_write_that_the_set_goes_back_under_is_upstreams(half: World) -> None:
    """It saw the epoch of the mirror's time; nothing of it is kept there."""
    store, authorities = half.proxy.store, half.proxy.service.sets.authorities
    ours = ("AccountSet", "ContactSet", "CustomerAddressSet")
    epochs = {name: authorities.of(name)[1] for name in ours}
    moved = await store.move_authorities(epochs, Authority.UPSTREAM, Authority.UPSTREAM, "a test")
    assert moved is not None
    account = f"/AccountSet(guid'{half.a_key('AccountSet')}')"
    assert (await half.merge(account, '{"Name":"back"}')).status == 204
    assert await logged(half) == []
    assert any(request.startswith("MERGE") for request in half.upstream_requests())


# When the database fails


async def test_a_commit_that_is_cut_off_is_not_called_refused(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres has the write, and the answer to COMMIT never came."""
    script = Connection.script

    async def cut(connection: Connection, text: str) -> None:
        await script(connection, text)
        if text == "COMMIT":
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    assert (await place.merge(path, '{"Fax":"before"}')).status == 204
    with monkeypatch.context() as broken:
        broken.setattr(Connection, "script", cut)
        answer = await place.merge(path, '{"Fax":"cut"}')
    assert answer.status == 504
    assert "Syncpoint.OutcomeUnknown" in answer.text
    assert (await place.ask(f"{path}/Fax")).json()["d"]["Fax"] == "cut"


async def test_without_a_database_nothing_is_written_and_nothing_read(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    with monkeypatch.context() as broken:
        broken.setattr(place.proxy.store._connections, "transaction", down)
        broken.setattr(place.proxy.store._connections, "fetch", down)
        assert (await place.merge(path, '{"Fax":"lost"}')).status == 503
        assert (await place.ask(path)).status == 504
    assert await logged(place) == []
    assert (await place.ask(f"{path}/Fax")).status == 200
