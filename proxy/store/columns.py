"""The columns of a mirror table: those typed by the EDM, and those by which the mirror keeps itself.

Values travel to Postgres as JSON, and Postgres converts them (`jsonb_to_recordset`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, INTERVAL, REAL
from sqlalchemy.types import TypeEngine

from proxy.odata.edm import ComplexType, EntityType, Model, Property

# Edm.DateTime is UTC without saying so, and so is its column.
SQL_TYPES: Mapping[str, TypeEngine[Any]] = {
    "Edm.Binary": LargeBinary(),
    "Edm.Boolean": Boolean(),
    "Edm.Byte": SmallInteger(),
    "Edm.DateTime": DateTime(),
    "Edm.DateTimeOffset": DateTime(timezone=True),
    "Edm.Decimal": Numeric(),
    "Edm.Double": DOUBLE_PRECISION(),
    "Edm.Guid": Uuid(),
    "Edm.Int16": SmallInteger(),
    "Edm.Int32": Integer(),
    "Edm.Int64": BigInteger(),
    "Edm.SByte": SmallInteger(),
    "Edm.Single": REAL(),
    "Edm.String": Text(),
    "Edm.Time": INTERVAL(),
}

# What a Postgres text cannot hold. The document can: there such a character is an escape.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def control_columns() -> list[Column[Any]]:
    """The columns by which the mirror keeps itself; a property of the same name gives way."""
    return [
        Column(
            "document",
            Text,
            comment="The entity as upstream wrote it: verbose JSON, origins as placeholders. Null: none.",
        ),
        Column("digest", LargeBinary, comment="Digest of the content; empty for a tombstone."),
        Column("previous_digest", LargeBinary, comment="The digest before the last change."),
        Column("stamp_modified_on", DateTime, comment="Stamp: ModifiedOn, UTC, as last seen."),
        Column("stamp_version_number", BigInteger, comment="Stamp: VersionNumber as last seen."),
        Column("etag", Text, comment="Stamp: the ETag as last seen."),
        Column(
            "settled",
            Boolean,
            nullable=False,
            comment="An equal stamp proves that nothing changed. False: fetch it rather than check.",
        ),
        Column(
            "fetch_number",
            BigInteger,
            nullable=False,
            comment="Number of the fetch or write that the row stands for; gives way only to a higher one.",
        ),
        Column(
            "fetched_at",
            DateTime(timezone=True),
            nullable=False,
            comment="When the newest fetch that showed this state was sent, by the proxy's clock.",
        ),
        Column(
            "intents",
            Integer,
            nullable=False,
            server_default="0",
            comment="Writes under way that name the entity; while there are any, only they store it.",
        ),
        Column("conflict", BigInteger, comment="Id of the open conflict in syncpoint.conflicts."),
        Column(
            "deleted_at",
            DateTime(timezone=True),
            comment="When the entity was found deleted, by the proxy's clock. Not null: a tombstone.",
        ),
    ]


CONTROL_NAMES = frozenset(column.name for column in control_columns())


@dataclass(frozen=True, slots=True)
class TypedPath:
    """A primitive value of an entity: a property, or a member of a complex one."""

    members: tuple[str, ...]
    edm_type: str

    @property
    def path(self) -> str:
        return "/".join(self.members)

    def value(self, values: Mapping[str, Any]) -> Any:
        """The value among an entity's; None where a complex value in between is none."""
        value = values.get(self.members[0])
        for member in self.members[1:]:
            value = None if value is None else value.get(member)
        return value


def typed_paths(entity_type: EntityType, model: Model) -> list[TypedPath]:
    """All primitive values of the type in document order, complex types member by member.

    What has a type that OData v2 does not know, or the model does not, is left to the document.
    """
    return [path for declared in entity_type.properties.values() for path in _paths(declared, model, (), ())]


def _paths(
    declared: Property, model: Model, above: tuple[str, ...], within: tuple[ComplexType, ...]
) -> Iterator[TypedPath]:
    members = (*above, declared.name)
    if declared.type in SQL_TYPES:
        yield TypedPath(members, declared.type)
        return
    complex_type = model.complex_type(declared.type)
    if complex_type is None or complex_type in within:
        return
    for member in complex_type.properties.values():
        yield from _paths(member, model, members, (*within, complex_type))


def can_hold(text: str) -> bool:
    """True where a Postgres text can hold it."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """The text with U+FFFD for what a Postgres text cannot hold."""
    if text.isascii() and "\x00" not in text:  # most are, and that is seen at once
        return text
    return _UNSTORABLE.sub("�", text)


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds * 1_000_000 + value.microseconds} microseconds"


def bytea(value: bytes) -> str:
    """Bytes as Postgres reads them."""
    return "\\x" + value.hex()


# By EDM type: from a Python value to one that JSON has and Postgres reads as the column's type.
# JSON has no NaN, so all numbers but integers travel as text.
_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "Edm.Binary": bytea,
    "Edm.DateTime": datetime.isoformat,
    "Edm.DateTimeOffset": datetime.isoformat,
    "Edm.Decimal": Decimal.__str__,
    "Edm.Double": repr,
    "Edm.Guid": UUID.__str__,
    "Edm.Single": repr,
    "Edm.String": storable,
    "Edm.Time": _interval,
}


def encoder(edm_type: str) -> Callable[[Any], Any] | None:
    """What makes a value of the type fit for JSON; None where it is already."""
    return _ENCODERS.get(edm_type)
