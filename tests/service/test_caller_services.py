"""Two callers with different rights on models, the change feed, revisions, the admin API and the rest."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from calling import bearer, token_of
from world import Answer, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE, NARROW, CHIEF, WATCH, OWN = "whole-token", "narrow-token", "chief-token", "watch-token", "own-token"
HIDDEN = ("Telephone1", "PrimaryContactId", "NumberOfEmployees")
MODELS: dict[str, Any] = {
    "Organisation": {
        "set": "AccountSet",
        "properties": {
            "name": {"kind": "string", "of": "Name"},
            "phone": {"kind": "string", "of": "Telephone1"},
            "employees": {"kind": "integer", "of": "NumberOfEmployees"},
            "contact": {"kind": "foreign key", "of": "PrimaryContactId", "model": "Person"},
            "priority": {"kind": "integer"},
        },
    },
    "Person": {
        "set": "ContactSet",
        "properties": {
            "last_name": {"kind": "string", "of": "LastName"},
            "employer": {"kind": "foreign key", "of": "ParentCustomerId", "model": "Organisation"},
        },
    },
    "Place": {"set": "CustomerAddressSet", "properties": {"city": {"kind": "string", "of": "City"}}},
    "Tag": {"properties": {"label": {"kind": "string"}}},
}
CALLERS: dict[str, Any] = {
    "whole": token_of(WHOLE, read=["*"], write=["*"]),
    "narrow": token_of(
        NARROW, read=["ContactSet"], write=["AccountSet"], properties={"AccountSet": {"deny": HIDDEN}}
    ),
    "own": token_of(OWN, read=["AccountSet", "model/Organisation"], write=["model/Tag"]),
    "chief": token_of(CHIEF, admin=True),
    "watch": token_of(WATCH, metrics=True),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(databases: Any, template: str) -> AsyncIterator[World]:
    with databases.database(template) as url:
        async with world(url, rows=20, callers=CALLERS, models=MODELS) as made:
            await made.fill("AccountSet", "ContactSet", "CustomerAddressSet", **bearer(WHOLE))
            yield made


async def ask(
    place: World, path: str, token: str | None, method: str = "GET", body: Any = None, **headers: str
) -> Answer:
    """`path` on the services listener."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"Accept": "application/json", "Content-Type": "application/json"} | named
    named |= {} if token is None else bearer(token)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return await place.send(f"{place.proxy.services_url}{path}", method, named, data)


def account(place: World, number: int = 0) -> tuple[str, dict[str, Any]]:
    """The key and upstream's values of one with a phone and a contact."""
    organisation = place.sandbox.organisation
    found = [
        (str(key), entity)
        for key in organisation.keys("AccountSet")
        if (entity := organisation.entity("AccountSet", key))["Telephone1"] and entity["PrimaryContactId"]
    ]
    return found[number]


def refusal(answer: Answer) -> str:
    assert answer.status == 403, answer.text
    assert answer.headers["Proxy-Status"] == "syncpoint; error=http_request_denied"
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]["value"]
    return str(message)


# Models


async def test_a_models_property_is_hidden_under_its_own_name(place: World) -> None:
    key, source = account(place)
    for path in (f"/model/Organisation(guid'{key}')", f"/model/Organisation?$filter=id%20eq%20guid'{key}'"):
        for caching in ("", "only-if-cached"):
            shown = {}
            for token in (WHOLE, NARROW):
                answer = (await ask(place, path, token, Cache_Control=caching)).json()["d"]
                (shown[token],) = answer.get("results", [answer])
            assert {name: shown[WHOLE][name] for name in ("name", "phone", "contact_id")} == {
                "name": source["Name"],
                "phone": source["Telephone1"],
                "contact_id": str(source["PrimaryContactId"]["Id"]),
            }
            nothing = dict.fromkeys(("phone", "employees", "contact_id", "priority"))
            assert shown[NARROW] == shown[WHOLE] | nothing
    value = await ask(place, f"/model/Organisation(guid'{key}')/phone/$value", NARROW)
    assert value.status == 404


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("Organisation?$filter=phone%20ne%20null", "see Organisation's 'phone'"),
        ("Organisation/$count?$filter=employees%20gt%205", "see Organisation's 'employees'"),
        ("Organisation?$orderby=employees", "see Organisation's 'employees'"),
        ("Organisation?$filter=priority%20eq%201", "see Organisation's 'priority'"),
        ("Organisation?$filter=contact_id%20eq%20null", "see Organisation's 'contact_id'"),
        ("Organisation?$filter=contact/last_name%20ne%20''", "see Organisation's 'contact_id'"),
        ("Organisation?$expand=contact", "see Organisation's 'contact_id'"),
        ("Person?$filter=employer/phone%20ne%20null", "see Organisation's 'phone'"),
        ("Person?$orderby=employer/employees", "see Organisation's 'employees'"),
        ("Tag", "read Tag"),
        ("Place", "read Place"),
        ("Place(guid'00000000-0000-0000-0000-000000000001')", "read Place"),
    ],
)
async def test_what_asks_a_model_about_the_hidden_is_refused(place: World, path: str, right: str) -> None:
    assert (await ask(place, f"/model/{path}", WHOLE)).status in (200, 404)
    place.clear()
    answer = await ask(place, f"/model/{path}", NARROW)
    assert refusal(answer) == f"The caller 'narrow' has no right to {right}."
    assert place.upstream_requests() == []


async def test_the_models_a_caller_may_read_are_listed(place: World) -> None:
    listed = {
        token: (await ask(place, "/model/", token)).json()["d"]["EntitySets"]
        for token in (WHOLE, NARROW, OWN, WATCH)
    }
    assert listed == {
        WHOLE: ["Organisation", "Person", "Place", "Tag"],
        NARROW: ["Organisation", "Person"],
        OWN: ["Organisation", "Tag"],
        WATCH: [],
    }


async def test_a_batch_of_a_model_asks_for_each_of_its_parts(place: World) -> None:
    key, _ = account(place)
    paths = [f"Organisation(guid'{key}')/name", "Organisation?$orderby=phone", "Tag"]
    lines = []
    for path in paths:
        lines += ["--b", "Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
        lines += [f"GET {path} HTTP/1.1", "Accept: application/json", "", ""]
    body = "\r\n".join((*lines, "--b--", "")).encode()
    kind = {"Content_Type": "multipart/mixed; boundary=b"}
    answer = await ask(place, "/model/$batch", NARROW, "POST", body, **kind)
    assert [line.split()[1] for line in answer.text.splitlines() if line.startswith("HTTP/1.1")] == [
        "200",
        "403",
        "403",
    ]


WRITES = [
    (NARROW, "MERGE", "Organisation({a})", {"phone": "1"}, "see Organisation's 'phone'"),
    (NARROW, "MERGE", "Organisation({a})", {"contact_id": None}, "see Organisation's 'contact_id'"),
    (NARROW, "MERGE", "Organisation({a})", {"priority": 1}, "see Organisation's 'priority'"),
    (NARROW, "POST", "Organisation", {"name": "x", "employees": 1}, "see Organisation's 'employees'"),
    (NARROW, "POST", "Person", {"last_name": "x"}, "write Person"),
    (NARROW, "DELETE", "Place({a})", None, "write Place"),
    (NARROW, "POST", "Tag", {"label": "x"}, "write Tag"),
    (OWN, "MERGE", "Organisation({a})", {"name": "x"}, "write Organisation"),
    (OWN, "DELETE", "Organisation({a})", None, "write Organisation"),
]


@pytest.mark.parametrize(("token", "method", "path", "body", "right"), WRITES)
async def test_what_may_not_be_written_is_not_sent(
    place: World, token: str, method: str, path: str, body: Any, right: str
) -> None:
    place.clear()
    path = path.format(a=f"guid'{account(place)[0]}'")
    answer = await ask(place, f"/model/{path}", token, method, body)
    assert refusal(answer).endswith(f"has no right to {right}.")
    assert place.upstream_requests() == []


async def test_who_may_write_does_and_is_recorded(place: World) -> None:
    key, _ = account(place, 1)
    path = f"/model/Organisation(guid'{key}')"
    assert (await ask(place, path, NARROW, "MERGE", {"name": "By narrow"})).status == 204
    made = await ask(place, "/model/Organisation", NARROW, "POST", {"name": "New"})
    assert (made.status, made.json()["d"]["name"], made.json()["d"]["phone"]) == (201, "New", None)
    assert (await ask(place, "/model/Tag", OWN, "POST", {"label": "mine"})).status == 201
    history = await ask(place, f"/api/entities/AccountSet(guid'{key}')/revisions", CHIEF)
    newest = history.json()["revisions"][0]
    assert (newest["user"], newest["source"]) == ("narrow", "client write")


# The change feed


async def feed_of(place: World, token: str, parameters: str = "", **headers: str) -> list[dict[str, Any]]:
    """Pages until nothing is left."""
    events: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await ask(place, f"/changes?limit=500{cursor or parameters}", token, **headers)
        assert answer.status == 200, answer.text
        page = answer.json()
        events += page["events"]
        if not page["events"]:
            return events
        cursor = f"&cursor={page['cursor']}"


def nulled(value: Any) -> Any:
    """Null; a complex value as an object of nulls (field manual, 5.2)."""
    if not isinstance(value, dict):
        return None
    return {name: each if name == "__metadata" else None for name, each in value.items()}


def without_hidden(event: Mapping[str, Any]) -> dict[str, Any]:
    if event.get("entity_set") != "AccountSet":
        return dict(event)
    shown = dict(event)
    if event["entity"] is not None:
        shown["entity"] = event["entity"] | {name: nulled(event["entity"][name]) for name in HIDDEN}
    if event.get("changed") is not None:
        shown["changed"] = [name for name in event["changed"] if name not in HIDDEN]
    return shown


async def test_the_feed_shows_each_caller_what_it_may_see(place: World) -> None:
    snapshot = await feed_of(place, WHOLE)
    assert {event.get("entity_set") for event in snapshot} >= {
        "AccountSet",
        "ContactSet",
        "CustomerAddressSet",
    }
    kept = ("AccountSet", "ContactSet", None)
    assert await feed_of(place, NARROW) == [
        without_hidden(event) for event in snapshot if event.get("entity_set") in kept
    ]
    start = (await ask(place, "/changes?cursor=now", WHOLE)).json()["cursor"]
    key, _ = account(place, 2)
    path = f"/AccountSet(guid'{key}')"
    body = b'{"Telephone1":"0 42","NumberOfEmployees":4242,"Description":"seen"}'
    sent = {"Content_Type": "application/json"} | bearer(WHOLE)
    assert (await place.ask(path, "MERGE", body=body, **sent)).status == 204
    assert (await ask(place, "/model/Tag", WHOLE, "POST", {"label": "new"})).status == 201
    every = await feed_of(place, WHOLE, f"&cursor={start}")
    assert {event["entity_set"] for event in every} == {"AccountSet", "model/Tag"}
    assert {"Telephone1", "NumberOfEmployees", "Description"} <= {*every[-2]["changed"]}
    narrow = await feed_of(place, NARROW, f"&cursor={start}")
    assert narrow == [without_hidden(event) for event in every if event["entity_set"] == "AccountSet"]
    assert "0 42" not in json.dumps(narrow)
    assert [event["entity_set"] for event in await feed_of(place, OWN, f"&cursor={start}")] == [
        "AccountSet",
        "model/Tag",
    ]
    assert await feed_of(place, WATCH, f"&cursor={start}") == []


async def test_a_stream_shows_what_pages_show(place: World) -> None:
    key, _ = account(place, 2)
    start = (await ask(place, "/changes?cursor=now", NARROW)).json()["cursor"]
    body = b'{"Telephone1":"0 43","Description":"streamed"}'
    sent = {"Content_Type": "application/json"} | bearer(WHOLE)
    assert (await place.ask(f"/AccountSet(guid'{key}')", "MERGE", body=body, **sent)).status == 204
    pages = await feed_of(place, NARROW, f"&cursor={start}")
    url = f"{place.proxy.services_url}/changes?cursor={start}"
    shown: list[Any] = []
    async with place.session.get(url, headers={"Accept": "text/event-stream"} | bearer(NARROW)) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                shown.append(json.loads(line[6:]))
                if len(shown) == len(pages):
                    break
    assert shown == pages
    assert "0 43" not in json.dumps(shown)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_feed_of_what_may_not_be_read_is_refused(place: World, accept: str) -> None:
    path = "/changes?cursor=now&set=AccountSet&set=CustomerAddressSet"
    answer = await ask(place, path, NARROW, Accept=accept)
    assert refusal(answer) == "The caller 'narrow' has no right to read CustomerAddressSet."


# History, and what belongs to operators


async def test_the_history_shows_each_caller_what_it_may_see(place: World) -> None:
    key, _ = account(place, 3)
    of = f"/api/entities/AccountSet(guid'{key}')"
    for number in (1, 2):
        body = json.dumps({"Telephone1": f"0 5{number}", "Description": f"text {number}"}).encode()
        sent = {"Content_Type": "application/json"} | bearer(WHOLE)
        assert (await place.ask(f"/AccountSet(guid'{key}')", "MERGE", body=body, **sent)).status == 204
    every = (await ask(place, f"{of}/revisions", CHIEF)).json()["revisions"]
    narrow = (await ask(place, f"{of}/revisions", NARROW)).json()["revisions"]
    assert "Telephone1" in every[0]["changed"]
    for one, other in zip(every, narrow, strict=True):
        changed = one["changed"] and [name for name in one["changed"] if name not in HIDDEN]
        assert other == one | {"changed": changed}
    newer, older = every[0]["id"], every[1]["id"]
    whole = (await ask(place, f"{of}/revisions/{newer}", CHIEF)).json()
    assert whole["document"]["Telephone1"] == "0 52"
    shown = (await ask(place, f"{of}/revisions/{newer}", NARROW)).json()
    masked = without_hidden({"entity_set": "AccountSet", "entity": whole["document"]})["entity"]
    assert (shown["document"], shown["document"]["Telephone1"]) == (masked, None)
    diff = f"{of}/diff?from={older}&to={newer}"
    names = {
        token: {each["property"] for each in (await ask(place, diff, token)).json()["differences"]}
        for token in (CHIEF, NARROW)
    }
    assert names[CHIEF] >= {"Telephone1", "Description"}
    assert names[NARROW] == names[CHIEF] - {*HIDDEN}
    foreign = f"/api/entities/CustomerAddressSet(guid'{place.a_key('CustomerAddressSet')}')"
    for path in (f"{foreign}/revisions", f"{foreign}/revisions/1", f"{foreign}/diff?from=1&to=2"):
        assert refusal(await ask(place, path, NARROW)).endswith("read CustomerAddressSet.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "sets"),
        ("GET", "sets/AccountSet"),
        ("POST", "sets/AccountSet/serve"),
        ("GET", "conflicts"),
        ("GET", "conflicts/1"),
        ("POST", "conflicts/1/resolve"),
        ("GET", "intents"),
        ("GET", "shadow"),
        ("GET", "effects"),
        ("POST", "entities/AccountSet(guid'{a}')/revert"),
        ("GET", "nothing"),
    ],
)
async def test_the_admin_api_is_for_admins(place: World, method: str, path: str) -> None:
    path = f"/api/{path.format(a=account(place)[0])}"
    body = {} if method == "POST" else None
    for token in (WHOLE, NARROW, WATCH):
        assert "admin" in refusal(await ask(place, path, token, method, body))
    assert (await ask(place, path, CHIEF, method, body)).status in (200, 400, 404)
    assert (await ask(place, path, None, method, body)).status == 401


async def test_an_admins_changes_are_taken_from_anywhere_but_other_sites(place: World) -> None:
    path = "/api/sets/AccountSet/serve"
    away = {"Host": "sync.example.com"}
    assert (await ask(place, path, CHIEF, "POST", {}, **away)).status == 200
    for foreign in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        assert (await ask(place, path, CHIEF, "POST", {}, **away, **foreign)).status == 403


async def test_no_page_of_another_site_writes_with_what_a_browser_says(database_url: str) -> None:
    """Where the network says who is calling, a browser in it says so for every page that it shows."""
    inside = {"inside": {"trust": "network", "networks": ["127.0.0.0/8"], "write": ["model/Tag"]}}
    for callers in (inside, {}):
        async with world(database_url, rows=3, models=MODELS, callers=callers) as own:
            for foreign in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "same-site"}):
                kind = {"Content_Type": "text/plain"} | foreign
                answer = await ask(own, "/model/Tag", None, "POST", {"label": "x"}, **kind)
                assert refusal(answer).endswith("write from another site's page.")
            same = {"Origin": own.proxy.services_url, "Sec_Fetch_Site": "same-origin"}
            assert (await ask(own, "/model/Tag", None, "POST", {"label": "x"}, **same)).status == 201


async def test_metrics_need_their_right_and_health_needs_nobody(place: World) -> None:
    for token, status in ((WATCH, 200), (CHIEF, 200), (WHOLE, 403), (None, 401)):
        assert (await ask(place, "/metrics", token)).status == status
    for path in ("/healthz", "/readyz"):
        assert (await ask(place, path, None)).status == 200
    for path in (
        "/healthz/../metrics",
        "/healthz/..%2fmetrics",
        "/mirror/../healthz",
        "/nothing",
    ):
        assert (await ask(place, path, None)).status in (401, 403, 404)
    for path in ("/console/", "/console/../metrics", "/console/..%2fmetrics"):
        answer = await ask(place, path, None)
        assert (answer.status, answer.headers["Location"], answer.body) == (303, "/console/login", b"")
