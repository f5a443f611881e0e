"""What a set of a million rows costs while nothing happens to it, and when who made all of it is renamed.

    python benchmarks/following.py [--rows N]

The rows are put beside those that a load brought, by SQL; upstream is a sandbox that has not heard of them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2

from proxy.app.commands import working
from proxy.events import configure_logging
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.reconcile.backfill import Backfill
from proxy.reconcile.poller import Poller
from proxy.reconcile.ports import Source
from proxy.reconcile.service import Service
from proxy.sandbox import Sandbox
from proxy.settings import Settings
from proxy.store import EmbeddedPostgres

FILL = """
INSERT INTO mirror."AccountSet" ("AccountId", "Name", "CreatedBy_Id", document, digest, settled, fetch_number,
    fetched_at)
SELECT gen_random_uuid(), 'Account ' || number, %s, '{"Name":"Account"}', '\\x01', true,
    nextval('syncpoint.fetch_number'), now()
FROM generate_series(1, %s) number
"""


def sql(url: str, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []


async def reads(service: Service, entity_set: EntitySet, keys: Sequence[EntityKey]) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for key in keys:
        started = time.perf_counter()
        assert await service.store.get(entity_set, [key])
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def told(label: str, taken: Sequence[float]) -> None:
    p99 = statistics.quantiles(taken, n=100)[98]
    print(f"{label:38} {statistics.median(taken):8.2f} ms, p99 {p99:8.2f} ms, at most {max(taken):8.2f} ms")


async def idle(service: Service, model: Model, settings: Settings, sandbox: Sandbox) -> None:
    poller = Poller(service, settings.poll_rules())
    await poller.poll(model)
    sandbox.journal.clear()
    started = time.perf_counter()
    await poller.poll(model)
    took = (time.perf_counter() - started) * 1000
    asked = sum("/AccountSet" in entry.target for entry in sandbox.journal)
    print(f"poll: {took:.1f} ms, upstream requests for the idle set: {asked}")


async def rename(service: Service, model: Model, url: str, sandbox: Sandbox, user: UUID) -> None:
    accounts, users = model.entity_sets["AccountSet"], model.entity_sets["SystemUserSet"]
    rows = sql(url, 'SELECT "AccountId" FROM mirror."AccountSet" TABLESAMPLE SYSTEM (1) LIMIT 1000')
    keys: list[EntityKey] = [(("AccountId", UUID(key)),) for (key,) in rows]
    told("reads by key before", await reads(service, accounts, keys))
    sandbox.organisation.change("SystemUserSet", user, {"FullName": "Renamed"})
    ((before,),) = sql(url, "SELECT pg_current_wal_lsn()")
    started = time.perf_counter()
    reading = asyncio.create_task(reads(service, accounts, keys))
    await service.refresh(users, [(("SystemUserId", user),)], model, Source.POLL)
    took = (time.perf_counter() - started) * 1000
    told("while the user was renamed, and after", await reading)
    ((records,),) = sql(url, "SELECT count(*) FROM syncpoint.renames")
    ((size,),) = sql(url, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", before)
    held = await service.store.get(accounts, keys)
    stale = sum(not row.settled for row in held.values())
    print(f"rename: {took:.1f} ms, {records} stored record, {size} bytes of log")
    print(f"{stale} of {len(keys)} rows that show the old name are fetched again when next read")


async def run(url: str, rows: int) -> None:
    sandbox = Sandbox(rows=50)
    async with sandbox.serve() as root:
        overrides = {"upstream.service_root": root, "database_url": url, "log.level": "error"}
        settings = Settings.load(None, overrides)
        async with working(settings) as (service, model):
            names = ("AccountSet", "SystemUserSet")
            loaded = [model.entity_sets[name] for name in names]
            assert await Backfill(service, lambda step: None).run(loaded, model, at_once=2)
            ((user,),) = sql(url, 'SELECT "SystemUserId" FROM mirror."SystemUserSet" LIMIT 1')
            sql(url, FILL, user, rows)
            sql(url, 'VACUUM ANALYZE mirror."AccountSet"')
            await idle(service, model, settings, sandbox)
            await rename(service, model, url, sandbox, UUID(user))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    configure_logging("error", "auto")
    with tempfile.TemporaryDirectory(prefix="syncpoint-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres.start(Path(folder), configuration={"fsync": "off"})
        try:
            asyncio.run(run(server.url(), given.rows))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
