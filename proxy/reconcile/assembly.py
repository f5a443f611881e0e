"""Bodies made from stored documents, equal byte for byte to those upstream would have sent.

A JSON body is upstream's own check reply with each entity's text replaced by the stored one, so that
whatever stands around the entities is upstream's. An Atom body is written from the documents.
Pure; a function that cannot promise equal bytes gives None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from proxy.odata import atom
from proxy.odata.edm import EntitySet, Model
from proxy.odata.query_options import restore_select
from proxy.odata.verbose_json import ESCAPED_ORIGIN, Sliced, hold_origins, restore_origins, select_members

JSON_TYPE = "application/json;charset=utf-8"
ATOM_TYPE = "application/atom+xml;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Shape:
    """The form in which a client wants entities. `title`: the property that Atom titles show, "" for none.

    `query`: the client's raw query; `select`: its `$select`, None for all properties.
    """

    entity_set: EntitySet
    model: Model
    format: Literal["json", "atom"]
    select: tuple[str, ...] | None
    title: str
    query: str | None
    origin: str
    root_path: str

    @property
    def content_type(self) -> str | None:
        """None: as upstream's own reply says."""
        return ATOM_TYPE if self.format == "atom" else None


def follows_select(raw: Mapping[str, object], asked_names: Sequence[str]) -> bool:
    """True where an entity shows just what a check asked for, in the order in which it asked."""
    return [name for name in raw if name != "__metadata"] == list(asked_names)


def entity_body(document: str, around: tuple[str, Sliced] | None, shape: Shape, now: datetime) -> str | None:
    """The body for one stored document; `around` is the JSON reply that confirmed it."""
    if shape.format == "atom":
        whole = restore_origins(document, shape.origin)
        return atom.entry_from_document(
            whole,
            shape.entity_set,
            shape.model,
            title=shape.title,
            updated=_instant(now),
            select=shape.select,
        )
    entity = document if shape.select is None else select_members(document, shape.select)
    if entity is None:
        return None
    text, spans = ("{}", [(0, 2)]) if around is None else (around[0], around[1].spans)
    (start, end), *_ = spans
    body = text[:start] + _indented_as(entity, text[start:end]) + text[end:]
    return restore_origins(body if around else f'{{"d":{body}}}', shape.origin)


def page_body(
    documents: Sequence[str],
    around: tuple[str, Sliced],
    asked_names: Sequence[str],
    shape: Shape,
    now: datetime,
) -> str | None:
    """The body of a page whose rows `around`, a check that selected `asked_names`, showed in this order."""
    text, sliced = around
    link = _next_link(text, sliced, shape.query, asked_names)
    if link is None:
        return None
    if shape.format == "atom":
        return _feed(documents, link, shape, now)
    entities = [d if shape.select is None else select_members(d, shape.select) for d in documents]
    replacements = [
        ((start, end), entity and _indented_as(entity, text[start:end]))
        for (start, end), entity in zip(sliced.spans, entities, strict=True)
    ]
    if sliced.next_span is not None:
        replacements.append((sliced.next_span, hold_origins(f'"__next":"{link}"', shape.root_path)[9:]))
    pieces: list[str] = []
    at = 0
    for (start, end), replacement in sorted(replacements, key=lambda pair: pair[0]):
        if replacement is None:
            return None
        pieces += (text[at:start], replacement)
        at = end
    return restore_origins("".join((*pieces, text[at:])), shape.origin)


def page_from_mirror(
    documents: Sequence[str], next_link: str | None, shape: Shape, now: datetime
) -> str | None:
    """The body of a page that nothing but the mirror says: `next_link` is a whole URL."""
    if shape.format == "atom":
        return _feed(documents, next_link or "", shape, now)
    entities = [d if shape.select is None else select_members(d, shape.select) for d in documents]
    if None in entities:
        return None
    link = None
    if next_link is not None:
        # Spelt as in the entities: a server escapes the solidus, or does not.
        escapes = any(ESCAPED_ORIGIN in document for document in documents)
        link = next_link.replace("/", "\\/") if escapes else next_link
    tail = "" if link is None else f',"__next":"{link}"'
    body = f'{{"d":{{"results":[{",".join(filter(None, entities))}]{tail}}}}}'
    return restore_origins(body, shape.origin)


def _indented_as(entity: str, shown: str) -> str:
    """`entity` with the indentation of `shown`: a server that indents does so by depth, and a page is deeper.

    JSON strings hold no raw line feed, so that every one there is is followed by indentation.
    """
    if "\n" not in entity:
        return entity
    return entity.replace(f"\n{_base(entity)}", f"\n{_base(shown)}")


def _base(entity: str) -> str:
    """The indentation of an entity's closing brace, which all its lines begin with."""
    return entity[entity.rfind("\n") + 1 : -1]


def _feed(documents: Sequence[str], link: str, shape: Shape, now: datetime) -> str | None:
    if not documents:  # nothing shows how upstream spells its root
        return None
    held_link = hold_origins(f'"__next":"{link}"', shape.root_path)[10:-1].replace("\\/", "/")
    return atom.feed_from_documents(
        [restore_origins(document, shape.origin) for document in documents],
        shape.entity_set,
        shape.model,
        title=shape.title,
        updated=_instant(now),
        select=shape.select,
        next_link=restore_origins(held_link, shape.origin) or None,
    )


def _next_link(text: str, sliced: Sliced, query: str | None, asked_names: Sequence[str]) -> str | None:
    """The next link as JSON text without its quotes, with the client's own `$select`; "" for no link."""
    if sliced.next_span is None:
        return ""
    start, end = sliced.next_span
    link = text[start + 1 : end - 1]
    # Text that the JSON writer escaped in its own way cannot be written again in that way for certain.
    if "\\" in link.replace("\\/", ""):
        return None
    return restore_select(link, query, asked_names)


def _instant(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
