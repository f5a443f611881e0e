"""Verbose JSON, the JSON format of OData v2: as text (slices, origins) and as values.

What upstream wrote is never written anew: documents are kept and served in its own bytes.
"""

from proxy.odata.verbose_json.origins import (
    ESCAPED_ORIGIN,
    PLAIN_ORIGIN,
    hold_origins,
    restore_origins,
    restore_roots,
    rewrite_origins,
)
from proxy.odata.verbose_json.slices import (
    Member,
    Sliced,
    fill_members,
    members,
    null_members,
    put_members,
    select_members,
    slice_reply,
    value_at,
    without_members,
)
from proxy.odata.verbose_json.values import (
    MAX_DEPTH,
    MAX_VALUES,
    content_digest,
    entity_key,
    entity_uri,
    etag,
    parse_entity,
    parse_posted,
)
from proxy.odata.verbose_json.writers import (
    entity_from_document,
    write_collection,
    write_d,
    write_entity,
    write_error,
    write_links,
    write_property,
    write_service_document,
    write_value,
)

__all__ = [
    "ESCAPED_ORIGIN",
    "MAX_DEPTH",
    "MAX_VALUES",
    "PLAIN_ORIGIN",
    "Member",
    "Sliced",
    "content_digest",
    "entity_from_document",
    "entity_key",
    "entity_uri",
    "etag",
    "fill_members",
    "hold_origins",
    "members",
    "null_members",
    "parse_entity",
    "parse_posted",
    "put_members",
    "restore_origins",
    "restore_roots",
    "rewrite_origins",
    "select_members",
    "slice_reply",
    "value_at",
    "without_members",
    "write_collection",
    "write_d",
    "write_entity",
    "write_error",
    "write_links",
    "write_property",
    "write_service_document",
    "write_value",
]
