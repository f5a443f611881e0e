"""The embedded server: its life, its leftovers, where it puts things; and the migrations."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from storing import query

from proxy.reconcile.ports import StoreUnavailable
from proxy.store import EmbeddedPostgres, EmbeddedPostgresError, PostgresStore, embedded

AS_ROOT = os.geteuid() == 0
FAST = {"fsync": "off"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may reach."""
    path = Path(tempfile.mkdtemp(prefix="syncpoint-"))
    path.chmod(0o755)
    yield path
    cluster = (path / "postgres").resolve()
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == cluster and process.ppid() in (1, os.getpid()):
                process.kill()
        except (psutil.Error, OSError):
            continue
    shutil.rmtree(path, ignore_errors=True)


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().splitlines()[0])


def answers(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def test_data_outlives_the_server(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder / "data", configuration=FAST)
    query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert not answers(server.url())
    server.stop()
    server = EmbeddedPostgres.start(folder / "data", configuration=FAST)
    assert query(server.url(), "SELECT answer FROM kept") == [(42,)]
    server.stop()


def test_it_listens_on_no_network_and_lets_nobody_else_in(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder, configuration={**FAST, "work_mem": "7MB"})
    assert query(server.url(), "SHOW listen_addresses") == [("",)]
    assert query(server.url(), "SHOW work_mem") == [("7MB",)]
    ((socket_dir,),) = query(server.url(), "SHOW unix_socket_directories")
    assert Path(socket_dir.strip('"')).stat().st_mode & 0o077 == 0
    assert query(server.url(), "SELECT lower('ÉA'), 'é' < 'f'") == [("éa", False)]
    server.stop()


def test_two_who_use_it_stop_it_once(folder: Path) -> None:
    first = EmbeddedPostgres.start(folder, configuration=FAST)
    second = EmbeddedPostgres.start(folder)
    assert first.url() == second.url()
    first.stop()
    assert answers(second.url())
    second.stop()
    assert not answers(second.url())


STARTER = """
import os, signal, sys
from pathlib import Path
from proxy.store import EmbeddedPostgres
EmbeddedPostgres.start(Path(sys.argv[1]), configuration={"fsync": "off"})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_server_of_a_killed_owner_is_taken_over(folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", STARTER, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    pid = server_pid(folder)
    server = EmbeddedPostgres.start(folder)
    assert server_pid(folder) == pid
    assert answers(server.url())
    server.stop()
    assert not answers(server.url())


def test_a_killed_server_is_started_again(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder)
    query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(server_pid(folder), signal.SIGKILL)
    again = EmbeddedPostgres.start(folder)
    assert query(again.url(), "SELECT answer FROM kept") == [(42,)]
    again.stop()
    assert answers(server.url())
    server.stop()


def test_a_server_that_hangs_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres.start(folder, configuration=FAST)
    pid = server_pid(folder)
    os.kill(pid, signal.SIGSTOP)

    end, patience = embedded._end, embedded._START_TIMEOUT_S

    def end_and_be_patient_again(process: psutil.Process | None) -> None:
        end(process)
        monkeypatch.setattr(embedded, "_START_TIMEOUT_S", patience)

    monkeypatch.setattr(embedded, "_end", end_and_be_patient_again)
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(embedded, "_STOP_TIMEOUT_S", 0.3)
    monkeypatch.setattr(embedded, "_CONNECT_TIMEOUT_S", 2)
    again = EmbeddedPostgres.start(folder, configuration=FAST)
    monkeypatch.setattr(embedded, "_STOP_TIMEOUT_S", 15.0)
    assert server_pid(folder) != pid
    assert answers(again.url())
    again.stop()
    server.stop()


def test_a_pid_that_is_somebody_elses_by_now_is_no_server(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder, configuration=FAST)
    pid_file = (folder / "postgres").resolve() / "postmaster.pid"
    text = pid_file.read_text()
    server.stop()
    pid_file.write_text(text.replace(text.splitlines()[0], str(os.getpid()), 1))
    server = EmbeddedPostgres.start(folder, configuration=FAST)
    assert answers(server.url())
    server.stop()


@pytest.mark.parametrize("name", ["x" * 120, "a,b", 'it\'s a "place" 100%'])
def test_any_folder_will_do(folder: Path, name: str) -> None:
    server = EmbeddedPostgres.start(folder / name, configuration=FAST)
    assert answers(server.url())
    server.stop()


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres.start(folder, configuration=FAST)
    assert answers(server.url())
    server.stop()


def test_data_of_another_version_is_left_alone(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match=r"Postgres 12.*restore"):
        EmbeddedPostgres.start(folder)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_parameter"):
        EmbeddedPostgres.start(folder, configuration={"no_such_parameter": "1"})


def test_a_folder_that_cannot_be_is_an_error_of_ours(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="file"):
        EmbeddedPostgres.start(folder / "file")


@pytest.mark.skipif(not AS_ROOT, reason="only root has a folder that the server's user cannot reach")
def test_a_private_folder_of_roots_stays_private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SYSTEM_DIR", folder / "system")
    private = folder / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres.start(private / "data", configuration=FAST)
    query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert private.stat().st_mode & 0o777 == 0o700
    link = private / "data" / "postgres"
    assert link.resolve().parent == folder / "system"
    server.stop()
    server = EmbeddedPostgres.start(private / "data", configuration=FAST)
    assert query(server.url(), "SELECT answer FROM kept") == [(42,)]
    server.stop()


@pytest.mark.skipif(not AS_ROOT, reason="only root has programs that the server's user cannot reach")
def test_programs_out_of_reach_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SYSTEM_DIR", folder / "system")
    reachable = embedded._is_open_to_all
    monkeypatch.setattr(
        embedded, "_is_open_to_all", lambda path: "pixeltable" not in str(path) and reachable(path)
    )
    server = EmbeddedPostgres.start(folder / "data", configuration=FAST)
    assert psutil.Process(server_pid(folder / "data")).exe().startswith(str(folder / "system"))
    server.stop()


# Migrations


async def test_a_blank_database_is_migrated_by_many_at_once(blank_database_url: str) -> None:
    stores = [PostgresStore(blank_database_url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    names = query(blank_database_url, "SELECT name FROM syncpoint.migrations ORDER BY name")
    assert names[0] == ("0001_mirror",)
    drawn = await asyncio.gather(*(store.next_fetch_number() for store in stores))
    assert len(set(drawn)) == len(stores)
    for store in stores:
        await store.close()


async def test_a_migrated_database_is_only_read(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as connection:
        connection.cursor().execute("LOCK TABLE syncpoint.migrations IN EXCLUSIVE MODE")
        store = PostgresStore(database_url, lock_timeout_s=0.1)
        await store.open()
        await store.close()


async def test_a_migration_that_fails_leaves_nothing_and_is_tried_again(blank_database_url: str) -> None:
    query(blank_database_url, "CREATE SCHEMA syncpoint CREATE TABLE conflicts (in_the_way int)")
    store = PostgresStore(blank_database_url)
    with pytest.raises(StoreUnavailable, match="conflicts"):
        await store.open()
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'syncpoint'::regnamespace"
    assert query(blank_database_url, left) == [("conflicts",)]
    query(blank_database_url, "DROP TABLE syncpoint.conflicts")
    assert await store.next_fetch_number() == 1
    await store.close()
