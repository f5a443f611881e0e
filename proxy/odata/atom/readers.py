"""Atom that others wrote: bodies clients post, entries and links upstream shows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from lxml import etree

from proxy.odata.atom.writers import ATOM, DATA, METADATA
from proxy.odata.edm import EntityType, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.xml import parse_xml

_UPDATED = re.compile(r"<updated>[^<]*</updated>")
_BASE = re.compile(r"\sxml:base=\"(https?://[^/\"]+)", re.IGNORECASE)
_NEXT = re.compile(r'<link rel="next" href="([^"]*)"\s*/></feed>\s*\Z')


@dataclass(frozen=True, slots=True)
class EntryHead:
    """An entry's `id` and its title's text."""

    id: str
    title: str


def entry_heads(document: bytes) -> list[EntryHead]:
    """The entries of a feed, or the one of an entry document. Raises ODataError."""
    root = parse_xml(document)
    entries = [root] if root.tag == f"{{{ATOM}}}entry" else root.findall(f"{{{ATOM}}}entry")
    return [
        EntryHead(
            entry.findtext(f"{{{ATOM}}}id") or "",
            entry.findtext(f"{{{ATOM}}}title") or "",
        )
        for entry in entries
    ]


def parse_entry_body(body: bytes, entity_type: EntityType, model: Model) -> dict[str, Any]:
    """What a client posts, by property (field manual, 6.5 and 13.9). Raises ODataError."""
    root = parse_xml(body)
    if root.tag != f"{{{ATOM}}}entry":
        raise ODataError("The request body is no Atom entry.")
    # Not the first anywhere in the document: an entity nested in a link has its own, and comes before.
    properties = root.find(f"{{{ATOM}}}content/{{{METADATA}}}properties")
    if properties is None:
        properties = root.find(f"{{{METADATA}}}properties")
    posted: dict[str, Any] = {}
    for element in () if properties is None else properties:
        name = etree.QName(element).localname
        declared = entity_type.properties.get(name)
        if declared is None:
            raise ODataError(
                f"The property name '{name}' specified for type '{entity_type.qualified_name}' is not valid."
            )
        posted[name] = _value(element, declared, model)
    return posted


def _value(element: Any, declared: Property, model: Model) -> Any:
    complex_type = model.complex_type(declared.type)
    is_null = element.get(f"{{{METADATA}}}null") == "true"
    if complex_type is None:
        primitive = PRIMITIVES.get(declared.type)
        if primitive is None:
            raise ODataError(f"The property '{declared.name}' has the unknown type '{declared.type}'.")
        return None if is_null else primitive.from_atom(element.text or "")
    if is_null:
        return dict.fromkeys(complex_type.properties)
    return {
        name: _value(child, complex_type.properties[name], model)
        for child in element
        if (name := etree.QName(child).localname) in complex_type.properties
    }


def parse_links_body(body: bytes) -> str:
    """The URL in a posted `<uri>`. Raises ODataError."""
    root = parse_xml(body)
    url = (root.text or "").strip()
    if root.tag not in (f"{{{DATA}}}uri", f"{{{METADATA}}}uri") or not url:
        raise ODataError("The request body is no link.")
    return url


def mask_updated(text: str) -> str:
    """The text without the moments of rendering, for comparing two renderings."""
    return _UPDATED.sub("<updated />", text)


def origin_of(text: str) -> str:
    """Scheme and host in `xml:base`; "" where there is none."""
    found = _BASE.search(text)
    return found[1] if found else ""


def next_link(text: str) -> str | None:
    """The next link of a feed."""
    found = _NEXT.search(text)
    return (
        found[1].replace("&quot;", '"').replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
        if found
        else None
    )


def string_values(document: str) -> dict[str, str]:
    """The strings of an entity's JSON document, by property."""
    return {name: value for name, value in json.loads(document).items() if isinstance(value, str)}
