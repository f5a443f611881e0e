"""The change feed: what was recorded, in the order in which it was committed, for as long as a reader likes.

A sequence is not commit order: a number drawn early can be committed late, and a reader who has passed it
would miss it. So a reader's place is a snapshot of Postgres (`pg_current_snapshot()`): the transactions that
it has seen. What comes next is what a newer snapshot sees and the reader's does not, and that in the order of
the places which transactions drew when their commits began. So what was committed before something else
comes before it; of two commits under way at the same time either may. Everything comes at least once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.uri import format_key, parse_key
from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Stored

_VERSION = "2"
# The place of a commit among all, and the id of a revision in it.
Place = tuple[int, int]
_BEGINNING: Place = (0, 0)


class CursorRefused(Exception):
    """The text is no cursor, or one of another database; the message says which."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place.

    `database`: whose it is. `since`: the snapshot whose transactions were all read. `upto`, `after`: the
    snapshot that is being read, and the place of the last revision read of it. `walk`: while the reader is
    given all entities first, the entity set and the key of the last one given ("" before the first).
    """

    database: str
    since: str
    upto: str | None = None
    after: Place = _BEGINNING
    walk: tuple[str, str] | None = None

    def text(self) -> str:
        """For URLs and header fields."""
        fields = json.dumps([_VERSION, *asdict(self).values()], separators=(",", ":"))
        return base64.urlsafe_b64encode(fields.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, text: str) -> Cursor:
        """Raises CursorRefused."""
        try:
            fields = base64.b64decode(text + "=" * (-len(text) % 4), "-_", validate=True)
            version, database, since, upto, after, walk = json.loads(fields)
            if (
                version == "1" and type(after) is int
            ):  # one snapshot was read in another order then: from its beginning once more
                upto, after = None, _BEGINNING
            number, identity = after
            is_whole = version in ("1", _VERSION) and type(number) is type(identity) is int
            if is_whole and all(isinstance(part, str) for part in (database, since, upto or "")):
                place = None if walk is None else (str(walk[0]), str(walk[1]))
                return cls(database, since, upto, (number, identity), place)
        except (ValueError, TypeError, IndexError):
            pass
        raise CursorRefused("This is no cursor of the change feed.")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell a reader, and the cursor behind it.

    `kind`: "change" with a `revision`; "entity", one of all there are, with `entity_set`, `key`, `held`;
    "snapshot-begins" and "snapshot-ends" around those: what is not among them is gone.
    """

    kind: Literal["change", "entity", "snapshot-begins", "snapshot-ends"]
    cursor: Cursor
    revision: Revision | None = None
    entity_set: str = ""
    key: str = ""
    held: Stored | None = None


class ChangeLog(Protocol):
    """What the store knows of commits. Every method raises StoreUnavailable."""

    async def now(self) -> Cursor:
        """The place behind everything committed so far."""

    async def is_kept(self, cursor: Cursor) -> bool:
        """False where retention took what the reader has not read. Raises CursorRefused for a cursor of
        another database."""

    async def changes(
        self, cursor: Cursor, entity_sets: Sequence[str] | None, limit: int
    ) -> Sequence[tuple[Place, Revision]]:
        """Revisions that `cursor.upto` sees and `cursor.since` does not, from behind `cursor.after`, in the
        order of their commits; states that nobody saw are left out."""

    async def page(self, entity_set: EntitySet, after: EntityKey | None, limit: int) -> Sequence[Stored]:
        """The entities of a set in the order of their keys."""

    async def kept_sets(self) -> Sequence[str]:
        """Names of the sets that there are tables of."""


class Feed:
    """Reads the change log for readers. `model`: the metadata document in force."""

    def __init__(self, log: ChangeLog, model: Callable[[], Model | None]) -> None:
        self._log = log
        self._model = model

    async def cursor(self, text: str | None) -> Cursor:
        """The place that a reader names: a cursor's text, "now", or None for all entities and then the feed.

        One that retention has overtaken begins again with all entities. Raises CursorRefused.
        """
        now = await self._log.now()
        if text == "now":
            return now
        cursor = None if text is None else Cursor.of(text)
        if cursor is None or not await self._log.is_kept(cursor):
            return replace(now, walk=("", ""))
        return cursor

    async def read(
        self, cursor: Cursor, entity_sets: frozenset[str] | None, limit: int
    ) -> tuple[list[Event], Cursor]:
        """What comes next, at most about `limit` events, and the place behind it. No events: nothing new."""
        if cursor.walk is not None:
            events = [event async for event in self._walk(cursor, entity_sets, limit)]
            return events, events[-1].cursor
        is_new = cursor.upto is None
        if is_new:
            cursor = replace(cursor, upto=(await self._log.now()).since)
        if cursor.upto == cursor.since:
            return [], replace(cursor, upto=None)
        sets = None if entity_sets is None else sorted(entity_sets)
        found = await self._log.changes(cursor, sets, limit)
        if not await self._log.is_kept(cursor):  # retention may have taken some while they were read
            return await self.read(replace(await self._log.now(), walk=("", "")), entity_sets, limit)
        events = [Event("change", replace(cursor, after=place), revision) for place, revision in found]
        if len(found) == limit:
            return events, events[-1].cursor
        behind = Cursor(cursor.database, cursor.upto or cursor.since)
        if events:
            events[-1] = replace(events[-1], cursor=behind)
        elif not is_new:  # the page before ended just where its snapshot did
            return await self.read(behind, entity_sets, limit)
        return events, behind

    async def _walk(
        self, cursor: Cursor, entity_sets: frozenset[str] | None, limit: int
    ) -> AsyncIterator[Event]:
        """The next entities of all; the sets in the order of their names."""
        name, last = cursor.walk or ("", "")
        if not name:
            yield Event("snapshot-begins", cursor)
        model = self._model()
        kept = (
            []
            if model is None
            else [name for name in await self._log.kept_sets() if name in model.entity_sets]
        )
        wanted = [other for other in kept if other >= name and (entity_sets is None or other in entity_sets)]
        for wanted_name in wanted:
            assert model is not None
            entity_set = model.entity_sets[wanted_name]
            after = _key(last, entity_set) if wanted_name == name else None
            page = await self._log.page(entity_set, after, limit)
            for held in page:
                key = format_key(held.key, entity_set.entity_type)
                place = replace(cursor, walk=(wanted_name, key))
                yield Event("entity", place, entity_set=wanted_name, key=key, held=held)
            if page:
                return
        yield Event("snapshot-ends", replace(cursor, walk=None))


def _key(text: str, entity_set: EntitySet) -> EntityKey | None:
    """Raises CursorRefused where the cursor's place is none of the set's."""
    if not text:
        return None
    try:
        return parse_key(text, entity_set.entity_type)
    except ODataError as error:
        raise CursorRefused("This cursor is of another metadata document.") from error
