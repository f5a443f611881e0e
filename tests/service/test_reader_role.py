"""`config/reader_role.sql`: what a role of it can read, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from world import world

SCRIPT = (Path(__file__).parents[2] / "config" / "reader_role.sql").read_text()


@pytest.fixture
def connection(database_url: str) -> Iterator[Any]:
    made = psycopg2.connect(database_url)
    made.autocommit = True
    yield made
    made.close()


async def test_it_reads_entities_and_nothing_else(database_url: str, connection: Any) -> None:
    async with world(database_url, rows=3) as place:
        await place.ask("/AccountSet")
        await place.idle()
        with connection.cursor() as cursor:
            for _ in range(2):  # run again, it changes nothing
                cursor.execute(SCRIPT)
        await place.ask("/ContactSet")  # its table is made after the role
        await place.idle()
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE syncpoint_reader")
        for table in ("AccountSet", "ContactSet"):
            cursor.execute(f'SELECT count("document") FROM mirror."{table}"')
            assert cursor.fetchone() == (3,)
        for refused in (
            'DELETE FROM mirror."AccountSet"',
            'UPDATE mirror."AccountSet" SET "Name" = NULL',
            "CREATE TABLE mirror.own (id integer)",
            "SELECT body FROM syncpoint.intents",
            "SELECT user_name FROM syncpoint.revisions",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(refused)
