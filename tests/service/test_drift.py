"""A metadata document that changes while the proxy serves: noticed, recorded, followed, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from lifecycle import model_of
from storing import query, until
from world import World, world

from proxy.sandbox import Fault
from proxy.sandbox.metadata import small_document

ADDED = b'<Property Name="new_Colour" Type="Edm.String" Nullable="true"/>'
NAME = b'<Property Name="Name" '


def grown(document: bytes) -> bytes:
    """The document with one more property of Account."""
    at = document.index(b"<Property ", document.index(b'<EntityType Name="Account"'))
    return document[:at] + ADDED + document[at:]


def shrunk(document: bytes) -> bytes:
    """The document without Account's Fax."""
    start = document.index(b'<Property Name="Fax"', document.index(b'<EntityType Name="Account"'))
    return document[:start] + document[document.index(b">", start) + 1 :]


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


def serve_document(place: World, document: bytes | None) -> None:
    """From now on upstream's metadata document is this one; None: its own."""
    place.sandbox.faults.clear()
    if document is not None:
        headers = {"Content-Type": "application/xml"}
        fault = Fault("status", path="$metadata", times=999, status=200, body=document, headers=headers)
        place.sandbox.faults.add(fault)


async def colour(place: World, path: str, value: str) -> None:
    """The next answer for the entity shows the property that upstream has now."""
    raw = (await place.ask(path, direct=True)).json()
    raw["d"]["new_Colour"] = value
    headers = {"Content-Type": "application/json"}
    place.sandbox.faults.add(Fault("status", path=path, status=200, body=json.dumps(raw), headers=headers))


def versions(url: str) -> int:
    ((count,),) = query(url, "SELECT count(*) FROM syncpoint.metadata_versions")
    return int(count)


async def test_an_unknown_property_brings_the_new_document_and_its_column(
    place: World, database_url: str
) -> None:
    path, other = (f"/AccountSet(guid'{place.a_key('AccountSet', number)}')" for number in (0, 1))
    for some in (path, other):
        await place.ask(some)
    serve_document(place, grown(small_document()))
    await colour(place, path, "red")
    await place.ask(path, Cache_Control="no-cache")
    await until(lambda: versions(database_url) == 2)
    assert "new_Colour" in model_of(place).entity_sets["AccountSet"].entity_type.properties
    await colour(place, path, "green")
    answer = await place.ask(path)
    assert answer.json()["d"]["new_Colour"] == "green"
    held = query(
        database_url, """SELECT "new_Colour" FROM mirror."AccountSet" WHERE "new_Colour" IS NOT NULL"""
    )
    assert held == [("green",)]
    place.clear()
    await colour(place, other, "blue")
    place.clear()
    answer = await place.ask(other)
    assert answer.json()["d"]["new_Colour"] == "blue", "what was fetched by the old document is fetched again"
    assert place.upstream_requests() == [f"GET {other}"]


async def test_a_document_that_shrinks_keeps_what_was_mirrored(place: World, database_url: str) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    fax = (await place.ask(path)).json()["d"]["Fax"]
    serve_document(place, shrunk(small_document()))
    assert await place.proxy.metadata.load()
    assert versions(database_url) == 2
    await place.ask(path)
    assert query(database_url, 'SELECT "Fax" FROM mirror."AccountSet"') == [(fax,)]
    dropped = "SELECT path FROM syncpoint.names WHERE dropped_at IS NOT NULL"
    assert query(database_url, dropped) == [("Fax",)]
    serve_document(place, None)
    assert await place.proxy.metadata.load()
    place.clear()
    answer = await place.ask(path)
    assert answer.json()["d"]["Fax"] == fax
    assert query(database_url, dropped) == []


@pytest.mark.parametrize("document", [b"", b"<html/>", b"<edmx", small_document()[:5000]])
async def test_a_broken_document_changes_nothing(place: World, database_url: str, document: bytes) -> None:
    before = model_of(place)
    serve_document(place, document)
    assert not await place.proxy.metadata.load()
    assert model_of(place) is before
    assert versions(database_url) == 1


async def test_a_change_while_nobody_ran_is_noticed_at_the_start(database_url: str) -> None:
    async with world(database_url):
        pass
    async with world(database_url, metadata=grown(small_document())) as place:
        assert versions(database_url) == 2
        assert "new_Colour" in model_of(place).entity_sets["AccountSet"].entity_type.properties


async def test_the_document_is_read_again_on_a_schedule(database_url: str) -> None:
    async with world(database_url, background__metadata_every_s=0.05) as place:
        serve_document(place, grown(small_document()))
        await until(lambda: versions(database_url) == 2)
