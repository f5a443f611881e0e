"""What a revision says of the change that made it, and what the change means for others: parts of `put`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql

from proxy.store.schema import RENAMES, SET_STATES

# Where the name of an entity usually stands, until it is learned which property upstream shows as its title.
_NAMES = ("FullName", "Name", "Subject", "Title")


def effective_at(offered: FromClause, before: FromClause, stored: FromClause) -> ColumnElement[Any]:
    """Since when a state holds: its ModifiedOn where that moved forward, else now.

    So the times of an entity's revisions only rise: a restored upstream does not rewrite what was.
    """
    first = and_(stored.c.digest.is_not(None), stored.c.previous_digest.is_(None))
    moved = and_(before.c.document.is_not(None), offered.c.stamp_modified_on > before.c.stamp_modified_on)
    modified = func.timezone("UTC", offered.c.stamp_modified_on)
    now = func.clock_timestamp()
    return case((and_(or_(first, moved), modified < now), modified), else_=now)


def renamed(
    set_name: str, key: str, properties: Collection[str], offered: FromClause, recorded: FromClause
) -> CTE:
    """Remember the entities whose name is another one now: others show it in their lookups (rule 10).

    `recorded`: the revisions just written, with `entity_key` and `changed`; `key`: the member of `offered`
    that is the entity's key, a GUID.
    """
    is_ours = SET_STATES.c.entity_set == bindparam("entity_set", set_name)
    learned = select(SET_STATES.c.title).where(is_ours, SET_STATES.c.title != "").scalar_subquery()
    usual = [cast(literal(name), Text) for name in _NAMES if name in properties]
    name = func.coalesce(learned, *usual)
    rename = postgresql.insert(RENAMES).from_select(
        ["id", "fetch_number"],
        select(offered.c[key], offered.c.fetch_number)
        .join_from(recorded, offered, recorded.c.entity_key == offered.c.key_text)
        .where(name == func.any(recorded.c.changed)),
    )
    newest = func.greatest(RENAMES.c.fetch_number, rename.excluded.fetch_number)
    return (
        rename.on_conflict_do_update(index_elements=[RENAMES.c.id], set_={"fetch_number": newest})
        .returning(RENAMES.c.id)
        .cte("renamed")
    )


def shows_an_old_name(
    columns: Mapping[tuple[str, ...], ColumnElement[Any]], number: ColumnElement[int]
) -> ColumnElement[bool]:
    """True where a lookup in the row shows an entity that was renamed after the row was fetched.

    `columns`: the typed columns by the path of their property; `number`: the row's fetch number.
    """
    lookups = [
        column
        for path, column in columns.items()
        # A complex value that shows a logical name and a name beside the id.
        if path[1:] == ("Id",) and {(path[0], "LogicalName"), (path[0], "Name")} <= columns.keys()
    ]
    if not lookups:
        return false()
    # Most rows are newer than any rename, and that is seen without looking at their lookups.
    last = select(func.max(RENAMES.c.fetch_number)).scalar_subquery()
    renamed = RENAMES.c.id == func.any(postgresql.array(lookups))
    return and_(number < func.coalesce(last, 0), exists().where(renamed, RENAMES.c.fetch_number > number))
