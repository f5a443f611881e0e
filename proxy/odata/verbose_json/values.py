"""Verbose JSON as values: entities upstream shows, bodies clients post, and the digest of content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from proxy.odata.edm import EntityKey, EntityType, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES

# A value takes forty times its text in memory, where it is an array without anything in it.
MAX_VALUES = 1_000_000
MAX_DEPTH = 64
_DIGEST_BYTES = 16
# Of one property: its name, what reads it, and whether that takes no null.
_Reader = tuple[str, Callable[[Any], Any], bool]
_LOOKUP_MEMBERS = frozenset({"Id", "LogicalName", "Name"})


def parse_entity(raw: Mapping[str, Any], entity_type: EntityType, model: Model) -> dict[str, Any]:
    """Values by property of a parsed entity; properties it does not show are left out.

    A complex value is a dict of its members, all None for a null one. Raises ODataError where a value does
    not fit its EDM type.
    """
    readers = model.derived(
        parse_entity, entity_type.qualified_name, lambda: _readers(entity_type.properties, model)
    )
    if raw.keys() >= entity_type.properties.keys():
        return _values(raw, readers)
    return _values(raw, [reader for reader in readers if reader[0] in raw])


def _value(value: Any, declared: Property, model: Model) -> Any:
    return _values({declared.name: value}, _readers({declared.name: declared}, model))[declared.name]


def _values(raw: Mapping[str, Any], readers: Iterable[_Reader]) -> dict[str, Any]:
    """What is missing counts as null."""
    return {
        name: None if (value := raw.get(name)) is None and is_primitive else read(value)
        for name, read, is_primitive in readers
    }


def _readers(properties: Mapping[str, Property], model: Model) -> list[_Reader]:
    """What reads the parsed JSON of each property."""
    readers = []
    for name, declared in properties.items():
        primitive = PRIMITIVES.get(declared.type)
        readers.append(
            (
                name,
                primitive.from_json if primitive else _complex_reader(declared, model),
                primitive is not None,
            )
        )
    return readers


def _complex_reader(declared: Property, model: Model) -> Callable[[Any], dict[str, Any]]:
    complex_type = model.complex_type(declared.type)
    readers: list[_Reader] = []

    def read(value: Any) -> dict[str, Any]:
        if complex_type is None:
            raise ODataError(f"The property '{declared.name}' has the unknown type '{declared.type}'.")
        if value is None:
            return dict.fromkeys(complex_type.properties)
        if not isinstance(value, dict):
            raise ODataError(f"The property '{declared.name}' is no complex value.")
        if not readers:  # made when first needed: a type may contain itself
            readers.extend(_readers(complex_type.properties, model))
        return _values(value, readers)

    return read


def entity_key(values: Mapping[str, Any], entity_type: EntityType) -> EntityKey:
    """The key in `values`. Raises ODataError where a key property is missing or null."""
    for name in entity_type.key:
        if values.get(name) is None:
            raise ODataError(f"The entity does not show its key property '{name}'.")
    return tuple((name, values[name]) for name in entity_type.key)


def entity_uri(raw: Mapping[str, Any]) -> str | None:
    """`__metadata.uri` of a parsed entity."""
    return _about(raw, "uri")


def etag(raw: Mapping[str, Any]) -> str | None:
    """`__metadata.etag` of a parsed entity; Dynamics 2011 gives none (field manual, 1)."""
    return _about(raw, "etag")


def _about(raw: Mapping[str, Any], name: str) -> str | None:
    about = raw.get("__metadata")
    value = about.get(name) if isinstance(about, Mapping) else None
    return value if isinstance(value, str) else None


def content_digest(
    values: Mapping[str, Any], entity_type: EntityType, model: Model, *, leave_out: frozenset[str]
) -> bytes:
    """16 bytes that change when the content does.

    Without the properties `leave_out`, without the names in lookups, which change with the entity that is
    looked up (design, rule 3), and without nulls: a property that joins the type changes no entity.
    """
    lookups = model.derived(
        content_digest, entity_type.qualified_name, lambda: _lookups(entity_type.properties, model)
    )
    told = []
    for name in sorted(values):
        value = values[name]
        if name in leave_out or value is None:
            continue
        if isinstance(value, dict):
            if name in lookups and not _is_null(value):
                value = {member: part for member, part in value.items() if member != "Name"}
            if _is_null(value):
                continue
        told.append((name, value))
    return blake2b(_encode(told).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _lookups(properties: Mapping[str, Property], model: Model) -> frozenset[str]:
    types = {name: model.complex_type(declared.type) for name, declared in properties.items()}
    return frozenset(
        name for name, type_ in types.items() if type_ and type_.properties.keys() >= _LOOKUP_MEMBERS
    )


def _is_null(value: dict[str, Any]) -> bool:
    for part in value.values():
        if part is not None and not (isinstance(part, dict) and _is_null(part)):
            return False
    return True


# What JSON has no word for.
_SPELLINGS: Mapping[type, Callable[[Any], str]] = {
    datetime: datetime.isoformat,
    Decimal: "{:f}".format,
    UUID: UUID.__str__,
}
_encode = json.JSONEncoder(
    default=lambda value: _SPELLINGS.get(type(value), str)(value), separators=(",", ":"), check_circular=False
).encode


def parse_posted(body: bytes, entity_type: EntityType, model: Model) -> dict[str, Any]:
    """What a client posts, by name: properties as `parse_entity` gives them, nested entities of a deep
    insert as parsed JSON under their navigation property's name (field manual, 6.5 and 6.6).

    `__metadata` and `__deferred` of a body that was read before are passed over. Raises ODataError.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ODataError(f"A request body may have {MAX_VALUES} values.", status=413)
    try:
        raw = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ODataError("The request body is not valid JSON.") from error
    if isinstance(raw, dict) and isinstance(raw.get("d"), dict):
        raw = raw["d"]
    if not isinstance(raw, dict):
        raise ODataError("The request body is no entity.")
    if _is_deeper(raw, MAX_DEPTH):
        raise ODataError(f"A request body may nest {MAX_DEPTH} levels.")
    posted: dict[str, Any] = {}
    for name, value in raw.items():
        if name == "__metadata":
            continue
        declared = entity_type.properties.get(name)
        if declared is not None:
            posted[name] = _posted_value(value, declared, model)
        elif name not in entity_type.navigation_properties:
            raise ODataError(
                f"The property name '{name}' specified for type '{entity_type.qualified_name}' is not valid."
            )
        elif not (isinstance(value, dict) and "__deferred" in value):
            posted[name] = value
    return posted


def _is_deeper(value: Any, levels: int) -> bool:
    """True where arrays and objects nest more than this deeply. Whoever walks a deep insert recurses."""
    nested = [value]
    for _ in range(levels):
        nested = [
            inner
            for outer in nested
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(nested)


def _posted_value(value: Any, declared: Property, model: Model) -> Any:
    complex_type = model.complex_type(declared.type)
    if complex_type is None or value is None:
        return _value(value, declared, model)
    if not isinstance(value, Mapping):
        raise ODataError(f"The property '{declared.name}' is no top-level resource of a complex type.")
    given = {name: member for name, member in complex_type.properties.items() if name in value}
    return {name: _value(value[name], member, model) for name, member in given.items()}
