"""The sandbox as a judge: what is true of one record, written down by hand (docs/decisions/0005)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import quote

import pytest
from things import DOCUMENT

from proxy.odata.errors import ODataError
from proxy.odata.query_options import parse_query
from proxy.sandbox import Sandbox, Switches
from proxy.sandbox.query import Queries

LOW = uuid.UUID("ffffffff-ffff-ffff-ffff-000000000001")
HIGH = uuid.UUID("00000000-0000-0000-0000-000000000002")


def a_sandbox() -> Sandbox:
    """One thing in a box within a box; Text, Signed, Flag and more of it are null, and so is its parent."""
    sandbox = Sandbox(DOCUMENT, 0, switches=Switches(language="v2"))
    insert = sandbox.organisation.insert
    outer = insert("BoxSet", {"Name": "Outer"})
    within = {"Id": outer, "LogicalName": "box"}
    box = insert("BoxSet", {"Name": "Inner ", "Size": 3, "WithinBoxId": within})
    thing = {
        "ThingId": LOW,
        "Name": "Crème Brûlée  ",
        "Tiny": 255,
        "Small": -7,
        "Whole": 2,
        "Big": 2**53 + 1,
        "Amount": Decimal("10.50"),
        "Real": 0.5,
        "Short": 0.10000000149011612,
        "Moment": datetime(2016, 2, 29, 23, 59, 58, 750000),
        "Instant": datetime(2016, 2, 29, 12, tzinfo=UTC),
        "Span": timedelta(hours=25),
        "Bytes": b"\x01\xff",
        "Other": HIGH,
        "Price": {"Value": Decimal("-2.5")},
        "InBox": {"Id": box, "LogicalName": "box"},
    }
    insert("ThingSet", thing)
    return sandbox


SANDBOX = a_sandbox()


def holds(text: str) -> bool:
    organisation = SANDBOX.organisation
    options = parse_query(f"$filter={quote(text)}")
    page = Queries(organisation.tables, SANDBOX.switches).page(organisation.entity_set("ThingSet"), options)
    return list(page.keys) == [LOW]


TRUE = """
Name eq 'creme brulee'
Name eq 'CRÈME BRÛLÉE'
Name eq 'Creme Brulee      '
not (Name eq ' creme brulee')
Name ne 'creme'
Name ge 'creme brulee' and Name le 'creme brulee'
Name gt 'creme' and Name lt 'cremf'
'B' gt 'a' and 'é' lt 'f' and 'Z' gt 'a'
'œ' ne 'oe' and 'ø' ne 'o' and 'ß' ne 'ss'
'ﬁ' eq 'fi' and '½' eq '1⁄2'
'ΟΔΟΣ' eq 'οδος' and 'İ' eq 'i'
'a' ne 'a\t'
'' eq '   '
Text eq null
null eq Text
Name ne null
not (Text ne null)
null eq null
not (null ne null)
Text eq parent/Name
not (Text ne parent/Name)
Text ne Name
Text ne ''
not (Text eq '')
not (Text gt 'a') and not (Text le 'a')
not (Signed lt 0) and not (Signed ge 0)
not (Whole gt null) and not (Whole le null)
not Flag
not (Flag eq true) and not (Flag eq false) and Flag ne true and Flag ne false
(Text eq 'a') eq false
(Text gt 'a') ne true
not null
not (null and Whole eq 2) and (null or Whole eq 2)
Signed add 1 eq null
Signed mul 0 ne 0
length(Text) eq null and length(Text) ne 0
concat(Name,Text) eq null
not substringof('a',Text)
not startswith(Text,'')
(substringof('a',Text) eq false) eq false
substringof('BRU',Name) and startswith(Name,'creme') and endswith(Name,'  ')
not endswith(Name,'lee')
substringof('',Name) and startswith(Name,'') and endswith(Name,'')
not substringof('%',Name) and not substringof('_',Name) and not startswith(Name,'cr%')
length(Name) eq 14
length('ä') eq 1 and length('😀') eq 1 and length('') eq 0
indexof(Name,'BRU') eq 6 and indexof(Name,'x') eq -1 and indexof(Name,'') eq 0
substring(Name,6,4) eq 'brul' and substring(Name,12) eq '' and substring(Name,99) eq ''
substring('abc',-1) eq 'abc' and substring('abc',1,-1) eq '' and substring('abc',1,1) eq 'b'
replace('aXa','a','b') eq 'bxb' and replace('aXa','A','b') eq 'axa' and replace('abc','','x') eq 'abc'
tolower('É') eq 'e' and length(toupper('straße')) eq 6
length(trim('  a b\t\u00a0\u2028')) eq 3 and trim(' x ') eq 'x'
concat('a ',' b') eq 'a  b'
year(Moment) eq 2016 and month(Moment) eq 2 and day(Moment) eq 29
hour(Moment) eq 23 and minute(Moment) eq 59 and second(Moment) eq 58
Moment eq datetime'2016-02-29T23:59:58.75'
Moment lt datetime'2016-02-29T23:59:58.7500019' and Moment gt datetime'2016-02-29T23:59:58.749'
Moment lt datetime'2016-03-01'
Instant eq datetimeoffset'2016-02-29T14:00:00+02:00'
Span gt time'P1D' and Span eq time'PT25H'
Bytes eq X'01FF' and Bytes ne X'01'
ThingId eq guid'{FFFFFFFF-FFFF-FFFF-FFFF-000000000001}'
ThingId lt Other and Other gt ThingId and Other ge Other
guid'00000001-0000-0000-0000-000000000000' lt guid'00000000-0100-0000-0000-000000000000'
guid'01000000-0000-0000-0000-000000000000' lt guid'00010000-0000-0000-0000-000000000000'
Whole eq 2 and Whole eq 2L and Whole eq 2M and Whole eq 2.0 and Whole eq 2f
Tiny eq 255 and Small eq -7 and -Small eq 7
Big eq 9007199254740993 and Big ne 9007199254740992
Big eq 9007199254740992.0
Amount eq 10.5 and Amount eq 10.50M and Amount eq 10.5000000M
Price/Value eq -2.5 and Price/Value lt 0
Amount eq 10.5d and Amount ne 10.500000000000000000001M
Real eq 0.5M and Real eq 0.5f
Short ne 0.1 and Short eq 0.1f
0.1 add 0.2 ne 0.3 and 0.1M add 0.2M eq 0.3M
7 div 2 eq 3 and -7 div 2 eq -3 and 7.0 div 2 eq 3.5 and 7M div 2 eq 3.5
Small mod 3 eq -1 and 7 mod -3 eq 1 and 7.5M mod 2 eq 1.5 and 0.3 mod 0.1 eq 0
1M div 3 eq 0.3333333333333333333333333333M
Whole add 3 mul 2 eq 8 and (Whole add 3) mul 2 eq 10 and Whole sub 1 sub 1 eq 0
round(0.5) eq 1 and round(-0.5) eq -1 and round(2.5) eq 3 and round(1.4) eq 1 and round(2.5M) eq 3
floor(-0.5) eq -1 and ceiling(-0.5) eq 0 and floor(Amount) eq 10 and ceiling(Amount) eq 11
round(Whole) eq 2
box/Name eq 'inner' and box/within/Name eq 'outer' and box/within/within/Name eq null
InBox/Name eq 'inner' and InBox/LogicalName eq 'BOX' and InBox/Id eq box/BoxId
box ne null and parent eq null and parent/box eq null and box/within ne null
not (parent/Whole gt 0) and parent/Whole ne 0
"""


@pytest.mark.parametrize("text", TRUE.strip().split("\n"))
def test_it_is_true_and_its_opposite_false(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "Whole div 0 eq 1",
        "Amount mod 0 eq 1",
        "Real div 0.0 eq 1",
        "2147483647 add Whole eq 1",
        "Big mul Big eq 1",
        "1e308 mul 1e308 eq 1",
        "1e-308 mul 1e-308 eq 1",
        "-(-2147483648) eq 1",
    ],
)
def test_a_sum_that_cannot_be_worked_out_is_an_error(text: str) -> None:
    with pytest.raises(ODataError) as refused:
        holds(text)
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["null", "Flag", "Text eq 'x'", "parent/Flag", "1 eq 2"])
def test_null_and_false_find_nothing(text: str) -> None:
    assert not holds(text)
