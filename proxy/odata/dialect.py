"""What the OData endpoint of Dynamics 2011 takes, and what it says to everything else (field manual, 2 to 8).

The rest of this package reads all of OData v2. Here is what of it that endpoint refuses, in its own words: so
that whoever answers in its place answers as it did. Every refusal is an ODataError with the status and the
message of the endpoint, and no code, since its own parsers refuse (8.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.headers import protocol_version
from proxy.odata.media import Format, response_format
from proxy.odata.projection import Projection, parse_projection
from proxy.odata.query_options import QueryOptions
from proxy.odata.relationships import Relationship, Relationships

PAGE = 50  # records (4.1)
EXPAND_LIMIT = 6  # navigation properties (3.3)
ORDER_LIMIT = 12  # columns (3.4)
METHODS = ("GET", "POST", "MERGE", "PUT", "DELETE")

_TUNNELLED = ("MERGE", "PUT", "DELETE")
_XML_TYPES = ("application/atomsvc+xml", "application/atom+xml", "application/xml", "text/xml")
_KNOWN = frozenset(
    {"$filter", "$select", "$expand", "$orderby", "$top", "$skip", "$skiptoken", "$inlinecount"}
)
_OF_COLLECTIONS = _KNOWN - {"$select", "$expand"}
_KEPT_IN_LINK = frozenset({"$filter", "$expand", "$orderby", "$inlinecount", "$select"})
_NO_COUNTS = "The ability of the data service to return row count information is disabled."


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server differs from others of its kind.

    `language`: "2011" as the manual has it, "v2" where the whole language and counts are served. `batches`:
    whether `$batch` is.
    """

    language: Literal["2011", "v2"] = "2011"
    batches: bool = False

    @property
    def is_narrow(self) -> bool:
        return self.language == "2011"


# Requests


def meant_method(method: str, headers: Mapping[str, str]) -> str:
    """The method after tunnelling, which counts on POST only (6.2). ODataError for one that is not known."""
    tunnelled = headers.get("X-HTTP-Method")
    if method == "POST" and tunnelled is not None:
        method = tunnelled.strip().upper()
        if method not in _TUNNELLED:
            raise ODataError(f"The X-HTTP-Method header value '{tunnelled}' is not valid.")
    if method not in METHODS:
        raise not_allowed(*METHODS)
    return method


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse conditions, since there are no ETags (6.9), and versions of the protocol to come."""
    for name in ("If-Match", "If-None-Match"):
        if name in headers:
            raise ODataError(f"{name} cannot be specified: the resource has no ETag properties.")
    asked = protocol_version(headers.get("DataServiceVersion"))
    if asked is not None and asked > (2, 0):
        raise ODataError("The version of the request is higher than this data service supports.")


def check_takes_pages(headers: Mapping[str, str]) -> None:
    """A page has the form of version 2, which is nothing for a client that takes version 1 (5.1)."""
    accepted = protocol_version(headers.get("MaxDataServiceVersion"))
    if accepted is not None and accepted < (2, 0):
        raise ODataError("The reply needs data service version 2.0, which the client does not take.")


def chosen_format(accept: str | None) -> Format:
    """The format to answer in (5.1). ODataError, 415, where nothing that is accepted can be written."""
    found = response_format(accept)
    if found is not None:
        return found
    wanted = (accept or "").lower()
    if "application/json" in wanted:
        return "json"
    if any(name in wanted for name in _XML_TYPES):
        return "atom"
    raise ODataError("Unsupported media type requested.", status=415)


def error_format(accept: str | None) -> Format:
    """The format of an error document (8.1)."""
    return "json" if "application/json" in (accept or "").lower() else "atom"


def not_allowed(*methods: str) -> ODataError:
    """405; `token` carries the methods for the field Allow."""
    return ODataError("The method is not allowed on this resource.", status=405, token=",".join(methods))


def not_found(segment: str) -> ODataError:
    """404 for what a path names and nobody has."""
    return ODataError(f"Resource not found for the segment '{segment}'.", status=404)


def no_property(name: str, type_name: str, position: int | None = None) -> ODataError:
    """400 for a name that the type does not declare (3.2)."""
    return ODataError(f"Could not find a property named '{name}' on type '{type_name}'.", position=position)


# Query options


def check_counts(dialect: Dialect) -> None:
    """`/$count` (3.6)."""
    if dialect.is_narrow:
        raise ODataError(_NO_COUNTS)


def check_options(options: QueryOptions, dialect: Dialect, *, collection: bool) -> None:
    """Refuse what section 3.5 says is refused."""
    for name in options.names:
        if name not in _KNOWN:
            raise ODataError(
                f"The query parameter '{name}' begins with a system-reserved '$' character"
                " but is not recognized."
            )
    for name in sorted(options.duplicates):
        raise ODataError(f"Query parameter '{name}' is specified, but it should be specified exactly once.")
    if not collection and options.names & _OF_COLLECTIONS:
        raise ODataError(
            "Query options $filter, $orderby, $inlinecount, $skip and $top"
            " cannot be applied to the requested resource."
        )
    inlinecount = options.inlinecount
    if inlinecount is not None:
        check_counts(dialect)
        if inlinecount not in ("allpages", "none"):
            raise ODataError(
                f"Unknown $inlinecount option '{inlinecount}', only 'allpages' and 'none' are known."
            )


def next_query(options: QueryOptions, left: int | None, token: str) -> str:
    """The raw query of a next link (4.2): the request's own segments in their order and spelling, without
    what a link drops; `left`: what is left of `$top`."""
    segments = []
    for item in options.items:
        if item.name in _KEPT_IN_LINK:
            segments.append(item.raw)
        elif item.name == "$top" and left is not None:
            segments.append(f"{item.raw.partition('=')[0]}={left}")
    return "&".join([*segments, f"$skiptoken={token}"])


def projection(
    options: QueryOptions,
    entity_set: EntitySet,
    model: Model,
    relationships: Relationships,
    dialect: Dialect,
) -> Projection:
    """Read `$select` and `$expand` (3.2, 3.3): one level, and six navigation properties, in the narrow
    language. Raises ODataError."""
    if not dialect.is_narrow:
        tree = parse_projection(options.get("$select"), options.get("$expand"), entity_set.entity_type, model)
        _check_expansions(tree, entity_set, relationships)
        return tree
    entity_type = entity_set.entity_type
    expand = tuple(name for name in options.expand or () if name)
    if len(expand) > EXPAND_LIMIT:
        raise ODataError(
            f"The request includes {len(expand)} $expand segment(s),"
            f" but the maximum allowed is {EXPAND_LIMIT}."
        )
    for name in expand:
        _leads(relationships, entity_set, name)
    names = tuple(dict.fromkeys(name for name in options.select or () if name))
    if not names:
        return Projection(None, {name: Projection() for name in expand})
    select: list[str] = []
    inner: dict[str, list[str] | None] = {}
    for name in names:
        first, _, rest = name.partition("/")
        if name == "*":
            select += entity_type.properties
        elif first in entity_type.properties and not rest:
            select.append(first)
        elif first in entity_type.navigation_properties:
            select.append(first)
            _note(inner, relationships, entity_set, first, rest)
        else:
            raise no_property(name, entity_type.qualified_name)
    expanded = {name: _selecting(inner[name]) for name in expand if name in inner}
    return Projection(tuple(dict.fromkeys(select)), expanded)


def _note(
    inner: dict[str, list[str] | None],
    relationships: Relationships,
    entity_set: EntitySet,
    navigation: str,
    rest: str,
) -> None:
    """Note a name asked of an expanded entity; the whole entity outweighs single names."""
    if not rest:
        inner[navigation] = None
        return
    target = _leads(relationships, entity_set, navigation).target.entity_type
    if rest not in target.properties:
        raise no_property(rest, target.qualified_name)
    chosen = inner.setdefault(navigation, [])
    if chosen is not None:
        chosen.append(rest)


def _selecting(names: list[str] | None) -> Projection:
    return Projection() if names is None else Projection(tuple(names))


def _check_expansions(tree: Projection, entity_set: EntitySet, relationships: Relationships) -> None:
    for name, below in tree.expanded.items():
        _check_expansions(below, _leads(relationships, entity_set, name).target, relationships)


def _leads(relationships: Relationships, entity_set: EntitySet, name: str) -> Relationship:
    relationship = relationships.of(entity_set, name)
    if relationship is None:
        raise no_property(name, entity_set.entity_type.qualified_name)
    return relationship
