"""The way to Postgres: statements compiled once, a pool, and transactions that end.

SQLAlchemy Core builds every statement, aiopg sends it; `aiopg.sa` does not work with SQLAlchemy 2. All
errors of the driver leave here as StoreUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from sqlalchemy.dialects.postgresql import psycopg2 as psycopg2_dialect
from sqlalchemy.sql import ClauseElement

from proxy.reconcile.ports import StoreUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]

DIALECT = psycopg2_dialect.dialect()  # type: ignore[no-untyped-call]
_ATTEMPTS = 4
# The session's statement is ended by Postgres; ours only ends the wait where Postgres is gone silent.
_CLIENT_GRACE_S = 5.0
_PREPARE_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled statement; what varies is bound by name when it is sent."""

    sql: str
    constants: Mapping[str, Any]


def compiled(clause: ClauseElement) -> Statement:
    """Compile once what is sent often: a wide upsert takes 15 ms, more than sending it."""
    statement = clause.compile(dialect=DIALECT)
    constants = {name: value for name, value in (statement.params or {}).items() if value is not None}
    return Statement(str(statement), constants)


class Connection:
    """A pooled connection in the hands of one task."""

    def __init__(self, connection: aiopg.Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> int:
        """Send a statement; the number of rows it changed."""
        async with self._sent(statement.sql, {**statement.constants, **(parameters or {})}) as cursor:
            return int(cursor.rowcount)

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Send a statement; all its rows."""
        async with self._sent(statement.sql, {**statement.constants, **(parameters or {})}) as cursor:
            rows: list[Row] = await cursor.fetchall()
            return rows

    async def script(self, text: str) -> None:
        """Send SQL of our own making as it stands; several statements if it likes."""
        async with self._sent(text, None):
            pass

    @property
    def is_closed(self) -> bool:
        return bool(self._connection.closed)

    async def close(self) -> None:
        await self._connection.close()

    @contextlib.asynccontextmanager
    async def _sent(self, sql: str, parameters: Mapping[str, Any] | None) -> AsyncIterator[Any]:
        async with self._connection.cursor(timeout=self._timeout_s) as cursor:
            await cursor.execute(sql, parameters)
            yield cursor


class Engine:
    """A pool that opens itself when first used, and again when Postgres comes back.

    `prepare` runs on the first connection before anything else does (migrations). `connect_timeout_s`
    bounds the wait for a connection, `lock_timeout_s` for a row, `statement_timeout_s` a statement;
    `prepare` may take longer, and whoever comes meanwhile is told that the store is not available.
    """

    def __init__(
        self,
        url: str,
        *,
        prepare: Callable[[Connection], Awaitable[None]],
        pool_size: int = 10,
        connect_timeout_s: float = 3.0,
        lock_timeout_s: float = 5.0,
        statement_timeout_s: float = 15.0,
    ) -> None:
        self._url = url
        self._prepare = prepare
        self._pool_size = pool_size
        self._connect_timeout_s = connect_timeout_s
        self._client_timeout_s = statement_timeout_s + _CLIENT_GRACE_S
        limits = (
            f"statement_timeout = {round(statement_timeout_s * 1000)}",
            f"lock_timeout = {round(lock_timeout_s * 1000)}",
            f"idle_in_transaction_session_timeout = {round(statement_timeout_s * 1000)}",
        )
        self._session = "; ".join(f"SET {limit}" for limit in limits)
        # Once more in each transaction: behind a pooler the session may be another's.
        self._begin = "; ".join(("BEGIN", *(f"SET LOCAL {limit}" for limit in limits)))
        self._pool: aiopg.Pool | None = None
        self._opening: asyncio.Task[aiopg.Pool] | None = None
        self._closed = False
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Connect and prepare, however long that takes. Raises StoreUnavailable; a later use tries again."""
        if self._pool is None:
            with _our_errors():
                await asyncio.shield(self._attempt())

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a statement that changes nothing. Sent again, once, if its connection was dead.

        Raises StoreUnavailable.
        """
        with _our_errors():
            pool = await self._open()
            try:
                async with self._connection(pool) as connection:
                    return await connection.fetch(statement, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if self._closed or not _is_lost(error):
                    raise
            # Others in the pool are as old, and may be as dead.
            await pool.clear()
            async with self._connection(pool) as connection:
                return await connection.fetch(statement, parameters)

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        """Run `work` in one transaction, to its end even if the caller is cancelled meanwhile.

        `timeout_s`: what each statement may take in the place of the session's limit.

        Cancelling a query drops the connection but not the statement, which may still commit: so it is
        never done. `work` is run again where Postgres undid it to break a deadlock, or where the
        connection was dead before anything was sent on it. Raises StoreUnavailable: nothing was
        committed then, unless the connection broke in the very commit.
        """
        task = asyncio.create_task(self._transaction(work, timeout_s))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let running transactions end, then close all connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._pool is not None:
            self._pool.terminate()
            await self._pool.wait_closed()
            self._pool = None

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody does any more, it is no news

    async def _transaction(
        self, work: Callable[[Connection], Awaitable[T]], timeout_s: float | None = None
    ) -> T:
        begin = self._begin
        if timeout_s is not None:
            begin += f"; SET LOCAL statement_timeout = {round(timeout_s * 1000)}"
        with _our_errors():
            pool = await self._open()
            for attempt in range(1, _ATTEMPTS + 1):
                async with self._connection(pool, timeout_s and timeout_s + _CLIENT_GRACE_S) as connection:
                    try:
                        await connection.script(begin)
                    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                        if not _is_lost(error) or attempt == _ATTEMPTS:
                            raise
                        continue
                    try:
                        return await _committed(connection, work)
                    except psycopg2.errors.DeadlockDetected:
                        if attempt == _ATTEMPTS:
                            raise
        raise AssertionError("the last attempt raises")

    @contextlib.asynccontextmanager
    async def _connection(
        self, pool: aiopg.Pool, timeout_s: float | None = None
    ) -> AsyncIterator[Connection]:
        raw = await pool.acquire()
        try:
            yield Connection(raw, timeout_s or self._client_timeout_s)
        except BaseException:
            # Idle in the pool it would be in the middle of whatever failed.
            if raw.raw.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
                await raw.close()
            raise
        finally:
            pool.release(raw)

    async def _open(self) -> aiopg.Pool:
        if self._pool is not None:
            return self._pool
        async with asyncio.timeout(self._connect_timeout_s):
            return await asyncio.shield(self._attempt())

    def _attempt(self) -> asyncio.Task[aiopg.Pool]:
        """The running attempt to open. Shared: one after another, the timeouts of all would add up."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._opening is None:
            self._opening = asyncio.create_task(self._make_pool())
            self._opening.add_done_callback(self._opened)
        return self._opening

    def _opened(self, task: asyncio.Task[aiopg.Pool]) -> None:
        self._opening = None
        self._ended(task)

    async def _make_pool(self) -> aiopg.Pool:
        pool = await aiopg.create_pool(
            self._url,
            minsize=0,
            maxsize=self._pool_size,
            timeout=self._connect_timeout_s,
            enable_json=False,
            enable_hstore=False,
            on_connect=self._greet,
        )
        try:
            async with self._connection(pool, _PREPARE_TIMEOUT_S) as connection:
                await self._prepare(connection)
        except BaseException:
            pool.terminate()
            await pool.wait_closed()
            raise
        self._pool = pool
        return pool

    async def _greet(self, raw: aiopg.Connection) -> None:
        try:
            await Connection(raw, self._connect_timeout_s).script(self._session)
        except BaseException:
            await raw.close()
            raise


async def _committed(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    try:
        result = await work(connection)
    except BaseException:
        if not connection.is_closed:
            with contextlib.suppress(psycopg2.Error, asyncio.TimeoutError):
                await connection.script("ROLLBACK")
        raise
    await connection.script("COMMIT")
    return result


def _is_lost(error: psycopg2.Error) -> bool:
    """True where the connection is gone: no SQLSTATE came, or one that ends the session (class 57P)."""
    return error.pgcode is None or error.pgcode.startswith(("57P", "08"))


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    """Driver errors, and those cancellations that are none, as StoreUnavailable."""
    try:
        yield
    except psycopg2.Error as error:
        raise StoreUnavailable(str(error).strip() or type(error).__name__) from error
    except (TimeoutError, OSError) as error:
        raise StoreUnavailable("Postgres does not answer in time") from error
    except asyncio.CancelledError as error:
        # aiopg turns a statement that Postgres cancelled (its timeout, an operator) into this.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise StoreUnavailable("Postgres cancelled the statement") from error
