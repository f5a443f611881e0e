"""Every statement on one entity set's table, compiled once.

All states of an entity live in its one row: the entity, its absence (a tombstone: `deleted_at`), the mark
of a write on an entity never seen (neither). So every rule of who may change what is a condition in the
statement that changes it, and holds whoever else writes at that moment.

Rows reach a statement as one JSON text, its parameter `rows` (`jsonb_to_recordset`), in the order of their
keys' text: every statement in every process locks in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    LargeBinary,
    Table,
    TableValuedAlias,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    false,
    func,
    insert,
    literal,
    not_,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from proxy.store.columns import TypedPath
from proxy.store.engine import Statement, compiled
from proxy.store.epochs import is_mirrors
from proxy.store.recording import effective_at, renamed, shows_an_old_name
from proxy.store.schema import REVISIONS

# What `get` returns of a row, after the position of its key among those asked.
HELD = (
    "document",
    "stamp_modified_on",
    "stamp_version_number",
    "etag",
    "digest",
    "settled",
    "fetch_number",
    "fetched_at",
    "intents",
    "conflict",
    "deleted_at",
)
_STATE: Mapping[str, Any] = {
    "document": Text,
    "digest": LargeBinary,
    "stamp_modified_on": DateTime,
    "stamp_version_number": BigInteger,
    "etag": Text,
    "settled": Boolean,
    "fetch_number": BigInteger,
    "fetched_at": DateTime(timezone=True),
    "deleted_at": DateTime(timezone=True),
}
_STAMP = ("stamp_modified_on", "stamp_version_number", "etag")
# What a revision says beside the state: parameters of `put`.
REVISION_SOURCE = ("source", "user_name", "client", "request_id", "method", "gap")


@dataclass(frozen=True, slots=True)
class Field:
    """A typed column, and the member `name` of the JSON rows that its value travels in."""

    name: str
    path: TypedPath
    column: Column[Any]
    encode: Callable[[Any], Any] | None


class Statements:
    """The statements on `table`, whose typed columns are `fields` and whose key is `keys`. What was fetched
    before the number `since` counts as unsettled."""

    def __init__(
        self, set_name: str, table: Table, fields: Sequence[Field], keys: Sequence[Field], since: int
    ) -> None:
        self._since = since
        self._set_name = set_name
        self._table = table
        self._fields = fields
        self._keys = keys

    @cached_property
    def get(self) -> Statement:
        """Rows (position, *HELD) for `key_arrays`, counted from one; unordered."""
        held = self._held
        arrays = [cast(bindparam(key.name), ARRAY(key.column.type)) for key in self._keys]
        if len(self._keys) == 1:  # planned in a third of the time of a join
            (array,), (key,) = arrays, self._keys
            position = func.array_position(array, key.column)
            return compiled(select(position, *held).where(key.column == func.any(array)))
        asked = (
            func.unnest(*arrays)
            .table_valued(*(key.name for key in self._keys), with_ordinality="position")
            .render_derived(name="asked")
        )
        return compiled(select(asked.c.position, *held).join_from(asked, self._table, self._same_key(asked)))

    @cached_property
    def put(self) -> Statement:
        """Store the rows where the row is older and no write is under way, and record revisions.

        Gives (position, changed) of each row stored. Beside `rows` it needs the parameters of a
        revision, REVISION_SOURCE.

        Where the mirror is the set's authority nothing is stored. What was asked before it became that, and
        does not see it yet, has a lower number than any write of the mirror's own.
        """
        return self._put(
            lambda offered: and_(
                offered.fetch_number > self._table.c.fetch_number,
                self._table.c.intents == 0,
            ),
            not_(is_mirrors(self._set_name)),
        )

    @cached_property
    def put_own(self) -> Statement:
        """As `put`, for rows that an intent names, in the hands of its own writer.

        An equal number is the mark of that very intent: numbers are drawn once.
        """
        return self._put(lambda offered: offered.fetch_number >= self._table.c.fetch_number)

    def _put(
        self,
        may_store: Callable[[Any], ColumnElement[bool]],
        not_of_ours: ColumnElement[bool] | None = None,
    ) -> Statement:
        fields = {field.name: field.column.type for field in self._fields}
        state = {name: type_ for name, type_ in _STATE.items() if name != "document"}
        rows = self._recordset({"key_text": Text, "always": Boolean, **state, **fields})
        # Beside the rows: quoted in their JSON it would take longer to read than all the rest.
        documents = (
            func.unnest(cast(bindparam("documents"), ARRAY(Text)))
            .table_valued("document", with_ordinality="place")
            .render_derived(name="documents")
        )
        offered = (
            select(rows, cast(documents.c.document, Text).label("document"))
            .join_from(rows, documents, documents.c.place == rows.c.position + 1)
            .cte("offered")
        )
        taken = {field.column.name: offered.c[field.name] for field in self._fields}
        taken |= {name: offered.c[name] for name in _STATE}
        states = select(*taken.values()).order_by(offered.c.position)
        if not_of_ours is not None:
            states = states.where(not_of_ours)
        upsert = postgresql.insert(self._table).from_select(list(taken), states)
        changes: dict[str, Any] = {name: upsert.excluded[name] for name in taken}
        for key in self._keys:
            del changes[key.column.name]
        held, excluded = self._table.c, upsert.excluded
        changes["previous_digest"] = held.digest
        changes["conflict"] = null()
        changes["deleted_at"] = case(
            (excluded.deleted_at.is_not(None), func.coalesce(held.deleted_at, excluded.deleted_at))
        )
        stored = (
            upsert.on_conflict_do_update(
                index_elements=[key.column for key in self._keys], set_=changes, where=may_store(excluded)
            )
            # Under names of ours: Core would cut and number long ones, and look for them in vain.
            .returning(*(key.column.label(key.name) for key in self._keys), held.digest, held.previous_digest)
            .cte("stored")
        )
        return self._recorded(offered, stored)

    def _recorded(self, offered: FromClause, stored: FromClause) -> Statement:
        same = and_(*(stored.c[key.name] == offered.c[key.name] for key in self._keys))
        changed = stored.c.digest.is_distinct_from(stored.c.previous_digest)
        is_stored = stored.c[self._keys[0].name].is_not(None)
        # The row as the statement found it; no row where somebody changed it since.
        before = self._table.alias("before")
        was = and_(
            *(before.c[key.column.name] == offered.c[key.name] for key in self._keys),
            before.c.digest == stored.c.previous_digest,
        )
        revision = {
            "entity_set": bindparam("entity_set", self._set_name),
            "entity_key": offered.c.key_text,
            "fetch_number": offered.c.fetch_number,
            **{name: bindparam(name) for name in REVISION_SOURCE},
            "effective_at": effective_at(offered, before, stored),
            "seen_until": before.c.fetched_at,
            "changed": case(
                (changed, func.syncpoint.changed_properties(before.c.document, offered.c.document))
            ),
            "document": offered.c.document,
            "unseen": false(),
            "deleted": offered.c.document.is_(None),
        }
        recorded = (
            insert(REVISIONS)
            .from_select(
                list(revision),
                select(*revision.values())
                .select_from(offered.outerjoin(stored, same).outerjoin(before, was))
                .where(or_(offered.c.always, and_(is_stored, changed)))
                .order_by(offered.c.position),
            )
            .returning(REVISIONS.c.entity_key, REVISIONS.c.changed)
            .cte("recorded")
        )
        effects = [recorded]
        if [key.path.edm_type for key in self._keys] == ["Edm.Guid"]:
            names = [field.path.path for field in self._fields]
            effects.append(renamed(self._set_name, self._keys[0].name, names, offered, recorded))
        return compiled(
            select(offered.c.position, changed).join_from(offered, stored, same).add_cte(*effects)
        )

    @cached_property
    def touch(self) -> Statement:
        """Confirm rows that still hold just what the rows show."""
        confirmed = ("fetch_number", "fetched_at", "settled")
        rows = self._recordset(
            {name: type_ for name, type_ in _STATE.items() if name != "document"} | self._key_types
        )
        held = self._table.c
        shown = (
            select(rows)
            .join_from(rows, self._table, self._same_key(rows))
            .where(
                rows.c.fetch_number > held.fetch_number,
                held.intents == 0,
                held.document.is_not(None),
                held.digest == rows.c.digest,
                *(held[name].is_not_distinct_from(rows.c[name]) for name in _STAMP),
            )
            .order_by(rows.c.position)
            .with_for_update(of=self._table)
            .cte("shown")
        )
        return compiled(
            update(self._table)
            .values({name: shown.c[name] for name in confirmed})
            .where(self._same_key(shown))
        )

    @cached_property
    def mark(self) -> Statement:
        """A write is about to be sent: name `key_rows` in it. Parameters `number` and `at` beside `rows`."""
        rows = self._recordset(self._key_types)
        taken: dict[str, Any] = {key.column.name: rows.c[key.name] for key in self._keys}
        taken["fetch_number"] = bindparam("number")
        taken["fetched_at"] = bindparam("at")
        taken["settled"] = false()
        taken["intents"] = bindparam("one", 1)
        upsert = postgresql.insert(self._table).from_select(
            list(taken), select(*taken.values()).select_from(rows).order_by(rows.c.position)
        )
        held = self._table.c
        return compiled(
            upsert.on_conflict_do_update(
                index_elements=[key.column for key in self._keys],
                set_={
                    "intents": held.intents + 1,
                    "fetch_number": func.greatest(held.fetch_number, upsert.excluded.fetch_number),
                    "settled": false(),
                },
            )
        )

    @cached_property
    def lock(self) -> Statement:
        """Lock `key_rows`, as far as there are such rows. Gives (fetch_number, intents, conflict) of each."""
        rows = self._recordset(self._key_types)
        held = self._table.c
        return compiled(
            select(held.fetch_number, held.intents, held.conflict)
            .join_from(rows, self._table, self._same_key(rows))
            .order_by(rows.c.position)
            .with_for_update(of=self._table)
        )

    @cached_property
    def keep(self) -> Statement:
        """Lock `key_rows`, as far as there are such rows, against `lock` alone."""
        rows = self._recordset(self._key_types)
        held = self._table.c
        return compiled(
            select(held.fetch_number)
            .join_from(rows, self._table, self._same_key(rows))
            .order_by(rows.c.position)
            .with_for_update(of=self._table, key_share=True, read=True)
        )

    @cached_property
    def release(self) -> Statement:
        """A write has ended: `key_rows` with flags `named` (1 where the intent counts there) and `stale`.

        Stale ones give way only to fetches begun after the number `after`.
        """
        rows = self._recordset({"named": Integer, "stale": Boolean, **self._key_types})
        held = self._table.c
        return compiled(
            update(self._table)
            .values(
                intents=func.greatest(held.intents - rows.c.named, 0),
                settled=and_(held.settled, not_(rows.c.stale)),
                fetch_number=case(
                    (rows.c.stale, func.greatest(held.fetch_number, bindparam("after"))),
                    else_=held.fetch_number,
                ),
            )
            .where(self._same_key(rows))
        )

    @cached_property
    def forget(self) -> Statement:
        """Delete those of `key_rows` that hold nothing, and that no write is under way on."""
        rows = self._recordset(self._key_types)
        held = self._table.c
        return compiled(
            delete(self._table).where(
                self._same_key(rows),
                held.document.is_(None),
                held.deleted_at.is_(None),
                held.intents == 0,
            )
        )

    @cached_property
    def flag(self) -> Statement:
        """Name the conflict `number` in the one row of `key_rows`."""
        rows = self._recordset(self._key_types)
        return compiled(update(self._table).values(conflict=bindparam("number")).where(self._same_key(rows)))

    @cached_property
    def count(self) -> Statement:
        """How many entities there are, counted up to `limit`."""
        some = (
            select(self._keys[0].column).where(self._table.c.document.is_not(None)).limit(bindparam("limit"))
        )
        return compiled(select(func.count()).select_from(some.subquery()))

    @cached_property
    def unsettled(self) -> Statement:
        """Keys of the entities that are to be fetched again because of a fetch or a write above `number`."""
        held = self._table.c
        return compiled(
            select(*(key.column.label(key.name) for key in self._keys))
            .where(held.document.is_not(None), not_(held.settled), held.fetch_number > bindparam("number"))
            .order_by(*(key.column for key in self._keys))
        )

    @cached_property
    def highest_version(self) -> Statement:
        """The highest VersionNumber that an entity shows; null where none does."""
        return compiled(select(func.max(self._table.c.stamp_version_number)))

    @cached_property
    def page(self) -> Statement:
        """The first `limit` entities in the order of their keys: their keys' columns, then HELD."""
        return self._page()

    @cached_property
    def page_after(self) -> Statement:
        """As `page`, from behind the key whose columns are bound by their fields' names."""
        mark = tuple_(*(cast(bindparam(key.name), key.column.type) for key in self._keys))
        return self._page(tuple_(*(key.column for key in self._keys)) > mark)

    def _page(self, *narrower: ColumnElement[bool]) -> Statement:
        keys = [key.column for key in self._keys]
        return compiled(
            select(*(key.label(None) for key in keys), *self._held)
            .where(self._table.c.document.is_not(None), *narrower)
            .order_by(*keys)
            .limit(bindparam("limit"))
        )

    # Their parts

    @property
    def _held(self) -> list[ColumnElement[Any]]:
        return self.held_in(self._table)

    def held_in(self, rows: FromClause) -> list[ColumnElement[Any]]:
        """HELD of rows of the table or an alias of it. Not settled is also what shows an old name, or has
        another shape than the metadata document says."""
        held: list[ColumnElement[Any]] = [rows.c[name] for name in HELD]
        typed = {field.path.members: rows.c[field.column.name] for field in self._fields}
        held[HELD.index("settled")] = and_(
            rows.c.settled,
            rows.c.fetch_number >= literal(self._since, BigInteger),
            not_(shows_an_old_name(typed, rows.c.fetch_number)),
        )
        return held

    @property
    def _key_types(self) -> dict[str, Any]:
        return {key.name: key.column.type for key in self._keys}

    def _recordset(self, types: Mapping[str, Any]) -> TableValuedAlias:
        """The rows of the parameter `rows` as a table."""
        return (
            func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), JSONB))
            .table_valued(
                column("position", Integer), *(column(name, type_) for name, type_ in types.items())
            )
            .render_derived(name="r", with_types=True)
        )

    def _same_key(self, rows: FromClause) -> ColumnElement[bool]:
        return and_(*(key.column == rows.c[key.name] for key in self._keys))
