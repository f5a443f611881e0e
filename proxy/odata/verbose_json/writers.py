"""Verbose JSON as WCF Data Services writes it: compact, model order, everything outside ASCII escaped.

Sources: field manual 5.2 and section 13; MS-ODATA 2.2.6.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proxy.odata.edm import EntitySet, EntityType, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.uri import format_key
from proxy.odata.verbose_json.slices import put_members, select_members, value_at
from proxy.odata.verbose_json.values import entity_key

_NOTHING: Mapping[str, str] = {}


def write_entity(
    values: Mapping[str, Any],
    entity_set: EntitySet,
    model: Model,
    root: str,
    *,
    select: Sequence[str] | None = None,
    expanded: Mapping[str, str] | None = None,
) -> str:
    """One entity's object. `root`: the service root without a slash at its end.

    select: the names to show, in this order; None shows all, with navigation properties deferred.
    expanded: JSON text by navigation property, in the place of what would be deferred.
    """
    entity_type = entity_set.entity_type
    uri = f"{root}/{entity_set.name}({format_key(entity_key(values, entity_type))})"
    names = [*entity_type.properties, *entity_type.navigation_properties] if select is None else select
    pieces = [f'"__metadata":{{"uri":{_text(uri)},"type":{_text(entity_type.qualified_name)}}}']
    for name in dict.fromkeys(names):
        declared = entity_type.properties.get(name)
        if declared is not None:
            shown = write_value(values.get(name), declared, model)
        elif expanded and name in expanded:
            shown = expanded[name]
        else:
            shown = f'{{"__deferred":{{"uri":{_text(f"{uri}/{name}")}}}}}'
        pieces.append(f"{_text(name)}:{shown}")
    return "{" + ",".join(pieces) + "}"


def entity_from_document(
    document: str,
    entity_type: EntityType,
    model: Model,
    *,
    select: Sequence[str] | None = None,
    inlined: Mapping[str, str] = _NOTHING,
) -> str:
    """One entity's object in the bytes of its document, which is valid.

    select: the names to show, in this order; None shows all. inlined: JSON text by navigation property, in
    the place of what the document shows there. What is declared and the document does not show, because it
    is older than the declaration, is null or deferred.
    """
    shown = document if select is None else select_members(document, select)
    if shown is None:
        absent = {
            name: _absent(name, document, entity_type, model)
            for name in select or ()
            if value_at(document, (name,)) is None
        }
        shown = select_members(put_members(document, absent), select or ())
    if shown is None:
        raise ODataError("The document is no entity's.")
    return put_members(shown, inlined) if inlined else shown


def _absent(name: str, document: str, entity_type: EntityType, model: Model) -> str:
    declared = entity_type.properties.get(name)
    if declared is not None:
        return write_value(None, declared, model)
    uri = value_at(document, ("__metadata", "uri")) or '""'
    return f'{{"__deferred":{{"uri":{uri[:-1]}/{name}"}}}}'


def write_value(value: Any, declared: Property, model: Model) -> str:
    """A property's value. A null complex value is an object of nulls (field manual, 5.2)."""
    complex_type = model.complex_type(declared.type)
    if complex_type is None:
        return "null" if value is None else PRIMITIVES[declared.type].to_json_text(value)
    members = value or {}
    pieces = [f'"__metadata":{{"type":{_text(complex_type.qualified_name)}}}']
    for name, member in complex_type.properties.items():
        pieces.append(f"{_text(name)}:{write_value(members.get(name), member, model)}")
    return "{" + ",".join(pieces) + "}"


def write_collection(entities: Iterable[str], next_link: str | None = None, count: int | None = None) -> str:
    """`{"results":[…],"__count":…,"__next":…}` without the wrapper `d`."""
    tail = "" if count is None else f',"__count":"{count}"'
    tail += "" if next_link is None else f',"__next":{_text(next_link)}'
    return f'{{"results":[{",".join(entities)}]{tail}}}'


def write_d(text: str) -> str:
    """The wrapper of every reply but an error."""
    return f'{{"d":{text}}}'


def write_property(name: str, value: Any, declared: Property, model: Model) -> str:
    """The reply to a property's own URL."""
    return write_d(f"{{{_text(name)}:{write_value(value, declared, model)}}}")


def write_error(code: str, message: str, lang: str = "en-US") -> str:
    """An error document (field manual, 8.1)."""
    return f'{{"error":{{"code":{_text(code)},"message":{{"lang":{_text(lang)},"value":{_text(message)}}}}}}}'


def write_service_document(names: Iterable[str]) -> str:
    return write_d(f'{{"EntitySets":[{",".join(map(_text, names))}]}}')


def write_links(
    uris: Sequence[str], *, many: bool, next_link: str | None = None, count: int | None = None
) -> str:
    """The reply to `$links`."""
    links = [f'{{"uri":{_text(uri)}}}' for uri in uris]
    return write_d(write_collection(links, next_link, count) if many else links[0])


def _text(value: str) -> str:
    return json.dumps(value)
