"""Origins in Atom: the scheme, host and port of the links that belong to the protocol.

Rewritten by structure (field manual, 12.1): only in tags and elements of Atom and AtomPub themselves. What
holds the patterns: a `<` begins a tag everywhere but in comments, CDATA sections and processing
instructions, and those are stepped over, as are properties with all that is in them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.odata.verbose_json.origins import PLAIN_ORIGIN

_NAME = r"[A-Za-z_][\w.\-]*+"
_ATTRIBUTE = rf"\s++(?:{_NAME}:)?{_NAME}\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+')"
# What is not closed runs to the end of the text: to look again behind each opening would take quadratic time.
_OPAQUE = (
    r"<!--(?:[^\-]|-(?!->))*(?:-->|\Z)"
    r"|<!\[CDATA\[(?:[^\]]|\](?!\]>))*(?:\]\]>|\Z)"
    r"|<\?(?:[^?]|\?(?!>))*(?:\?>|\Z)"
)
_PROPERTIES = (
    rf"<(?P<properties>(?:{_NAME}:)?properties)(?=[\s>])(?:[^<]++|{_OPAQUE}|<(?!/(?P=properties)\s*>))*"
)
_ROOT = re.compile(
    rf"\ufeff?+(?:\s++|{_OPAQUE})*<(?P<prefix>{_NAME}:)?(?P<name>feed|entry|service|links|uri)(?=[\s/>])"
)
_URL_ELEMENTS = {"feed": "id", "entry": "id", "links": "uri", "uri": "uri"}


def hold_origins(text: str, root_path: str) -> str:
    """Put a placeholder in the place of every origin whose path begins with `root_path` (in any case).

    In feeds, entries and service documents done for `xml:base`, `id` and the targets of links; in link
    documents for `uri`. Any other text, an error or a property say, comes back as it is, and so does text
    that holds the placeholder, since XML has no such character.
    """
    root = _ROOT.match(text)
    if root is None or PLAIN_ORIGIN in text:
        return text
    pattern = _structural(root_path.rstrip("/"), root["prefix"] or "", _URL_ELEMENTS.get(root["name"], "id"))
    return pattern.sub(_placeholder, text)


def restore_origins(text: str, origin: str) -> str:
    """Put `origin` (`https://host:port`) in the place of the placeholders."""
    return text.replace(PLAIN_ORIGIN, origin)


def rewrite_origins(text: str, root_path: str, origin: str) -> str:
    """Give the links of the service below `root_path` another origin; nothing else changes."""
    if PLAIN_ORIGIN in text:
        return text
    return restore_origins(hold_origins(text, root_path), origin)


def _placeholder(match: re.Match[str]) -> str:
    head = match["head"]
    return match[0] if head is None else head + PLAIN_ORIGIN


@lru_cache(maxsize=64)
def _structural(path: str, prefix: str, url_element: str) -> re.Pattern[str]:
    """Matches what to step over, or `head` and the origin behind it."""
    tags = rf"<{prefix}(?:feed|entry|service|link|content|collection)(?:{_ATTRIBUTE})*?"
    targets = rf"{tags}\s++(?:xml:base|href|src)\s*+=\s*+[\"']"
    elements = rf"<{prefix}{url_element}(?:{_ATTRIBUTE})*\s*+>\s*+"
    origin = rf"(?i:https?)://[^/\"'<>?#\s]++(?=(?i:{re.escape(path)})(?:[/?#\"'<\s]))"
    return re.compile(rf"{_OPAQUE}|{_PROPERTIES}|(?P<head>{targets}|{elements}){origin}")
