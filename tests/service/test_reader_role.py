"""`config/reader_role.sql`: what a role of it can read, and what it cannot."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import pytest
from world import world

SCRIPT = (Path(__file__).parents[2] / "config" / "reader_role.sql").read_text()


def connect(url: str) -> Any:
    made = psycopg2.connect(url)
    made.autocommit = True
    return made


@pytest.mark.parametrize("by_administrator", [True, False])
async def test_it_reads_entities_and_nothing_else(
    database_url: str, databases: Any, by_administrator: bool
) -> None:
    """Whoever makes the role: nobody but an administrator may, and the grants are the proxy's own to give."""
    administrator_url = databases.url_of(urlsplit(database_url).path[1:])
    if not by_administrator:
        with closing(connect(administrator_url)) as made, suppress(psycopg2.errors.DuplicateObject):
            made.cursor().execute("CREATE ROLE syncpoint_reader NOLOGIN")
    url = administrator_url if by_administrator else database_url
    models = {"Organisation": {"set": "AccountSet", "properties": {"rank": {"kind": "integer"}}}}
    async with world(database_url, rows=3, models=models) as place:
        await place.ask("/AccountSet")
        await place.idle()
        with closing(connect(url)) as made:
            for _ in range(2):  # run again, it changes nothing
                made.cursor().execute(SCRIPT)
        await place.ask("/ContactSet")  # its table is made after the role
        await place.idle()
    with closing(connect(administrator_url)) as made:
        cursor = made.cursor()
        cursor.execute("SET ROLE syncpoint_reader")
        for table in ("AccountSet", "ContactSet"):
            cursor.execute(f'SELECT count("document") FROM mirror."{table}"')
            assert cursor.fetchone() == (3,)
        cursor.execute('SELECT count(id), count(rank) FROM model."Organisation"')
        assert cursor.fetchone() == (3, 0)
        for refused in (
            'DELETE FROM mirror."AccountSet"',
            'UPDATE mirror."AccountSet" SET "Name" = NULL',
            "CREATE TABLE mirror.own (id integer)",
            "SELECT body FROM syncpoint.intents",
            "SELECT kept FROM syncpoint.own_values",
            "SELECT user_name FROM syncpoint.revisions",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(refused)
