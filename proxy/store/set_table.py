"""One entity set's table under one metadata document, and the rows that go to its statements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, MetaData, Table

from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.uri import format_key
from proxy.reconcile.ports import Fetched
from proxy.store.columns import SQL_TYPES, TypedPath, bytea, can_hold, control_columns, encoder, storable
from proxy.store.statements import Field, Statements

# By property, and by member of complex ones.
_Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """A state offered to the table: an entity, or where `deleted_at` is set its absence.

    `always`: record a revision even where the row does not take the state, or holds that content already.
    """

    fetched: Fetched
    key_text: str
    deleted_at: datetime | None = None
    always: bool = False


class SetTable:
    """The table `name` in the schema `mirror`. `columns`: the name of each typed column. `since`: documents
    fetched before that number are of another shape than the metadata document says.

    `keys` are the columns of the entity key in its order.
    """

    def __init__(
        self, entity_set: EntitySet, name: str, columns: Mapping[TypedPath, str], since: int = 0
    ) -> None:
        self.entity_set = entity_set
        key = entity_set.entity_type.key
        self.table = Table(
            name,
            MetaData(schema="mirror"),
            *(
                Column(column, SQL_TYPES[path.edm_type], primary_key=path.path in key, autoincrement=False)
                for path, column in columns.items()
            ),
            *control_columns(),
            # Long documents go out of the row, and the rest of it stays as it is: to compress typed values
            # takes a quarter of the time of storing a wide row.
            postgresql_with={"toast_tuple_target": "4080"},
        )
        self._use(columns, since)

    def _use(self, columns: Mapping[TypedPath, str], since: int = 0) -> None:
        """Fields, keys and statements over the columns of `table`."""
        self._fields = [
            Field(f"c{index}", path, self.table.c[column], encoder(path.edm_type))
            for index, (path, column) in enumerate(columns.items())
        ]
        self._by_members = {field.path.members: field for field in self._fields}
        self._by_property: _Fields = {}
        for members, field in self._by_members.items():
            within = self._by_property
            for member in members[:-1]:
                within = within.setdefault(member, {})
            within[members[-1]] = field
        self.keys = [self._by_members[part,] for part in self.entity_set.entity_type.key]
        self.since = since
        self.statements = Statements(self.entity_set.name, self.table, self._fields, self.keys, since)

    def is_for(self, entity_set: EntitySet, paths: Sequence[TypedPath]) -> bool:
        """True where another description of the set comes to the same table."""
        same_key = self.entity_set.entity_type.key == entity_set.entity_type.key
        return same_key and [field.path for field in self._fields] == list(paths)

    def held_in(self, rows: FromClause) -> list[ColumnElement[Any]]:
        """HELD of rows of the table or an alias of it."""
        return self.statements.held_in(rows)

    def column_in(self, rows: FromClause, members: tuple[str, ...]) -> ColumnElement[Any]:
        """The column of a property path in the table or an alias of it."""
        return rows.c[self._by_members[members].column.name]

    def key_text(self, key: EntityKey) -> str:
        """The canonical key predicate: how revisions, intents and conflicts name an entity."""
        return format_key(key, self.entity_set.entity_type)

    def key_arrays(self, keys: Sequence[EntityKey]) -> dict[str, Any]:
        """The parameters of `get`."""
        by_part = [dict(key) for key in keys]
        return {field.name: [key[field.path.path] for key in by_part] for field in self.keys}

    def key_rows(self, keys: Sequence[EntityKey], **flags: Sequence[Any]) -> str:
        """Rows that hold no more than keys, and a flag or two for each."""
        return json.dumps(
            [
                {
                    "position": position,
                    **self._key_values(key),
                    **{name: values[position] for name, values in flags.items()},
                }
                for position, key in enumerate(keys)
            ]
        )

    def state_rows(self, offered: Sequence[Offered]) -> str:
        """Rows for `put` and `put_own`; their documents go beside them."""
        return _dumped([self._state_row(position, state) for position, state in enumerate(offered)])

    def stamp_rows(self, fetched: Sequence[Fetched]) -> str:
        """Rows for `touch`."""
        return _dumped(
            [
                {"position": position, **_seen(state), **self._key_values(state.key)}
                for position, state in enumerate(fetched)
            ]
        )

    def _state_row(self, position: int, offered: Offered) -> dict[str, Any]:
        row = {
            "position": position,
            **_seen(offered.fetched),
            "key_text": offered.key_text,
            "always": offered.always,
            "deleted_at": offered.deleted_at and offered.deleted_at.isoformat(),
        }
        _fill(row, offered.fetched.values, self._by_property)
        row.update(self._key_values(offered.fetched.key))
        return row

    def _key_values(self, key: EntityKey) -> dict[str, Any]:
        by_part = dict(key)
        return {
            field.name: field.encode(by_part[field.path.path]) if field.encode else by_part[field.path.path]
            for field in self.keys
        }


def _fill(row: dict[str, Any], values: Mapping[str, Any], fields: _Fields) -> None:
    """Put in the row what is not null among values, and members of complex ones, that have a column."""
    for name, field in fields.items():
        value = values.get(name)
        if value is None:
            continue
        if isinstance(field, dict):
            _fill(row, value, field)
        else:
            row[field.name] = field.encode(value) if field.encode else value


def can_hold_key(key: EntityKey) -> bool:
    """False for a key that Postgres cannot hold unchanged, so that no row can be its entity's."""
    return all(not isinstance(value, str) or can_hold(value) for _, value in key)


def _seen(fetched: Fetched) -> dict[str, Any]:
    stamp = fetched.stamp
    return {
        "digest": bytea(fetched.digest),
        "stamp_modified_on": stamp.modified_on and stamp.modified_on.isoformat(),
        "stamp_version_number": stamp.version_number,
        "etag": stamp.etag and storable(stamp.etag),
        "settled": fetched.settled,
        "fetch_number": fetched.fetch_number,
        "fetched_at": fetched.fetched_at.isoformat(),
    }


def _dumped(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
