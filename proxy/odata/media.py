"""Media types: in which format the server will answer, where that is certain (field manual 5.1), and in which
one we answer where the choice is ours."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from proxy.odata.errors import ODataError

Format = Literal["json", "atom"]

_JSON = "application/json"
_ATOM = frozenset({"application/atom+xml", "application/xml"})
# Atom is the server's own choice wherever it has one.
_LEAVES_CHOICE = frozenset({"*/*", "application/*"})


@lru_cache(maxsize=256)
def response_format(accept: str | None) -> Format | None:
    """The format a 2011 server answers an entity or a collection in; None where nobody knows.

    Unknown are: both formats wanted equally, JSON wanted less than whatever else there is, parameters on
    JSON other than a charset (`odata=verbose` came later), and no type at all that it can serve.
    """
    if accept is None or not accept.strip():
        return "atom"
    json = atom = anything = 0.0
    for element in accept.split(","):
        media_type, _, parameters = element.partition(";")
        media_type = media_type.strip().lower()
        quality, others = _parameters(parameters)
        if quality is None:
            return None
        if media_type == _JSON:
            if others - {"charset"}:
                return None
            json = max(json, quality)
        elif media_type in _ATOM:
            atom = max(atom, quality)
        elif media_type in _LEAVES_CHOICE:
            anything = max(anything, quality)
        # A range such as text/* or a type the server never writes changes nothing.
    if json and (json == atom or anything > json > atom):
        return None
    if json > atom:
        return "json"
    if atom:
        return "atom"
    return _server_choice(accept) if anything else None


_OF_FORMAT: dict[Format, frozenset[str]] = {
    "json": frozenset({_JSON}),
    "atom": _ATOM | {"application/atomsvc+xml", "text/xml"},
}
_FORMAT_OPTION: dict[str, Format] = {"json": "json", "atom": "atom", "xml": "atom"}


def negotiated_format(accept: str | None, format_option: str | None = None) -> Format:
    """The format to answer in: `$format` before Accept (URI conventions, 4.7), the highest quality there, at
    equal ones a type that is named before a range, then JSON where both are named, else Atom. It is that of
    `response_format` wherever that is certain.

    Raises ODataError: 415 for a `$format` that is not written here, 406 where no format is acceptable.
    """
    if format_option is not None:
        asked = format_option.strip().lower()
        chosen = _FORMAT_OPTION.get(asked) or _format_of(asked)
        if chosen is None:
            raise ODataError(
                f"The $format '{format_option[:60]}' is not written here: json, atom and xml are.",
                status=415,
                token=format_option,
            )
        return chosen
    if accept is None or not accept.strip():
        return "atom"

    def rank(name: Format) -> tuple[float, bool, bool]:
        quality, is_named = _wish(accept, name)
        return quality, is_named, is_named == (name == "json")

    best = max(_OF_FORMAT, key=rank)
    if not rank(best)[0]:
        raise ODataError(
            "No acceptable format: application/json and application/atom+xml are written here.",
            status=406,
            token=accept,
        )
    return best


def error_format(accept: str | None, format_option: str | None = None) -> Format:
    """The format of an error document: the negotiated one, and where there is none, JSON if it was named."""
    try:
        return negotiated_format(accept, format_option)
    except ODataError:
        return "json" if _JSON in (accept or "").lower() else "atom"


def _wish(accept: str, name: Format) -> tuple[float, bool]:
    """How much a format is wanted, and whether it was named rather than covered by a range."""
    named: list[float] = []
    ranges = [0.0]
    for element in accept.split(","):
        found, _, parameters = element.partition(";")
        quality, others = _parameters(parameters)
        # `odata=minimalmetadata` and the like are formats of later versions.
        is_later = "odata" in others and "verbose" not in parameters.lower()
        if media_type(found) in _LEAVES_CHOICE:
            ranges.append(1.0 if quality is None else quality)
        elif _format_of(found) == name and not is_later:
            named.append(1.0 if quality is None else quality)
    return (max(named), True) if named else (max(ranges), False)


def _format_of(text: str) -> Format | None:
    found = media_type(text)
    return next((name for name, types in _OF_FORMAT.items() if found in types), None)


def _server_choice(accept: str) -> Format | None:
    # `*/*, application/atom+xml;q=0`: its own choice was ruled out.
    return None if any(name in accept.lower() for name in _ATOM) else "atom"


def _parameters(text: str) -> tuple[float | None, frozenset[str]]:
    """The quality (None if it is none) and the names of the other parameters."""
    quality: float | None = 1.0
    names = set()
    for parameter in text.split(";"):
        name, _, value = parameter.partition("=")
        name = name.strip().lower()
        if name == "q":
            quality = _quality(value.strip())
        elif name:
            names.add(name)
    return quality, frozenset(names)


def _quality(text: str) -> float | None:
    if not (text.isascii() and text.replace(".", "", 1).isdigit()) or len(text) > 5:
        return None
    value = float(text)
    return value if value <= 1 else None


def media_type(content_type: str | None) -> str:
    """`application/json` of `Application/JSON; charset=utf-8`; empty for None."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_json(content_type: str | None) -> bool:
    return media_type(content_type) == _JSON


def is_atom(content_type: str | None) -> bool:
    return media_type(content_type) == "application/atom+xml"
