"""Bodies written from the mirror alone, as upstream would write them; pure.

An entity comes in as JSON text in its document's own bytes, with expansions inside, and is whole where the
body is to be Atom: an entry's title may show what is not selected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proxy.odata import atom, verbose_json
from proxy.odata.edm import EntitySet, Model, Property
from proxy.odata.media import Format
from proxy.odata.projection import Projection

JSON = "application/json;charset=utf-8"
ENTRY = "application/atom+xml;charset=utf-8"
XML = "application/xml;charset=utf-8"
SERVICE = "application/atomsvc+xml;charset=utf-8"
TEXT = "text/plain;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Body:
    """`version`: the version of the protocol that a reader needs."""

    content: str | bytes
    content_type: str
    version: str = "1.0;"


@dataclass(frozen=True, slots=True)
class Representation:
    """How an answer is written. `root`: the service root as the client knows it; `restore` puts roots in the
    place of what documents hold of them; `updated`: the moment of rendering, as XML writes it."""

    format: Format
    model: Model
    root: str
    restore: Callable[[str], str]
    updated: str

    def select(self, projection: Projection) -> tuple[str, ...] | None:
        """What an entity's text has to show of a projection, before it comes in here."""
        return projection.select if self.format == "json" else None

    def entity(self, text: str, entity_set: EntitySet, projection: Projection, title: str) -> Body:
        """`title`: the property that an entry's title shows, "" for none."""
        text = self.restore(text)
        if self.format == "json":
            return Body(verbose_json.write_d(text), JSON)
        entry = atom.entry_from_document(
            text, entity_set, self.model, title=title, updated=self.updated, select=projection.select
        )
        return Body(entry, ENTRY)

    def page(
        self,
        texts: Sequence[str],
        entity_set: EntitySet,
        projection: Projection,
        title: str,
        *,
        next_link: str | None,
        count: int | None,
    ) -> Body:
        """A page of a collection; `title` as in `entity`."""
        if self.format == "json":
            page = verbose_json.write_collection(texts, next_link, count)
            return Body(verbose_json.write_d(self.restore(page)), JSON, "2.0;")
        feed = atom.feed_from_documents(
            [self.restore(text) for text in texts],
            entity_set,
            self.model,
            title=title,
            updated=self.updated,
            select=projection.select,
            next_link=next_link,
            root=None if texts else self.root,
            count=count,
        )
        return Body(feed, ENTRY, "2.0;")

    def property(self, name: str, text: str | None, declared: Property) -> Body:
        """`text`: the value's own JSON; None where the document is older than the property."""
        if text is None:
            text = verbose_json.write_value(None, declared, self.model)
        if self.format == "json":
            return Body(verbose_json.write_d(f"{{{json.dumps(name)}:{text}}}"), JSON)
        return Body(atom.write_property(name, json.loads(text), declared, self.model), XML)

    def links(
        self, documents: Sequence[str], *, many: bool, next_link: str | None, count: int | None
    ) -> Body:
        """The URLs of entities, as their documents spell them."""
        texts = [verbose_json.value_at(document, ("__metadata", "uri")) or '""' for document in documents]
        uris = [json.loads(self.restore(text)) for text in texts]
        version = "1.0;" if next_link is None and count is None else "2.0;"
        if self.format == "json":
            text = verbose_json.write_links(uris, many=many, next_link=next_link, count=count)
            return Body(text, JSON, version)
        return Body(atom.write_links(uris, many=many, next_link=next_link, count=count), XML, version)

    def service(self, names: Iterable[str], accept: str) -> Body:
        if self.format == "json":
            return Body(verbose_json.write_service_document(names), JSON)
        content_type = SERVICE if "atomsvc" in accept.lower() else XML
        return Body(atom.write_service_document(self.root, names), content_type)
