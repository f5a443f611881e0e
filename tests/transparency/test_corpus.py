"""Requests of every form that clients are known to send, direct and through the proxy: the same answers.

They are written to the socket as they stand here, because HTTP clients tidy up what is at stake.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from world import World, world

from proxy.sandbox import Switches

ROOT = "/XRMServices/2011/OrganizationData.svc"
ACCEPTS = ("application/json", "application/atom+xml")
UPDATED = re.compile(rb"<updated>[^<]*</updated>")
# The origin by which a server knows itself that was set up under another name.
FOREIGN = re.compile(r"https://crm\.example\.org(?=/XRMServices/2011/OrganizationData\.svc)", re.IGNORECASE)
SERVERS = [
    pytest.param(Switches(), id="the manual's"),
    pytest.param(Switches(root="foreign_origin"), id="foreign origin"),
    pytest.param(Switches(version_number="rising"), id="rising versions"),
]

# What may differ: fields of the connection, not of the message (RFC 9110, 7.6.1); fields that the proxy adds;
# and the instant of the answer. Content-Length is compared with the body instead: origins differ in length.
MAY_DIFFER = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "cache-status",
    "age",
    "x-request-id",
    "date",
    "content-length",
}

# `{k}`: the key of an account; `{c}`: of a contact that has an account; `{K}`: an account's, in upper case.
READS = [
    # The service itself
    "",
    "/",
    "//",
    "?",
    "/?x=1",
    "/$metadata",
    "/$metadata?",
    "/$metadata/",
    # Keys
    "/AccountSet(guid'{k}')",
    "/AccountSet(guid'{K}')",
    "/AccountSet(guid'{{{k}}}')",
    "/AccountSet(guid%27{k}%27)",
    "/AccountSet%28guid'{k}'%29",
    "/AccountSet(%7B{k}%7D)",
    "/AccountSet(AccountId=guid'{k}')",
    "/AccountSet(guid'{k}')/",
    "/AccountSet(guid'{k}')?",
    "/AccountSet(guid'{k}')?&",
    "//AccountSet(guid'{k}')",
    "/AccountSet( guid'{k}' )",
    "/AccountSet(%20guid'{k}'%20)",
    "/AccountSet(guid'00000000-0000-0000-0000-000000000000')",
    "/AccountSet(guid'nonsense')",
    "/AccountSet('{k}')",
    "/AccountSet({k})",
    "/AccountSet(1)",
    "/AccountSet(guid'{k}'",
    "/AccountSet(guid'{k}')x",
    "/AccountSet(ContactId=guid'{k}')",
    "/AccountSet(%ZZ)",
    "/AccountSet(%FF)",
    # Sets
    "/AccountSet?$top=3",
    "/AccountSet()?$top=3",
    "/AccountSet()/?$top=3",
    "//AccountSet?$top=3",
    "/AccountSet/?$top=3",
    "/%41ccountSet?$top=3",
    "/accountset?$top=3",
    "/NothingSet",
    "/NothingSet(guid'{k}')",
    "/AccountSet/Name",
    "/AuditSet?$top=3",
    "/TeamMembershipSet?$top=3",
    "/optevia_sectorSet?$top=3",
    # Pages
    "/ContactSet",
    "/ContactSet?$select=FullName",
    "/ContactSet?$orderby=FullName&$select=FullName,ContactId",
    "/ContactSet?$orderby=FullName%20desc&$top=5&$skip=3",
    "/ContactSet?$skip=60&$top=5",
    "/ContactSet?$skip=100000",
    "/ContactSet?$top=0",
    "/ContactSet?$top=60",
    "/ContactSet?$top=-1",
    "/ContactSet?$top=abc",
    "/ContactSet?$top=",
    "/ContactSet?$skip=-1",
    "/ContactSet?$inlinecount=allpages",
    "/ContactSet?$inlinecount=none&$top=2",
    "/ContactSet/$count",
    "/ContactSet?$skiptoken=1,'x'",
    "/ContactSet?$skiptoken=nonsense",
    # $select
    "/AccountSet(guid'{k}')?$select=Name",
    "/AccountSet(guid'{k}')?$select=Name,AccountId,PrimaryContactId",
    "/AccountSet(guid'{k}')?$select=AccountId,Name",
    "/AccountSet(guid'{k}')?$select=Name%2CAccountId",
    "/AccountSet(guid'{k}')?$select=Name,%20AccountId",
    "/AccountSet(guid'{k}')?$select=Name,+AccountId",
    "/AccountSet(guid'{k}')?%24select=Name",
    "/AccountSet(guid'{k}')?$select=*",
    "/AccountSet(guid'{k}')?$select=",
    "/AccountSet(guid'{k}')?$select=Name,",
    "/AccountSet(guid'{k}')?$select=Name,Name",
    "/AccountSet(guid'{k}')?$select=name",
    "/AccountSet(guid'{k}')?$select=Nothing",
    "/AccountSet(guid'{k}')?$select=ModifiedOn,VersionNumber",
    "/AccountSet(guid'{k}')?$select=account_primary_contact",
    "/AccountSet(guid'{k}')?$select=PrimaryContactId/Name",
    "/AccountSet?$select=Name&$top=4",
    "/AccountSet?$top=4&$select=VersionNumber,ModifiedOn,AccountId",
    # $filter
    "/AccountSet?$filter=AccountId%20eq%20guid'{k}'",
    "/AccountSet?$filter=AccountId+eq+guid'{k}'",
    "/AccountSet?$filter=AccountId%20eq%20guid%27{k}%27",
    "/AccountSet?$filter=AccountId%20eq%20(guid'{{{K}}}')",
    "/AccountSet?$filter=startswith(Name,'A')&$top=4",
    "/AccountSet?$filter=substringof('o',Name)%20eq%20true&$top=4",
    "/AccountSet?$filter=endswith(Name,'d')%20and%20StateCode/Value%20eq%200&$top=4",
    "/AccountSet?$filter=Name%20eq%20'O''Neill'",
    "/AccountSet?$filter=Name%20eq%20'%C3%A9t%C3%A9%20%26%20co'",
    "/AccountSet?$filter=ModifiedOn%20ge%20datetime'2013-01-01T00:00:00Z'&$top=4",
    "/AccountSet?$filter=PrimaryContactId/Id%20ne%20null&$top=4",
    "/AccountSet?$filter=Revenue/Value%20gt%201000M&$top=4",
    "/AccountSet?$filter=CreditOnHold&$top=4",
    "/AccountSet?$filter=not%20(CreditOnHold%20eq%20true)&$top=4",
    "/AccountSet?$filter=Nothing%20eq%201",
    "/AccountSet?$filter=Name%20eq",
    "/AccountSet?$filter=",
    "/AccountSet?$filter=Name%20eq%20'open",
    "/AccountSet?$filter=length(Name)%20gt%203",
    "/AccountSet?$filter=%F0%9F%98%80",
    "/AccountSet?$orderby=Nothing",
    "/AccountSet?$orderby=Name%20sideways",
    # $expand, navigation, properties, links
    "/ContactSet(guid'{c}')?$expand=contact_customer_accounts",
    "/AccountSet(guid'{k}')?$expand=account_primary_contact",
    "/AccountSet(guid'{k}')?$expand=contact_customer_accounts",
    "/AccountSet(guid'{k}')?$expand=account_primary_contact&$select=Name,account_primary_contact/FullName",
    "/AccountSet?$expand=account_primary_contact&$top=3",
    "/AccountSet?$expand=Nothing",
    "/AccountSet(guid'{k}')/contact_customer_accounts",
    "/AccountSet(guid'{k}')/contact_customer_accounts?$select=FullName",
    "/AccountSet(guid'{k}')/account_primary_contact",
    "/AccountSet(guid'{k}')/account_primary_contact/FullName",
    "/AccountSet(guid'{k}')/$links/contact_customer_accounts",
    "/AccountSet(guid'{k}')/$links/account_primary_contact",
    "/AccountSet(guid'{k}')/$links/Nothing",
    "/AccountSet(guid'{k}')/$links",
    "/AccountSet(guid'{k}')/Name",
    "/AccountSet(guid'{k}')/Name/$value",
    "/AccountSet(guid'{k}')/Revenue",
    "/AccountSet(guid'{k}')/PrimaryContactId/Id",
    "/AccountSet(guid'{k}')/PrimaryContactId/Id/$value",
    "/AccountSet(guid'{k}')/Nothing",
    "/AccountSet(guid'{k}')/$value",
    "/AccountSet(guid'{k}')/$count",
    # Queries with junk in them
    "/AccountSet?$top=5&$skip=0&",
    "/AccountSet?&$select=Name&$top=5",
    "/AccountSet?&&$top=5",
    "/AccountSet?$top=5&_=123",
    "/AccountSet(guid'{k}')?_=1478512345678",
    "/AccountSet(guid'{k}')?x",
    "/AccountSet(guid'{k}')?=",
    "/AccountSet?$top=5&$x=1",
    "/AccountSet?$x",
    "/AccountSet?$Top=5",
    "/AccountSet?$top=5&$top=6",
    "/AccountSet?%zz=1&$top=2",
    "/AccountSet?$top=2&a=%2B+%20b",
    "/AccountSet(guid'{k}')?$top=1",
    "/AccountSet(guid'{k}')?$filter=true",
    "/AccountSet(guid'{k}')?$format=json",
    "/AccountSet?$format=atom&$top=2",
]

# Other spellings of the root; the last three are not below it.
OTHER_ROOTS = [
    "/xrmservices/2011/organizationdata.svc/AccountSet(guid'{k}')",
    "/XRMSERVICES/2011/ORGANIZATIONDATA.SVC/AccountSet?$top=3",
    "/xrmservices/2011/organizationdata.svc/$metadata",
    "/xrmservices/2011/OrganizationData.svc",
    "/XRMServices/2011/OrganizationData.svcx/AccountSet",
    "/XRMServices//2011/OrganizationData.svc/AccountSet",
    "/XRMServices/2011/%4FrganizationData.svc/AccountSet",
]


@dataclass(frozen=True)
class Exchange:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target} {dict(self.headers)}"


class _Received:
    """Bytes in the place of the socket that `HTTPResponse` reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@dataclass(frozen=True)
class Seen:
    status: tuple[int, str]
    fields: list[tuple[str, str]]
    body: bytes
    length_fits: bool
    cache: str


async def send(origin: str, exchange: Exchange) -> Seen:
    address = urlsplit(origin)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    fields = [("Host", address.netloc), ("Connection", "close"), *exchange.headers]
    if exchange.body:
        fields.append(("Content-Length", str(len(exchange.body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    writer.write(f"{exchange.method} {exchange.target} HTTP/1.1\r\n{head}\r\n".encode() + exchange.body)
    data = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    response = HTTPResponse(_Received(data), method=exchange.method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    length = response.getheader("Content-Length")
    return Seen(
        (response.status, response.reason),
        sorted((n.lower(), v) for n, v in response.getheaders() if n.lower() not in MAY_DIFFER),
        body,
        length is None or exchange.method == "HEAD" or int(length) == len(body),
        response.getheader("Cache-Status", ""),
    )


def rooted(place: World, seen: Seen) -> tuple[Any, ...]:
    """What was seen directly, as it should be seen through the proxy."""

    def proxys(text: str) -> str:
        return FOREIGN.sub(
            place.proxy.url, text.replace(place.direct_root.removesuffix(ROOT), place.proxy.url)
        )

    fields = [(name, proxys(value)) for name, value in seen.fields]
    body = proxys(UPDATED.sub(b"", seen.body).decode("latin-1")).encode("latin-1")
    return seen.status, fields, body, seen.length_fits


async def differences(place: World, exchanges: list[Exchange], rounds: int) -> tuple[list[str], int]:
    """Send each directly, then in rounds through the proxy; what differed, and the last round's hits."""
    upstream = place.direct_root.removesuffix(ROOT)
    direct = [rooted(place, await send(upstream, exchange)) for exchange in exchanges]
    found = []
    hits = 0
    for number in range(rounds):
        hits = 0
        for exchange, expected in zip(exchanges, direct, strict=True):
            seen = await send(place.proxy.url, exchange)
            got = (seen.status, seen.fields, UPDATED.sub(b"", seen.body), seen.length_fits)
            hits += seen.cache.startswith("syncpoint; hit")
            for expected_part, part in zip(expected, got, strict=True):
                if part != expected_part:
                    at = f"round {number + 1}, {exchange}, {seen.cache}"
                    found.append(f"{at}:\n    {str(part)[:300]}\n    {str(expected_part)[:300]}")
        await place.idle()
    return found, hits


@pytest.fixture(params=SERVERS)
async def place(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(database_url, switches=request.param) as made:
        yield made


def filled(place: World, target: str) -> str:
    account, contact = place.a_key("AccountSet", 3), place.a_key("ContactSet", 5)
    return target.format(k=account, K=account.upper(), c=contact)


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_reads_of_every_form(place: World, accept: str) -> None:
    targets = [f"{ROOT}{path}" for path in READS] + OTHER_ROOTS
    exchanges = [Exchange("GET", filled(place, target), (("Accept", accept),)) for target in targets]
    found, hits = await differences(place, exchanges, 3)
    assert not found, "\n".join(found)
    # The answers were not all upstream's own: the mirror stood in where it may.
    assert hits > 40


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/json, text/javascript, */*",
        "application/json;odata=verbose",
        "application/xml",
        "text/xml",
        "text/plain",
        "application/atomsvc+xml",
        "application/json;q=0.1, application/atom+xml",
        "nonsense",
    ],
)
async def test_formats_as_clients_ask_for_them(place: World, accept: str | None) -> None:
    paths = ("/", "/$metadata", "/AccountSet(guid'{k}')", "/AccountSet?$top=2", "/AccountSet(guid'{k}')/Name")
    headers = () if accept is None else (("Accept", accept),)
    exchanges = [Exchange("GET", filled(place, f"{ROOT}{path}"), headers) for path in paths]
    found, _ = await differences(place, exchanges, 3)
    assert not found, "\n".join(found)


async def test_what_is_no_read_of_odata(place: World) -> None:
    envelope = b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>'
    soap = (("Content-Type", "text/xml; charset=utf-8"), ("SOAPAction", '"urn:Execute"'))
    entity = filled(place, f"{ROOT}/AccountSet(guid'{{k}}')")
    json = ("Accept", "application/json")
    exchanges = [
        Exchange("POST", "/XRMServices/2011/Organization.svc/web", soap, envelope),
        Exchange("POST", "/XRMServices/2011/Organization.svc", soap, envelope),
        Exchange("GET", "/WebResources/new_/scripts/form.js", (("Accept", "*/*"),)),
        Exchange("GET", "/WebResources/new_/scripts/form.js?ver=1&x=%27+%2C%20"),
        Exchange("GET", "/"),
        Exchange("GET", "/gzip"),
        Exchange("GET", "/download/100000"),
        Exchange("HEAD", "/download/100000"),
        Exchange("OPTIONS", "/WebResources/x"),
        Exchange("OPTIONS", "*"),
        Exchange("HEAD", entity, (json,)),
        Exchange("HEAD", f"{ROOT}/AccountSet?$top=2", (json,)),
        Exchange("HEAD", f"{ROOT}/$metadata"),
        Exchange("OPTIONS", entity, (json,)),
        Exchange("OPTIONS", f"{ROOT}/", (json,)),
        Exchange("PATCH", entity, (json, ("Content-Type", "application/json")), b'{"Name":"x"}'),
        Exchange("PROPFIND", f"{ROOT}/AccountSet", (json,)),
        Exchange("GET", entity, (json, ("X-HTTP-Method", "MERGE"))),
        Exchange("GET", entity, (json, ("If-None-Match", "*"))),
        Exchange("GET", entity, (json, ("DataServiceVersion", "3.0"))),
        Exchange("GET", entity, (json, ("MaxDataServiceVersion", "1.0"))),
        Exchange("GET", entity, (json, ("Accept-Language", "de"), ("User-Agent", ""))),
        Exchange("POST", f"{ROOT}/AccountSet", (json, ("X-HTTP-Method", "NOTHING")), b"{}"),
        Exchange("POST", f"{ROOT}/$batch", (("Content-Type", "multipart/mixed; boundary=b"),), b"--b--"),
        Exchange("POST", f"{ROOT}/NothingSet", (json, ("Content-Type", "application/json")), b"{}"),
        Exchange("DELETE", f"{ROOT}/AccountSet", (json,)),
        Exchange("PUT", f"{ROOT}/$metadata", (json,), b"x"),
    ]
    found, _ = await differences(place, exchanges, 2)
    assert not found, "\n".join(found)
