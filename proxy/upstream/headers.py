"""Header fields on their way through: which go on, and what of them names an origin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.odata.headers import HOP_BY_HOP
from proxy.reconcile.ports import Reply
from proxy.upstream.decode import DECODABLE

RawHeaders = Sequence[tuple[bytes, bytes]]

_NOT_TO_UPSTREAM = HOP_BY_HOP | {"host", "expect"}
_NOT_BESIDE_CHUNKS = HOP_BY_HOP | {"content-length"}
_NOT_OF_A_DECODED_BODY = HOP_BY_HOP | {"content-length", "content-encoding"}
_NAME_ORIGINS = ("Location", "Content-Location", "Set-Cookie")
_DOMAIN = re.compile(r";[ \t]*domain[ \t]*=[ \t]*\"?\.?([^;\"\s]*)\"?[ \t]*(?=;|$)", re.IGNORECASE)


def headers_from_wire(raw: RawHeaders) -> CIMultiDict[str]:
    """Header fields as they came: spelling, order and duplicates kept, which the parser's own mapping loses.

    Bytes that are no UTF-8 become surrogates, and those the same bytes again when written (`wire`).
    """
    return CIMultiDict(
        [
            (name.decode(errors="surrogateescape"), value.decode(errors="surrogateescape"))
            for name, value in raw
        ]
    )


def request_headers(raw: RawHeaders) -> CIMultiDict[str]:
    """The fields of a client's request that go on to upstream, Content-Length among them.

    Left out are the hop-by-hop ones, Host, which is upstream's own there, and Expect: the server has
    answered it, and upstream's 100 Continue would have nobody to go to.
    """
    return _without(headers_from_wire(raw), _NOT_TO_UPSTREAM)


def accept_decodable(headers: CIMultiDict[str]) -> None:
    """Take out of Accept-Encoding what we could not decode (RFC 9110, 12.5.3), `*` too. In place."""
    given = [coding.strip() for coding in ",".join(headers.getall("Accept-Encoding", ())).split(",")]
    asked = [coding for coding in given if coding]
    kept = [coding for coding in asked if coding.partition(";")[0].strip().lower() in DECODABLE]
    if kept != asked:
        headers["Accept-Encoding"] = ", ".join(kept) or "identity"


def passed_headers(raw: RawHeaders) -> CIMultiDict[str]:
    """The fields of an answer that go on with its body as it came."""
    headers = headers_from_wire(raw)
    # RFC 9112, 6.3: beside chunks a length counts for nothing.
    return _without(headers, _NOT_BESIDE_CHUNKS if "Transfer-Encoding" in headers else HOP_BY_HOP)


def copy_headers(reply: Reply) -> CIMultiDict[str]:
    """The end-to-end fields of a reply for an answer made from it.

    Without Content-Length, and without Content-Encoding unless its body is still coded: they would not fit.
    """
    return _without(reply.headers, _NOT_BESIDE_CHUNKS if reply.is_coded else _NOT_OF_A_DECODED_BODY)


def _without(headers: CIMultiDict[str] | CIMultiDictProxy[str], dropped: frozenset[str]) -> CIMultiDict[str]:
    """All fields but those of `dropped` and those that Connection names (RFC 9110, 7.6.1)."""
    if "Connection" in headers:
        named = ",".join(headers.getall("Connection")).lower().split(",")
        dropped = dropped.union(name.strip() for name in named)
    return CIMultiDict([field for field in headers.items() if field[0].lower() not in dropped])


def rewrite_origins(headers: CIMultiDict[str], upstream_origin: str, client_origin: str) -> None:
    """Put the client's origin where answer headers name upstream's (sync contract, rule 12). In place.

    Location and Content-Location: scheme, host and port only, the rest of the URL is left as it is.
    Set-Cookie: a Domain that fits upstream's host and not the client's would make the client refuse the
    cookie; it is left out, which makes the cookie one of the proxy's host alone (RFC 6265, 5.3).
    """
    if not any(name in headers for name in _NAME_ORIGINS):
        return
    fields = list(headers.items())
    headers.clear()
    for name, value in fields:
        match name.lower():
            case "location" | "content-location":
                value = to_client_origin(value, upstream_origin, client_origin)
            case "set-cookie":
                value = _without_foreign_domain(value, _host(upstream_origin), _host(client_origin))
        headers.add(name, value)


def to_client_origin(url: str, upstream_origin: str, client_origin: str) -> str:
    """`url` with the client's origin in the place of upstream's; any other URL is returned unchanged."""
    return _starting_with(upstream_origin).sub(lambda _: client_origin, url, count=1)


@lru_cache(maxsize=64)
def _starting_with(origin: str) -> re.Pattern[str]:
    """`origin` in any case (RFC 9110, 4.2.3), its default port spelled out or not, as a whole origin."""
    url = URL(origin)
    port = f"(?::{url.port})?" if url.is_default_port() else ""
    return re.compile(rf"\A{re.escape(str(url.origin()))}{port}(?=[/?#]|\Z)", re.IGNORECASE)


@lru_cache(maxsize=64)
def _host(origin: str) -> str:
    return URL(origin).host or ""


def _without_foreign_domain(cookie: str, upstream_host: str, client_host: str) -> str:
    domain = _DOMAIN.search(cookie)
    if domain is None or not _belongs_to(upstream_host, domain[1]) or _belongs_to(client_host, domain[1]):
        return cookie
    return cookie[: domain.start()] + cookie[domain.end() :]


def _belongs_to(host: str, domain: str) -> bool:
    """RFC 6265, 5.1.3."""
    host, domain = host.lower(), domain.lower()
    return host == domain or host.endswith("." + domain)
