"""What Dynamics 2011 refuses, and in which words; each row with its section of the field manual."""

from __future__ import annotations

import pytest

from proxy.odata import dialect
from proxy.odata.csdl import parse_metadata
from proxy.odata.dialect import Dialect
from proxy.odata.dialect_expressions import Judge
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.query_options import parse_query
from proxy.odata.relationships import Relationships
from proxy.sandbox.metadata import small_document

MODEL = parse_metadata(small_document())
RELATIONSHIPS = Relationships(MODEL)
ACCOUNTS = MODEL.entity_sets["AccountSet"]
NARROW, WIDE = Dialect(), Dialect("v2")


def judge(spoken: Dialect, *expanded: str) -> Judge:
    return Judge(ACCOUNTS, MODEL, RELATIONSHIPS, frozenset(expanded), spoken)


@pytest.mark.parametrize(
    "text",
    [
        "Name eq 'x'",
        "startswith(Name,'x') or endswith(Name,'y') and not substringof('z',Name)",
        "PrimaryContactId/Id ne null",
        "Revenue/Value ge 1000 and NumberOfEmployees lt 5L",
        "CreditOnHold",
        "null eq null",
        "CreatedOn gt datetime'2016-01-01T00:00:00'",
    ],
)
def test_filters_that_are_taken(text: str) -> None:
    judge(NARROW).check_filter(parse_filter(text))


NO_METHOD = "Invalid 'where' condition. An entity member is invoking an invalid property or method."
REFUSED = [
    ("tolower(Name) eq 'x'", NO_METHOD),
    ("year(CreatedOn) eq 2016", NO_METHOD),
    ("NumberOfEmployees add 1 gt 5", "Invalid 'where' condition. Arithmetic is not supported."),
    ("-NumberOfEmployees gt 5", "Invalid 'where' condition. Arithmetic is not supported."),
    (
        "account_primary_contact/LastName eq 'x' and Name eq 'y'",
        "Invalid 'where' condition. It may test the root entity or one expanded entity.",
    ),
    (
        "account_primary_contact/LastName eq 'x'",
        "The navigation property 'account_primary_contact' must be named in $expand.",
    ),
    (
        "contact_customer_accounts/LastName eq 'x'",
        "The navigation property 'contact_customer_accounts' must be named in $expand.",
    ),
    ("Nothing eq 1", "Could not find a property named 'Nothing' on type '{type}'."),
    ("PrimaryContactId eq null", "The property 'PrimaryContactId' is complex: name a member of it."),
    ("Name eq 5", "Operator 'eq' incompatible with operand types 'string' and 'number'."),
    ("CreditOnHold gt true", "Operator 'gt' incompatible with operand types 'boolean' and 'boolean'."),
    ("Name gt null", "Operator 'gt' cannot compare with null."),
    ("Name", "The $filter expression must evaluate to a single boolean value."),
    ("Name and CreditOnHold", "A boolean expression was expected."),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_filters_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ODataError) as refused:
        judge(NARROW).check_filter(parse_filter(text))
    assert refused.value.message == message.format(type=ACCOUNTS.entity_type.qualified_name)
    assert (refused.value.status, refused.value.code) == (400, "")


def test_an_expanded_entity_may_be_tested_alone() -> None:
    expression = parse_filter("account_primary_contact/LastName eq 'x'")
    judge(NARROW, "account_primary_contact").check_filter(expression)


@pytest.mark.parametrize(
    "text",
    [
        "tolower(Name) eq 'x' and length(Name) gt 3",
        "NumberOfEmployees add 1 gt 5.5",
        "account_primary_contact/LastName eq 'x' and Name eq 'y'",
        "account_primary_contact eq null",
        "round(Revenue/Value) gt 1M",
        "Name gt null",
    ],
)
def test_the_whole_language_takes_more(text: str) -> None:
    judge(WIDE).check_filter(parse_filter(text))


@pytest.mark.parametrize(
    ("text", "status"), [("length(NumberOfEmployees) eq 1", 400), ("isof('Edm.String')", 501)]
)
def test_the_whole_language_has_its_limits(text: str, status: int) -> None:
    with pytest.raises(ODataError) as refused:
        judge(WIDE).check_filter(parse_filter(text))
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",".join(["Name"] * 13), "At most 12 columns can be sorted by."),
        ("length(Name)", "Only properties can be sorted by."),
        ("account_primary_contact/LastName", "Only properties of the root entity can be sorted by."),
    ],
)
def test_orders_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ODataError) as refused:
        judge(NARROW).check_orderby(parse_orderby(text))
    assert refused.value.message == message
    judge(WIDE).check_orderby(parse_orderby(text))


@pytest.mark.parametrize(
    ("query", "collection", "taken"),
    [
        ("$top=5&$skip=1&$select=Name&_=1", True, True),
        ("$format=json", True, False),
        ("$x=1", True, False),
        ("$Top=1", True, False),
        ("$top=1&$top=2", True, False),
        ("$inlinecount=allpages", True, False),
        ("$top=1", False, False),
        ("$select=Name&$expand=account_primary_contact", False, True),
    ],
)
def test_options(query: str, collection: bool, taken: bool) -> None:
    options = parse_query(query)
    if taken:
        dialect.check_options(options, NARROW, collection=collection)
        return
    with pytest.raises(ODataError) as refused:
        dialect.check_options(options, NARROW, collection=collection)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("query", "select", "expanded"),
    [
        ("", None, {}),
        ("$select=Name,,Name,AccountId", ("Name", "AccountId"), {}),
        ("$expand=account_primary_contact", None, {"account_primary_contact": None}),
        ("$select=Name&$expand=account_primary_contact", ("Name",), {}),
        (
            "$select=Name,account_primary_contact/LastName&$expand=account_primary_contact",
            ("Name", "account_primary_contact"),
            {"account_primary_contact": ("LastName",)},
        ),
    ],
)
def test_projections(query: str, select: object, expanded: object) -> None:
    found = dialect.projection(parse_query(query), ACCOUNTS, MODEL, RELATIONSHIPS, NARROW)
    assert found.select == select
    assert {name: below.select for name, below in found.expanded.items()} == expanded


@pytest.mark.parametrize(
    "query",
    [
        "$select=Nothing",
        "$select=PrimaryContactId/Name",
        "$select=account_primary_contact/Nothing",
        "$expand=Nothing",
        "$expand=account_primary_contact/contact_customer_accounts",
        f"$expand={','.join(['account_primary_contact'] * 7)}",
    ],
)
def test_projections_that_are_refused(query: str) -> None:
    with pytest.raises(ODataError) as refused:
        dialect.projection(parse_query(query), ACCOUNTS, MODEL, RELATIONSHIPS, NARROW)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("method", "tunnelled", "meant"),
    [
        ("POST", None, "POST"),
        ("POST", " merge ", "MERGE"),
        ("POST", "DELETE", "DELETE"),
        ("GET", "MERGE", "GET"),
        ("POST", "PATCH", 400),
        ("POST", "GET", 400),
        ("PATCH", None, 405),
        ("HEAD", None, 405),
    ],
)
def test_methods(method: str, tunnelled: str | None, meant: object) -> None:
    headers = {} if tunnelled is None else {"X-HTTP-Method": tunnelled}
    if isinstance(meant, str):
        assert dialect.meant_method(method, headers) == meant
        return
    with pytest.raises(ODataError) as refused:
        dialect.meant_method(method, headers)
    assert refused.value.status == meant


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "atom"),
        ("*/*", "atom"),
        ("application/json", "json"),
        ("application/json;odata=verbose", "json"),
        ("text/xml", "atom"),
        ("text/plain", 415),
    ],
)
def test_formats(accept: str | None, chosen: object) -> None:
    if isinstance(chosen, str):
        assert dialect.chosen_format(accept) == chosen
        return
    with pytest.raises(ODataError) as refused:
        dialect.chosen_format(accept)
    assert refused.value.status == chosen


def test_a_next_link_keeps_spelling_and_order_and_what_is_left_of_top() -> None:
    options = parse_query("_=1&$select=Name&%24filter=Name%20eq+'a'&$skip=3&$top=120")
    assert (
        dialect.next_query(options, 70, "1,'accountid'")
        == "$select=Name&%24filter=Name%20eq+'a'&$top=70&$skiptoken=1,'accountid'"
    )
