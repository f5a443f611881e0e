"""A world in mode `caller` with two users of different rights, each logged in at proxy and upstream."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from batching import MIXED, part, replies, written
from logging_in import connection
from world import Answer, World, world

from proxy.sandbox import Rights, Switches

Scheme = Literal["basic", "ntlm"]
USERS = {"CRM\\ada": "Lovelace1", "CRM\\low": "Rights1", "CRM\\svc": "Service1"}
CALLER: dict[str, Any] = {
    "upstream__auth__mode": "caller",
    "defaults__secured": [],
    "sets.AccountSet.secured": ["Revenue", "Fax"],
}
LONG_AGO = datetime(2016, 5, 1, 12, 30)


class Ask(Protocol):
    """A request of a user's, below a service root."""

    async def __call__(
        self, path: str, method: str = "GET", *, body: bytes | None = None, **headers: str
    ) -> Answer: ...


@dataclass
class User:
    """`ask`: through the proxy; `told`: what upstream says to the same user directly."""

    name: str
    ask: Ask
    told: Ask


@dataclass
class Read:
    """One form of a read. `path`: `{0}` is an account that both may see, `{1}` one hidden from the second."""

    path: str
    method: str = "GET"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def batch(*targets: str) -> Read:
    """The same reads in a batch."""
    return Read(
        "/$batch", "POST", written(*(part("GET", target) for target in targets)), {"Content_Type": MIXED}
    )


@dataclass
class Place:
    world: World
    ada: User
    low: User
    keys: list[str]

    @property
    def users(self) -> tuple[User, User]:
        return self.ada, self.low

    def entity(self, number: int) -> str:
        return f"/AccountSet(guid'{self.keys[number]}')"

    async def answer(self, user: User, read: Read, **headers: str) -> Answer:
        """Through the proxy."""
        return await self._sent(user.ask, read, headers)

    async def told(self, user: User, read: Read) -> Answer:
        """By upstream itself."""
        return await self._sent(user.told, read, {})

    async def _sent(self, ask: Ask, read: Read, headers: Mapping[str, str]) -> Answer:
        body = read.body and read.body.decode().format(*self.keys).encode()
        path = read.path.format(*self.keys)
        return await ask(path, read.method, body=body, **{**read.headers, **headers})

    def assert_same(self, answer: Answer, told: Answer, what: object) -> None:
        """What the proxy said is what upstream said, but for the root."""
        assert self.said(answer) == self.said(told), what

    def said(self, answer: Answer) -> object:
        """Status, type and body, with one root and without what differs from moment to moment."""
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith("multipart/mixed"):
            return [(each.status, self._masked(each.body)) for each in replies(answer)]  # type: ignore[union-attr]
        return answer.status, kind, self._masked(answer.body)

    def _masked(self, body: bytes) -> str:
        text = self.world.rooted(body.decode("utf-8", "replace"))
        return re.sub(r"<updated>[^<]*</updated>", "", text)


@asynccontextmanager
async def two_users(
    database_url: str,
    scheme: Scheme,
    *,
    rows: int = 4,
    now: Callable[[], datetime] | None = None,
    service: bool = False,
    **settings: Any,
) -> AsyncIterator[Place]:
    """CRM\\ada sees everything, CRM\\low neither one account and one contact nor two properties of accounts.

    `service`: the proxy has an identity of its own, which sees everything too.
    """
    rights: dict[str, Rights] = {}
    switches = Switches(auth=scheme, users=USERS, count="serve", batch="serve", rights=rights)
    if service:
        login = {"mode": scheme, "user": "CRM\\svc", "password": USERS["CRM\\svc"]}
        settings |= {f"upstream__service__{name}": value for name, value in login.items()}
    async with (
        world(database_url, switches=switches, rows=rows, now=now, **CALLER | settings) as made,
        AsyncExitStack() as stack,
    ):
        organisation = made.sandbox.organisation
        for key in organisation.keys("AccountSet"):
            values = {"Fax": f"0{key.int % 997}", "Name": f"A{key.int % 991}"}
            organisation.change("AccountSet", key, values, modified_on=LONG_AGO)
        keys = [made.a_key("AccountSet", number) for number in range(2)]
        contact = uuid.UUID(made.a_key("ContactSet"))
        rights["crm\\low"] = Rights(
            frozenset({("AccountSet", uuid.UUID(keys[1])), ("ContactSet", contact)}),
            frozenset({("AccountSet", "Fax"), ("AccountSet", "Revenue")}),
        )
        users = [await _user(stack, made, scheme, name) for name in ("CRM\\ada", "CRM\\low")]
        await users[0].ask("/")  # teaches the proxy the metadata document, where nobody else can
        assert made.proxy.metadata.model is not None
        yield Place(made, users[0], users[1], keys)


async def _user(stack: AsyncExitStack, made: World, scheme: Scheme, name: str) -> User:
    asks: list[Ask] = []
    for root in (made.proxy_root, made.direct_root):
        if scheme == "ntlm":
            client = await stack.enter_async_context(connection(root))
            await client.log_in(name, USERS[name], "/AccountSet?$top=1&$select=Name")
            asks.append(client.ask)
        else:
            asks.append(_basic(made, name, direct=root == made.direct_root))
    return User(name, *asks)


def _basic(made: World, name: str, *, direct: bool) -> Ask:
    shown = "Basic " + base64.b64encode(f"{name}:{USERS[name]}".encode()).decode()

    async def ask(path: str, method: str = "GET", *, body: bytes | None = None, **headers: str) -> Answer:
        return await made.ask(path, method, direct=direct, body=body, Authorization=shown, **headers)

    return ask
