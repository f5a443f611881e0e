"""Atom, the XML format of OData v2: writers as upstream writes it, readers of what others wrote."""

from proxy.odata.atom.origins import hold_origins, restore_origins, rewrite_origins
from proxy.odata.atom.readers import (
    EntryHead,
    entry_heads,
    mask_updated,
    next_link,
    origin_of,
    parse_entry_body,
    parse_links_body,
    string_values,
)
from proxy.odata.atom.writers import (
    entry_from_document,
    feed_from_documents,
    write_error,
    write_feed,
    write_links,
    write_property,
    write_service_document,
    write_value,
)

__all__ = [
    "EntryHead",
    "entry_from_document",
    "entry_heads",
    "feed_from_documents",
    "hold_origins",
    "mask_updated",
    "next_link",
    "origin_of",
    "parse_entry_body",
    "parse_links_body",
    "restore_origins",
    "rewrite_origins",
    "string_values",
    "write_error",
    "write_feed",
    "write_links",
    "write_property",
    "write_service_document",
    "write_value",
]
