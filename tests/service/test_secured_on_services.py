"""Secured properties on the services listener: nothing of them is stored, and nobody sees them (rule 8)."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from storing import tables_with
from world import Answer, World, world

from proxy.reconcile.policy import Policy
from proxy.sandbox import Switches

USERS = {"CRM\\ada": "Lovelace1", "CRM\\svc": "Service1"}
ADA = "Basic " + base64.b64encode(b"CRM\\ada:Lovelace1").decode()
SVC = "Basic " + base64.b64encode(b"CRM\\svc:Service1").decode()
SECRET = "555-0142-secret"
MODELS: dict[str, Any] = {
    "Organisation": {
        "set": "AccountSet",
        "properties": {
            "name": {"kind": "string", "of": "Name"},
            "fax": {"kind": "string", "of": "Fax"},
        },
    }
}
SETTINGS: dict[str, Any] = {
    "upstream__auth__mode": "caller",
    "defaults__secured": [],
    "sets.AccountSet.secured": ["Fax"],
    "models": MODELS,
}
BY_LOGIN = {
    "upstream__service__mode": "basic",
    "upstream__service__user": "CRM\\svc",
    "upstream__service__password": USERS["CRM\\svc"],
}
BY_HEADERS = {"upstream__service__headers": {"Authorization": SVC}}


@asynccontextmanager
async def held(database_url: str, **settings: Any) -> AsyncIterator[tuple[World, str]]:
    """A world whose mirror holds an account with a secret in it, and the account's path."""
    switches = Switches(auth="basic", users=USERS, count="serve", batch="serve")
    async with world(database_url, switches=switches, rows=2, **SETTINGS, **settings) as place:
        key = place.a_key("AccountSet")
        place.sandbox.organisation.change("AccountSet", uuid.UUID(key), {"Fax": SECRET, "Name": "Known"})
        path = f"/AccountSet(guid'{key}')"
        if place.proxy.metadata.model is None:
            await place.ask("/", Authorization=ADA)
        shown = await place.ask(path, Authorization=ADA)
        assert shown.json()["d"]["Fax"] == SECRET
        await place.merge(path, f'{{"Fax":"{SECRET}","Name":"Known as well"}}', Authorization=ADA)
        await place.ask("/AccountSet", Authorization=ADA)
        await place.idle()
        yield place, path


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize("identity", [{}, BY_LOGIN, BY_HEADERS], ids=["none", "login", "headers"])
async def test_no_route_shows_what_is_secured(
    database_url: str, accept: str, identity: dict[str, Any]
) -> None:
    async with held(database_url, **identity) as (place, path):
        services = place.proxy.services_url
        key = path.partition("'")[2].partition("'")[0]
        urls = [
            *(
                f"/mirror{read}"
                for read in (
                    path,
                    f"{path}?$select=Fax",
                    f"{path}/Fax",
                    "/AccountSet",
                    "/AccountSet?$orderby=Fax",
                    "/AccountSet?$filter=startswith(Fax,'5')",
                    "/ContactSet?$expand=contact_customer_accounts",
                )
            ),
            f"/model/Organisation(guid'{key}')",
            "/model/Organisation",
            "/changes?cursor=start",
            f"/api/entities{path}/revisions",
        ]
        answers = [await place.send(f"{services}{url}", headers={"Accept": accept}) for url in urls]
        for url, answer in zip(urls, answers, strict=True):
            assert SECRET not in answer.text, url
        assert "Known as well" in answers[0].text
        assert (await place.mirror(f"{path}/Fax")).json()["d"] == {"Fax": None}
        assert (await place.mirror("/AccountSet/$count?$filter=Fax%20ne%20null", Accept="*/*")).status == 403
        assert not await tables_with(database_url, SECRET)


async def model(place: World, path: str, method: str = "GET", body: Any = None) -> Answer:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    return await place.send(f"{place.proxy.services_url}/model{path}", method, headers, sent)


@pytest.mark.parametrize("identity", [BY_LOGIN, BY_HEADERS], ids=["login", "headers"])
async def test_models_are_read_and_written_as_the_proxy_itself(
    database_url: str, identity: dict[str, Any]
) -> None:
    async with held(database_url, **identity) as (place, path):
        place.clear()
        key = path.partition("(")[2]
        shown = await model(place, f"/Organisation({key}")
        assert (shown.status, shown.json()["d"]["fax"]) == (200, None)
        made = await model(place, "/Organisation", "POST", {"name": "Made", "fax": SECRET})
        assert (made.status, made.json()["d"]["name"], made.json()["d"]["fax"]) == (201, "Made", None)
        assert (await model(place, f"/Organisation({key}", "MERGE", {"name": "Merged"})).status == 204
        assert {entry.user for entry in place.sandbox.journal if entry.status != 401} == {"CRM\\svc"}
        stored = place.sandbox.organisation.entity("AccountSet", uuid.UUID(made.json()["d"]["id"]))
        assert stored["Fax"] == SECRET
        assert await place.proxy.store.open_intents() == []
        assert not await tables_with(database_url, SECRET)


async def test_models_without_an_identity_show_what_upstream_tells_a_stranger(database_url: str) -> None:
    async with held(database_url) as (place, path):
        key = path.partition("(")[2]
        assert (await model(place, f"/Organisation({key}")).status == 401
        assert (await model(place, "/Organisation", "POST", {"name": "Made"})).status == 401


async def test_what_was_stored_before_it_was_stated_is_shown_no_more(database_url: str) -> None:
    """Nothing is stored anew: rows, history and feed still hold it, until somebody scrubs them."""
    async with world(database_url, rows=2, models=MODELS) as place:
        key = place.a_key("AccountSet")
        name = f"AccountSet(guid'{key}')"
        place.sandbox.organisation.change("AccountSet", uuid.UUID(key), {"Fax": "before"})
        await place.ask(f"/{name}")
        await place.merge(f"/{name}", f'{{"Fax":"{SECRET}","Name":"Known"}}')
        await place.ask("/AccountSet")
        await place.idle()
        services = place.proxy.services_url

        async def answer(url: str) -> Answer:
            return await place.send(services + url, headers={"Accept": "application/json"})

        found = (await answer(f"/api/entities/{name}/revisions")).json()["revisions"]
        to, before = (each["id"] for each in found[:2])
        then = f"asof={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        asking = [
            f"/mirror/AccountSet?$filter=Fax%20eq%20'{SECRET}'",
            f"/mirror/AccountSet?$filter=Fax%20eq%20'{SECRET}'&{then}",
            "/mirror/AccountSet?$orderby=Fax",
            f"/model/Organisation?$filter=fax%20eq%20'{SECRET}'",
        ]
        shown = [
            f"/mirror/{name}",
            f"/mirror/{name}/Fax",
            f"/mirror/{name}?$select=Fax",
            f"/mirror/{name}?{then}",
            f"/mirror/AccountSet?{then}",
            "/mirror/AccountSet",
            "/model/Organisation",
            "/changes",
            f"/api/entities/{name}/revisions/{to}",
            f"/api/entities/{name}/diff?from={before}&to={to}",
            f"/console/diff?name={name}&from={before}&to={to}",
            # Comes from upstream, and is stored anew without it.
            f"/model/Organisation(guid'{key}')",
        ]
        for url in asking:
            assert (await answer(url)).status == 200, url
        for url in shown:
            assert SECRET in (await answer(url)).text, url

        sets = place.proxy.service.sets
        sets.policies = replace(sets.policies, by_set={"AccountSet": Policy(secured=frozenset({"Fax"}))})
        for url in asking:
            assert (await answer(url)).status == 403, url
        for url in shown:
            told = await answer(url)
            assert (told.status, SECRET in told.text) == (200, False), url
        assert "Known" in (await answer(shown[0])).text
        assert await tables_with(database_url, SECRET)
