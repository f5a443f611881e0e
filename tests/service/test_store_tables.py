"""Tables made from the metadata document: every type, odd names, change, and the whole of CDMS."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from storing import ACCOUNTS, LOOKUP, MODEL, NOW, REFRESH, a_model, account, an_entity_set, query, state

from proxy.odata.csdl import parse_metadata
from proxy.odata.edm import EntitySet, Model
from proxy.reconcile.ports import StoreUnavailable
from proxy.store import PostgresStore
from proxy.store.columns import SQL_TYPES, typed_paths

CDMS = Path(__file__).parents[3] / "shared/cdms/metadata.xml"

VALUES: Mapping[str, list[Any]] = {
    "Edm.Binary": [b"", b"\x00\xff"],
    "Edm.Boolean": [True, False],
    "Edm.Byte": [0, 255],
    "Edm.DateTime": [datetime(1, 1, 1), datetime(1753, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)],
    "Edm.DateTimeOffset": [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)],
    "Edm.Decimal": [Decimal("-0.0001"), Decimal("9" * 28), Decimal("1.2500"), Decimal("1E-28")],
    "Edm.Double": [0.1, -5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
    "Edm.Guid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "Edm.Int16": [-(2**15), 2**15 - 1],
    "Edm.Int32": [-(2**31), 2**31 - 1],
    "Edm.Int64": [-(2**63), 2**63 - 1],
    "Edm.SByte": [-128, 127],
    "Edm.Single": [0.5, 0.10000000149011612, 1.401298464324817e-45, math.inf],
    "Edm.String": ["", "it's \"50%\" \\x \n Zoë 🚢 'quoted' %(rows)s", "x" * 100_000],
    "Edm.Time": [timedelta(0), timedelta(hours=23, microseconds=1), timedelta(days=-1)],
}


def columns(url: str, table: str) -> list[str]:
    statement = (
        "SELECT attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'mirror'::regnamespace AND relname = %s AND attnum > 0 ORDER BY attnum"
    )
    return [name for (name,) in query(url, statement, table)]


def typed_columns(url: str, table: str) -> list[str]:
    names = columns(url, table)
    return names[: names.index("document")]


async def test_every_type_is_held_as_itself(database_url: str) -> None:
    assert VALUES.keys() == SQL_TYPES.keys()
    names = {f"P{number}": type_ for number, type_ in enumerate(VALUES)}
    entity_set = an_entity_set("EverySet", ["K"], {"K": "Edm.Int32", **names})
    store = PostgresStore(database_url, a_model(entity_set))
    rows = []
    for key in range(max(map(len, VALUES.values()))):
        values = {name: VALUES[type_][key % len(VALUES[type_])] for name, type_ in names.items()}
        rows.append({"K": key, **values})
    rows.append({"K": len(rows), **dict.fromkeys(names)})
    await store.put(entity_set, [state((("K", row["K"]),), 1, values=row) for row in rows], REFRESH)
    listed = ", ".join(f'"{name}"' for name in rows[0])
    held = query(database_url, f'SELECT {listed} FROM mirror."EverySet" ORDER BY "K"')
    for row, found in zip(rows, held, strict=True):
        for (name, value), stored in zip(row.items(), found, strict=True):
            if names.get(name) == "Edm.Guid" and value is not None:
                assert uuid.UUID(stored) == value
            elif names.get(name) == "Edm.Single" and value is not None:
                assert stored == pytest.approx(value)
            elif isinstance(value, float) and math.isnan(value):
                assert math.isnan(stored)
            else:
                assert (bytes(stored) if isinstance(stored, memoryview) else stored) == value, name
    await store.close()


@pytest.mark.parametrize("edm_type", sorted(VALUES))
async def test_a_key_may_be_of_any_type(database_url: str, edm_type: str) -> None:
    values = [value for value in VALUES[edm_type] if not (isinstance(value, str) and len(value) > 1000)]
    for number, second in enumerate(({}, {"Second": "Edm.Int32"})):
        entity_set = an_entity_set(f"Set{number}", ["First", *second], {"First": edm_type, **second})
        store = PostgresStore(database_url, a_model(entity_set))
        keys = [(("First", value), *((name, 7) for name in second)) for value in values]
        written = await store.put(entity_set, [state(key, 1, values=dict(key)) for key in keys], REFRESH)
        assert len(written.stored) == len(keys)
        held = await store.get(entity_set, keys)
        assert [held[key].key for key in keys] == keys
        assert await store.bury(entity_set, keys[0], 2, REFRESH)
        await store.close()


async def test_complex_values_member_by_member(store: PostgresStore, database_url: str) -> None:
    contact = {"Id": uuid.UUID(int=7), "LogicalName": "contact", "Name": "Zoë"}
    values = {
        "AccountId": uuid.UUID(int=1),
        "PrimaryContactId": contact,
        "CreditLimit": {"Value": Decimal("1.50")},
    }
    await store.put(ACCOUNTS, [state(account(1), 1, values=values)], REFRESH)
    members = (
        "PrimaryContactId_Id",
        "PrimaryContactId_LogicalName",
        "PrimaryContactId_Name",
        "CreditLimit_Value",
    )
    listed = ", ".join(f'"{name}"' for name in members)
    assert query(database_url, f'SELECT {listed} FROM mirror."AccountSet"') == [
        (str(uuid.UUID(int=7)), "contact", "Zoë", Decimal("1.50"))
    ]
    gone = {"AccountId": uuid.UUID(int=1), "PrimaryContactId": dict.fromkeys(contact), "CreditLimit": None}
    await store.put(ACCOUNTS, [state(account(1), 2, "2", values=gone)], REFRESH)
    assert query(database_url, f'SELECT {listed} FROM mirror."AccountSet"') == [(None, None, None, None)]


async def test_what_a_typed_column_cannot_hold_is_replaced_there_and_nowhere_else(
    store: PostgresStore, database_url: str
) -> None:
    document = r'{"Name":"nul\u0000 lone\ud800 pair\ud83d\udea2 esc\\u0000"}'
    values = {"AccountId": uuid.UUID(int=1), "Name": "nul\x00 lone\ud800 pair🚢 esc\\u0000"}
    await store.put(ACCOUNTS, [state(account(1), 1, document=document, values=values)], REFRESH)
    assert (await store.get(ACCOUNTS, [account(1)]))[account(1)].document == document
    assert query(database_url, 'SELECT "Name" FROM mirror."AccountSet"') == [
        ("nul� lone� pair🚢 esc\\u0000",)
    ]
    assert query(database_url, "SELECT document FROM syncpoint.revisions") == [(document,)]


async def test_a_long_document_comes_back_byte_for_byte(store: PostgresStore) -> None:
    document = '{"Name":"' + "é🚢\\u00e9 '%s' " * 100_000 + '"}'
    await store.put(ACCOUNTS, [state(account(1), 1, document=document)], REFRESH)
    assert (await store.get(ACCOUNTS, [account(1)]))[account(1)].document == document


LONG = "optevia_averylongnamethatnobodywouldeverchoosebutcustomisersdoindeed"
ODD = an_entity_set(
    LONG + "Set",
    [LONG + "id"],
    {
        LONG + "id": "Edm.Guid",
        LONG + "_a": "Edm.String",
        LONG + "_b": "Edm.Int32",
        LONG + "reference": "Crm.EntityReference",
        "Owner": "Crm.EntityReference",
        "Owner_Id": "Edm.String",
        "document": "Edm.String",
        "digest": "Edm.Int32",
        "ctid": "Edm.String",
        "xmin": "Edm.Int32",
        "position": "Edm.Int32",
        "keys": "Edm.Int32",
        '50% "off"; DROP TABLE x --': "Edm.Int32",
        "é" * 40: "Edm.String",
    },
)


async def test_names_that_are_too_long_taken_or_odd(database_url: str) -> None:
    twin = an_entity_set(LONG + "Sex", ["K"], {"K": "Edm.Int32"})
    store = PostgresStore(database_url, a_model(ODD, twin))
    key = ((LONG + "id", uuid.UUID(int=3)),)
    values: dict[str, Any] = {
        LONG + "id": uuid.UUID(int=3),
        LONG + "_a": "long a",
        LONG + "_b": 2,
        LONG + "reference": {"Id": uuid.UUID(int=4), "LogicalName": "l", "Name": "n"},
        "Owner": {"Id": uuid.UUID(int=5), "LogicalName": "l", "Name": "n"},
        "Owner_Id": "property",
        "document": "property document",
        "digest": 6,
        "ctid": "property ctid",
        "xmin": 7,
        "position": 8,
        "keys": 9,
        '50% "off"; DROP TABLE x --': 10,
        "é" * 40: "umlaut",
    }
    await store.put(ODD, [state(key, 1, values=values)], REFRESH)
    await store.put(twin, [state((("K", 1),), 1, values={"K": 1})], REFRESH)
    assert (await store.get(ODD, [key]))[key].document == state(key, 1, values=values).document
    assert await store.count(twin, at_most=5) == 1

    names = {
        (entity_set, path): name
        for entity_set, path, name in query(
            database_url, "SELECT entity_set, path, name FROM syncpoint.names"
        )
    }
    table = names[ODD.name, ""]
    assert table != names[twin.name, ""]
    assert all(len(name.encode()) <= 63 for name in names.values())
    assert sorted(typed_columns(database_url, table)) == sorted(
        name for (entity_set, path), name in names.items() if entity_set == ODD.name and path
    )
    for path in typed_paths(ODD.entity_type, a_model(ODD)):
        quoted = '"' + names[ODD.name, path.path].replace('"', '""').replace("%", "%%") + '"'
        ((found,),) = query(database_url, f'SELECT {quoted}::text FROM mirror."{table}"')
        assert found == str(path.value(values)), path
    await store.close()


async def test_a_second_process_finds_the_names_that_the_first_chose(database_url: str) -> None:
    key = ((LONG + "id", uuid.UUID(int=3)),)
    first, second = (PostgresStore(database_url, a_model(ODD)) for _ in range(2))
    await first.put(ODD, [state(key, 1)], REFRESH)
    before = query(database_url, "SELECT * FROM syncpoint.names ORDER BY path")
    assert key in await second.get(ODD, [key])
    assert query(database_url, "SELECT * FROM syncpoint.names ORDER BY path") == before
    await first.close()
    await second.close()


async def test_many_make_the_same_tables_at_once(database_url: str) -> None:
    stores = [PostgresStore(database_url, MODEL) for _ in range(4)]
    sets = list(MODEL.entity_sets.values())
    counted = await asyncio.gather(*(store.count(some, at_most=1) for store in stores for some in sets * 2))
    assert set(counted) == {0}
    for store in stores:
        await store.close()
    assert query(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'mirror'") == [(3,)]


def changed(**properties: str) -> tuple[EntitySet, Model]:
    entity_set = an_entity_set("AccountSet", ["AccountId"], {"AccountId": "Edm.Guid", **properties})
    return entity_set, a_model(entity_set)


async def test_a_property_that_joins_one_that_leaves_and_one_that_turns(database_url: str) -> None:
    old_set, old = changed(Name="Edm.String", Size="Edm.Int32")
    store = PostgresStore(database_url, old)
    await store.put(
        old_set,
        [state(account(1), 1, values={"AccountId": uuid.UUID(int=1), "Name": "n", "Size": 5})],
        REFRESH,
    )

    new_set, new = changed(Size="Edm.String", Joined="Crm.EntityReference")
    store.use_model(new)
    values = {
        "AccountId": uuid.UUID(int=2),
        "Size": "big",
        "Joined": dict.fromkeys(LOOKUP.properties, None) | {"Name": "j"},
    }
    await store.put(new_set, [state(account(2), 2, values=values)], REFRESH)
    assert set(await store.get(new_set, [account(1), account(2)])) == {account(1), account(2)}

    names = query(
        database_url,
        "SELECT path, edm_type, name, dropped_at IS NOT NULL FROM syncpoint.names"
        " WHERE path <> '' ORDER BY path, edm_type",
    )
    second_size = next(
        name for path, edm_type, name, _ in names if (path, edm_type) == ("Size", "Edm.String")
    )
    assert names == [
        ("AccountId", "Edm.Guid", "AccountId", False),
        ("Joined/Id", "Edm.Guid", "Joined_Id", False),
        ("Joined/LogicalName", "Edm.String", "Joined_LogicalName", False),
        ("Joined/Name", "Edm.String", "Joined_Name", False),
        ("Name", "Edm.String", "Name", True),
        ("Size", "Edm.Int32", "Size", True),
        ("Size", "Edm.String", second_size, False),
    ]
    assert second_size.startswith("Size_")
    listed = f'"Name", "Size", "{second_size}", "Joined_Name"'
    assert query(database_url, f'SELECT {listed} FROM mirror."AccountSet" ORDER BY "AccountId"') == [
        ("n", 5, None, None),
        (None, None, "big", "j"),
    ]

    store.use_model(old)
    await store.put(
        old_set, [state(account(3), 3, values={"AccountId": uuid.UUID(int=3), "Name": "back"})], REFRESH
    )
    dropped = "SELECT path FROM syncpoint.names WHERE dropped_at IS NOT NULL ORDER BY path, edm_type"
    assert query(database_url, dropped) == [
        ("Joined/Id",),
        ("Joined/LogicalName",),
        ("Joined/Name",),
        ("Size",),
    ]
    await store.close()


async def test_the_same_document_parsed_again_changes_nothing(database_url: str) -> None:
    first_set, first = changed(Name="Edm.String")
    store = PostgresStore(database_url, first)
    await store.put(first_set, [state(account(1), 1)], REFRESH)
    before = query(database_url, "SELECT xmin::text, * FROM syncpoint.names ORDER BY path")
    second_set, second = changed(Name="Edm.String")
    store.use_model(second)
    assert account(1) in await store.get(second_set, [account(1)])
    assert account(1) in await store.get(first_set, [account(1)])
    assert query(database_url, "SELECT xmin::text, * FROM syncpoint.names ORDER BY path") == before
    await store.close()


async def test_a_set_without_a_key_that_can_be_held_is_none_of_the_mirrors(database_url: str) -> None:
    nameless = an_entity_set("NamelessSet", [], {"A": "Edm.Int32"})
    strange = an_entity_set("StrangeSet", ["A"], {"A": "Edm.Geography"})
    store = PostgresStore(database_url, a_model(nameless, strange))
    for entity_set in (nameless, strange):
        with pytest.raises(StoreUnavailable, match=entity_set.name):
            await store.count(entity_set, at_most=1)
    await store.close()


async def test_entities_need_a_metadata_document(database_url: str) -> None:
    store = PostgresStore(database_url)
    assert await store.latest_metadata() is None
    with pytest.raises(RuntimeError, match="use_model"):
        await store.get(ACCOUNTS, [account(1)])
    await store.close()


async def test_tables_and_columns_explain_themselves(store: PostgresStore, database_url: str) -> None:
    await store.count(ACCOUNTS, at_most=1)
    bare = query(
        database_url,
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'syncpoint'::regnamespace AND relkind = 'r' AND attnum > 0"
        " AND relname <> 'migrations' AND attname <> 'id' AND col_description(attrelid, attnum) IS NULL",
    )
    assert bare == []
    control = columns(database_url, "AccountSet")[len(typed_columns(database_url, "AccountSet")) :]
    assert query(
        database_url,
        "SELECT count(col_description('mirror.\"AccountSet\"'::regclass, attnum)) FROM pg_attribute"
        " WHERE attrelid = 'mirror.\"AccountSet\"'::regclass AND attnum > 0",
    ) == [(len(control),)]
    assert query(
        database_url,
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'mirror.\"AccountSet\"'::regclass"
        " AND attname = 'document'",
    ) == [("e",)]


@pytest.mark.slow
@pytest.mark.skipif(not CDMS.exists(), reason="the CDMS metadata document is not here")
async def test_all_sets_of_cdms(database_url: str) -> None:
    model = parse_metadata(CDMS.read_bytes())
    store = PostgresStore(database_url, model)
    for entity_set in model.entity_sets.values():
        (part,) = entity_set.entity_type.key
        key = ((part, uuid.UUID(int=1)),)
        await store.put(entity_set, [state(key, 1, values=dict(key))], REFRESH)
        assert (await store.get(entity_set, [key]))[key].fetched_at == NOW
    paths = sum(len(typed_paths(entity_set.entity_type, model)) for entity_set in model.entity_sets.values())
    assert query(
        database_url,
        "SELECT count(*) FILTER (WHERE path = ''), count(*) FILTER (WHERE path <> '') FROM syncpoint.names",
    ) == [(374, paths)]
    # Those names need no help.
    assert query(
        database_url,
        "SELECT count(*) FROM syncpoint.names WHERE path <> '' AND name <> replace(path, '/', '_')",
    ) == [(0,)]
    await store.close()
