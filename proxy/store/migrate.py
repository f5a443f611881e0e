"""The schema `syncpoint`, brought up to date: `migrations/NNNN_*.sql` in order, each once."""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Column, DateTime, MetaData, Table, Text, bindparam, cast, func, insert, select

from proxy.store.engine import Connection, compiled

# One lock for everything that changes the shape of the database.
SCHEMA_LOCK = 0x53594E43  # "SYNC"

_MIGRATIONS = Table(
    "migrations",
    MetaData(schema="syncpoint"),
    Column("name", Text, primary_key=True),
    Column("applied_at", DateTime(timezone=True)),
)
LOCK_SCHEMA = compiled(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
_FIND = compiled(select(cast(func.to_regclass("syncpoint.migrations"), Text)))
_APPLIED = compiled(select(_MIGRATIONS.c.name))
_RECORD = compiled(insert(_MIGRATIONS).values(name=bindparam("name"), applied_at=func.now()))
_BASE = """
CREATE SCHEMA IF NOT EXISTS syncpoint;
CREATE TABLE IF NOT EXISTS syncpoint.migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL);
COMMENT ON TABLE syncpoint.migrations IS 'Which migrations this database has seen, and when.';
"""


async def migrate(connection: Connection) -> None:
    """Apply what is missing, in one transaction; other processes wait for it and then find it done.

    A database that misses nothing is only read: the right to create is not needed then. Raises the
    driver's errors.
    """
    if not await _missing(connection):
        return
    await connection.script("BEGIN")
    # Long enough for another process' migrations; the session's limits are for single rows.
    await connection.script("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
    await connection.fetch(LOCK_SCHEMA)
    await connection.script(_BASE)
    for name, text in await _missing(connection):
        await connection.script(text)
        await connection.execute(_RECORD, {"name": name})
    await connection.script("COMMIT")


async def _missing(connection: Connection) -> list[tuple[str, str]]:
    ((table,),) = await connection.fetch(_FIND)
    applied = {name for (name,) in await connection.fetch(_APPLIED)} if table else set()
    return [(name, text) for name, text in _migrations() if name not in applied]


def _migrations() -> list[tuple[str, str]]:
    folder = resources.files("proxy.store") / "migrations"
    return sorted(
        (file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    )
