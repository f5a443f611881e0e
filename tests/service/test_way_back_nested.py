"""The way back of what a client nested in what it made: upstream gets all of it, under the same keys."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from cutover import cut_over, loaded_world
from moving_sets import a_cutover, a_plan, trust_nothing
from storing import query
from world import World

from proxy.reconcile.way_back import WayBack
from proxy.sandbox import Switches


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    trust_nothing(monkeypatch)


async def back(place: World) -> None:
    cutover = a_cutover(place)
    model = cutover.model
    plan = a_plan(*model.entity_sets)
    assert await WayBack(place.proxy.store, model, cutover.alone, lambda _: None).move(plan) == []
    await place.proxy.service.sets.authorities.read()


async def rows(place: World, path: str) -> list[Any]:
    answer = await place.ask(path)
    assert answer.status == 200, answer.text
    shown = answer.json()["d"]
    return list(shown.get("results", [shown]))


@pytest.mark.parametrize("version_number", ["null", "rising"])
async def test_what_came_nested_reaches_upstream_too(database_url: str, version_number: Any) -> None:
    switches = Switches(version_number=version_number)
    async with loaded_world(database_url, switches, rows=5) as (place, _):
        await cut_over(place)
        body = {
            "Name": "Firm",
            "account_primary_contact": {"LastName": "First"},
            "contact_customer_accounts": [{"LastName": "Second"}, {"LastName": "Third"}],
        }
        posted = json.dumps(body).encode()
        answer = await place.ask("/AccountSet", "POST", body=posted, Content_Type="application/json")
        assert answer.status == 201, answer.text
        account = answer.json()["d"]["AccountId"]
        path = f"/AccountSet(guid'{account}')"
        first = await rows(place, f"{path}/account_primary_contact")
        others = await rows(place, f"{path}/contact_customer_accounts")
        assert len(others) == 2
        assert place.upstream_requests() == []
        await back(place)
        organisation = place.sandbox.organisation
        made = organisation.entity("AccountSet", uuid.UUID(account))
        assert made is not None
        assert str(made["PrimaryContactId"]["Id"]) == first[0]["ContactId"]
        tied = await place.ask(f"{path}/contact_customer_accounts", direct=True)
        keys = {each["ContactId"] for each in tied.json()["d"]["results"]}
        assert keys == {each["ContactId"] for each in others}
        for contact in (*first, *others):
            there = organisation.entity("ContactSet", uuid.UUID(contact["ContactId"]))
            assert there is not None
            assert there["LastName"] == contact["LastName"]
        for shown in (path, *(f"/ContactSet(guid'{each['ContactId']}')" for each in (*first, *others))):
            direct = await place.ask(shown, direct=True)
            assert (await place.ask(shown)).text == place.rooted(direct.text)
        assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(0,)]
