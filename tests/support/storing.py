"""A small model with every kind of set, and values for the store's tests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg2
from psycopg2.sql import SQL, Identifier

from proxy.odata.edm import ComplexType, EntityKey, EntitySet, EntityType, Model, Property
from proxy.reconcile.ports import Fetched, NewIntent, Provenance, Source, Touched
from proxy.reconcile.stamp import Stamp

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
REFRESH = Provenance(Source.UPSTREAM_REFRESH, "r-1", "someone", "10.0.0.1")
WRITE = Provenance(Source.CLIENT_WRITE, "w-1", "writer", "10.0.0.2")

LOOKUP = ComplexType(
    "EntityReference",
    "Crm",
    {
        name: Property(name, type_)
        for name, type_ in (("Id", "Edm.Guid"), ("LogicalName", "Edm.String"), ("Name", "Edm.String"))
    },
)
MONEY = ComplexType("Money", "Crm", {"Value": Property("Value", "Edm.Decimal")})


def an_entity_set(name: str, key: Sequence[str], properties: Mapping[str, str]) -> EntitySet:
    declared = {part: Property(part, type_, part not in key) for part, type_ in properties.items()}
    return EntitySet(name, EntityType(name, "Crm", tuple(key), declared, {}))


def a_model(*entity_sets: EntitySet) -> Model:
    return Model(
        "Context",
        {entity_set.entity_type.qualified_name: entity_set.entity_type for entity_set in entity_sets},
        {complex_type.qualified_name: complex_type for complex_type in (LOOKUP, MONEY)},
        {entity_set.name: entity_set for entity_set in entity_sets},
    )


ACCOUNTS = an_entity_set(
    "AccountSet",
    ["AccountId"],
    {
        "AccountId": "Edm.Guid",
        "Name": "Edm.String",
        "ModifiedOn": "Edm.DateTime",
        "VersionNumber": "Edm.Int64",
        "PrimaryContactId": "Crm.EntityReference",
        "CreditLimit": "Crm.Money",
    },
)
TASKS = an_entity_set("TaskSet", ["TaskId"], {"TaskId": "Edm.Guid", "Subject": "Edm.String"})
LINES = an_entity_set(
    "LineSet", ["Order", "Line"], {"Order": "Edm.String", "Line": "Edm.Int32", "Text": "Edm.String"}
)
MODEL = a_model(ACCOUNTS, TASKS, LINES)


def account(number: int) -> EntityKey:
    return (("AccountId", uuid.UUID(int=number)),)


def task(number: int) -> EntityKey:
    return (("TaskId", uuid.UUID(int=number)),)


def state(key: EntityKey, fetch_number: int, content: str = "", **changes: Any) -> Fetched:
    """A state of an entity whose content is `content`."""
    values = {**dict(key), "Name": content}
    made = Fetched(
        key=key,
        document=json.dumps(values, default=str),
        values=values,
        stamp=Stamp(datetime(2026, 1, 2, 3, 4, 5), fetch_number),
        digest=hashlib.blake2b(content.encode(), digest_size=16).digest(),
        settled=True,
        fetch_number=fetch_number,
        fetched_at=NOW,
    )
    return replace(made, **changes)


def an_intent(target: EntityKey | None, *touched: Touched, entity_set: EntitySet = ACCOUNTS) -> NewIntent:
    return NewIntent(
        method="MergeEntity",
        entity_set=entity_set,
        target=target,
        touched=touched,
        body=b'{"Name":"posted"}',
        content_type="application/json",
        before=b"before",
        provenance=WRITE,
        opened_at=NOW,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process is about to do."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def query(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the database says to somebody else."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def revisions(url: str, columns: str = "document") -> list[Any]:
    """One column of the history, or several, oldest first."""
    rows = query(url, f"SELECT {columns} FROM syncpoint.revisions ORDER BY id")
    return [row[0] if len(row) == 1 else row for row in rows]


async def tables_with(database_url: str, text: str) -> list[str]:
    """The tables of ours in which `text` stands anywhere, as text or as bytes."""
    return await asyncio.to_thread(_tables_with, database_url, text)


def _tables_with(database_url: str, text: str) -> list[str]:
    found = []
    with closing(psycopg2.connect(database_url)) as database, database.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        for schema, table in cursor.fetchall():
            query = SQL("SELECT 1 FROM {} AS r WHERE r::text LIKE %s OR r::text LIKE %s LIMIT 1")
            patterns = (f"%{text}%", f"%{text.encode().hex()}%")
            cursor.execute(query.format(Identifier(schema, table)), patterns)
            if cursor.fetchone():
                found.append(f"{schema}.{table}")
    return found
