"""One Postgres for the whole run, and a database of its own for every test that asks.

The server is started by the first test that needs it, is shared by all pytest-xdist workers, and ends with
the last of them. `SYNCPOINT_TEST_DATABASE_URL` names another server to use; its user must be allowed to
create databases and roles. Databases are clones of a migrated template.

Tests connect as a role that may do nothing but what the owner of a database may: what passes here needs no
superuser.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
import pytest
import storing
from psycopg2.sql import SQL, Identifier
from sqlalchemy import make_url

from proxy.store import EmbeddedPostgres, PostgresStore

_BASE = Path(tempfile.gettempdir()) / f"syncpoint-tests-{os.getuid()}"
_EXTERNAL = os.environ.get("SYNCPOINT_TEST_DATABASE_URL", "")
_RUN = pytest.StashKey[str]()
_UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
}
_numbers = itertools.count(1)
OWNER = "syncpoint_tests"
_OWNER_PASSWORD = "only_for_tests"


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    config.stash[_RUN] = worker["syncpoint_run"] if worker else str(os.getpid())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["syncpoint_run"] = node.config.stash[_RUN]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The controller outlives its workers, and clears up: also what runs that were killed have left."""
    if hasattr(config, "workerinput") or not _BASE.exists():
        return
    run = config.stash[_RUN]
    if _EXTERNAL and (_BASE / run).exists():
        _external(run).execute("DROP DATABASE IF EXISTS {}", f"syncpoint_template_{run}")
    for folder in _BASE.iterdir():
        if folder.name == run or not psutil.pid_exists(int(folder.name)):
            cluster = (folder / "postgres").resolve()
            if (cluster / "postmaster.pid").exists():
                EmbeddedPostgres.start(folder).stop()
            for path in (cluster, folder):
                shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Databases:
    """A server's databases. `url_of` gives the URL of one."""

    run: str
    folder: Path
    url_of: Callable[[str], str]

    def execute(self, statement: str, *names: str) -> None:
        with closing(psycopg2.connect(self.url_of("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(SQL(statement).format(*map(Identifier, names)))

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        """The URL of a new database, which is gone afterwards."""
        name = f"syncpoint_test_{self.run}_{os.getpid()}_{next(_numbers)}"
        self.execute("CREATE DATABASE {} TEMPLATE {} OWNER {}", name, template, OWNER)
        try:
            yield self.owned(name)
        finally:
            self.execute("DROP DATABASE {} WITH (FORCE)", name)

    def owned(self, name: str) -> str:
        """The URL of a database, as its owner."""
        url = make_url(self.url_of(name)).set(username=OWNER, password=_OWNER_PASSWORD)
        return url.render_as_string(hide_password=False)

    def make_owner(self) -> None:
        with suppress(psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
            self.execute(
                "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                f" PASSWORD '{_OWNER_PASSWORD}'",
                OWNER,
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        with (self.folder / "tests.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _external(run: str) -> Databases:
    parts = urlsplit(_EXTERNAL)
    return Databases(run, _BASE / run, lambda name: urlunsplit(parts._replace(path=f"/{name}")))


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    run = request.config.stash[_RUN]
    folder = _BASE / run
    folder.mkdir(parents=True, exist_ok=True)
    for path in (_BASE, folder):
        path.chmod(0o755)  # for root: the server's user must get there
    if _EXTERNAL:
        found = _external(run)
        found.make_owner()
        yield found
        return
    server = EmbeddedPostgres.start(folder, configuration=_UNSAFE_BUT_FAST)
    try:
        found = Databases(run, folder, server.url)
        found.make_owner()
        yield found
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template(databases: Databases) -> str:
    """The name of a migrated database without connections, for clones of it."""
    name = f"syncpoint_template_{databases.run}"
    with databases.lock(), suppress(psycopg2.errors.DuplicateDatabase):
        databases.execute("CREATE DATABASE {} TEMPLATE template0 OWNER {}", name, OWNER)
        with ThreadPoolExecutor(1) as thread:  # no event loop of the tests' may be in the way
            thread.submit(asyncio.run, _migrated(databases.owned(name))).result()
    return name


async def _migrated(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.close()


@pytest.fixture
def database_url(databases: Databases, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database of the test's own."""
    with databases.database(template) as url:
        yield url


@pytest.fixture
def blank_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database that nothing has been done to."""
    with databases.database("template0") as url:
        yield url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    """A store on a database of its own, with the sets of `storing`."""
    made = PostgresStore(database_url, storing.MODEL)
    yield made
    await made.close()
