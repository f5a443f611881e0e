"""What a GET means to whoever answers all of OData v2 by itself (URI conventions, 3 and 4).

Beside `operation`, which knows what may be assembled around a check: here every resource of the standard has
its kind, and what is wrong with a request is an error with token and place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from proxy.odata import times
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError, UnsupportedConstruct
from proxy.odata.query_options import QueryOptions, parse_query
from proxy.odata.uri import ResourcePath, decode_path, parse_resource_path

# Not an option of the standard: the moment whose state is asked for.
AS_OF = "asof"

Kind = Literal["service", "metadata", "collection", "entity", "property", "value", "count", "links"]

_PAGING = frozenset({"$filter", "$orderby", "$top", "$skip", "$skiptoken", "$inlinecount"})
_SHAPE = frozenset({"$select", "$expand"})
# `$count` and `$value` are text whatever is asked for; an option for it is no mistake.
_OPTIONS: Mapping[Kind, frozenset[str]] = {
    "service": frozenset(),
    "metadata": frozenset(),
    "collection": _PAGING | _SHAPE,
    "entity": _SHAPE,
    "property": frozenset(),
    "value": frozenset(),
    "count": (_PAGING | _SHAPE) - {"$skiptoken", "$inlinecount"},
    "links": _PAGING,
}


@dataclass(frozen=True, slots=True)
class Read:
    """A GET, read. The options belong to the kind, each once; the values of `$filter`, `$orderby`, `$select`,
    `$expand` and `$format` are not judged yet.

    `many`: a collection, or links to many.
    """

    kind: Kind
    path: ResourcePath
    options: QueryOptions
    many: bool = False


def parse_read(raw_path_below_root: str, raw_query: str | None, model: Model) -> Read:
    """Read a GET below the service root.

    Raises ODataError: 404 for what the model does not have in the path; 400 for broken syntax, a broken key,
    an unknown option or one that does not belong here; 405 for `$batch`; 501 for a function import.
    """
    path = _path(raw_path_below_root, model)
    kind, many = _kind(path)
    try:
        return Read(kind, path, _options(raw_query, kind, many), many)
    except ODataError as error:
        raise error.within("query") from None


def moment_of(read: Read, now: datetime) -> datetime | None:
    """The moment that the option `asof` names, aware UTC; None without one. `now`: aware.

    Raises ODataError for what is no moment (XML Schema's `dateTime`; UTC where no zone is said), for one to
    come, for several, and where the resource has no past.
    """
    given = [item.value for item in read.options.items if item.name == AS_OF]
    if not given:
        return None
    text = given[0].strip().replace(" ", "+")  # a plus sign that was not encoded
    try:
        moment = times.parse_datetime(text).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ODataError(
            f"'{given[0][:60]}' is no moment for asof: 2016-05-01T10:00:00Z is.", token=given[0]
        ) from None
    if len(given) > 1:
        raise ODataError(
            "The query parameter 'asof' is specified, but it should be specified exactly once.", token=AS_OF
        )
    if moment > now:
        raise ODataError(f"asof names a moment that is still to come: '{text}'.", token=given[0])
    if read.kind in ("service", "metadata"):
        raise ODataError("The query option 'asof' cannot be applied to the requested resource.", token=AS_OF)
    return moment


def _path(raw: str, model: Model) -> ResourcePath:
    try:
        return parse_resource_path(raw, model)
    except ODataError as error:
        if error.position is not None:
            raise error.within("key predicate") from None
        if error.token is not None:
            error.position = _place(raw, error.token)
        raise error.within("path") from None


def _place(raw: str, token: str) -> int:
    """Where `token` stands in a raw path: as a segment's name, or as a part of a segment."""
    found = 0
    at = 0
    for segment in raw.split("/"):
        try:
            text = decode_path(segment)
        except ODataError:
            return at
        if text.partition("(")[0] == token.partition("(")[0]:
            return at
        if token in text:
            found = at + text.index(token)
        at += len(segment) + 1
    return found


def _kind(path: ResourcePath) -> tuple[Kind, bool]:
    match path.special:
        case "metadata":
            return "metadata", False
        case "batch":
            raise ODataError("$batch takes POST only.", status=405, token="$batch")  # noqa: S106
        case "function":
            raise UnsupportedConstruct("Function imports are answered by upstream only.")
    if path.entity_set is None:
        return "service", False
    last = path.navigation[-1] if path.navigation else None
    many = last.many and last.key is None if last else path.key is None
    if path.count:
        return "count", many
    if path.links:
        return "links", many
    if path.property_path:
        return ("value" if path.value else "property"), False
    if path.value:
        raise ODataError(
            "Resource not found for the segment '$value': the entity is no media link entry.",
            status=404,
            token="$value",  # noqa: S106
        )
    return ("collection" if many else "entity"), many


def _options(raw: str | None, kind: Kind, many: bool) -> QueryOptions:
    options = parse_query(raw)
    duplicates = options.duplicates
    for item in options.items:
        _check_option(item.name, kind, many, duplicates)
    if options.inlinecount not in (None, "allpages", "none"):
        raise ODataError(
            f"Unknown $inlinecount option '{options.inlinecount}', only 'allpages' and 'none' are known.",
            token=options.inlinecount,
        )
    _ = options.top, options.skip  # each raises where it is no number
    return options


def _check_option(name: str, kind: Kind, many: bool, duplicates: frozenset[str]) -> None:
    """`name` as the client spelt it: one that does not start with `$` is its own business."""
    if not name.lstrip().startswith("$") or name == "$format":
        pass
    elif name not in _PAGING | _SHAPE:
        raise ODataError(
            f"The query parameter '{name}' begins with a system-reserved '$' character but is not"
            " recognized.",
            token=name,
        )
    elif name not in _OPTIONS[kind] or (kind == "links" and not many):
        raise ODataError(
            f"The query option '{name}' cannot be applied to the requested resource.", token=name
        )
    if name in duplicates:
        raise _twice(name)


def _twice(name: str) -> ODataError:
    message = f"The query parameter '{name}' is specified, but it should be specified exactly once."
    return ODataError(message, token=name)
