"""Writes that the mirror carries out by itself, each in one transaction, and the log of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Integer, bindparam, cast, func, insert, select

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.uri import format_key, parse_key
from proxy.reconcile.local_store import CommitUncertain, LocalTransaction, LocalWrite, LoggedWrite
from proxy.reconcile.ports import AuthorityMoved, Fetched, Provenance, Source, StoreUnavailable
from proxy.store.columns import storable
from proxy.store.engine import Connection, Row, Statement, compiled
from proxy.store.entities import Entities, offer, provenance_values, store, storing
from proxy.store.epochs import are_epochs, epoch_values
from proxy.store.find import Finding
from proxy.store.part import Database, Part
from proxy.store.schema import FETCH_NUMBER, LOCAL_WRITES, VERSION_NUMBER
from proxy.store.tables import Tables

T = TypeVar("T")

_BOUND = (
    "entity_set",
    "entity_key",
    "operation",
    "method",
    "path",
    "body",
    "content_type",
    "posted",
    "changeset",
    "user_name",
    "client",
    "request_id",
)
_LOG = compiled(insert(LOCAL_WRITES).values({name: bindparam(name) for name in _BOUND}))
_LIST = compiled(
    select(LOCAL_WRITES.c.id, LOCAL_WRITES.c.made_at, *(LOCAL_WRITES.c[name] for name in _BOUND))
    .where(LOCAL_WRITES.c.id > bindparam("after"))
    .order_by(LOCAL_WRITES.c.id)
    .limit(bindparam("limit"))
)
_ARE_EPOCHS = compiled(select(are_epochs()))
_NEXT_NUMBER = compiled(select(FETCH_NUMBER.next_value()))
_NEXT_VERSION = compiled(select(VERSION_NUMBER.next_value()))
# Who makes an entity holds its key, as there is no row yet that could be locked.
_HOLD = compiled(select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("named"), 0))))
_SEQUENCE = "syncpoint.version_number"
_RAISE = compiled(
    select(func.setval(_SEQUENCE, cast(bindparam("highest"), BigInteger))).where(
        select(func.pg_advisory_xact_lock(cast(0x56455253, Integer))).scalar_subquery().is_not(None),
        func.coalesce(func.pg_sequence_last_value(_SEQUENCE), 0) < bindparam("highest"),
    )
)
_IS_NUMBERED = compiled(select(func.pg_sequence_last_value(_SEQUENCE).is_not(None)))


class LocalWriting(Part):
    """Implements `proxy.reconcile.local_store.LocalStore`."""

    def __init__(self, engine: Database, tables: Tables, model: Callable[[], Model]) -> None:
        super().__init__(engine, tables, model)
        self._numbered: set[tuple[str, int]] = set()  # sets and epochs whose numbers are behind us

    async def locally(self, epochs: Mapping[str, int], work: Callable[[LocalTransaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction. Raises AuthorityMoved, CommitUncertain."""
        fills_versions = await self._fills_versions(epochs)
        checked = epoch_values(epochs)

        is_done = False

        async def begun(connection: Connection) -> T:
            nonlocal is_done
            is_done = False
            ((holds,),) = await connection.fetch(_ARE_EPOCHS, checked)
            if not holds:
                raise AuthorityMoved
            result = await work(_Transaction(connection, self._tables, self._model, fills_versions))
            is_done = True
            return result

        try:
            return await self._engine.transaction(begun)
        except StoreUnavailable as error:
            if is_done:
                raise CommitUncertain(str(error)) from error
            raise

    async def _fills_versions(self, epochs: Mapping[str, int]) -> bool:
        """See that the numbers to come are above all that entities of these sets show.

        False where upstream filled none, in no set that was written to since its cutover.
        """
        sets = self._model().entity_sets
        for move in epochs.items() - self._numbered:
            if move[0] in sets:
                table = await self._tables.of(sets[move[0]])
                ((highest,),) = await self._engine.fetch(table.statements.highest_version)
                if highest is not None:
                    raised = {"highest": highest}
                    await self._engine.transaction(lambda connection: connection.fetch(_RAISE, raised))  # noqa: B023
            self._numbered.add(move)
        ((is_used,),) = await self._engine.fetch(_IS_NUMBERED)
        return bool(is_used)

    async def local_writes(self, after: int, limit: int) -> Sequence[LoggedWrite]:
        """The log from behind an id. What the metadata document knows no more is left out."""
        rows = await self._engine.fetch(_LIST, {"after": after, "limit": limit})
        model = self._model()
        return [_logged(row, model) for row in rows if row[2] in model.entity_sets]


class _OneConnection:
    """The database as one transaction sees it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        return await self.connection.fetch(statement, parameters)

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        return await work(self.connection)


class _Transaction(Entities, Finding):
    """Implements `proxy.reconcile.local_store.LocalTransaction`."""

    def __init__(
        self, connection: Connection, tables: Tables, model: Callable[[], Model], fills_versions: bool
    ) -> None:
        super().__init__(_OneConnection(connection), tables, model)
        self._connection = connection
        self._fills_versions = fills_versions

    async def lock(self, entity_set: EntitySet, keys: Sequence[EntityKey]) -> None:
        """Nobody else changes these entities, or makes them."""
        table = await self._tables.of(entity_set)
        statement = table.statements.lock
        ordered = sorted(keys, key=table.key_text)
        if len(await self._connection.fetch(statement, {"rows": table.key_rows(ordered)})) < len(ordered):
            for key in ordered:
                await self._connection.fetch(_HOLD, {"named": f"{entity_set.name}({table.key_text(key)})"})
            await self._connection.fetch(statement, {"rows": table.key_rows(ordered)})

    async def keep(self, entity_set: EntitySet, key: EntityKey) -> None:
        """Nobody deletes the entity, if it is there; others may keep it too."""
        table = await self._tables.of(entity_set)
        await self._connection.fetch(table.statements.keep, {"rows": table.key_rows([key])})

    async def next_fetch_number(self) -> int:
        ((number,),) = await self._connection.fetch(_NEXT_NUMBER)
        return int(number)

    async def next_version(self, held: int | None, *, creating: bool) -> int | None:
        """What VersionNumber shows of an entity that showed `held`."""
        if held is None and not (creating and self._fills_versions):
            return None
        ((number,),) = await self._connection.fetch(_NEXT_VERSION)
        if held is not None and number <= held:
            await self._connection.fetch(_RAISE, {"highest": held})
            ((number,),) = await self._connection.fetch(_NEXT_VERSION)
        return int(number)

    async def put_local(
        self, entity_set: EntitySet, state: Fetched, provenance: Provenance, operation: str | None
    ) -> None:
        """Store a state or a tombstone, and record its revision."""
        table = await self._tables.of(entity_set)
        offered = offer(table, state, always=operation is not None)
        await store(
            self._connection, storing(table, [offered], provenance, own=True, method=operation, gap=False)
        )

    async def log(self, write: LocalWrite) -> None:
        """Add a row to the log."""
        values = {
            "entity_set": write.entity_set,
            "entity_key": format_key(write.key),
            "operation": write.operation,
            "method": write.method,
            "path": storable(write.path),
            "body": write.body,
            "content_type": storable(write.content_type),
            "posted": storable(write.posted),
            "changeset": write.changeset,
            **provenance_values(write.provenance),
        }
        await self._connection.execute(_LOG, values)


def _logged(row: Row, model: Model) -> LoggedWrite:
    identity, made_at, entity_set, key, operation, method, path, body, content_type, posted, *rest = row
    changeset, user, client, request_id = rest
    write = LocalWrite(
        entity_set,
        parse_key(key, model.entity_sets[entity_set].entity_type),
        operation,
        method,
        path,
        bytes(body),
        content_type,
        posted,
        Provenance(Source.LOCAL_WRITE, request_id, user, client),
        changeset,
    )
    return LoggedWrite(identity, write, made_at.astimezone(UTC))
