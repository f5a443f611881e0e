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
# Set anew by whoever sends the message on; a forwarded Expect would wait for an answer nobody gives.
_SET_ANEW = frozenset({"host", "expect", "content-length"})
_NOT_FORWARDED = HOP_BY_HOP | _SET_ANEW
_TUNNELLED = frozenset({"MERGE", "PATCH", "PUT", "DELETE"})
_OF_A_CONNECTION = re.compile(r"(?i)(?<![^\s,])(?:ntlm|negotiate|kerberos|nego2)(?![^\s,])")
# A directive up to its comma, or else whatever stands there. Possessive throughout, so that it is linear.
_DIRECTIVE = re.compile(
    r'\s*+([^\s,=";]++)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*+)))?\s*+(?:,|\Z)|[^,]*+(?:,|\Z)'
)


def end_to_end(headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The fields that go on to the other side, in their order, duplicates included.

    Left out are the hop-by-hop fields, those that Connection names, and Host, Expect and Content-Length.
    """
    dropped = _NOT_FORWARDED
    if "Connection" in headers:
        named = ",".join(headers.getall("Connection")).lower().split(",")
        dropped = dropped.union(name.strip() for name in named)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


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
