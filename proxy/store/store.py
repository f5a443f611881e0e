"""The store: the port `reconcile.ports.Store` over one Postgres database."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import literal, select

from proxy.odata.edm import Model
from proxy.reconcile import changes, history
from proxy.reconcile.local_store import LocalStore
from proxy.reconcile.ports import StoreUnavailable
from proxy.reconcile.progress import LifecycleStore
from proxy.store.authorities import AuthorityTable
from proxy.store.casebook import Casebook
from proxy.store.changelog import ChangeLog
from proxy.store.conflicts import Conflicts
from proxy.store.engine import Engine, compiled
from proxy.store.entities import Entities
from proxy.store.evidence import EvidenceTable
from proxy.store.find import Finding
from proxy.store.intents import Intents
from proxy.store.learned import Learned
from proxy.store.leases import Leases
from proxy.store.local_writes import LocalWriting
from proxy.store.migrate import migrate
from proxy.store.models import ModelStore
from proxy.store.past import Past
from proxy.store.progress import Progress
from proxy.store.replays import Replays
from proxy.store.revisions import Revisions
from proxy.store.schema import FETCH_NUMBER
from proxy.store.shadow import Shadow
from proxy.store.sweeps import Sweeps
from proxy.store.tables import Tables

_NEXT_NUMBER = compiled(select(FETCH_NUMBER.next_value()))
_PING = compiled(select(literal(1)))


class PostgresStore(
    Entities,
    Finding,
    Intents,
    Conflicts,
    Learned,
    Revisions,
    Casebook,
    ChangeLog,
    Shadow,
    Leases,
    Progress,
    Sweeps,
    AuthorityTable,
    EvidenceTable,
    Replays,
    LocalWriting,
):
    """The mirror in Postgres.

    Connects when first used, brings the schema up to date then, and connects again whenever Postgres
    comes back. `use_model` must come before any entity does; it says what the sets look like. `url` is a
    libpq URL or DSN; limits are those of `Engine`.
    """

    def __init__(
        self,
        url: str,
        model: Model | None = None,
        *,
        pool_size: int = 10,
        connect_timeout_s: float = 3.0,
        lock_timeout_s: float = 5.0,
        statement_timeout_s: float = 15.0,
    ) -> None:
        self._connections = engine = Engine(
            url,
            prepare=migrate,
            pool_size=pool_size,
            connect_timeout_s=connect_timeout_s,
            lock_timeout_s=lock_timeout_s,
            statement_timeout_s=statement_timeout_s,
        )
        super().__init__(engine, Tables(engine, self._model_in_force), self._model_in_force)
        self._known_model = model
        self._past = Past(engine, self._model_in_force)
        self.holder = uuid4().hex

    def use_model(self, model: Model) -> None:
        """From now on entity sets are what this metadata document says."""
        self._known_model = model

    def models(self) -> ModelStore:
        """The same mirror in the names of models."""
        return ModelStore(self._connections, self._tables, self._model)

    def at(self, moment: datetime) -> Past:
        """The mirror as it was at this moment, as far as the history knows."""
        return self._past.at(moment)

    async def open(self) -> None:
        """Connect and bring the schema up to date now, however long that takes.

        Raises StoreUnavailable; the store is usable all the same, once Postgres is there.
        """
        await self._connections.open()

    async def close(self) -> None:
        """Let running transactions end, then disconnect."""
        await self._connections.close()

    async def next_fetch_number(self) -> int:
        """Draw a number, before the fetch is sent."""
        # Drawing one in vain does no harm, so this may be sent again like a read.
        ((number,),) = await self._engine.fetch(_NEXT_NUMBER)
        return int(number)

    async def is_ready(self) -> bool:
        """True while Postgres answers."""
        try:
            await self._engine.fetch(_PING)
        except StoreUnavailable:
            return False
        return True

    def _model_in_force(self) -> Model:
        if self._known_model is None:
            raise RuntimeError("no metadata document: use_model comes first")
        return self._known_model


if TYPE_CHECKING:

    def _satisfies_the_port(store: PostgresStore) -> LifecycleStore:
        return store

    def _satisfies_the_history(store: PostgresStore) -> history.History:
        return store

    def _satisfies_the_casebook(store: PostgresStore) -> history.Casebook:
        return store

    def _satisfies_the_shadow_log(store: PostgresStore) -> history.ShadowLog:
        return store

    def _satisfies_local_writes(store: PostgresStore) -> LocalStore:
        return store

    def _satisfies_the_change_log(store: PostgresStore) -> changes.ChangeLog:
        return store
