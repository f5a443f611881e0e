"""Media types: in which format the server will answer, where that is certain (field manual 5.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

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
