"""A request to an entity set whose authority is the mirror, and what answers it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata import atom, dialect, verbose_json
from proxy.odata.errors import ODataError
from proxy.odata.uri import split_target
from proxy.reconcile.exchange import Ask, CacheStatus, Relayed
from proxy.reconcile.ports import Reply

JSON = "application/json;charset=utf-8"
XML = "application/xml;charset=utf-8"


@dataclass(frozen=True, slots=True)
class LocalAsk:
    """One request. `target`: raw, as sent; `origin`: scheme and host that the client used, "" for requests of
    the proxy's own; `root_path`: the service root's path as the client spelt it, no slash behind. `user`,
    `client`: who asks, as far as known."""

    method: str
    target: str
    origin: str
    root_path: str
    headers: CIMultiDict[str] | CIMultiDictProxy[str]
    body: bytes = b""
    user: str | None = None
    client: str | None = None
    request_id: str = ""

    @classmethod
    def of(cls, ask: Ask, root_path: str) -> LocalAsk:
        """`root_path`: of the service root, however the client spells it."""
        request, caller = ask.request, ask.caller
        return cls(
            request.method,
            request.target,
            ask.origin,
            ask.path[: len(root_path)],
            request.headers,
            request.body,
            caller.user,
            caller.client,
            ask.request_id,
        )

    @property
    def root(self) -> str:
        """The service root as the client wrote it."""
        return self.origin + self.root_path

    @property
    def path(self) -> str:
        """Raw, below the service root."""
        return split_target(self.target)[0][len(self.root_path) :]

    @property
    def query(self) -> str | None:
        return split_target(self.target)[1]

    def below_root(self, url: str) -> str | None:
        """The raw path below the service root, whose host and casing do not matter; None for another's."""
        path = "/" + url.partition("://")[2].partition("/")[2]
        length = len(self.root_path)
        is_below = path[:length].lower() == self.root_path.lower() and path[length : length + 1] == "/"
        return path[length:] if is_below else None

    @property
    def accept(self) -> str | None:
        return ", ".join(self.headers.getall("Accept", [])) or None


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """An answer in upstream's own words.

    `version`: of the protocol that a reader needs; `headers`: beside those of every answer.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    version: str = "1.0;"
    headers: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> CIMultiDict[str]:
        """The header fields that OData is about (field manual, 5.1)."""
        fields = CIMultiDict({"Cache-Control": "no-cache", "DataServiceVersion": self.version})
        fields.update(self.headers)
        if self.content_type is not None:
            fields["Content-Type"] = self.content_type
        return fields

    def relayed(self, of_the_server: Mapping[str, str], now: datetime) -> Relayed:
        """As if upstream had answered. `of_the_server`: what its web server says in every answer."""
        fields = CIMultiDict(of_the_server)
        fields.update(self.fields())
        fields["Date"] = format_datetime(now, usegmt=True)
        reason = HTTPStatus(self.status).phrase
        reply = Reply(self.status, reason, CIMultiDictProxy(fields), self.body, now, now)
        return Relayed(reply, CacheStatus(hit=True))


def refusal(error: ODataError, accept: str | None) -> LocalAnswer:
    """Upstream's own error document, in the client's format (field manual, 8.1)."""
    headers = {"Allow": error.token} if error.status == 405 and error.token else {}
    if dialect.error_format(accept) == "json":
        text, content_type = verbose_json.write_error(error.code, error.message), JSON
    else:
        text, content_type = atom.write_error(error.code, error.message), XML
    return LocalAnswer(error.status, text.encode(), content_type, headers=headers)


def does_not_exist(logical_name: str, key: object) -> ODataError:
    """The platform's 404 (field manual, 8.3)."""
    return ODataError(f"{logical_name} With Id = {key} Does Not Exist", status=404, code="-2147220969")
