"""The organisation as a user with fewer rights sees it: without some rows, with null in some properties."""

from __future__ import annotations

import uuid

from proxy.sandbox.rights import Rights
from proxy.sandbox.tables import Row, Slot, Tables, Values


class SeenTables(Tables):
    """The tables as one user sees them, at one generation; to be read only."""

    def __init__(self, base: Tables, rights: Rights) -> None:
        super().__init__(base.schema, base.generator, base.switches)
        self._base = base
        self._rights = rights
        self.pairs = base.pairs

    def name_of(self, reference: Values, shown_in: Slot | None = None) -> str | None:
        """Lookups name records that the user may not fetch (field manual, 9.3)."""
        return self._base.name_of(reference, shown_in)

    def rows(self, set_name: str) -> dict[uuid.UUID, Row]:
        rows = self._rows.get(set_name)
        if rows is None:
            nulls = {name: None for of, name in self._rights.hidden_properties if of == set_name}
            rows = self._rows[set_name] = {
                key: Row(row.values | nulls)
                for key, row in self._base.rows(set_name).items()
                if (set_name, key) not in self._rights.hidden_rows
            }
        return rows
