"""Atom as WCF Data Services writes it: compact, attributes in its order, ` />` for what is empty.

Sources: field manual 5.3, 13.8 and 13.9. An entry is written from an entity's verbose JSON document, so
that the mirror, which keeps those, and a service that writes them say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from proxy.odata.edm import EntitySet, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES

DECLARATION = '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"
METADATA = f"{DATA}/metadata"
ATOM = "http://www.w3.org/2005/Atom"
APP = "http://www.w3.org/2007/app"
_NAMESPACES = f'xmlns:d="{DATA}" xmlns:m="{METADATA}" xmlns="{ATOM}"'

# Of one property: its element where it is null, and what writes it from another JSON value.
_Writer = tuple[str, Callable[[Any], str]]

_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}
_ATTRIBUTE = _TEXT | {'"': "&quot;", "\n": "&#xA;", "\t": "&#x9;"}
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_TEXT = re.compile(f"[&<>\r{_ILLEGAL.pattern[1:]}")
_IN_ATTRIBUTE = re.compile(f'[&<>"\r\n\t{_ILLEGAL.pattern[1:]}')


def text_of(value: str) -> str:
    """Element text; a character that XML does not have becomes the reference that a lax writer gives it."""
    if value.isprintable() and not ("&" in value or "<" in value or ">" in value):  # most are
        return value
    return _IN_TEXT.sub(lambda found: _TEXT.get(found[0], f"&#x{ord(found[0]):X};"), value)


def attribute_of(value: str) -> str:
    return _IN_ATTRIBUTE.sub(lambda found: _ATTRIBUTE.get(found[0], f"&#x{ord(found[0]):X};"), value)


def entry_from_document(
    document: str,
    entity_set: EntitySet,
    model: Model,
    *,
    title: str,
    updated: str,
    select: Sequence[str] | None = None,
) -> str:
    """A standalone entry of one entity. Raises ODataError for what is no entity's JSON.

    title: the property that the entry's title shows, "" for none. updated: the moment of rendering, as XML
    writes it. select: the properties to show, in this order; without links then.
    """
    raw = _parsed(document)
    root = _root_of(raw, entity_set)
    head = f'<entry xml:base="{attribute_of(root)}/" {_NAMESPACES}>'
    return DECLARATION + _entry(raw, entity_set, model, title, updated, select, head)


def feed_from_documents(
    documents: Sequence[str],
    entity_set: EntitySet,
    model: Model,
    *,
    title: str,
    updated: str,
    select: Sequence[str] | None = None,
    next_link: str | None = None,
    root: str | None = None,
    count: int | None = None,
) -> str:
    """A feed of entities. `root` is needed where there is no entity to show it."""
    parsed = [_parsed(document) for document in documents]
    if root is None:
        if not parsed:
            raise ODataError("An empty feed does not show its service root.")
        root = _root_of(parsed[0], entity_set)
    entries = [_entry(raw, entity_set, model, title, updated, select, "<entry>") for raw in parsed]
    return DECLARATION + write_feed(
        entries, entity_set.name, f"{root}/{entity_set.name}", updated, next_link, base=root, count=count
    )


def write_feed(
    entries: Sequence[str],
    name: str,
    url: str,
    updated: str,
    next_link: str | None = None,
    *,
    base: str | None = None,
    href: str | None = None,
    count: int | None = None,
) -> str:
    """A feed element; standalone (with namespaces) where `base`, the service root, is given.

    href: `url` as seen from the service root, where that is not `name`.
    """
    head = f'<feed xml:base="{attribute_of(base)}/" {_NAMESPACES}>' if base else "<feed>"
    pieces = [
        head,
        f'<title type="text">{text_of(name)}</title>',
        f"<id>{text_of(url)}</id>",
        f"<updated>{updated}</updated>",
        "" if entries else "<author><name /></author>",
        f'<link rel="self" title="{attribute_of(name)}" href="{attribute_of(href or name)}" />',
        "" if count is None else f"<m:count>{count}</m:count>",
        *entries,
        "" if next_link is None else f'<link rel="next" href="{attribute_of(next_link)}" />',
        "</feed>",
    ]
    return "".join(pieces)


def _parsed(document: str) -> dict[str, Any]:
    try:
        raw = json.loads(document)
    except ValueError as error:
        raise ODataError("The text is no entity's JSON.") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("__metadata"), dict):
        raise ODataError("The text is no entity's JSON.")
    return raw


def _root_of(raw: Mapping[str, Any], entity_set: EntitySet) -> str:
    uri = str(raw["__metadata"].get("uri", ""))
    at = uri.rfind(f"/{entity_set.name}(")
    if at < 0:
        raise ODataError("The entity's URI does not name its set.")
    return uri[:at]


def _entry(
    raw: Mapping[str, Any],
    entity_set: EntitySet,
    model: Model,
    title: str,
    updated: str,
    select: Sequence[str] | None,
    head: str,
) -> str:
    entity_type = entity_set.entity_type
    uri = str(raw["__metadata"]["uri"])
    href = attribute_of(uri[len(_root_of(raw, entity_set)) + 1 :])
    shown_title = raw.get(title) if title else None
    links = [
        _link(name, raw, href, model, entity_set, updated)
        for name in (entity_type.navigation_properties if select is None else select)
        if name in entity_type.navigation_properties
    ]
    writers = _writers(entity_type.qualified_name, entity_type.properties, model)
    names = writers if select is None else dict.fromkeys(select)
    properties = _values(raw, [name for name in names if name in writers], writers)
    return "".join(
        [
            head,
            f"<id>{text_of(uri)}</id>",
            f'<title type="text">{text_of(str(shown_title or ""))}</title>',
            f"<updated>{updated}</updated>",
            "<author><name /></author>",
            f'<link rel="edit" title="{entity_type.name}" href="{href}" />',
            *links,
            f'<category term="{entity_type.qualified_name}" scheme="{DATA}/scheme" />',
            '<content type="application/xml"><m:properties>',
            *properties,
            "</m:properties></content></entry>",
        ]
    )


def _link(
    name: str, raw: Mapping[str, Any], href: str, model: Model, entity_set: EntitySet, updated: str
) -> str:
    """A navigation property; what is expanded in `raw` stands inside it."""
    navigation = entity_set.entity_type.navigation_properties[name]
    kind = "feed" if navigation.multiplicity == "*" else "entry"
    head = (
        f'<link rel="{DATA}/related/{name}" type="application/atom+xml;type={kind}"'
        f' title="{name}" href="{href}/{name}"'
    )
    value = raw.get(name)
    if (isinstance(value, dict) and "__deferred" in value) or name not in raw:
        return f"{head} />"
    inner = _inline(name, value, raw, model, entity_set, updated)
    return f"{head}><m:inline>{inner}</m:inline></link>" if inner else f"{head}><m:inline /></link>"


def _inline(
    name: str, value: Any, owner: Mapping[str, Any], model: Model, entity_set: EntitySet, updated: str
) -> str:
    target = model.navigation_target(entity_set, name)
    if target is None or value is None:
        return ""
    if isinstance(value, Mapping) and "results" in value:
        entries = [
            _entry(each, target, model, "", updated, _shown_of(each, target), "<entry>")
            for each in value["results"]
        ]
        url = f"{owner['__metadata']['uri']}/{name}"
        href = url[len(_root_of(owner, entity_set)) + 1 :]
        return write_feed(entries, name, url, updated, value.get("__next"), href=href)
    return _entry(value, target, model, "", updated, _shown_of(value, target), "<entry>")


def _shown_of(raw: Mapping[str, Any], entity_set: EntitySet) -> Sequence[str] | None:
    """The names in an expanded entity of which a part was selected; None for a whole one."""
    entity_type = entity_set.entity_type
    if {*entity_type.properties, *entity_type.navigation_properties} <= raw.keys():
        return None
    return [name for name in raw if name != "__metadata"]


def write_value(name: str, value: Any, declared: Property, model: Model) -> str:
    """A property's element from its JSON value."""
    null, write = _writer(name, declared, model)
    return null if value is None else write(value)


def _writers(name: str, properties: Mapping[str, Property], model: Model) -> Mapping[str, _Writer]:
    """What writes each property of the type `name`: all but the values is the same for every entity."""
    return model.derived(
        _writers,
        name,
        lambda: {each: _writer(each, declared, model) for each, declared in properties.items()},
    )


def _writer(name: str, declared: Property, model: Model) -> _Writer:
    complex_type = model.complex_type(declared.type)
    is_text = declared.type == "Edm.String"
    kind = "" if is_text else f' m:type="{declared.type}"'
    head, tail = f"<d:{name}{kind}>", f"</d:{name}>"
    if complex_type is not None:
        members = _writers(complex_type.qualified_name, complex_type.properties, model)
        return (
            head + "".join(null for null, _ in members.values()) + tail,
            lambda value: head + "".join(_values(value, members, members)) + tail,
        )
    null, spaced = f'<d:{name}{kind} m:null="true" />', f'<d:{name}{kind} xml:space="preserve">'
    primitive = PRIMITIVES[declared.type]
    from_json, to_atom = primitive.from_json, primitive.to_atom

    def write_text(value: Any) -> str:
        text = text_of(from_json(value))
        return (spaced if text[:1].isspace() or text[-1:].isspace() else head) + text + tail

    return null, write_text if is_text else lambda value: head + to_atom(from_json(value)) + tail


def _values(raw: Mapping[str, Any], names: Iterable[str], writers: Mapping[str, _Writer]) -> list[str]:
    """The elements of properties."""
    pieces = []
    for name in names:
        null, write = writers[name]
        value = raw.get(name)
        pieces.append(null if value is None else write(value))
    return pieces


def write_property(name: str, value: Any, declared: Property, model: Model) -> str:
    """The reply to a property's own URL; `value` as in JSON."""
    element = write_value(name, value, declared, model)
    head, _, tail = element.partition(f"<d:{name}")
    return f"{DECLARATION}{head}<{name}{tail}".replace(f"</d:{name}>", f"</{name}>").replace(
        f"<{name}", f'<{name} xmlns:d="{DATA}" xmlns:m="{METADATA}" xmlns="{DATA}"', 1
    )


def write_error(code: str, message: str, lang: str = "en-US") -> str:
    """An error document (MS-ODATA 2.2.8.1; field manual, 8.1)."""
    return (
        f'{DECLARATION}<error xmlns="{METADATA}"><code>{text_of(code)}</code>'
        f'<message xml:lang="{attribute_of(lang)}">{text_of(message)}</message></error>'
    )


def write_service_document(root: str, names: Iterable[str]) -> str:
    """The service document; `root` without a slash at its end (field manual, 13.11)."""
    sets = "".join(
        f'<collection href="{attribute_of(name)}"><atom:title>{text_of(name)}</atom:title></collection>'
        for name in names
    )
    return (
        f'{DECLARATION}<service xml:base="{attribute_of(root)}/" xmlns:atom="{ATOM}" xmlns:app="{APP}"'
        f' xmlns="{APP}"><workspace><atom:title>Default</atom:title>{sets}</workspace></service>'
    )


def write_links(
    uris: Sequence[str], *, many: bool, next_link: str | None = None, count: int | None = None
) -> str:
    """The reply to `$links`."""
    if not many:
        return f'{DECLARATION}<uri xmlns="{DATA}">{text_of(uris[0])}</uri>'
    links = "".join(f"<uri>{text_of(uri)}</uri>" for uri in uris)
    counted = "" if count is None else f'<m:count xmlns:m="{METADATA}">{count}</m:count>'
    following = "" if next_link is None else f"<next>{text_of(next_link)}</next>"
    return f'{DECLARATION}<links xmlns="{DATA}">{counted}{links}{following}</links>'
