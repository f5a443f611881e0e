"""What every part of the store works with."""

from __future__ import annotations

from collections.abc import Callable

from proxy.odata.edm import Model
from proxy.store.engine import Engine
from proxy.store.tables import Tables


class Part:
    """One part of the port; `PostgresStore` is their sum. `model`: the metadata document in force."""

    def __init__(self, engine: Engine, tables: Tables, model: Callable[[], Model]) -> None:
        self._engine = engine
        self._tables = tables
        self._model = model
