"""The same writes, sent to a Dynamics and to a proxy that answers in the place of one: the same answers.

Both start with the same entities and share a clock. What a server makes up, the keys of what is new, is
compared by its place only.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from corpus import ROOT, Exchange, send
from cutover import cut_over, loaded_world

from proxy.sandbox import Clock, Sandbox, Switches

ROWS = 9
MOMENT = datetime(2017, 3, 1, 12, 0, 0, tzinfo=UTC)
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# The moment of rendering, and numbers that refused writes draw too.
VARIES = re.compile(
    r"<updated>[^<]*</updated>"
    r"|(?<=\"VersionNumber\":\")[0-9]+"
    r"|(?<=VersionNumber m:type=\"Edm.Int64\">)[0-9]+"
)
JSON = (("Accept", "application/json"), ("Content-Type", "application/json; charset=utf-8"))
ATOM = (("Accept", "application/atom+xml"), ("Content-Type", "application/atom+xml"))
READ = (("Accept", "application/json"),)
ADDRESSES = [{"set": "CustomerAddressSet", "via": ["Address1_AddressId", "Address2_AddressId"]}]
PERSON = {
    "PreferredContactMethodCode/Value": 1,
    "ExchangeRate": "1.0000000000",
}
# What the sandbox's own rules fill that no document tells.
STATED = {
    "sets.AccountSet.effects": ADDRESSES,
    "sets.ContactSet.effects": ADDRESSES,
    "sets.AccountSet.initial": PERSON,
    "sets.ContactSet.initial": PERSON,
}


def tunnelled(method: str) -> tuple[tuple[str, str], ...]:
    return (*JSON, ("X-HTTP-Method", method))


@dataclass
class Side:
    """One of the two servers, and what was new in its answers so far."""

    origin: str
    known: frozenset[str]
    new: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, headers: Any = READ, body: str = "") -> tuple[Any, ...]:
        """`{new0}` in path and body stands for the first key that the server made up."""
        names = {name: key for key, name in self.new.items()}

        def put(text: str) -> str:
            for name, key in names.items():
                text = text.replace(f"{{{name}}}", key)
            return text.replace("{origin}", self.origin)

        exchange = Exchange(method, ROOT + put(path), headers, put(body).encode())
        seen = await send(self.origin, exchange)
        text = VARIES.sub("", seen.body.decode("latin-1")).replace(self.origin, "http://here")
        fields = [
            (name, self._plain(value.replace(self.origin, "http://here"))) for name, value in seen.fields
        ]
        return seen.status, fields, self._plain(text), seen.length_fits

    def _plain(self, text: str) -> str:
        return GUID.sub(self._named, text)

    def _named(self, found: re.Match[str]) -> str:
        key = found[0].lower()
        if key in self.known:
            return found[0]
        return "{" + self.new.setdefault(key, f"new{len(self.new)}") + "}"


@dataclass
class Pair:
    direct: Side
    proxy: Side
    clock: Clock
    place: Any

    async def same(self, method: str, path: str, headers: Any = READ, body: str = "") -> tuple[Any, ...]:
        """Send to both; the answer, which must be the same."""
        expected = await self.direct.send(method, path, headers, body)
        got = await self.proxy.send(method, path, headers, body)
        for expected_part, part in zip(expected, got, strict=True):
            assert part == expected_part, f"{method} {path} {body}"
        return got

    def key(self, entity_set: str, number: int = 0) -> str:
        return self.place.a_key(entity_set, number)


def prepare(sandbox: Sandbox) -> None:
    """The user that everything is done by belongs to the unit that the sandbox gives what is new."""
    sandbox.fill()
    organisation = sandbox.organisation
    unit = {"Id": organisation.keys("BusinessUnitSet")[0], "LogicalName": "businessunit"}
    user = organisation.keys("SystemUserSet")[0]
    organisation.change("SystemUserSet", user, {"BusinessUnitId": unit}, modified_on="keep")


@asynccontextmanager
async def pair(database_url: str, switches: Switches, **settings: Any) -> AsyncIterator[Pair]:
    clock = Clock()
    clock.freeze(MOMENT)
    direct = Sandbox(rows=ROWS, switches=switches, clock=clock)
    prepare(direct)
    async with direct.serve() as root:
        user = str(direct.organisation.keys("SystemUserSet")[0])
        stated = {**STATED, "dialect.user": user, **settings}
        async with loaded_world(
            database_url, switches, rows=ROWS, clock=clock, prepare=prepare, **stated
        ) as (place, switch_off):
            await cut_over(place)
            await switch_off()
            known = frozenset(
                str(key)
                for name in place.proxy.metadata.model.entity_sets  # type: ignore[union-attr]
                for key in direct.organisation.keys(name)
            )
            yield Pair(Side(root.removesuffix(ROOT), known), Side(place.proxy.url, known), clock, place)


@pytest.fixture(params=[Switches(), Switches(version_number="rising")], ids=["no versions", "versions"])
async def both(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with pair(database_url, request.param) as made:
        yield made


async def test_one_life(both: Pair) -> None:
    await both.same("POST", "/AccountSet", JSON, '{"Name":"Fourth Coffee","Address1_City":"Leeds"}')
    entity = "/AccountSet(guid'{new0}')"
    await both.same("GET", entity)
    both.clock.advance(61)
    await both.same("POST", entity, tunnelled("MERGE"), '{"Name":"Fifth Coffee","NumberOfEmployees":7}')
    await both.same("GET", entity)
    await both.same("MERGE", entity, JSON, '{"Revenue":{"Value":"12.5"},"StateCode":{"Value":1}}')
    await both.same("PUT", f"{entity}/TickerSymbol", JSON, '{"TickerSymbol":"FC"}')
    await both.same("GET", f"{entity}?$select=Name,TickerSymbol,Revenue,Revenue_Base,StateCode,ModifiedOn")
    await both.same("DELETE", entity, READ)
    await both.same("GET", entity)
    await both.same("DELETE", entity, READ)


async def test_creates(both: Pair) -> None:
    account, contact = both.key("AccountSet"), both.key("ContactSet")
    bodies = [
        "{}",
        '{"Name":""}',
        '{"Name":"   "}',
        '{"d":{"Name":"wrapped"}}',
        '{"Name":"x","AccountId":"00000000-0000-0000-0000-000000000000"}',
        '{"AccountId":"11111111-2222-3333-4444-555555555555","Name":"chosen"}',
        '{"AccountId":"11111111-2222-3333-4444-555555555555"}',
        f'{{"PrimaryContactId":{{"Id":"{contact}","LogicalName":"contact","Name":"ignored"}}}}',
        f'{{"PrimaryContactId":{{"Id":"{contact}"}}}}',
        '{"PrimaryContactId":{"Id":"99999999-2222-3333-4444-555555555555","LogicalName":"contact"}}',
        '{"PrimaryContactId":null,"IndustryCode":null,"Revenue":null}',
        '{"IndustryCode":{"Value":"3"},"Revenue":{"Value":1000}}',
        '{"Revenue":{"Value":"1e30"}}',
        '{"NumberOfEmployees":"seven"}',
        '{"NumberOfEmployees":7.5}',
        '{"Nothing":1}',
        '{"PrimaryContactId":"a string"}',
        '{"optevia_LastVerified":"2016-02-03T04:05:06Z"}',
        '{"optevia_LastVerified":"\\/Date(-5000000000000)\\/"}',
        '{"optevia_LastVerified":"\\/Date(-9000000000000)\\/"}',
        '{"Name":"\u00e9t\u00e9 \\u0000 \\ud83d"}',
        '{"Name":"x","OverriddenCreatedOn":"\\/Date(1100000000000)\\/","CreatedOn":"\\/Date(0)\\/"}',
        '{"Name":"x","ModifiedOn":"\\/Date(0)\\/","OwnerId":null,"VersionNumber":"5"}',
        "",
        "[]",
        "{",
        "null",
    ]
    for body in bodies:
        await both.same("POST", "/AccountSet", JSON, body)
    await both.same("POST", "/ContactSet", JSON, '{"FirstName":"Grace","LastName":"Hopper"}')
    await both.same(
        "POST", "/ContactSet", JSON, f'{{"LastName":"H","ParentCustomerId":{{"Id":"{account}"}}}}'
    )
    parent = f'{{"Id":"{account}","LogicalName":"account"}}'
    await both.same("POST", "/ContactSet", JSON, f'{{"LastName":"H","ParentCustomerId":{parent}}}')
    await both.same("POST", "/TaskSet", JSON, f'{{"Subject":"call","RegardingObjectId":{parent}}}')
    await both.same("POST", "/TeamMembershipSet", JSON, "{}")
    await both.same("POST", "/CustomerAddressSet", JSON, '{"City":"Leeds"}')
    await both.same("POST", "/CustomerAddressSet", JSON, f'{{"City":"Leeds","ParentId":{parent}}}')
    await both.same("POST", "/AuditSet", JSON, "{}")
    await both.same("POST", "/AccountSet", (("Accept", "application/json"),), '{"Name":"no type"}')
    await both.same("POST", "/AccountSet", (*JSON[1:], ("Accept", "text/plain")), "{}")
    await both.same("POST", "/AccountSet", (*JSON[1:],), '{"Name":"Atom back"}')
    for name in ("chosen", "no type", "wrapped"):
        await both.same("GET", f"/AccountSet?$filter=Name%20eq%20'{name.replace(' ', '%20')}'")


async def test_updates(both: Pair) -> None:
    account, contact = both.key("AccountSet"), both.key("ContactSet")
    entity = f"/AccountSet(guid'{account}')"
    both.clock.advance(5)
    for method, path, headers, body in [
        ("MERGE", entity, JSON, "{}"),
        ("MERGE", entity, JSON, ""),
        ("MERGE", entity, JSON, '{"Nothing":1}'),
        ("MERGE", entity, JSON, '{"Name":7}'),
        ("MERGE", entity, JSON, '{"Name":null,"Description":"","Telephone1":" 1 "}'),
        ("MERGE", entity, JSON, f'{{"PrimaryContactId":{{"Id":"{contact}","LogicalName":"contact"}}}}'),
        ("MERGE", entity, JSON, '{"PrimaryContactId":{"Id":null,"LogicalName":null,"Name":null}}'),
        ("MERGE", entity, JSON, '{"account_primary_contact":{"LastName":"deep"}}'),
        ("MERGE", entity, JSON, '{"AccountId":"11111111-2222-3333-4444-555555555555","Name":"same key"}'),
        ("PUT", entity, JSON, '{"Fax":"5"}'),
        ("PATCH", entity, JSON, '{"Fax":"5"}'),
        ("POST", entity, JSON, "{}"),
        ("POST", entity, tunnelled("NOTHING"), "{}"),
        ("POST", entity, tunnelled("DELETE"), "{}"),
        ("MERGE", entity, JSON, '{"Name":"gone"}'),
        ("MERGE", "/AccountSet", JSON, '{"Name":"all"}'),
        ("DELETE", "/AccountSet", READ, ""),
        ("PUT", "/$metadata", JSON, "x"),
        ("POST", "/NothingSet", JSON, "{}"),
        ("MERGE", "/AccountSet(guid'nonsense')", JSON, "{}"),
    ]:
        await both.same(method, path, headers, body)
    other = f"/AccountSet(guid'{both.key('AccountSet', 1)}')"
    for method, path, headers, body in [
        ("PUT", f"{other}/Name", JSON, '{"Name":"one property"}'),
        ("PUT", f"{other}/Name", JSON, '{"Fax":"another"}'),
        ("MERGE", f"{other}/Revenue/Value", JSON, '{"Value":"7.25"}'),
        ("PUT", f"{other}/Name/$value", (("Accept", "*/*"), ("Content-Type", "text/plain")), "raw"),
        ("PUT", f"{other}/NumberOfEmployees/$value", (("Content-Type", "text/plain"),), "seven"),
        ("DELETE", f"{other}/Name", READ, ""),
        ("GET", f"{other}", READ, ""),
        ("MERGE", other, (*JSON, ("If-Match", "*")), "{}"),
        ("MERGE", other, (*JSON, ("DataServiceVersion", "3.0")), "{}"),
        ("GET", f"{other}", READ, ""),
    ]:
        await both.same(method, path, headers, body)


async def test_related_entities(both: Pair) -> None:
    account, contact, user = both.key("AccountSet"), both.key("ContactSet"), both.key("SystemUserSet", 1)
    team = both.key("TeamSet")
    link = f'{{"uri":"{{origin}}{ROOT}//ContactSet(guid\'{contact}\')"}}'
    of_user = f'{{"uri":"{{origin}}{ROOT.lower()}/SystemUserSet(guid\'{user}\')"}}'
    contacts = f"/AccountSet(guid'{account}')/$links/contact_customer_accounts"
    primary = f"/AccountSet(guid'{account}')/$links/account_primary_contact"
    members = f"/TeamSet(guid'{team}')/$links/teammembership_association"
    for method, path, headers, body in [
        ("POST", contacts, JSON, link),
        ("GET", contacts, READ, ""),
        ("GET", f"/ContactSet(guid'{contact}')?$select=ParentCustomerId,ModifiedOn", READ, ""),
        ("DELETE", f"{contacts}(guid'{contact}')", READ, ""),
        ("DELETE", f"{contacts}(guid'{contact}')", READ, ""),
        ("DELETE", contacts, READ, ""),
        ("GET", f"/ContactSet(guid'{contact}')?$select=ParentCustomerId", READ, ""),
        ("PUT", primary, JSON, link),
        ("GET", primary, READ, ""),
        ("DELETE", primary, READ, ""),
        ("GET", primary, READ, ""),
        ("POST", members, JSON, of_user),
        ("POST", members, JSON, of_user),
        ("GET", members, READ, ""),
        ("POST", f"{members}(guid'{user}')", tunnelled("DELETE"), ""),
        ("GET", members, READ, ""),
        ("POST", members, JSON, link),
        ("POST", members, JSON, '{"uri":"http://elsewhere/x"}'),
        ("POST", members, JSON, "{}"),
        ("POST", members, JSON, "{"),
        ("POST", f"/TeamSet(guid'{team}')/$links/Nothing", JSON, link),
        ("POST", f"/AccountSet(guid'{account}')/contact_customer_accounts", JSON, '{"LastName":"Nested"}'),
        ("POST", "/AccountSet", JSON, '{"Name":"P","contact_customer_accounts":[{"LastName":"A"}]}'),
        ("POST", "/AccountSet", JSON, '{"Name":"P","account_primary_contact":{"LastName":"A"}}'),
        ("POST", "/AccountSet", JSON, '{"contact_customer_accounts":[{"Nothing":1}]}'),
        ("POST", "/AccountSet", JSON, '{"contact_customer_accounts":{"LastName":"A"}}'),
        ("POST", "/AccountSet", JSON, '{"contact_customer_accounts":{"results":[{"LastName":"A"}]}}'),
    ]:
        await both.same(method, path, headers, body)


async def test_addresses_and_what_goes_with_a_record(both: Pair) -> None:
    await both.same("POST", "/AccountSet", JSON, '{"Name":"Owner","Address1_City":"Leeds"}')
    first, second = both.direct.new, both.proxy.new
    assert [*first.values()] == [*second.values()] == ["new0", "new1", "new2"]
    entity = "/AccountSet(guid'{new0}')"
    parent = '{"Id":"{new0}","LogicalName":"account"}'
    rows = [f"/CustomerAddressSet(guid'{{{name}}}')" for name in ("new1", "new2")]
    both.clock.advance(3)
    for method, path, headers, body in [
        *(("GET", row, READ, "") for row in rows),
        ("MERGE", entity, JSON, '{"Address1_City":"York"}'),
        *(("GET", path, READ, "") for path in (entity, *rows)),
        ("MERGE", rows[0], JSON, '{"City":"Hull","Line1":"1 Quay"}'),
        *(("GET", path, READ, "") for path in (entity, *rows)),
        ("DELETE", rows[1], READ, ""),
        *(("GET", path, READ, "") for path in (entity, *rows)),
        ("MERGE", entity, JSON, '{"Address2_City":"Ripon"}'),
        ("GET", entity, READ, ""),
        ("POST", "/TaskSet", JSON, f'{{"Subject":"goes","RegardingObjectId":{parent}}}'),
        ("POST", "/ContactSet", JSON, f'{{"LastName":"Goes","ParentCustomerId":{parent}}}'),
        ("POST", "/AccountSet", JSON, f'{{"Name":"Stays","ParentAccountId":{parent}}}'),
        ("DELETE", entity, READ, ""),
        *(("GET", path, READ, "") for path in (entity, *rows)),
        ("GET", "/TaskSet?$filter=Subject%20eq%20'goes'", READ, ""),
        ("GET", "/ContactSet?$filter=LastName%20eq%20'Goes'", READ, ""),
        ("GET", "/AccountSet?$filter=Name%20eq%20'Stays'", READ, ""),
    ]:
        await both.same(method, path, headers, body)


async def test_a_rename_shows_wherever_the_record_is_named(both: Pair) -> None:
    contact = both.key("ContactSet")
    name = f'{{"Id":"{contact}","LogicalName":"contact"}}'
    account = f"/AccountSet(guid'{both.key('AccountSet')}')"
    for method, path, headers, body in [
        ("MERGE", account, JSON, f'{{"PrimaryContactId":{name}}}'),
        ("MERGE", f"/ContactSet(guid'{contact}')", JSON, '{"FirstName":"Ada","LastName":"Renamed"}'),
        ("GET", account, READ, ""),
        ("GET", f"{account}/PrimaryContactId/Name", READ, ""),
        ("GET", "/AccountSet", READ, ""),
        ("GET", "/AccountSet?$expand=account_primary_contact&$top=4", ATOM, ""),
        ("MERGE", account, JSON, '{"Fax":"1"}'),
        ("GET", account, READ, ""),
        ("DELETE", f"/ContactSet(guid'{contact}')", READ, ""),
        ("GET", account, READ, ""),
    ]:
        await both.same(method, path, headers, body)


async def test_atom(both: Pair) -> None:
    head = (
        '<entry xmlns:d="http://schemas.microsoft.com/ado/2007/08/dataservices"'
        ' xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"'
        ' xmlns="http://www.w3.org/2005/Atom"><title /><author><name /></author><id />'
        '<content type="application/xml"><m:properties>'
    )
    tail = "</m:properties></content></entry>"
    empty = '<d:NumberOfEmployees m:type="Edm.Int32" m:null="true" />'
    entity = f"/AccountSet(guid'{both.key('AccountSet')}')"
    for method, path, body in [
        ("POST", "/AccountSet", f"{head}<d:Name>Atom</d:Name>{empty}{tail}"),
        ("POST", "/AccountSet", f"{head}<d:Nothing>Atom</d:Nothing>{tail}"),
        ("POST", "/AccountSet", "<entry/>"),
        ("POST", "/AccountSet", "no xml"),
        ("MERGE", entity, f"{head}<d:Name>Merged</d:Name>{empty}{tail}"),
        ("GET", entity, ""),
        ("MERGE", f"/AccountSet(guid'{both.key('ContactSet')}')", f"{head}{tail}"),
    ]:
        await both.same(method, path, ATOM, body)


TEXTS = ('"x"', '""', "null", '"  "', '"\\u00e9"', "7", "true")
BODIES = {
    "AccountSet": ("Name", "Fax", "Address1_City", "Address2_City", "Description", "Nothing"),
    "ContactSet": ("FirstName", "LastName", "JobTitle", "Address1_City"),
    "TaskSet": ("Subject", "Description"),
    "CustomerAddressSet": ("City", "Line1"),
}


class Walk:
    """Writes and reads as they come by chance: of what was there and of what was made on the way."""

    def __init__(self, both: Pair, seed: int) -> None:
        self._both = both
        self._random = random.Random(seed)

    def _a_set(self) -> str:
        return self._random.choice(list(BODIES))

    def _entity(self, entity_set: str) -> str:
        made = [f"{{{name}}}" for name in self._both.proxy.new.values()]
        known = [self._both.key(entity_set, number) for number in range(3)]
        return f"/{entity_set}(guid'{self._random.choice([*known, *made[-6:]])}')"

    def _body(self, entity_set: str) -> str:
        names = self._random.sample(BODIES[entity_set], self._random.randint(0, 2))
        members = [f'"{name}":{self._random.choice(TEXTS)}' for name in names]
        if entity_set == "ContactSet" and self._random.random() < 0.5:
            parent = self._both.key("AccountSet", self._random.randrange(3))
            members.append(f'"ParentCustomerId":{{"Id":"{parent}","LogicalName":"account"}}')
        return f"{{{','.join(members)}}}"

    async def step(self) -> None:
        entity_set = self._a_set()
        path = self._entity(entity_set)
        match self._random.choices(("create", "merge", "delete", "property", "read"), (3, 6, 1, 2, 3))[0]:
            case "create":
                await self._both.same("POST", f"/{entity_set}", JSON, self._body(entity_set))
            case "merge":
                await self._both.same("MERGE", path, JSON, self._body(entity_set))
            case "delete":
                await self._both.same("DELETE", path)
            case "property":
                name = self._random.choice(BODIES[entity_set])
                body = f'{{"{name}":{self._random.choice(TEXTS)}}}'
                await self._both.same("PUT", f"{path}/{name}", JSON, body)
            case _:
                await self._both.same("GET", f"{path}?$select=*", ATOM)
        if self._random.random() < 0.2:
            self._both.clock.advance(self._random.choice((0, 0.4, 3)))
        await self._both.same("GET", path)


@pytest.mark.parametrize("seed", range(3))
async def test_walks_by_chance(database_url: str, seed: int) -> None:
    async with pair(database_url, Switches()) as both:
        walk = Walk(both, seed)
        for _ in range(60):
            await walk.step()
