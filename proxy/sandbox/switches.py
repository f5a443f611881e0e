"""What varies between Dynamics servers, or is not known of any: switches (field manual, section 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxy.sandbox.plugins import Plugin
from proxy.sandbox.rights import Rights


@dataclass(frozen=True, slots=True)
class Switches:
    r"""How this server behaves where servers differ. The defaults are the manual's.

    `version_number`: what VersionNumber shows. `modified_on`: whether an update moves ModifiedOn: always,
    only when a value changes, never by itself (a sent value is kept), or always, but null on every fifth row
    or so. `count`: `$count` and `$inlinecount`. `batch`: refused with 404, or served. `deep_skip`: what
    happens to `$skip` beyond 5000. `put`: whether PUT empties what it does not name. `root`: the server's own
    root differs from the request's in casing only, or in scheme and host as well. `accept_unknown`: the
    status for formats it cannot write, or Atom all the same. `page_size` in records. `forbidden_sets` answer
    403. `plugins`: see `Plugin`. `set_cookie`: value of a Set-Cookie header on every reply. `language`: what
    `$filter` and `$orderby` may say. `latency_ms`: added before every answer.

    `auth`: how users log in; `users`: their passwords by name, as in `CRM\ada` (empty: Basic takes
    anybody). `tokens`: of `bearer`, the users by token. `rights`: by user, in lower case, for reading; others
    see everything. Of `adfs-forms`: how many
    requests a session lasts, with what face it ends, and how many pages of the chain come with other markup
    at first (field manual, 9.2).
    """

    version_number: Literal["null", "rising"] = "null"
    modified_on: Literal["moves", "moves_on_value", "wart", "null_on_some"] = "moves"
    count: Literal["refuse", "serve"] = "refuse"
    batch: Literal["refuse", "serve"] = "refuse"
    deep_skip: Literal["slow", "fails", "unlimited"] = "slow"
    put: Literal["merge", "reset"] = "merge"
    auth: Literal["none", "basic", "bearer", "ntlm", "negotiate", "adfs-forms"] = "none"
    users: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    rights: Mapping[str, Rights] = field(default_factory=dict)
    session_requests: int | None = None
    session_end: Literal["401", "redirect", "html"] = "401"
    odd_login_pages: int = 0
    root: Literal["two_casings", "foreign_origin"] = "two_casings"
    accept_unknown: Literal[415, 406, "atom"] = 415
    page_size: int = 50
    forbidden_sets: frozenset[str] = frozenset()
    plugins: tuple[Plugin, ...] = ()
    set_cookie: str | None = None
    language: Literal["2011", "v2"] = "2011"
    latency_ms: float = 0.0
