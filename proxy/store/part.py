"""What every part of the store works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from proxy.odata.edm import Model
from proxy.store.engine import Connection, Row, Statement
from proxy.store.tables import Tables

T = TypeVar("T")


class Database(Protocol):
    """What the parts send their statements to: the engine, or the engine under a lease."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]: ...

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T: ...


class Part:
    """One part of the port; `PostgresStore` is their sum. `model`: the metadata document in force."""

    def __init__(self, engine: Database, tables: Tables, model: Callable[[], Model]) -> None:
        self._engine = engine
        self._tables = tables
        self._model = model
