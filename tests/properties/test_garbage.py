"""A hundred thousand broken inputs: every parser raises the protocol's error, or nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from proxy.odata import atom, verbose_json
from proxy.odata.batch import read_requests, read_responses
from proxy.odata.csdl import parse_metadata
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.headers import parse_cache_control
from proxy.odata.media import response_format
from proxy.odata.operation import parse_operation
from proxy.odata.primitives import parse_literal
from proxy.odata.query_options import parse_query
from proxy.odata.reading import parse_read
from proxy.sandbox.metadata import small_document

INPUTS = 100_000
MODEL = parse_metadata(small_document())
ACCOUNT = MODEL.entity_sets["AccountSet"].entity_type
ROOT = "/Org/XRMServices/2011/OrganizationData.svc"
KEY = "guid'8f2c6a50-0d61-e611-80c5-00155d010a01'"
ENTITY = (
    f'{{"d":{{"__metadata":{{"uri":"http://h{ROOT}/AccountSet({KEY})","type":"X.Account"}},"Name":"caf\\u00e9",'
    '"AccountId":"8f2c6a50-0d61-e611-80c5-00155d010a01","CreditLimit":{"Value":"1.5000"},"CreatedOn":'
    '"\\/Date(1472140800000)\\/","PrimaryContactId":{"Id":null,"LogicalName":null,"Name":null}}}'
)
ENTRY = (
    '<?xml version="1.0"?><entry xmlns="http://www.w3.org/2005/Atom" xmlns:d="http://schemas.microsoft.com/ado/'
    '2007/08/dataservices" xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"><content '
    'type="application/xml"><m:properties><d:Name>x</d:Name><d:NumberOfEmployees m:type="Edm.Int32">5'
    '</d:NumberOfEmployees><d:Revenue m:null="true" /></m:properties></content></entry>'
)
BATCH = (
    "--b\r\nContent-Type: application/http\r\n\r\nGET AccountSet?$top=1 HTTP/1.1\r\nAccept: */*\r\n\r\n\r\n"
    "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n"
    "Content-ID: 1\r\n\r\nPOST AccountSet HTTP/1.1\r\n\r\n{}\r\n--c--\r\n--b--\r\n"
)
PATHS = [
    f"/AccountSet({KEY})",
    f"/AccountSet({KEY})/account_primary_contact/FullName/$value",
    f"/AccountSet({KEY})/$links/contact_customer_accounts({KEY})",
    "/ContactSet/$count?$filter=FullName%20eq%20'x'&$expand=a/b&$select=*",
]
FILTERS = [
    "substringof('o''h',Name) and not (year(CreatedOn) gt 2012 or -NumberOfEmployees add 1 mul 2 le 5L)",
    f"PrimaryContactId/Id eq {KEY} or CreatedOn ge datetime'2012-01-01T00:00:00Z' and Revenue/Value lt 1.5M",
]
LITERALS = ["'x'", "1.5M", "5L", "datetime'2012-01-01'", KEY, "X'0aff'", "time'PT1H'", "1e5", "null", "true"]
PIECES = [
    *"()'\"/\\$%&=+<>{}[],:;\0\r\n \ud800é😀",
    "--",
    "%zz",
    "%00",
    "]]>",
    "<!DOCTYPE x>",
    "&x;",
    "9" * 40,
    "null",
]

Parser = Callable[[str], Any]
PARSERS: list[tuple[list[str], Parser]] = [
    (FILTERS, parse_filter),
    (["Name desc,CreatedOn", "length(Name) asc"], parse_orderby),
    (LITERALS, lambda text: parse_literal(text, 0)),
    (PATHS, lambda text: parse_operation("GET", ROOT + text, {}, ROOT, MODEL)),
    (PATHS, lambda text: parse_operation("POST", ROOT + text, {}, ROOT, MODEL)),
    (PATHS, lambda text: parse_read(text.partition("?")[0], text.partition("?")[2], MODEL)),
    (["$top=5&$skip=1&a=b&$select=x,y", "?&$filter=a+b"], parse_query),
    ([ENTITY], verbose_json.slice_reply),
    ([ENTITY], lambda text: verbose_json.rewrite_origins(text, ROOT, "http://p")),
    ([ENTITY[5:-1]], lambda text: verbose_json.parse_posted(as_bytes(text), ACCOUNT, MODEL)),
    ([ENTRY], lambda text: atom.parse_entry_body(as_bytes(text), ACCOUNT, MODEL)),
    ([ENTRY], lambda text: atom.rewrite_origins(text, ROOT, "http://p")),
    ([BATCH], lambda text: read_requests(as_bytes(text), "multipart/mixed; boundary=b")),
    ([BATCH], lambda text: read_responses(as_bytes(text), "multipart/mixed; boundary=b")),
    (["multipart/mixed; boundary=b"], lambda text: read_requests(BATCH.encode(), text)),
    (["application/json;q=0.5, application/atom+xml"], response_format),
    (['max-age=5, no-cache="x"'], lambda text: parse_cache_control([text])),
]


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def broken(valid: str, chance: random.Random) -> str:
    """`valid` after a few cuts, doublings and foreign pieces."""
    text = valid
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.randint(0, 12))
        deed = chance.randrange(4)
        if deed == 0:
            text = text[:start] + text[end:]
        elif deed == 1:
            text = text[:end] + text[start:]
        elif deed == 2:
            text = text[:start] + chance.choice(PIECES) + text[start:]
        else:
            text = text[:start] + chance.choice(PIECES) + text[end:]
    return text


@pytest.mark.parametrize("number", range(len(PARSERS)))
def test_garbage_raises_the_protocols_error_or_nothing(number: int) -> None:
    seed = int(os.environ.get("SYNCPOINT_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SYNCPOINT_TEST_SEED={seed}")
    chance = random.Random(seed)
    valid, parse = PARSERS[number]
    refused = 0
    count = -(-INPUTS // len(PARSERS))
    for _ in range(count):
        text = broken(chance.choice(valid), chance)
        try:
            parse(text)
        except ODataError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {text!r}") from error
    assert refused < count  # some were broken so little that they still stand
