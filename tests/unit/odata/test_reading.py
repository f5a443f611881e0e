"""What a GET addresses on the mirror route, and which options belong to it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from proxy.odata.edm import EntitySet, EntityType, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.reading import parse_read

ID = "8f2c6a50-0d61-e611-80c5-00155d010a01"
ONE = f"/AccountSet(guid'{ID}')"
PART = "/PartSet(Number=5L,Code='x')"


@pytest.mark.parametrize(
    ("path", "kind", "many"),
    [
        ("", "service", False),
        ("/", "service", False),
        ("/$metadata", "metadata", False),
        ("/AccountSet", "collection", True),
        ("/AccountSet()", "collection", True),
        ("/AccountSet/$count", "count", True),
        (ONE, "entity", False),
        (PART, "entity", False),
        (f"{ONE}/account_primary_contact", "entity", False),
        (f"{ONE}/contact_customer_accounts", "collection", True),
        (f"{ONE}/contact_customer_accounts(guid'{ID}')", "entity", False),
        (f"{ONE}/contact_customer_accounts/$count", "count", True),
        (f"{ONE}/account_primary_contact/contact_parts", "collection", True),
        (f"{ONE}/account_primary_contact/contact_parts(Code='x',Number=5L)/Weight/$value", "value", False),
        (f"{ONE}/Name", "property", False),
        (f"{ONE}/Name/$value", "value", False),
        (f"{ONE}/PrimaryContactId", "property", False),
        (f"{ONE}/PrimaryContactId/Id", "property", False),
        (f"{ONE}/PrimaryContactId/Id/$value", "value", False),
        (f"{ONE}/$links/account_primary_contact", "links", False),
        (f"{ONE}/$links/contact_customer_accounts", "links", True),
        (f"{ONE}/$links/contact_customer_accounts(guid'{ID}')", "links", False),
        (f"{ONE}/$links/contact_customer_accounts/$count", "count", True),
        (f"{ONE}/account_primary_contact/$links/contact_parts", "links", True),
    ],
)
def test_every_resource_of_the_standard_has_its_kind(paths_model, path, kind, many):
    read = parse_read(path, None, paths_model)
    assert (read.kind, read.many) == (kind, many)


@pytest.mark.parametrize(
    ("type_name", "literal", "value"),
    [
        ("Edm.String", "'O''Brien/%2B%C3%A9'", "O'Brien/+é"),
        ("Edm.Guid", f"guid'{{{ID.upper()}}}'", uuid.UUID(ID)),
        ("Edm.Boolean", "true", True),
        ("Edm.Byte", "255", 255),
        ("Edm.SByte", "-128", -128),
        ("Edm.Int16", "-5", -5),
        ("Edm.Int32", "5", 5),
        ("Edm.Int64", "5L", 5),
        ("Edm.Decimal", "1.50M", Decimal("1.50")),
        ("Edm.Double", "1.5e3", 1500.0),
        ("Edm.Single", "1.5F", 1.5),
        ("Edm.Binary", "X'00FF'", b"\x00\xff"),
        ("Edm.DateTime", "datetime'2016-08-25T16:00:00'", datetime(2016, 8, 25, 16)),
        (
            "Edm.DateTimeOffset",
            "datetimeoffset'2016-08-25T16:00:00%2B01:00'",
            datetime(2016, 8, 25, 15, tzinfo=UTC),
        ),
        ("Edm.Time", "time'PT1H'", timedelta(hours=1)),
    ],
)
def test_keys_of_every_primitive_type(type_name, literal, value):
    kind = EntityType("Thing", "N", ("A",), {"A": Property("A", type_name)}, {})
    pair = EntityType("Pair", "N", ("A", "B"), {name: Property(name, type_name) for name in ("A", "B")}, {})
    sets = {"ThingSet": EntitySet("ThingSet", kind), "PairSet": EntitySet("PairSet", pair)}
    model = Model("C", {"N.Thing": kind, "N.Pair": pair}, {}, sets)
    literal = literal.replace("/", "%2F")
    for path in (f"/ThingSet({literal})", f"/ThingSet(A={literal})"):
        assert parse_read(path, None, model).path.key == (("A", value),)
    found = parse_read(f"/PairSet(B={literal},A={literal})", None, model)
    assert found.path.key == (("A", value), ("B", value))


@pytest.mark.parametrize(
    ("path", "status", "token", "place"),
    [
        ("/WidgetSet", 404, "WidgetSet", "position 1"),
        ("//%57idgetSet()", 404, "WidgetSet", "position 2"),
        (f"{ONE}/Account", 404, "Account", f"position {len(ONE) + 1}"),
        (f"{ONE}/PrimaryContactId/Nope", 404, "Nope", f"position {len(ONE) + 18}"),
        (f"{ONE}/account_primary_contact/nothing", 404, "nothing", f"position {len(ONE) + 25}"),
        ("/AccountSet(guid'1234')", 400, "guid'1234'", "key predicate"),
        ("/AccountSet(", 400, "AccountSet(", "position 1"),
        ("/PartSet(5L)", 400, "5L", "position 9"),
        ("/PartSet(Number=5,Code='x',Code='y')", 400, "Number=5,Code='x',Code='y'", "position 9"),
        (f"{ONE}/Name/More", 404, "More", f"position {len(ONE) + 6}"),
        (f"{ONE}/Name(1)", 400, "Name(1)", f"position {len(ONE) + 1}"),
        (f"{ONE}/account_primary_contact(guid'{ID}')", 400, f"guid'{ID}'", f"position {len(ONE) + 25}"),
        (f"{ONE}/contact_customer_accounts/FullName", 400, "contact_customer_accounts", "position"),
        ("/AccountSet/Name", 400, "AccountSet", "position 1"),
        (f"{ONE}/$value", 404, "$value", "$value"),
        (f"{ONE}/$links", 400, None, "$links"),
        ("/AccountSet%ZZ", 400, "AccountSet%ZZ", "position 1"),
        ("/AccountSet%FF", 400, "AccountSet%FF", "position 1"),
        ("/$batch", 405, "$batch", "$batch"),
        ("/WhoAmI", 501, None, "Function import"),
    ],
)
def test_a_path_that_leads_nowhere_is_named_with_its_place(paths_model, path, status, token, place):
    with pytest.raises(ODataError) as caught:
        parse_read(path, None, paths_model)
    assert (caught.value.status, caught.value.token) == (status, token)
    assert place in caught.value.message


COLLECTION = "$filter=a&$orderby=a&$top=1&$skip=1&$skiptoken=a&$inlinecount=allpages&$select=a&$expand=a"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/AccountSet", COLLECTION),
        (f"{ONE}/contact_customer_accounts", COLLECTION),
        ("/AccountSet/$count", "$filter=a&$orderby=a&$top=1&$skip=1&$expand=a"),
        (ONE, "$select=a&$expand=a"),
        (f"{ONE}/$links/contact_customer_accounts", "$filter=a&$top=1&$inlinecount=none"),
    ],
)
def test_options_go_where_they_belong(paths_model, path, query):
    for added in ("", "&$format=json", "&_=1471&custom=1&custom=2", "&"):
        read = parse_read(path, query + added, paths_model)
        assert read.options.raw == query + added


@pytest.mark.parametrize(
    ("path", "query", "token"),
    [
        (ONE, "$filter=a", "$filter"),
        (ONE, "$top=1", "$top"),
        (f"{ONE}/account_primary_contact", "$inlinecount=none", "$inlinecount"),
        (f"{ONE}/Name", "$select=a", "$select"),
        (f"{ONE}/Name/$value", "$expand=a", "$expand"),
        ("/AccountSet/$count", "$skiptoken=a", "$skiptoken"),
        (f"{ONE}/$links/contact_customer_accounts", "$select=a", "$select"),
        (f"{ONE}/$links/account_primary_contact", "$top=1", "$top"),
        ("", "$filter=a", "$filter"),
        ("/$metadata", "$select=a", "$select"),
        ("/AccountSet", "$filters=a", "$filters"),
        ("/AccountSet", "%20$top=1", " $top"),
        ("/AccountSet", "$top=1&$top=1", "$top"),
        ("/AccountSet", "$format=json&$format=json", "$format"),
        ("/AccountSet", "$inlinecount=all", "all"),
        ("/AccountSet", "$top=abc", "abc"),
        ("/AccountSet", "$top=-1", "-1"),
        ("/AccountSet", "$skip=1.5", "1.5"),
        ("/AccountSet", "$filter=%ZZ", "%ZZ"),
    ],
)
def test_options_that_do_not_belong_are_named(paths_model, path, query, token):
    with pytest.raises(ODataError) as caught:
        parse_read(path, query, paths_model)
    assert (caught.value.status, caught.value.token) == (400, token)
    assert token in caught.value.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ODataError("Bad."), "Bad. ($filter)"),
        (ODataError("Bad.", position=5, token="x'"), "Bad. ($filter, position 5, 'x'')"),
        (ODataError("Bad 'x' at position 5.", position=5, token="x"), "Bad 'x' at position 5. ($filter)"),
        (ODataError("Bad $filter."), "Bad $filter."),
    ],
)
def test_an_error_says_in_which_part_of_the_request_it_is(error, message):
    placed = error.within("$filter")
    assert placed.message == message
    assert (placed.status, placed.position, placed.token) == (error.status, error.position, error.token)
