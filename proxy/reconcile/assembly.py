"""Bodies made from stored documents, equal byte for byte to those upstream would have sent.

A JSON body is upstream's own check reply with each entity's text replaced by the stored one, so that
whatever stands around the entities is upstream's. An Atom body is written from the documents.
Pure; every function gives None where it cannot promise equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntitySet, Model
from proxy.odata.query_options import restore_select

JSON_TYPE = "application/json;charset=utf-8"
ATOM_TYPE = "application/atom+xml;charset=utf-8"


def json_body(
    text: str,
    sliced: verbose_json.Sliced,
    documents: Sequence[str],
    select: Sequence[str] | None,
    client_query: str | None,
    asked_names: Sequence[str],
) -> str | None:
    """Put `documents` in the place of the entities in a check's reply `text`.

    asked_names: what the check selected. The result holds origins as placeholders, but for `text`'s own.
    """
    entities = documents if select is None else _selected(documents, select)
    if entities is None:
        return None
    next_link = _next_literal(text, sliced, client_query, asked_names)
    if next_link is None:
        return None
    pieces, at = [], 0
    replacements = list(zip(sliced.spans, entities, strict=True))
    if sliced.next_span is not None:
        replacements.append((sliced.next_span, next_link))
    for (start, end), replacement in sorted(replacements):
        pieces += (text[at:start], replacement)
        at = end
    pieces.append(text[at:])
    return "".join(pieces)


def _selected(documents: Sequence[str], select: Sequence[str]) -> list[str] | None:
    entities = []
    for document in documents:
        entity = verbose_json.select_members(document, select)
        if entity is None:
            return None
        entities.append(entity)
    return entities


def _next_literal(
    text: str, sliced: verbose_json.Sliced, client_query: str | None, asked_names: Sequence[str]
) -> str | None:
    """The JSON string of the next link with the client's own `$select`; "" where there is no link."""
    if sliced.next_span is None:
        return ""
    start, end = sliced.next_span
    link = text[start + 1 : end - 1]
    # Text that the JSON writer escaped in its own way cannot be written again in that way for certain.
    if "\\" in link.replace("\\/", ""):
        return None
    return f'"{restore_select(link, client_query, asked_names)}"'


def follows_select(raw: Mapping[str, object], asked_names: Sequence[str]) -> bool:
    """True where an entity shows just what a check asked for, in the order in which it asked."""
    return [name for name in raw if name != "__metadata"] == list(asked_names)


def atom_entry(
    document: str, entity_set: EntitySet, model: Model, title: str, select: Sequence[str] | None, updated: str
) -> str:
    """A standalone Atom entry of one stored document, origins restored."""
    return atom.entry_from_document(document, entity_set, model, title=title, updated=updated, select=select)


def atom_feed(
    documents: Sequence[str],
    entity_set: EntitySet,
    model: Model,
    title: str,
    select: Sequence[str] | None,
    next_link: str | None,
    updated: str,
) -> str:
    """An Atom feed of stored documents, origins restored."""
    return atom.feed_from_documents(
        documents, entity_set, model, title=title, updated=updated, select=select, next_link=next_link
    )
