"""A whole organisation's metadata: every set mirrored, and read back as upstream says it."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.sql import SQL, Identifier
from world import Answer, World, world

from proxy.odata.csdl import parse_metadata

DOCUMENT = Path(__file__).resolve().parents[3] / "shared" / "cdms" / "metadata.xml"
AT_A_TIME = 6
UPDATED = re.compile(r"<updated>[^<]*</updated>")


async def everywhere(work, names: list[str]) -> None:
    """Do `work(name)` for every name, a few at a time; failures of all sets are told together."""
    gate = asyncio.Semaphore(AT_A_TIME)
    failures: list[str] = []

    async def one(name: str) -> None:
        async with gate:
            try:
                await work(name)
            except AssertionError as error:
                failures.append(f"{name}: {str(error)[:300]}")

    await asyncio.gather(*(one(name) for name in names))
    assert not failures, f"{len(failures)} sets:\n" + "\n".join(failures[:20])


def has_stamp(rows: list[dict]) -> bool:
    """Whether the mirror may answer for these rows: each shows when, or how often, it was changed."""
    return all(row.get("VersionNumber") or row.get("ModifiedOn") for row in rows)


class Reading:
    """Reads every set of a world, direct and through the proxy, and holds the two against each other."""

    def __init__(self, place: World, metadata: bytes) -> None:
        self.place = place
        self.names = list(parse_metadata(metadata).entity_sets)
        self.directly: dict[tuple[str, str], Answer] = {}
        self.from_mirror = 0
        self.atom_from_mirror = 0

    async def same(self, path: str, accept: str) -> Answer:
        direct = self.directly.get((path, accept))
        if direct is None:
            direct = await self.place.ask(path, direct=True, Accept=accept)
            self.directly[path, accept] = direct
        answer = await self.place.ask(path, Accept=accept)
        assert answer.status == direct.status == 200, path
        assert answer.headers["Content-Type"] == direct.headers["Content-Type"], path
        expected = UPDATED.sub("", self.place.rooted(direct.text))
        # Compared as truth first: pytest's diff of two long lines takes longer than all the reading.
        equal = UPDATED.sub("", answer.text) == expected
        assert equal, f"{path} as {accept}: {answer.cache}"
        return answer

    async def cold(self, name: str) -> None:
        assert (await self.same(f"/{name}", "application/json")).json()["d"]["results"], "no rows"

    async def warm(self, name: str) -> None:
        page = await self.same(f"/{name}", "application/json")
        if has_stamp(page.json()["d"]["results"]):
            assert page.cache == "syncpoint; hit; detail=checked", page.cache
            self.from_mirror += 1

    async def one(self, name: str) -> None:
        key = self.place.a_key(name, -1)
        path = f"/{name}(guid'{key}')"
        entity = await self.same(path, "application/json")
        if has_stamp([entity.json()["d"]]):
            assert entity.cache == "syncpoint; hit; detail=checked", entity.cache
        await self.same(path, "application/atom+xml")

    async def atom(self, name: str) -> None:
        page = await self.same(f"/{name}", "application/atom+xml")
        self.atom_from_mirror += page.cache == "syncpoint; hit; detail=checked"

    async def all(self, work) -> None:
        await everywhere(work, self.names)
        await self.place.idle()


@pytest.mark.skipif(not DOCUMENT.exists(), reason="its metadata is not beside the project")
async def test_every_set_is_mirrored_and_read_back_as_upstream_says_it(database_url) -> None:
    metadata = DOCUMENT.read_bytes()
    async with world(database_url, metadata=metadata, rows=20) as place:
        reading = Reading(place, metadata)
        assert len(reading.names) == 374
        await reading.all(reading.cold)
        await reading.all(reading.warm)
        await reading.all(reading.one)
        await reading.all(reading.atom)
        # From here on what upstream wrote is known, and pages of most sets are written by the proxy.
        await reading.all(reading.atom)
        assert reading.from_mirror > 300
        assert reading.atom_from_mirror > 150


# Postgres cuts identifiers at 63 bytes; these differ behind that only, and one holds characters of two bytes.
LONG = "optevia_" + "theorganisationsveryownwordforwhatothersmerelycallthing" * 2
ACCENTED = "optevia_" + "é" * 60
LOOKUP = "optevia_" + "regardingwhatwasagreedwiththepartnersabroadatthetime" * 2 + "Id"


def long_names() -> bytes:
    def kind(name: str) -> str:
        properties = [
            (f"{name}Id", "Edm.Guid"),
            *((f"{LONG}{part}", "Edm.String") for part in ("First", "Second")),
            (ACCENTED, "Edm.Int32"),
            *((f"{LOOKUP}{part}", "Crm.EntityReference") for part in ("", "Type")),
            (f"{LOOKUP}Amount", "Crm.Money"),
            ("ModifiedOn", "Edm.DateTime"),
            ("VersionNumber", "Edm.Int64"),
        ]
        declared = "".join(
            f'<Property Name="{p}" Type="{t}" Nullable="{"true" if t.startswith("Edm") else "false"}"/>'
            for p, t in properties
        )
        key = f'<Key><PropertyRef Name="{name}Id"/></Key>'
        return f'<EntityType Name="{name}">{key}{declared}</EntityType>'

    names = [f"{LONG}One", f"{LONG}Two"]
    sets = "".join(f'<EntitySet Name="{name}Set" EntityType="Crm.{name}"/>' for name in names)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"><edmx:DataServices>
<Schema Namespace="Crm" xmlns="http://schemas.microsoft.com/ado/2007/05/edm">{"".join(map(kind, names))}
<ComplexType Name="EntityReference"><Property Name="Id" Type="Edm.Guid"/>
<Property Name="LogicalName" Type="Edm.String"/><Property Name="Name" Type="Edm.String"/></ComplexType>
<ComplexType Name="Money"><Property Name="Value" Type="Edm.Decimal"/></ComplexType>
<EntityContainer Name="Context">{sets}</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>""".encode()


async def test_names_that_postgres_would_cut_are_kept_apart(database_url) -> None:
    metadata = long_names()
    async with world(database_url, metadata=metadata, rows=20) as place:
        reading = Reading(place, metadata)
        assert len({name.encode()[:63] for name in reading.names}) == 1
        for work in (reading.cold, reading.warm, reading.one, reading.atom):
            await reading.all(work)
        assert reading.from_mirror == len(reading.names) == 2
        # One entity, written through the proxy: each value comes back under its own name.
        name, other = reading.names
        path = f"/{name}(guid'{place.a_key(name)}')"
        values = {f"{LONG}First": "one", f"{LONG}Second": "two", ACCENTED: 3}
        assert (await place.merge(path, json.dumps(values))).status == 204
        seen = (await place.ask(path)).json()["d"]
        assert {name: seen[name] for name in values} == values
        assert (await place.ask(f"/{other}(guid'{place.a_key(other)}')")).status == 200
        assert stored(database_url, name, place.a_key(name), list(values)) == list(values.values())


def stored(database_url: str, entity_set: str, key: str, paths: list[str]) -> list[Any]:
    """The values of one row's columns, as SQL shows them."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT path, name FROM syncpoint.names WHERE entity_set = %s", (entity_set,))
        names = {path: Identifier(name) for path, name in cursor.fetchall()}
        columns = SQL(", ").join(names[path] for path in paths)
        statement = SQL("SELECT {} FROM {}.{} WHERE {} = %s").format(
            columns, Identifier("mirror"), names[""], names[entity_set.removesuffix("Set") + "Id"]
        )
        cursor.execute(statement, (key,))
        return list(cursor.fetchone() or ())
