"""One request of a client and its answer, as values between handlers, drivers and responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata.headers import logs_in_connection
from proxy.odata.uri import split_target
from proxy.reconcile.ports import Caller, Directives, Provenance, Reply, Request, Source
from proxy.reconcile.rights import ANYBODY, Rights


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asked.

    `request`: as it may go to upstream, the body with upstream's origin in the place of the proxy's.
    `origin`: scheme and host that the client used. `format`: what upstream would answer in, None where
    that is not certain.
    """

    request: Request
    origin: str
    format: Literal["json", "atom"] | None
    caller: Caller
    directives: Directives
    request_id: str
    rights: Rights = ANYBODY

    @property
    def path(self) -> str:
        """The raw path, without the query."""
        return split_target(self.request.target)[0]

    @property
    def query(self) -> str | None:
        return split_target(self.request.target)[1]

    @property
    def is_login(self) -> bool:
        """True for a message of a login of the client's connection: only upstream itself can answer it."""
        return logs_in_connection(self.request.headers)

    def own_read(self, target: str) -> Request:
        """A GET of `target` on the caller's behalf, answered in verbose JSON.

        Carries the client's headers and leaves on its connection; fields of a write that speak of its body
        or its method stay behind, and a message of a login, which is good for one request only.
        """
        headers = CIMultiDict(self.request.headers)
        if self.is_login:
            headers.popall("Authorization")
        if self.request.method != "GET":
            for name in _OF_A_WRITE:
                headers.popall(name, None)
        if self.request.method != "GET" or self.format != "json":
            headers["Accept"] = "application/json"
        return Request("GET", target, headers, connection=self.request.connection)

    def provenance(self, source: Source) -> Provenance:
        return Provenance(source, self.request_id, self.caller.user, self.caller.client)


_OF_A_WRITE = ("Content-Type", "Content-Encoding", "X-HTTP-Method", "If-Match", "If-None-Match")


Forwarded = Literal["bypass", "method", "uri-miss", "miss", "request", "stale"]


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What the proxy did, in the words of RFC 9211; `detail` is a token of ours."""

    hit: bool = False
    fwd: Forwarded | None = None
    stored: bool = False
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Relayed:
    """Upstream's own answer to the client's own request; only origins are rewritten on the way.

    `cut`: the body did not come whole, and the client has to see that.
    """

    reply: Reply
    status: CacheStatus
    cut: bool = False


@dataclass(frozen=True, slots=True)
class FromMirror:
    """An answer whose entities come from the mirror.

    `body`: with the client's origin. `content_type`: None for that of `base`, the reply of upstream that
    confirmed it and whose headers the answer carries; `base` is None where upstream was not asked. `age`:
    seconds, where the contract lets an answer be older than the request. `version`: of the protocol, where
    there is no `base` to say it. `entity_set`: the name of the set shown, where it was found out here.
    """

    body: bytes
    content_type: str | None
    base: Reply | None
    status: CacheStatus
    age: int | None = None
    version: str = "1.0;"
    entity_set: str | None = None


Answer = Relayed | FromMirror


@dataclass(frozen=True, slots=True)
class MirrorAsk:
    """A GET that the mirror answers by itself.

    `root`: the service root as the client wrote it, scheme and host before it and no slash behind; `path`,
    `query`: raw, below it. `only_if_cached`: asked of the main listener, so that what is not held is not said
    to be missing, and links keep the spelling of upstream's root.
    """

    root: str
    path: str
    query: str | None
    headers: CIMultiDict[str] | CIMultiDictProxy[str]
    only_if_cached: bool = False
    rights: Rights = ANYBODY

    @property
    def accept(self) -> str | None:
        return ", ".join(self.headers.getall("Accept", [])) or None
