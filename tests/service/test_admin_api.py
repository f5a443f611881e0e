"""The admin API: history, conflicts and tripped sets, and who may change anything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from operators import api, history, key_of, set_back, upstream
from storing import query, revisions
from world import world


async def test_a_history_tells_who_changed_what(database_url: str) -> None:
    async with world(database_url) as place:
        path = f"/{key_of(place)}"
        await place.ask(path)
        await place.merge(path, '{"Name":"Second","Telephone1":"1"}', X_Request_Id="w2")
        await place.merge(path, '{"Name":"Third"}', X_Request_Id="w3")
        first, second, third = await history(place)
        assert [shown["source"] for shown in (first, second, third)] == [
            "upstream refresh",
            "client write",
            "client write",
        ]
        assert set(second["changed"]) >= {"Name", "Telephone1", "ModifiedOn"}
        assert "Telephone1" not in third["changed"]
        assert (third["request_id"], third["client"], third["gap"]) == ("w3", "127.0.0.1", False)
        assert first["gap"]
        one = (await api(place, f"entities/{key_of(place)}/revisions/{second['id']}")).json()
        assert one["document"]["Name"] == "Second"
        assert one["document"]["__metadata"]["uri"].startswith(place.proxy.services_url)
        diff = await api(place, f"entities/{key_of(place)}/diff?from={second['id']}&to={third['id']}")
        names = {shown["property"]: shown for shown in diff.json()["differences"]}
        assert names["Name"] == {"property": "Name", "before": "Second", "after": "Third"}
        assert "Telephone1" not in names
        page = (await api(place, f"entities/{key_of(place)}/revisions?limit=2")).json()
        rest = (await api(place, f"entities/{key_of(place)}/revisions?before={page['next_before']}")).json()
        assert [shown["id"] for shown in (*page["revisions"], *rest["revisions"])] == [
            third["id"],
            second["id"],
            first["id"],
        ]


async def test_a_revert_is_a_write_with_a_revision_of_its_own(database_url: str) -> None:
    async with world(database_url) as place:
        path = f"/{key_of(place)}"
        name, phone = upstream(place)["Name"], upstream(place)["Telephone1"]
        await place.ask(path)
        await place.merge(path, '{"Name":"Second","Telephone1":"1"}')
        first, _ = await history(place)
        place.clear()
        answer = await api(place, f"entities/{key_of(place)}/revert", {"revision": first["id"]})
        assert (answer.status, set(answer.json()["changed"])) == (200, {"Name", "Telephone1"})
        assert [line for line in place.upstream_requests() if line.startswith("MERGE")] == [f"MERGE {path}"]
        assert (upstream(place)["Name"], upstream(place)["Telephone1"]) == (name, phone)
        *_, last = await history(place)
        assert (last["source"], last["method"], last["gap"]) == ("client write", "MergeEntity", False)
        assert last["request_id"].startswith("api-")
        again = await api(place, f"entities/{key_of(place)}/revert", {"revision": first["id"]})
        assert again.json() == {"changed": [], "status": None, "error": None}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("entities/NoSuchSet(guid'00000000-0000-0000-0000-000000000001')/revisions", None, 404),
        ("entities/AccountSet/revisions", None, 404),
        ("entities/AccountSet(7)/revisions", None, 400),
        ("entities/AccountSet(guid'00000000-0000-0000-0000-000000000001')/revisions?limit=x", None, 400),
        ("entities/AccountSet(guid'00000000-0000-0000-0000-000000000001')/revisions/7", None, 404),
        ("entities/AccountSet(guid'00000000-0000-0000-0000-000000000001')/revert", {"revision": 1}, 404),
        ("entities/AccountSet(guid'00000000-0000-0000-0000-000000000001')/revert", {}, 400),
        ("conflicts/7", None, 404),
        ("conflicts/7/resolve", {"winner": "mirror"}, 404),
        ("conflicts/7/resolve", {"winner": "nobody"}, 400),
        ("conflicts/7/resolve", [], 400),
        ("sets/NoSuchSet", None, 404),
        ("sets/NoSuchSet/serve", {}, 404),
    ],
)
async def test_what_cannot_be_done_is_said(database_url: str, path: str, body: Any, status: int) -> None:
    async with world(database_url) as place:
        answer = await api(place, path, body)
        assert answer.status == status, answer.text
        assert answer.json()["error"]


async def test_upstream_wins(database_url: str) -> None:
    async with world(database_url) as place:
        conflict = await set_back(place)
        shown = (await api(place, f"conflicts/{conflict}")).json()
        assert shown["seen"]["document"]["Name"] == "Restored"
        assert shown["held"]["modified_on"] > shown["seen"]["modified_on"]
        differing = {one["property"]: one for one in shown["differences"]}
        assert differing["Name"]["after"] == "Restored"
        answer = await api(place, f"conflicts/{conflict}/resolve", {"winner": "upstream"})
        assert answer.status == 200, answer.text
        assert (await place.ask(f"/{key_of(place)}")).json()["d"]["Name"] == "Restored"
        assert (await api(place, "conflicts")).json() == {"conflicts": []}
        *_, last = await history(place)
        assert last["source"] == "settlement"
        again = await api(place, f"conflicts/{conflict}/resolve", {"winner": "upstream"})
        assert again.status == 409


async def test_the_mirror_wins(database_url: str) -> None:
    async with world(database_url) as place:
        name = upstream(place)["Name"]
        conflict = await set_back(place)
        answer = await api(place, f"conflicts/{conflict}/resolve", {"winner": "mirror"})
        assert (answer.status, answer.json()["changed"]) == (200, ["Name"])
        assert upstream(place)["Name"] == name
        read = await place.ask(f"/{key_of(place)}")
        assert (read.status, read.json()["d"]["Name"]) == (200, name)
        *_, last = await history(place)
        assert last["source"] == "client write"
        assert (await api(place, "conflicts")).json() == {"conflicts": []}


async def test_the_way_out_of_a_restored_upstream(database_url: str) -> None:
    async with world(database_url, sync__conflict_trip=2) as place:
        for number in (0, 1):
            await set_back(place, number)
        organisation = place.sandbox.organisation
        key = organisation.keys("AccountSet")[2]
        await place.ask(f"/{key_of(place, 2)}")
        stamp = upstream(place, 2)["ModifiedOn"]
        organisation.change("AccountSet", key, {"Name": "R"}, modified_on=stamp - timedelta(days=1))
        for _ in range(2):
            assert (await place.ask(f"/{key_of(place, 2)}")).status == 200
        samples = place.proxy.metrics.registry.get_sample_value
        assert samples("syncpoint_sets_forwarded_total", {"entity_set": "AccountSet"}) == 1
        shown = (await api(place, "sets/AccountSet")).json()
        assert "restored" in shown["forward_reason"]
        assert (shown["open_conflicts"], shown["mode"]) == (3, "checked")
        assert [step["do"] for step in shown["way_out"] if "do" in step] == [
            "POST /api/sets/AccountSet/conflicts/resolve",
            "syncpoint verify AccountSet --repair",
            "POST /api/sets/AccountSet/serve",
        ]
        assert (await api(place, "sets/AccountSet/serve", {})).status == 409
        resolved = await api(place, "sets/AccountSet/conflicts/resolve", {"winner": "upstream"})
        assert len(resolved.json()["resolved"]) == 3
        assert (await api(place, "sets/AccountSet/serve", {})).status == 200
        assert (await api(place, "sets/AccountSet")).json()["way_out"] is None
        await place.ask(f"/{key_of(place)}")
        assert (await place.ask(f"/{key_of(place)}")).cache == "syncpoint; hit; detail=checked"


async def test_writes_without_an_end_are_listed(database_url: str) -> None:
    async with world(database_url) as place:
        await place.ask(f"/{key_of(place)}")
        query(
            database_url,
            "INSERT INTO syncpoint.intents (method, entity_set, entity_key, touched, body, content_type,"
            " source, request_id, opened_at, fetch_number, closed_at, outcome)"
            " SELECT 'MergeEntity', 'AccountSet', 'k', '[]', '', '', 'client write', 'r', now(), 1,"
            " CASE WHEN ended IS NOT NULL THEN now() END, ended"
            " FROM unnest(ARRAY[NULL, 'undetermined', 'applied']) ended",
        )
        found = (await api(place, "intents")).json()["intents"]
        assert [shown["outcome"] for shown in found] == ["open", "undetermined"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example:8011", "Host": "evil.example:8011"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://localhost:8011", "Host": "localhost:8011"}, 200),
    ],
)
async def test_pages_of_others_change_nothing(
    database_url: str, headers: dict[str, str], status: int
) -> None:
    async with world(database_url) as place:
        await place.ask(f"/{key_of(place)}")
        before = len(revisions(database_url))
        answer = await api(place, "sets/AccountSet/serve", {}, **headers)
        assert answer.status == status
        assert len(revisions(database_url)) == before
        is_rebound = "evil" in headers.get("Host", "")
        assert (await api(place, "sets", **headers)).status == (403 if is_rebound else 200)


async def test_what_follows_writes_is_offered_as_a_declaration(database_url: str) -> None:
    async with world(database_url) as place:
        path = f"/{key_of(place)}"
        await place.ask(path)
        await place.merge(path, '{"Name":"One"}')
        await place.idle()
        query(
            database_url,
            """INSERT INTO syncpoint.revisions
                (entity_set, entity_key, fetch_number, source, request_id, effective_at)
            SELECT found.entity_set, format('guid%%L', found.id), 1, 'poll', '', effective_at + after
            FROM syncpoint.revisions written, mirror."AccountSet", LATERAL (VALUES
                ('CustomerAddressSet', "Address1_AddressId", interval '1 second'),
                ('TaskSet', gen_random_uuid(), interval '1 second'),
                ('LetterSet', gen_random_uuid(), interval '1 minute')) found (entity_set, id, after)
            WHERE written.source = 'client write'""",
        )
        effects = {shown["changed_set"]: shown for shown in (await api(place, "effects")).json()["effects"]}
        assert effects.keys() == {"CustomerAddressSet", "TaskSet"}
        address = effects["CustomerAddressSet"]
        assert (address["entity_set"], address["operation"]) == ("AccountSet", "MergeEntity")
        assert (address["times"], address["named"], address["via"]) == (1, 1, ["Address1_AddressId"])
        assert address["declaration"] == (
            '[sets.AccountSet]\neffects = [{ set = "CustomerAddressSet", via = ["Address1_AddressId"] }]'
        )
        assert (effects["TaskSet"]["named"], effects["TaskSet"]["declaration"]) == (0, None)
