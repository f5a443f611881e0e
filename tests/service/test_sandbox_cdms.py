"""The sandbox with a metadata document the size of CDMS's: every set, in both formats."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree
from sandboxing import Served, served

from proxy.odata import verbose_json
from proxy.odata.csdl import parse_metadata

CDMS = Path(__file__).resolve().parents[3] / "shared" / "cdms" / "metadata.xml"
ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
def document() -> bytes:
    if not CDMS.exists():
        pytest.skip("the CDMS metadata document is not beside this checkout")
    return CDMS.read_bytes()


@pytest.fixture
async def world(document: bytes) -> AsyncIterator[Served]:
    async with served(20, document) as world:
        yield world


@pytest.mark.slow
async def test_every_set_is_served_in_both_formats(world: Served, document: bytes) -> None:
    model = parse_metadata(document)
    assert len(model.entity_sets) == 374
    for entity_set in model.entity_sets.values():
        json_reply = await world.get(f"/{entity_set.name}")
        atom_reply = await world.get(f"/{entity_set.name}", Accept="application/atom+xml")
        entities = json_reply.d["results"]
        entries = etree.fromstring(atom_reply.body).findall(f"{ATOM}entry")
        assert len(entities) == len(entries) == 20, entity_set.name
        assert [entity["__metadata"]["uri"] for entity in entities] == [
            entry.findtext(f"{ATOM}id") for entry in entries
        ]
        for entity in entities:
            values = verbose_json.parse_entity(entity, entity_set.entity_type, model)
            assert values.keys() == entity_set.entity_type.properties.keys()


async def test_records_can_be_created_and_deleted_in_any_set(world: Served, document: bytes) -> None:
    model = parse_metadata(document)
    refused = []
    for entity_set in model.entity_sets.values():
        reply = await world.send("POST", f"/{entity_set.name}", {})
        if reply.status != 201:
            refused.append(entity_set.name)
            continue
        own = reply.headers["Location"]
        assert (await world.get(own)).body == reply.body
        assert (await world.send("MERGE", own, {})).status == 204
        assert (await world.send("DELETE", own)).status == 204
    # Rows of many-to-many relationships, and an address without a parent.
    assert "CustomerAddressSet" in refused
    assert "TeamMembershipSet" in refused
    assert len(refused) < 30


async def test_related_records_are_found(world: Served) -> None:
    query = (
        "$expand=account_primary_contact,contact_customer_accounts,optevia_optevia_country_account_Country"
    )
    found = (await world.get(f"/AccountSet?{query}")).d["results"]
    assert any(entity["account_primary_contact"] for entity in found)
    assert any(entity["contact_customer_accounts"]["results"] for entity in found)
    countries = [entity["optevia_optevia_country_account_Country"] for entity in found]
    ids = [entity["optevia_Country"]["Id"] for entity in found]
    assert [country["optevia_countryId"] if country else None for country in countries] == ids
    assert any(ids)


async def test_the_same_document_gives_the_same_bytes(document: bytes) -> None:
    bodies = []
    for _ in range(2):
        async with served(5, document) as world:
            page = json.loads((await world.get("/detica_interactionSet")).text.replace(world.origin, ""))
            bodies.append(page)
    assert bodies[0] == bodies[1]
