"""Requests of every form that clients are known to send, and how two answers to one are compared."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from world import World

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
    pytest.param(Switches(language="v2", count="serve", batch="serve"), id="the whole language"),
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
    # What the standard has and 2011 refuses: functions, arithmetic, paths, several levels
    *(
        f"/AccountSet?$top=3&$filter={test.replace(' ', '%20')}"
        for test in (
            "length(Name) gt 3",
            "indexof(Name,'a') eq 1",
            "replace(Name,'a','b') eq 'x'",
            "substring(Name,1) eq 'x'",
            "substring(Name,1,2) eq 'x'",
            "tolower(Name) eq 'x'",
            "toupper(Name) eq 'X'",
            "trim(Name) eq 'x'",
            "concat(Name,'x') eq 'x'",
            "year(CreatedOn) ge 2010",
            "month(CreatedOn) eq 1",
            "day(CreatedOn) eq 1",
            "hour(CreatedOn) lt 12",
            "minute(CreatedOn) lt 30",
            "second(CreatedOn) lt 30",
            "round(Revenue/Value) gt 1M",
            "floor(Revenue/Value) gt 1M",
            "ceiling(Revenue/Value) gt 1M",
            "NumberOfEmployees add 1 gt 5",
            "NumberOfEmployees sub 1 gt 5",
            "NumberOfEmployees mul 2 gt 5",
            "NumberOfEmployees div 2 gt 5",
            "NumberOfEmployees mod 2 eq 1",
            "-NumberOfEmployees lt 5",
            "NumberOfEmployees div 0 eq 1",
            "isof('Edm.String')",
            "cast(Name,'Edm.String') eq 'x'",
            "account_primary_contact/FullName ne null",
            "account_primary_contact/LastName eq 'Smith' and Name ne null",
            "null eq null",
            "Name eq null",
            "Name eq 5",
            "NumberOfEmployees eq 5L or NumberOfEmployees eq 5.0 or NumberOfEmployees eq 5M",
            "CreatedOn eq datetime'2012-1-1'",
            "((((Name ne null))))",
            "unknown(Name)",
            "Name eq 'a' or Name eq 'b' or Name eq 'c' and not startswith(Name,'d')",
        )
    ),
    "/AccountSet/$count?$filter=Name%20ne%20null",
    "/AccountSet?$inlinecount=allpages&$filter=startswith(Name,'A')&$top=1",
    "/AccountSet?$orderby=StateCode/Value,Name%20desc,AccountId&$top=4",
    "/AccountSet?$orderby=length(Name)&$top=4",
    "/AccountSet?$orderby=account_primary_contact/FullName&$top=4",
    "/ContactSet(guid'{c}')?$expand=contact_customer_accounts/account_primary_contact",
    "/ContactSet?$top=2&$expand=contact_customer_accounts/account_primary_contact",
    "/ContactSet(guid'{c}')/contact_customer_accounts/account_primary_contact",
    "/ContactSet(guid'{c}')/contact_customer_accounts/Name",
    "/ContactSet(guid'{c}')/contact_customer_accounts/Name/$value",
    "/AccountSet(guid'{k}')/contact_customer_accounts/$count",
    "/AccountSet(guid'{k}')/contact_customer_accounts(guid'{c}')",
    "/AccountSet(guid'{k}')/$links/contact_customer_accounts(guid'{c}')",
    "/AccountSet(guid'{k}')/$links/contact_customer_accounts?$top=1",
    "/AccountSet(guid'{k}')/CreatedOn/$value",
    "/AccountSet(guid'{k}')/StateCode/Value/$value",
    "/AccountSet(guid'{k}')/AccountId/$value",
    "/AccountSet(guid'{k}')/VersionNumber/$value",
    "/AccountSet?$select=Name,account_primary_contact&$expand=account_primary_contact&$top=2",
    "/AccountSet?$select=*&$top=2",
    "/Retrieve?x=1",
    "/$batch",
]

MIXED = "multipart/mixed"
BATCH = (
    b"--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"GET AccountSet?$top=1 HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n--b--\r\n"
)

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


def filled(place: World, target: str) -> str:
    account, contact = place.a_key("AccountSet", 3), place.a_key("ContactSet", 5)
    return target.format(k=account, K=account.upper(), c=contact)
