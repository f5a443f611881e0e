"""A request as the service sees it, an answer as it gives it, and the choice of format between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.odata import atom, verbose_json
from proxy.odata.errors import ODataError
from proxy.odata.media import Format, response_format
from proxy.sandbox.journal import PartEntry
from proxy.sandbox.switches import Switches

JSON = "application/json;charset=utf-8"
ATOM = "application/atom+xml;charset=utf-8"
XML = "application/xml;charset=utf-8"
_XML_TYPES = ("application/atomsvc+xml", "application/atom+xml", "application/xml", "text/xml")
_VERSION = re.compile(r"\s*(\d+)\.(\d+)")
_TUNNELLED = ("MERGE", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Incoming:
    """`target` is raw; `origin` the scheme and host that the client used, without a slash at the end."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    origin: str

    @property
    def accept(self) -> str | None:
        return self.headers.get("Accept")


@dataclass(frozen=True, slots=True)
class Answer:
    """`applied`: a write took effect. `delay_s`: how long the server was busy with it. `parts`: a batch's."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    version: str = "1.0;"
    headers: Mapping[str, str] = field(default_factory=dict)
    applied: bool = False
    delay_s: float = 0.0
    parts: tuple[PartEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Roots:
    """The service root in the server's own spelling, and in the request's (field manual, 1, point 4)."""

    own: str
    requested: str


def meant_method(request: Incoming) -> str:
    """The method after tunnelling. ODataError, 400, for a tunnelled one that is not known (6.2)."""
    tunnelled = request.headers.get("X-HTTP-Method")
    if request.method != "POST" or tunnelled is None:
        return request.method
    if tunnelled.strip().upper() not in _TUNNELLED:
        raise ODataError(f"The X-HTTP-Method header value '{tunnelled}' is not valid.")
    return tunnelled.strip().upper()


def check_headers(request: Incoming) -> None:
    """Refuse conditions, since there are no ETags (6.9), and versions of the protocol to come."""
    for name in ("If-Match", "If-None-Match"):
        if name in request.headers:
            raise ODataError(f"{name} cannot be specified: the resource has no ETag properties.")
    asked = _version(request, "DataServiceVersion")
    if asked is not None and asked > (2, 0):
        raise ODataError("The version of the request is higher than this data service supports.")


def check_client_version(request: Incoming) -> None:
    """A reply in the form of version 2 is nothing for a client that takes version 1 (5.1)."""
    accepted = _version(request, "MaxDataServiceVersion")
    if accepted is not None and accepted < (2, 0):
        raise ODataError("The reply needs data service version 2.0, which the client does not take.")


def _version(request: Incoming, name: str) -> tuple[int, int] | None:
    match = _VERSION.match(request.headers.get(name, ""))
    return (int(match[1]), int(match[2])) if match else None


def negotiated(accept: str | None, switches: Switches) -> Format:
    """The format to answer in (5.1). ODataError where nothing that is accepted can be written."""
    found = response_format(accept)
    if found is not None:
        return found
    wanted = (accept or "").lower()
    if "application/json" in wanted:
        return "json"
    if switches.accept_unknown == "atom" or any(name in wanted for name in _XML_TYPES):
        return "atom"
    raise ODataError("Unsupported media type requested.", status=switches.accept_unknown)


def refusal(error: ODataError, accept: str | None) -> Answer:
    """The error document in the client's format (8.1)."""
    headers = {"Allow": error.token} if error.status == 405 and error.token else {}
    if "application/json" in (accept or "").lower():
        text, content_type = verbose_json.write_error(error.code, error.message), JSON
    else:
        text, content_type = atom.write_error(error.code, error.message), XML
    return Answer(error.status, text.encode(), content_type, headers=headers)


def not_allowed(*methods: str) -> ODataError:
    """405; `token` carries the methods for the Allow header."""
    return ODataError("The method is not allowed on this resource.", status=405, token=",".join(methods))


def not_found(segment: str) -> ODataError:
    return ODataError(f"Resource not found for the segment '{segment}'.", status=404)
