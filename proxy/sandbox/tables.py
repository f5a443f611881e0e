"""The organisation's database: rows by key, their order, links between them, and what is cached of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.odata.relationships import Relationship, is_reference, logical_name
from proxy.sandbox.collation import guid_order
from proxy.sandbox.data import FIRST_LIVE_VERSION, Generator
from proxy.sandbox.schema import Schema
from proxy.sandbox.switches import Switches

Values = dict[str, Any]
Slot = tuple[str, uuid.UUID]  # name of an entity set, or the logical name of its type, and key


class Row:
    """One record. Null complex values are None; a lookup is {"Id", "LogicalName"}, its Name is looked up.

    `texts` holds what was rendered of the row, until the row or a name it shows changes.
    """

    __slots__ = ("texts", "values")

    def __init__(self, values: Values) -> None:
        self.values = values
        self.texts: dict[Any, str] = {}


class Tables:
    """Rows of all sets; a set's generated rows come into being when it is first read.

    `generation` rises with every change, so that whoever caches can tell.
    """

    def __init__(self, schema: Schema, generator: Generator, switches: Switches) -> None:
        self.schema = schema
        self.generation = 0
        self.generator = generator
        self.switches = switches
        self._rows: dict[str, dict[uuid.UUID, Row]] = {}
        self._ordered: dict[str, list[uuid.UUID]] = {}
        self._deleted: set[tuple[str, uuid.UUID]] = set()
        self._showing: dict[Slot, set[Slot]] = {}
        self.pairs: dict[str, dict[tuple[uuid.UUID, uuid.UUID], None]] = {}
        self._indexes: dict[tuple[str, str], tuple[int, dict[Slot, list[uuid.UUID]]]] = {}
        self._version = FIRST_LIVE_VERSION
        self._before: dict[Slot, Row | None] | None = None  # while everything may have to be undone

    def rows(self, set_name: str) -> dict[uuid.UUID, Row]:
        rows = self._rows.get(set_name)
        if rows is None:
            entity_set = self.schema.model.entity_sets[set_name]
            # Set before it is filled: nothing read meanwhile may start a second filling.
            rows = self._rows[set_name] = {}
            for key, values in self.generator.rows(entity_set):
                self._fit(entity_set, key, values)
                rows[key] = Row(values)
        return rows

    def _fit(self, entity_set: EntitySet, key: uuid.UUID, values: Values) -> None:
        """Make a generated row fit the switches and what was deleted before it came into being."""
        if "VersionNumber" in values and self.switches.version_number == "null":
            values["VersionNumber"] = None
        if "ModifiedOn" in values and self.hides_modified_on(key):
            values["ModifiedOn"] = None
        if self._deleted:
            for name, value in values.items():
                if isinstance(value, dict) and (value.get("LogicalName"), value.get("Id")) in self._deleted:
                    values[name] = None

    def hides_modified_on(self, key: uuid.UUID) -> bool:
        return self.switches.modified_on == "null_on_some" and key.int % 5 == 0

    def get(self, set_name: str, key: uuid.UUID) -> Row | None:
        return self.rows(set_name).get(key)

    def ordered(self, set_name: str) -> list[uuid.UUID]:
        """All keys in the server's default order (field manual 4.4). Not to be changed."""
        keys = self._ordered.get(set_name)
        if keys is None:
            keys = self._ordered[set_name] = sorted(self.rows(set_name), key=guid_order)
        return keys

    def sets_in_use(self) -> Iterator[EntitySet]:
        """The sets whose rows exist."""
        for name in tuple(self._rows):
            yield self.schema.model.entity_sets[name]

    def next_version(self) -> int | None:
        """The next rowversion, unique and rising through all sets; None where the switch hides it."""
        if self.switches.version_number == "null":
            return None
        self._version += 1
        return self._version

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo every change made within the block if it raises; version numbers are not given back."""
        before = self._before = {}
        known = set(self._rows)
        deleted = set(self._deleted)
        pairs = {association: dict(found) for association, found in self.pairs.items()}
        try:
            yield
        except BaseException:
            self._undo(before, known)
            self._deleted, self.pairs = deleted, pairs
            raise
        finally:
            self._before = None

    def _undo(self, before: dict[Slot, Row | None], known: set[str]) -> None:
        for (set_name, key), row in before.items():
            if row is None:
                self._rows[set_name].pop(key, None)
            else:
                self._rows[set_name][key] = row
        for set_name in self._rows.keys() - known:
            del self._rows[set_name]  # made while records were missing that are there again
        for rows in self._rows.values():
            for row in rows.values():
                row.texts.clear()
        self._ordered.clear()
        self._showing.clear()
        self.generation += 1

    def _note(self, set_name: str, key: uuid.UUID) -> None:
        """A row is about to change for the first time since `all_or_nothing`: keep it as it is."""
        if self._before is not None and (set_name, key) not in self._before:
            row = self.rows(set_name).get(key)
            self._before[set_name, key] = None if row is None else Row(dict(row.values))

    def put(self, set_name: str, key: uuid.UUID, values: Values) -> None:
        self._note(set_name, key)
        self.rows(set_name)[key] = Row(values)
        self._ordered.pop(set_name, None)
        self.generation += 1
        self._forget_texts(set_name, key)

    def change(self, set_name: str, key: uuid.UUID, values: Values) -> None:
        """Overwrite some of a row's values."""
        self._note(set_name, key)
        row = self.rows(set_name)[key]
        row.values.update(values)
        row.texts.clear()
        self.generation += 1
        title = self.schema.title_property(set_name)
        if title is not None and title in values:
            self._forget_texts(set_name, key)

    def drop(self, set_name: str, key: uuid.UUID) -> None:
        self._note(set_name, key)
        entity_set = self.schema.model.entity_sets[set_name]
        del self.rows(set_name)[key]
        self._ordered.pop(set_name, None)
        self._deleted.add((logical_name(entity_set), key))
        self.generation += 1
        self._forget_texts(set_name, key)

    def _forget_texts(self, set_name: str, key: uuid.UUID) -> None:
        """A record appeared, was renamed or went: what shows its name is rendered anew."""
        for shown_set, shown_key in self._showing.pop((set_name, key), ()):
            row = self.rows(shown_set).get(shown_key)
            if row is not None:
                row.texts.clear()

    def name_of(self, reference: Values, shown_in: Slot | None = None) -> str | None:
        """The primary attribute of the record that a lookup holds: the Name that goes with it.

        `shown_in`: the row whose text will show the name.
        """
        entity_set = self.schema.sets_by_logical_name.get(reference["LogicalName"] or "")
        title = self.schema.title_property(entity_set.name) if entity_set is not None else None
        if entity_set is None or title is None:
            return None
        if shown_in is not None:
            self._showing.setdefault((entity_set.name, reference["Id"]), set()).add(shown_in)
        row = self.rows(entity_set.name).get(reference["Id"])
        return row.values[title] if row is not None else None

    def shown(self, entity_set: EntitySet, key: uuid.UUID) -> Values:
        """A copy of the row's values as a reply shows them: lookups with Name, null complex values None."""
        values = dict(self.rows(entity_set.name)[key].values)
        for name, declared in entity_set.entity_type.properties.items():
            reference = values[name]
            if reference is not None and is_reference(declared):
                values[name] = {**reference, "Name": self.name_of(reference, (entity_set.name, key))}
        return values

    # Related records

    def related(self, key: uuid.UUID, relationship: Relationship) -> list[uuid.UUID]:
        """The keys that a navigation property leads to, in the default order."""
        if relationship.kind == "referrers":
            held = (logical_name(relationship.source), key)
            return self._index(relationship.target, relationship.lookup).get(held, [])
        if relationship.kind == "lookup":
            row = self.get(relationship.source.name, key)
            reference = row.values[relationship.lookup] if row is not None else None
            if reference is None or reference["LogicalName"] != logical_name(relationship.target):
                return []
            return (
                [reference["Id"]] if self.get(relationship.target.name, reference["Id"]) is not None else []
            )
        rows = self.rows(relationship.target.name)
        found = [other for other in self._linked(key, relationship) if other in rows]
        return sorted(found, key=guid_order)

    def _index(self, entity_set: EntitySet, lookup: str) -> dict[Slot, list[uuid.UUID]]:
        """Keys of the rows of a set by the record that their lookup holds, its logical name and its key."""
        slot = (entity_set.name, lookup)
        cached = self._indexes.get(slot)
        if cached is not None and cached[0] == self.generation:
            return cached[1]
        index: dict[Slot, list[uuid.UUID]] = {}
        rows = self.rows(entity_set.name)
        for key in self.ordered(entity_set.name):
            reference = rows[key].values[lookup]
            if reference is not None:
                index.setdefault((reference["LogicalName"], reference["Id"]), []).append(key)
        self._indexes[slot] = (self.generation, index)
        return index

    def _linked(self, key: uuid.UUID, relationship: Relationship) -> Iterator[uuid.UUID]:
        intersect = relationship.intersect
        if intersect is not None:
            for row in self.rows(intersect.entity_set.name).values():
                if row.values[intersect.first] == key:
                    yield row.values[intersect.second]
            return
        for first, second in self.pairs.get(relationship.association, ()):
            if relationship.first and first == key:
                yield second
            elif not relationship.first and second == key:
                yield first

    def link(self, key: uuid.UUID, relationship: Relationship, other: uuid.UUID, row_key: uuid.UUID) -> None:
        """Keep a pair of a many-to-many relationship; `row_key` is for its row, where a set shows it."""
        if other in self._linked(key, relationship):
            return
        intersect = relationship.intersect
        if intersect is None:
            pair = (key, other) if relationship.first else (other, key)
            self.pairs.setdefault(relationship.association, {})[pair] = None
            self.generation += 1
            return
        entity_type = intersect.entity_set.entity_type
        values: Values = dict.fromkeys(entity_type.properties)
        values |= {entity_type.key[0]: row_key, intersect.first: key, intersect.second: other}
        if "VersionNumber" in values:
            values["VersionNumber"] = self.next_version()
        self.put(intersect.entity_set.name, row_key, values)

    def unlink(self, key: uuid.UUID, relationship: Relationship, other: uuid.UUID) -> bool:
        intersect = relationship.intersect
        if intersect is None:
            pair = (key, other) if relationship.first else (other, key)
            removed = pair in self.pairs.get(relationship.association, {})
            self.pairs.get(relationship.association, {}).pop(pair, None)
            self.generation += 1
            return removed
        rows = self.rows(intersect.entity_set.name)
        wanted = {intersect.first: key, intersect.second: other}
        found = [row_key for row_key, row in rows.items() if wanted.items() <= row.values.items()]
        for row_key in found:
            self.drop(intersect.entity_set.name, row_key)
        return bool(found)

    def forget_links(self, set_name: str, key: uuid.UUID) -> None:
        """A record went: the rows that tied it to others go with it."""
        key_name = self.schema.key_name(self.schema.model.entity_sets[set_name])
        for entity_set in list(self.sets_in_use()):
            if self.schema.is_intersect(entity_set.name) and key_name in entity_set.entity_type.properties:
                rows = self.rows(entity_set.name)
                for row_key in [other for other, row in rows.items() if row.values[key_name] == key]:
                    self.drop(entity_set.name, row_key)
        for pairs in self.pairs.values():
            for pair in [pair for pair in pairs if key in pair]:
                del pairs[pair]
