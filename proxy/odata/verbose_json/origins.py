"""Origins in verbose JSON: the scheme, host and port of the links that belong to the protocol.

Rewritten by structure, never by a global replace, because a property may rightly name the same host
(field manual, 12.1). What holds the patterns: inside a JSON string every quote has a backslash before it,
so a quote without one begins or ends a string.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.odata.verbose_json.slices import BLANK, STRING

# Control characters that valid JSON never shows raw, so they cannot be part of the document.
PLAIN_ORIGIN = "\x01"  # in the place of `https://host`
ESCAPED_ORIGIN = "\x02"  # in the place of `https:\/\/host`

_LINK = rf'\{{{BLANK}"uri"{BLANK}:{BLANK}{STRING}{BLANK}\}}'
_LINKS = rf"\[{BLANK}{_LINK}(?:{BLANK},{BLANK}{_LINK})*{BLANK}\]"
_PAIR = rf'{STRING}{BLANK}:{BLANK}(?:{STRING}|[^ \t\n\r,{{}}\[\]"]++)'
# The documents of `$links` ([MS-ODATA] 2.2.6.3.5), which have no `__metadata` to tell them by: all there is
# in them is the link.
_LINK_DOCUMENT = re.compile(
    rf'\ufeff?{BLANK}(?:{_LINK}|\{{{BLANK}"d"{BLANK}:{BLANK}'
    rf'(?:{_LINK}|{_LINKS}|\{{{BLANK}(?:"__count"{BLANK}:{BLANK}{STRING}{BLANK},{BLANK})?'
    rf'"results"{BLANK}:{BLANK}{_LINKS}(?:{BLANK},{BLANK}{_PAIR})*{BLANK}\}}){BLANK}\}}){BLANK}'
)
_NAME = rf'"(?:uri|id|media_src|edit_media)"{BLANK}:{BLANK}'
# What of such an object comes before anything nested; the text may end within it.
_OBJECT = re.compile(
    rf'"__(?<!\\"__)(?:metadata|deferred)"{BLANK}:{BLANK}\{{(?:{STRING}|[^{{}}\[\]"]++)*+(?:"[^"]*+)?'
)
_RARE_NAME = re.compile('"(?:id|media_src|edit_media)"')


def hold_origins(text: str, root_path: str) -> str:
    """Put a placeholder in the place of every origin whose path begins with `root_path` (in any case).

    Done for `uri`, `id`, `media_src` and `edit_media` in `__metadata` and `__deferred`, for `__next`, and
    for the link documents `{"d":{"uri":…}}`, `{"d":{"results":[{"uri":…}]}}` and `{"uri":…}`. Text that
    holds a placeholder already, so is no JSON, comes back as it is.
    """
    if PLAIN_ORIGIN in text or ESCAPED_ORIGIN in text:
        return text
    path = root_path.rstrip("/")
    held = _structural(path).sub(_placeholder, text)
    if _RARE_NAME.search(held):
        # A match took the first link of an object; there may be more of them.
        held = _OBJECT.sub(lambda found: _further(path).sub(_placeholder, found[0]), held)
    if _LINK_DOCUMENT.fullmatch(held):
        held = _link(path).sub(_placeholder, held)
    return held


def restore_origins(text: str, origin: str) -> str:
    """Put `origin` (`https://host:port`) in the place of the placeholders, each in its own spelling."""
    text = text.replace(PLAIN_ORIGIN, origin)
    return text.replace(ESCAPED_ORIGIN, origin.replace("/", "\\/"))


def restore_roots(text: str, root_path: str, root: str) -> str:
    """Put another service root (`https://host/mirror`) in the place of the placeholders and the root's path
    behind each, however that is spelt."""
    for held, path, spelled in (
        (PLAIN_ORIGIN, root_path, root),
        (ESCAPED_ORIGIN, root_path.replace("/", "\\/"), root.replace("/", "\\/")),
    ):
        # A service writes its root in one or two casings, so this is far cheaper than looking at each link.
        while (at := text.find(held)) >= 0:
            text = text.replace(text[at : at + len(held) + len(path)], spelled)
    return text


def rewrite_origins(text: str, root_path: str, origin: str) -> str:
    """Give the links of the service below `root_path` another origin; nothing else changes."""
    if PLAIN_ORIGIN in text or ESCAPED_ORIGIN in text:
        return text
    return restore_origins(hold_origins(text, root_path), origin)


def _placeholder(match: re.Match[str]) -> str:
    return match[1] + (PLAIN_ORIGIN if match[2] == "//" else ESCAPED_ORIGIN)


def _origin(path: str) -> str:
    """A pattern for the origin before `path`; group 2 is the spelling of its slashes."""
    spelt = re.escape(path).replace("/", r"\\?/")
    return rf'(?i:https?):(//|\\/\\/)[^/\\"?#\s]++(?=(?i:{spelt})(?:[/?#"]|\\/))'


@lru_cache(maxsize=16)
def _structural(path: str) -> re.Pattern[str]:
    links = rf"(?:metadata|deferred)\"{BLANK}:{BLANK}\{{{BLANK}(?:{_PAIR}{BLANK},{BLANK})*?"
    return re.compile(rf'("__(?<!\\"__)(?:next"{BLANK}:{BLANK}|{links}{_NAME})"){_origin(path)}')


@lru_cache(maxsize=16)
def _further(path: str) -> re.Pattern[str]:
    return re.compile(rf'((?<!\\){_NAME}"){_origin(path)}')


@lru_cache(maxsize=16)
def _link(path: str) -> re.Pattern[str]:
    return re.compile(rf'((?<!\\)"(?:uri|__next)"{BLANK}:{BLANK}"){_origin(path)}')
