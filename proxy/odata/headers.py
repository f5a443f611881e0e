"""Header fields as a proxy must treat them (RFC 9110, 7.6.1; RFC 9111, 5.2) and OData's method tunnel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_TUNNELLED = frozenset({"MERGE", "PATCH", "PUT", "DELETE"})
_OF_A_CONNECTION = re.compile(r"(?i)(?<![^\s,])(?:ntlm|negotiate|kerberos|nego2)(?![^\s,])")
# A directive up to its comma, or else whatever stands there. Possessive throughout, so that it is linear.
_DIRECTIVE = re.compile(
    r'\s*+([^\s,=";]++)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*+)))?\s*+(?:,|\Z)|[^,]*+(?:,|\Z)'
)

_VERSION = re.compile(r"\s*+([0-9]{1,9})\.([0-9]{1,9})")


def logs_in_connection(headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> bool:
    """True for a message of a login that holds for the connection: NTLM, Negotiate (RFC 4559, 6).

    Wherever in the field the scheme stands: one overlooked would log in a connection that others use.
    """
    return any(map(_OF_A_CONNECTION.search, headers.getall("Authorization", ())))


def effective_method(method: str, headers: Mapping[str, str]) -> str:
    """The method meant: a POST with `X-HTTP-Method` of MERGE, PUT or DELETE is that (field manual 6.2).

    So is PATCH, which other servers take for MERGE. Whether the server minds the case of the value is
    unknown; taking a write for a write is the safe reading.
    """
    if method != "POST":
        return method
    tunnelled = headers.get("X-HTTP-Method", "").strip().upper()
    return tunnelled if tunnelled in _TUNNELLED else method


def parse_cache_control(values: Iterable[str]) -> dict[str, str | None]:
    """Directives by lower-case name, arguments unquoted, None without one; the first of a name holds.

    Never raises: what is no directive is skipped, as RFC 9111 (5.2.3) has unknown ones ignored.
    """
    directives: dict[str, str | None] = {}
    for match in _DIRECTIVE.finditer(", ".join(values)):
        name, quoted, token = match.groups()
        if name:
            argument = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
            directives.setdefault(name.lower(), argument)
    return directives


def protocol_version(value: str | None) -> tuple[int, int] | None:
    """What `2.0;NetFx` says ([MS-ODATA] 2.2.5.3); None for an absent field, and for what is no version."""
    match = _VERSION.match(value or "")
    return (int(match[1]), int(match[2])) if match else None
