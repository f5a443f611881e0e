"""`/model/`: entity sets under the names that new services chose, read and written, and their views."""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psycopg2
import pytest
import pytest_asyncio
from aiohttp import ClientSession
from world import Answer, World, world

from proxy.app import running
from proxy.odata.csdl import parse_metadata
from proxy.reconcile.ports import StoreUnavailable
from proxy.sandbox import Switches
from proxy.settings import Settings, SettingsError

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS: dict[str, Any] = {
    "Organisation": {
        "set": "AccountSet",
        "properties": {
            "name": {"kind": "string", "of": "Name"},
            "description": {"kind": "string", "of": "Description"},
            "uk_organisation": {"kind": "boolean", "of": "optevia_ukorganisation"},
            "employees": {"kind": "integer", "of": "NumberOfEmployees"},
            "industry": {"kind": "integer", "of": "IndustryCode"},
            "modified": {"kind": "datetime", "of": "ModifiedOn"},
            "sector": {"kind": "reference", "of": "optevia_Sector"},
            "primary_contact": {"kind": "foreign key", "of": "PrimaryContactId", "model": "Person"},
            "document": {"kind": "string"},
            "priority": {"kind": "integer"},
        },
    },
    "Person": {
        "set": "ContactSet",
        "key": "uuid",
        "properties": {
            "first_name": {"kind": "string", "of": "FirstName"},
            "last_name": {"kind": "string", "of": "LastName"},
            "employer": {"kind": "foreign key", "of": "ParentCustomerId", "model": "Organisation"},
        },
    },
    "Tag": {
        "properties": {
            "label": {"kind": "string"},
            "weight": {"kind": "integer"},
            "made": {"kind": "datetime"},
            "active": {"kind": "boolean"},
            "organisation": {"kind": "foreign key", "model": "Organisation"},
        },
    },
}
FORMATS = ["application/json", "application/atom+xml"]


async def ask(place: World, path: str, method: str = "GET", body: object = None, **headers: str) -> Answer:
    """`path` below the models' service root."""
    named = {
        "Accept": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    if body is not None:
        named.setdefault("Content-Type", "application/json")
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return await place.send(f"{place.proxy.services_url}/model{path}", method, named, sent)


async def shown(place: World, path: str, **headers: str) -> Any:
    answer = await ask(place, path.replace(" ", "%20"), **headers)
    assert answer.status == 200, answer.text
    return answer.json()["d"]


def rows_of(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(databases: Any, template: str) -> AsyncIterator[World]:
    with databases.database(template) as url:
        async with world(url, rows=60, models=MODELS) as made:
            await made.fill("AccountSet", "ContactSet")
            yield made


# Reading


async def test_one_entity_is_checked_and_shown_under_its_own_names(place: World) -> None:
    key = place.a_key("AccountSet")
    source = (await place.ask(f"/AccountSet(guid'{key}')", direct=True)).json()["d"]
    place.clear()
    answer = await ask(place, f"/Organisation(guid'{key}')")
    assert place.upstream_requests() == [
        f"GET /AccountSet(guid'{key}')?$select=VersionNumber,ModifiedOn,AccountId"
    ]
    assert answer.cache == "syncpoint; hit; detail=checked"
    entity = answer.json()["d"]
    uri = f"{place.proxy.services_url}/model/Organisation(guid'{key}')"
    assert entity.pop("__metadata") == {"uri": uri, "type": "Syncpoint.Model.Organisation"}
    assert entity.pop("primary_contact") == {"__deferred": {"uri": f"{uri}/primary_contact"}}
    assert entity == {
        "id": source["AccountId"],
        "name": source["Name"] or "",
        "description": source["Description"] or "",
        "uk_organisation": source["optevia_ukorganisation"],
        "employees": source["NumberOfEmployees"],
        "industry": source["IndustryCode"]["Value"],
        "modified": source["ModifiedOn"],
        "sector": source["optevia_Sector"]["Id"],
        "primary_contact_id": source["PrimaryContactId"]["Id"],
        "document": "",
        "priority": None,
    }


async def test_a_check_finds_what_moved_and_no_cache_fetches(database_url: str) -> None:
    async with world(database_url, rows=5, models=MODELS) as place:
        await place.fill("AccountSet")
        key = place.a_key("AccountSet")
        place.sandbox.clock.advance(60)
        body = b'{"Name":"Moved"}'
        path = f"/AccountSet(guid'{key}')"
        await place.ask(path, "MERGE", direct=True, body=body, Content_Type="application/json")
        alone = f"/Organisation(guid'{key}')?$select=name"
        assert (await shown(place, alone, Cache_Control="only-if-cached"))["name"] != "Moved"
        answer = await ask(place, alone)
        assert (answer.json()["d"]["name"], answer.cache) == ("Moved", "syncpoint; fwd=stale; stored")
        assert (await shown(place, alone, Cache_Control="only-if-cached"))["name"] == "Moved"
        assert "fwd=request" in (await ask(place, alone, Cache_Control="no-cache")).cache


@pytest.mark.parametrize("accept", FORMATS)
async def test_upstreams_refusal_is_told(place: World, accept: str) -> None:
    answer = await ask(place, f"/Organisation(guid'{uuid.uuid4()}')", Accept=accept)
    assert answer.status == 404
    assert "Does Not Exist" in answer.text
    assert (await ask(place, f"/Organisation(guid'{uuid.uuid4()}')/nome", Accept=accept)).status == 404


async def test_only_if_cached_and_collections_never_ask_upstream(place: World) -> None:
    key = place.a_key("AccountSet")
    place.clear()
    for path in (f"/Organisation(guid'{key}')", "/Organisation", "/Person/$count", "/", "/$metadata"):
        assert (await ask(place, path, Cache_Control="only-if-cached")).status == 200
    unknown = f"/Organisation(guid'{uuid.uuid4()}')"
    assert (await ask(place, unknown, Cache_Control="only-if-cached")).status == 404
    assert (await ask(place, "/Organisation?$expand=primary_contact")).cache == "syncpoint; hit"
    assert place.upstream_requests() == []


# A query in the names of models, and what it is in upstream's.
QUERIES = [
    ("$filter=name eq 'acme'", "$filter=Name eq 'acme'"),
    (
        "$filter=substringof('an',name) and employees gt 3",
        "$filter=substringof('an',Name) and NumberOfEmployees gt 3",
    ),
    ("$filter=uk_organisation eq true", "$filter=optevia_ukorganisation eq true"),
    ("$filter=industry ne 5", "$filter=IndustryCode/Value ne 5"),
    ("$filter=description eq ''", "$filter=Description eq null or Description eq ''"),
    ("$filter=primary_contact_id ne null", "$filter=PrimaryContactId/Id ne null"),
    (
        "$filter=startswith(primary_contact/last_name,'M')",
        "$filter=startswith(account_primary_contact/LastName,'M')",
    ),
    ("$filter=year(modified) eq 2014", "$filter=year(ModifiedOn) eq 2014"),
    ("$filter=document eq '' and priority eq null", ""),
    ("$orderby=employees desc,name", "$orderby=NumberOfEmployees desc,Name"),
    ("$orderby=primary_contact/first_name,name", "$orderby=account_primary_contact/FirstName,Name"),
    ("$orderby=name&$skip=3&$top=4", "$orderby=Name&$skip=3&$top=4"),
]


@pytest.mark.parametrize(("query", "source"), QUERIES)
async def test_filters_and_orders_are_those_of_the_mirror(place: World, query: str, source: str) -> None:
    found = await shown(place, f"/Organisation?{query}&$inlinecount=allpages")
    expected = (await place.mirror(f"/AccountSet?{source}&$inlinecount=allpages".replace(" ", "%20"))).json()[
        "d"
    ]
    assert [each["id"] for each in found["results"]] == [each["AccountId"] for each in expected["results"]]
    assert found["__count"] == expected["__count"]


async def test_pages_follow_one_another_to_the_end(place: World) -> None:
    seen: list[str] = []
    url: str | None = f"{place.proxy.services_url}/model/Organisation?$orderby=name&$select=id"
    while url is not None:
        page = (await place.send(url, headers={"Accept": "application/json"})).json()["d"]
        seen += [each["id"] for each in page["results"]]
        url = page.get("__next")
    assert len(seen) == len(set(seen)) == len(place.sandbox.organisation.keys("AccountSet")) > 50


async def test_foreign_keys_are_followed(place: World) -> None:
    organisation = (await shown(place, "/Organisation?$filter=primary_contact/last_name ne null&$top=1"))[
        "results"
    ][0]
    path, person = f"/Organisation(guid'{organisation['id']}')", organisation["primary_contact_id"]
    expanded = await shown(place, f"{path}?$expand=primary_contact&$select=name,primary_contact")
    assert expanded["primary_contact"]["uuid"] == person
    assert (await shown(place, f"{path}/primary_contact"))["uuid"] == person
    name = expanded["primary_contact"]["last_name"]
    assert (await shown(place, f"{path}/primary_contact/last_name"))["last_name"] == name
    assert (await ask(place, f"{path}/primary_contact/last_name/$value")).text == name
    links = await shown(place, f"{path}/$links/primary_contact")
    assert links["uri"] == f"{place.proxy.services_url}/model/Person(guid'{person}')"


async def test_both_formats_say_the_same(place: World) -> None:
    path = "/Organisation?$top=5&$expand=primary_contact"
    texts = [(await ask(place, path, Accept=accept)).text for accept in FORMATS]
    feed = ElementTree.fromstring(texts[1])
    data = "{http://schemas.microsoft.com/ado/2007/08/dataservices}"
    entries = feed.findall("{http://www.w3.org/2005/Atom}entry")
    inner = "{http://www.w3.org/2005/Atom}content/*/"
    names = [entry.findtext(f"{inner}{data}name") or "" for entry in entries]
    assert names == [each["name"] for each in json.loads(texts[0])["d"]["results"]]
    assert "Syncpoint.Model.Person" in texts[1]


async def test_the_documents_of_the_root_name_the_models(place: World) -> None:
    assert (await shown(place, "/"))["EntitySets"] == list(MODELS)
    model = parse_metadata((await ask(place, "/$metadata")).body)
    assert list(model.entity_sets) == list(MODELS)
    assert "Name" not in model.entity_sets["Organisation"].entity_type.properties


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/AccountSet", 404),
        ("/Organisation?$filter=Name eq 'a'", 400),
        ("/Organisation?$select=Name", 400),
        ("/Organisation?$orderby=nome", 400),
        ("/Organisation(guid'x')", 400),
        ("/Organisation?$top=100000", 400),
    ],
)
async def test_names_of_upstreams_mean_nothing_here(place: World, path: str, status: int) -> None:
    answer = await ask(place, path.replace(" ", "%20"))
    assert (answer.status, "Proxy-Status" in answer.headers) == (status, True)


async def test_a_batch_reads(place: World) -> None:
    body = (
        b"--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"GET Organisation?$top=1&$select=name HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n--b--\r\n"
    )
    answer = await ask(place, "/$batch", "POST", body, Content_Type="multipart/mixed; boundary=b")
    assert answer.status == 202
    assert "Syncpoint.Model.Organisation" in answer.text


# Writing


@pytest_asyncio.fixture(loop_scope="module")
async def small(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, rows=5, models=MODELS) as made:
        await made.fill("AccountSet", "ContactSet")
        made.clear()
        yield made


async def test_a_create_reaches_upstream_in_its_own_words(small: World) -> None:
    contact = small.a_key("ContactSet")
    posted = {
        "name": "New & <old>",
        "description": "",
        "industry": 3,
        "uk_organisation": True,
        "employees": 12,
        "primary_contact_id": contact,
        "document": "kept",
        "priority": 4,
    }
    answer = await ask(small, "/Organisation", "POST", posted)
    assert answer.status == 201, answer.text
    entity = answer.json()["d"]
    assert {name: entity[name] for name in posted} == posted
    assert answer.headers["Location"] == entity["__metadata"]["uri"]
    assert "stored" in answer.cache
    source = (await small.ask(f"/AccountSet(guid'{entity['id']}')", direct=True)).json()["d"]
    assert (source["Name"], source["Description"], source["IndustryCode"]["Value"]) == (
        "New & <old>",
        None,
        3,
    )
    assert source["PrimaryContactId"]["LogicalName"] == "contact"
    alone = await shown(small, f"/Organisation(guid'{entity['id']}')", Cache_Control="only-if-cached")
    assert alone == entity


async def test_an_atom_entry_is_taken_too(small: World) -> None:
    entry = (
        b'<entry xmlns="http://www.w3.org/2005/Atom"'
        b' xmlns:d="http://schemas.microsoft.com/ado/2007/08/dataservices"'
        b' xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata">'
        b'<content type="application/xml">'
        b'<m:properties><d:name>By Atom</d:name><d:priority m:type="Edm.Int32">8</d:priority></m:properties>'
        b"</content></entry>"
    )
    headers = {"Content_Type": "application/atom+xml", "Accept": "application/atom+xml"}
    answer = await ask(small, "/Organisation", "POST", entry, **headers)
    assert answer.status == 201, answer.text
    assert ">By Atom<" in answer.text
    assert ">8<" in answer.text


async def test_a_lookup_of_several_types_leads_only_where_it_says(small: World, database_url: str) -> None:
    key, other = small.a_key("ContactSet"), small.a_key("ContactSet", 1)
    organisation = small.a_key("AccountSet")
    path = f"/Person(guid'{key}')"
    assert (await ask(small, path, "MERGE", {"employer_id": organisation})).status == 204
    assert (await shown(small, f"{path}/employer"))["id"] == organisation
    view = f"""SELECT employer_id::text FROM model."Person" WHERE uuid = '{key}'"""
    assert rows_of(database_url, view) == [(organisation,)]
    lookup = {"ParentCustomerId": {"Id": other, "LogicalName": "contact"}}
    assert (await small.merge(f"/ContactSet(guid'{key}')", json.dumps(lookup))).status == 204
    assert (await shown(small, path))["employer_id"] is None
    assert (await shown(small, path, Cache_Control="only-if-cached"))["employer_id"] is None
    assert rows_of(database_url, view) == [(None,)]
    assert (await ask(small, path, "MERGE", {"employer_id": None})).status == 204
    assert (await small.ask(f"/ContactSet(guid'{key}')")).json()["d"]["ParentCustomerId"]["Id"] is None


@pytest.mark.parametrize("method", ["MERGE", "PATCH", "POST"])
async def test_a_merge_changes_what_it_names_on_both_sides(small: World, method: str) -> None:
    key = small.a_key("AccountSet")
    path = f"/Organisation(guid'{key}')"
    before = await shown(small, path)
    tunnel = {"X_HTTP_Method": "MERGE"} if method == "POST" else {}
    answer = await ask(small, path, method, {"name": "Merged", "document": "d"}, **tunnel)
    assert (answer.status, answer.body) == (204, b"")
    await ask(small, path, "MERGE", {"priority": 1})
    after = await shown(small, path)
    changed = {"name": "Merged", "document": "d", "priority": 1, "modified": after["modified"]}
    assert after == {**before, **changed}


async def test_a_merge_of_own_properties_alone_changes_nothing_upstream(small: World) -> None:
    key = small.a_key("AccountSet")
    assert (await ask(small, f"/Organisation(guid'{key}')", "MERGE", {"priority": 3})).status == 204
    assert [each.split(" ")[0] for each in small.upstream_requests()] == ["GET"]
    missing = await ask(small, f"/Organisation(guid'{uuid.uuid4()}')", "MERGE", {"priority": 3})
    assert missing.status == 404
    found = (await shown(small, "/Organisation?$filter=priority eq 3"))["results"]
    assert [each["id"] for each in found] == [key]


async def test_what_only_the_mirror_keeps_may_fail_alone_and_says_so(small: World, database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE syncpoint.own_values RENAME TO gone")
    key = small.a_key("AccountSet")
    path = f"/Organisation(guid'{key}')"
    answer = await ask(small, path, "MERGE", {"name": "Taken", "priority": 9})
    assert answer.status == 503
    assert f"Upstream has taken the write of {path[1:]}; what only the mirror keeps (priority)" in answer.text
    assert (await small.ask(f"/AccountSet(guid'{key}')", direct=True)).json()["d"]["Name"] == "Taken"
    assert (await ask(small, "/Tag", "POST", {"label": "a"})).status == 503


async def test_nothing_of_the_clients_goes_to_upstream_and_no_cookie_comes_back(database_url: str) -> None:
    async with world(database_url, rows=2, models=MODELS, switches=Switches(set_cookie="a=b")) as place:
        path = f"/Organisation(guid'{place.a_key('AccountSet')}')"
        mine = {"Authorization": "Bearer secret", "Cookie": "mine=1", "If_Match": "*"}
        answers = [
            await ask(place, path, **mine),
            await ask(place, path, **mine),
            await ask(place, f"/Organisation(guid'{uuid.uuid4()}')", **mine),
            await ask(place, path, "MERGE", {"name": "a"}, **mine),
            await ask(place, "/Organisation", "POST", {"name": "a"}, **mine),
        ]
        assert [answer.status for answer in answers] == [200, 200, 404, 204, 201]
        assert [answer.headers.get("Set-Cookie") for answer in answers] == [None] * 5
        sent = [{name.lower() for name in entry.headers} for entry in place.sandbox.journal]
        assert len(sent) > 5
        assert [names & {"authorization", "cookie", "if-match"} for names in sent] == [set()] * len(sent)


async def test_a_delete_is_upstreams(small: World) -> None:
    key = small.a_key("AccountSet")
    assert (await ask(small, f"/Organisation(guid'{key}')", "DELETE")).status == 204
    assert (await small.ask(f"/AccountSet(guid'{key}')", direct=True)).status == 404
    assert (await shown(small, f"/Organisation?$filter=id eq guid'{key}'"))["results"] == []


async def test_upstreams_refusal_of_a_write_changes_nothing(small: World) -> None:
    answer = await ask(
        small, "/Organisation", "POST", {"primary_contact_id": str(uuid.uuid4()), "priority": 77}
    )
    assert answer.status >= 400
    assert "Proxy-Status" not in answer.headers
    assert (await shown(small, "/Organisation?$filter=priority eq 77"))["results"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/Organisation", {"Name": "a"}, 400),
        ("POST", "/Organisation", {"employees": "many"}, 400),
        ("POST", "/Organisation", {"primary_contact": {"last_name": "a"}}, 400),
        ("POST", "/Organisation", b"{", 400),
        ("PUT", "/Organisation({key})", {"name": "a"}, 405),
        ("DELETE", "/Organisation", None, 405),
        ("PUT", "/Organisation({key})/name", {"name": "a"}, 405),
        ("POST", "/Nothing", {}, 404),
        ("MERGE", "/Tag(guid'00000000-0000-0000-0000-000000000001')", {"weight": 1}, 404),
        ("DELETE", "/Tag(guid'00000000-0000-0000-0000-000000000001')", None, 404),
    ],
)
async def test_what_cannot_be_written_is_refused_here(
    place: World, method: str, path: str, body: object, status: int
) -> None:
    place.clear()
    key = f"guid'{place.a_key('AccountSet')}'"
    answer = await ask(place, path.format(key=key), method, body)
    assert (answer.status, "Proxy-Status" in answer.headers) == (status, True)
    assert place.upstream_requests() == []


async def test_a_type_of_the_mirrors_own_lives_there_alone(small: World) -> None:
    organisation = small.a_key("AccountSet")
    posted = {
        "label": "Ünï\u2028\x00",
        "weight": 2,
        "made": "2016-05-01T10:00:00",
        "organisation_id": organisation,
    }
    created = await ask(small, "/Tag", "POST", posted)
    assert created.status == 201, created.text
    tag = created.json()["d"]
    path = f"/Tag(guid'{tag['id']}')"
    assert (tag["label"], tag["made"], tag["active"]) == ("Ünï\u2028\ufffd", "/Date(1462096800000)/", None)
    assert (await ask(small, "/Tag", "POST", {"id": tag["id"]})).status == 409
    assert (await ask(small, path, "MERGE", {"active": True, "weight": None})).status == 204
    assert small.upstream_requests() == []
    expanded = await shown(small, f"{path}?$expand=organisation")
    assert (expanded["active"], expanded["weight"]) == (True, None)
    assert expanded["organisation"]["id"] == organisation
    for query in (
        "active eq true",
        "made gt datetime'2016-01-01'",
        f"id eq guid'{tag['id']}'",
        "weight eq null",
    ):
        assert len((await shown(small, f"/Tag?$filter={query}&$orderby=label"))["results"]) == 1
    assert (await ask(small, path, "DELETE")).status == 204
    assert (await ask(small, path)).status == 404
    assert (await ask(small, "/Tag/$count")).text == "0"


async def test_what_only_the_mirror_keeps_has_a_history(small: World, database_url: str) -> None:
    tag = (await ask(small, "/Tag", "POST", {"label": "a"}, X_Request_Id="r1")).json()["d"]
    await ask(small, f"/Tag(guid'{tag['id']}')", "MERGE", {"weight": 1}, X_Request_Id="r2")
    await ask(small, f"/Tag(guid'{tag['id']}')", "DELETE", X_Request_Id="r3")
    statement = (
        "SELECT entity_key, request_id, document::jsonb, deleted FROM syncpoint.revisions"
        " WHERE entity_set = 'model/Tag' ORDER BY id"
    )
    key = f"guid'{tag['id']}'"
    first = {"label:Edm.String": "a"}
    assert rows_of(database_url, statement) == [
        (key, "r1", first, False),
        (key, "r2", first | {"weight:Edm.Int32": 1}, False),
        (key, "r3", None, True),
    ]


# Views, and changes of the configuration


async def test_the_view_shows_typed_documented_columns(small: World, database_url: str) -> None:
    key = small.a_key("AccountSet")
    await ask(small, f"/Organisation(guid'{key}')", "MERGE", {"priority": 6, "description": ""})
    entity = await shown(small, f"/Organisation(guid'{key}')")
    names = ("id", "name", "description", "employees", "industry", "priority", "document")
    statement = f"""SELECT {", ".join(names)} FROM model."Organisation" WHERE id = '{key}'"""
    assert rows_of(database_url, statement) == [tuple(entity[name] for name in names)]
    assert rows_of(database_url, 'SELECT count(*) FROM model."Organisation"') == [(5,)]
    columns = """SELECT attname, format_type(atttypid, NULL), col_description(attrelid, attnum)
        FROM pg_attribute WHERE attrelid = 'model."Organisation"'::regclass AND attnum > 0"""
    described = {name: (kind, comment) for name, kind, comment in rows_of(database_url, columns)}
    assert described["id"] == ("uuid", "AccountSet: AccountId.")
    assert described["name"] == ("text", "AccountSet: Name; null shown as empty.")
    assert described["industry"] == ("integer", "AccountSet: IndustryCode/Value.")
    assert described["modified"] == ("timestamp without time zone", "AccountSet: ModifiedOn; UTC.")
    assert described["priority"] == ("integer", "Kept by the mirror alone.")
    assert described["primary_contact_id"][1] == (
        "AccountSet: PrimaryContactId/Id; null where it names no contact."
    )
    assert rows_of(database_url, """SELECT obj_description('model."Tag"'::regclass)""") == [
        ("Entities that only the mirror keeps, as the model Tag names them.",)
    ]


def changed(**properties: Any) -> dict[str, Any]:
    """The models with other properties of Organisation; None takes one away."""
    given = {**MODELS["Organisation"]["properties"], **properties}
    kept = {name: each for name, each in given.items() if each is not None}
    return {"Organisation": {**MODELS["Organisation"], "properties": kept}, "Person": MODELS["Person"]}


async def test_a_changed_mapping_replaces_views_and_loses_nothing(database_url: str) -> None:
    made_at = "SELECT name, made_at FROM syncpoint.models ORDER BY name"
    async with world(database_url, rows=3, models=MODELS) as place:
        await place.fill("AccountSet")
        key = place.a_key("AccountSet")
        await ask(place, f"/Organisation(guid'{key}')", "MERGE", {"document": "kept", "priority": 5})
        await ask(place, "/Tag", "POST", {"label": "kept"})
        first = dict(rows_of(database_url, made_at))
    other = changed(
        name=None, title={"kind": "string", "of": "Name"}, priority={"kind": "string"}, document=None
    )
    async with world(database_url, rows=3, models=other) as place:
        entity = await shown(place, f"/Organisation(guid'{key}')")
        assert (entity["title"], entity["priority"]) != ("", 5)
        assert entity["priority"] == ""
        rows_of(database_url, 'SELECT title, priority FROM model."Organisation"')
        second = dict(rows_of(database_url, made_at))
    assert set(second) == {"Organisation", "Person"}
    without_set = {"Organisation": {"properties": {"priority": {"kind": "integer"}}}}
    async with world(database_url, rows=3, models=without_set) as place:
        assert (await shown(place, "/Organisation"))["results"] == []
    assert second["Person"] == first["Person"]
    assert second["Organisation"] > first["Organisation"]
    async with world(database_url, rows=3, models=MODELS) as place:
        entity = await shown(place, f"/Organisation(guid'{key}')")
        assert (entity["document"], entity["priority"]) == ("kept", 5)
        assert [each["label"] for each in (await shown(place, "/Tag"))["results"]] == ["kept"]


async def test_a_property_that_joins_upstreams_document_leaves_the_view_standing(database_url: str) -> None:
    async with world(database_url, rows=3, models=changed()) as place:
        await place.fill("AccountSet")
        document = (await place.ask("/$metadata", Accept="application/xml")).body
        wider = document.replace(
            b'<Property Name="AccountId"',
            b'<Property Name="Added" Type="Edm.String" /><Property Name="AccountId"',
            1,
        )
        assert await place.proxy.metadata.see(wider)
        assert len((await shown(place, "/Organisation"))["results"]) == 3
        narrower = document.replace(b'<Property Name="NumberOfEmployees"', b'<Property Name="Other"', 1)
        assert await place.proxy.metadata.see(narrower)
        answer = await ask(place, "/Organisation")
        assert answer.status == 503
        assert "models.Organisation.properties.employees: AccountSet has no property" in answer.text
        assert rows_of(database_url, 'SELECT count(employees) >= 0 FROM model."Organisation"') == [(True,)]


async def test_a_wrong_mapping_is_refused_at_the_start_with_all_that_is_wrong(database_url: str) -> None:
    wrong = changed(
        employees={"kind": "string", "of": "NumberOfEmployees"},
        boss={"kind": "foreign key", "of": "OwnerId", "model": "Nobody"},
        id={"kind": "string"},
    )
    with pytest.raises(SettingsError) as caught:
        async with world(database_url, rows=3, models=wrong):
            pass
    assert caught.value.problems == (
        "models.Organisation.properties.boss: there is no model 'Nobody'",
        "models.Organisation.properties.id: 'id' is the name of the key already",
        "models.Organisation.properties.employees: AccountSet's 'NumberOfEmployees' is of type Edm.Int32,"
        " which is not for the kind 'string'",
    )
    assert rows_of(database_url, "SELECT name FROM syncpoint.models") == []


async def test_views_are_replaced_together_or_not_at_all(database_url: str) -> None:
    async with world(database_url, rows=1, models=MODELS):
        pass
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute('CREATE VIEW theirs AS SELECT label FROM model."Tag"')
    before = rows_of(database_url, "SELECT name, made_at FROM syncpoint.models ORDER BY name")
    with pytest.raises(StoreUnavailable, match="other objects depend on it"):
        async with world(database_url, rows=1, models=changed(name=None)):
            pass
    assert rows_of(database_url, "SELECT name, made_at FROM syncpoint.models ORDER BY name") == before
    assert rows_of(database_url, 'SELECT count(name) FROM model."Organisation"') == [(0,)]


async def test_the_sandboxs_example_is_served(database_url: str) -> None:
    example = tomllib.loads((Path(__file__).parents[2] / "config" / "sandbox.toml").read_text())["models"]
    async with world(database_url, rows=2, models=example) as place:
        assert (await shown(place, "/"))["EntitySets"] == list(example)
        assert (await shown(place, f"/Organisation(guid'{place.a_key('AccountSet')}')"))["priority"] is None


async def test_without_a_metadata_document_there_is_no_answer_yet(database_url: str) -> None:
    overrides = {
        "listen": "127.0.0.1:0",
        "services_listen": "127.0.0.1:0",
        "database_url": database_url,
        "upstream.service_root": "http://127.0.0.1:9/Org.svc",
        "models": MODELS,
    }
    async with running(Settings.load(None, overrides, environment={})) as proxy, ClientSession() as session:
        for method in ("GET", "POST"):
            async with session.request(method, f"{proxy.services_url}/model/Tag") as answer:
                assert (answer.status, "NotInMirror" in await answer.text()) == (504, True)


async def test_two_processes_make_the_same_views(database_url: str) -> None:
    async with (
        world(database_url, rows=3, models=MODELS) as one,
        world(database_url, rows=3, models=MODELS) as other,
    ):
        for place in (one, other):
            assert (await ask(place, "/Tag/$count")).text == "0"


async def test_without_models_the_root_is_empty(database_url: str) -> None:
    async with world(database_url, rows=1) as place:
        assert (await shown(place, "/"))["EntitySets"] == []
