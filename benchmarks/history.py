"""As-of reads among a million revisions against plain mirror reads, in one run.

    python benchmarks/history.py [--revisions N] [DATABASE_URL]

Without a URL an embedded Postgres is started in a temporary folder. The database must be empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2

from proxy.odata.edm import EntityKey, EntitySet, EntityType, Model, Property
from proxy.reconcile.ports import Fetched, Provenance, Query, Source
from proxy.reconcile.stamp import Stamp
from proxy.store import EmbeddedPostgres, PostgresStore

PER_ENTITY = 20
READS = 2000
HALF_YEARS = 10
NAMES = [f"new_Property{number}" for number in range(200)]
TYPES = {"AccountId": "Edm.Guid", "ModifiedOn": "Edm.DateTime", **dict.fromkeys(NAMES, "Edm.String")}
ACCOUNT = EntityType(
    "Account", "Crm", ("AccountId",), {name: Property(name, type_) for name, type_ in TYPES.items()}, {}
)
ACCOUNTS = EntitySet("AccountSet", ACCOUNT)
MODEL = Model("Context", {ACCOUNT.qualified_name: ACCOUNT}, {}, {"AccountSet": ACCOUNTS})
BEGIN = datetime(2021, 7, 1, tzinfo=UTC)

# The history of every entity, its revisions spread over five years and as many partitions as that takes.
FILL = """
DO $$ BEGIN FOR h IN 0..%(half_years)s - 1 LOOP
    EXECUTE format(
        'CREATE TABLE syncpoint.%%I PARTITION OF syncpoint.revisions FOR VALUES FROM (%%L) TO (%%L)',
        'old_' || h, timestamptz '2021-07-01Z' + h * interval '6 months',
        timestamptz '2021-07-01Z' + (h + 1) * interval '6 months');
END LOOP; END $$;
INSERT INTO syncpoint.revisions (entity_set, entity_key, fetch_number, recorded_at, effective_at, source,
    request_id, document, gap)
SELECT entity_set, entity_key, 0, at, at, 'poll', '', document, true
FROM syncpoint.revisions, generate_series(1, %(each)s) number,
    LATERAL (SELECT timestamptz '2021-07-01Z' + (number - random()) * interval '94 days' AS at) moment
WHERE fetch_number > 0;
"""


def state(key: EntityKey, number: int) -> Fetched:
    values = {**dict(key), **{name: f"{name} of {number}" for name in NAMES}}
    document = json.dumps(values, default=str)
    stamp = Stamp(datetime(2026, 1, 1, 0, 0, 1), number + 1)
    return Fetched(key, document, values, stamp, document.encode()[:16], True, number + 1, BEGIN)


async def timed(
    keys: list[EntityKey], read: Callable[[EntityKey], Awaitable[object]], reads: int = READS
) -> list[float]:
    """Milliseconds of each read."""
    taken = []
    for key in random.choices(keys, k=reads):
        started = time.perf_counter()
        assert await read(key)
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def compare(url: str, revisions: int) -> None:
    store = PostgresStore(url, MODEL, statement_timeout_s=600)
    keys: list[EntityKey] = [(("AccountId", uuid.uuid4()),) for _ in range(revisions // PER_ENTITY)]
    for start in range(0, len(keys), 500):
        states = [state(key, number) for number, key in enumerate(keys[start : start + 500])]
        await store.put(ACCOUNTS, states, Provenance(Source.BACKFILL))
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FILL, {"half_years": HALF_YEARS, "each": PER_ENTITY - 1})
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("VACUUM ANALYZE")

    async def plain(key: EntityKey) -> object:
        return await store.get(ACCOUNTS, [key])

    def moment() -> datetime:
        return BEGIN + timedelta(days=random.uniform(100, 1780))

    async def as_of(key: EntityKey) -> object:
        return await store.at(moment()).get(ACCOUNTS, [key])

    async def page_as_of(_: EntityKey) -> object:
        return await store.at(moment()).find(Query(ACCOUNTS))

    await timed(keys, plain)
    base = statistics.median(await timed(keys, plain))
    for name, read in (("plain mirror read", plain), ("as-of read", as_of), ("as-of page of 50", page_as_of)):
        await timed(keys, read, 3)
        taken = statistics.median(await timed(keys, read, 20 if read is page_as_of else READS))
        print(f"{name:20} {taken:8.3f} ms  {taken / base:6.2f}")
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--revisions", type=int, default=1_000_000)
    parser.add_argument("database_url", nargs="?")
    arguments = parser.parse_args()
    if arguments.database_url:
        asyncio.run(compare(arguments.database_url, arguments.revisions))
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres.start(Path(folder), configuration={"fsync": "off"})
        try:
            asyncio.run(compare(server.url(), arguments.revisions))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
