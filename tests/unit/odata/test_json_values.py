"""Values in verbose JSON: what upstream shows, what clients post, and the digest of content."""

import json
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest

from proxy.odata.edm import ComplexType, EntitySet, EntityType, Model, NavigationProperty, Property
from proxy.odata.errors import ODataError
from proxy.odata.verbose_json import (
    content_digest,
    entity_key,
    entity_uri,
    etag,
    parse_entity,
    parse_posted,
    write_entity,
)

ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")


def _properties(**types):
    return {name: Property(name, type_name) for name, type_name in types.items()}


def _complex(name, **types):
    return ComplexType(name, "N", _properties(**types))


COMPLEX = [
    _complex("EntityReference", Id="Edm.Guid", LogicalName="Edm.String", Name="Edm.String"),
    _complex("OptionSetValue", Value="Edm.Int32"),
    _complex("Money", Value="Edm.Decimal"),
]
ACCOUNT = EntityType(
    "Account",
    "N",
    ("AccountId",),
    _properties(
        AccountId="Edm.Guid",
        Name="Edm.String",
        Owner="N.EntityReference",
        Status="N.OptionSetValue",
        Credit="N.Money",
        Employees="Edm.Int32",
        Latitude="Edm.Double",
        Version="Edm.Int64",
        ModifiedOn="Edm.DateTime",
        DoNotPhone="Edm.Boolean",
    ),
    {"contacts": NavigationProperty("contacts", "N.r", "a", "b", "N.Account", "*")},
)
MODEL = Model(
    "C",
    {"N.Account": ACCOUNT},
    {found.qualified_name: found for found in COMPLEX},
    {"AccountSet": EntitySet("AccountSet", ACCOUNT)},
    {("AccountSet", "contacts"): "AccountSet"},
)
VALUES = {
    "AccountId": ID,
    "Name": "Café",
    "Owner": {"Id": ID, "LogicalName": "systemuser", "Name": "Alan Turing"},
    "Status": {"Value": 1},
    "Credit": {"Value": Decimal("1000.0000")},
    "Employees": None,
    "Latitude": 51.5007,
    "Version": 73921446,
    "ModifiedOn": datetime(2016, 8, 25, 16),
    "DoNotPhone": False,
}
RAW = json.loads(write_entity(VALUES, MODEL.entity_sets["AccountSet"], MODEL, "https://h/s.svc"))


def post(body):
    return parse_posted(body if isinstance(body, bytes) else json.dumps(body).encode(), ACCOUNT, MODEL)


def test_what_is_written_is_read_back():
    assert parse_entity(RAW, ACCOUNT, MODEL) == VALUES


def test_properties_not_shown_or_not_declared_are_left_out_and_null_is_all_none():
    values = parse_entity({"Owner": None, "RowVersion": 1, "Name": None}, ACCOUNT, MODEL)
    assert values == {"Name": None, "Owner": {"Id": None, "LogicalName": None, "Name": None}}


@pytest.mark.parametrize(
    "raw",
    [
        {"AccountId": "x"},
        {"Name": 1},
        {"Owner": "8f2c6a50-0d61-e611-80c5-00155d010a01"},
        {"Owner": [1]},
        {"Owner": {"Id": 1}},
        {"Employees": 2**31},
        {"Employees": True},
        {"DoNotPhone": 1},
        {"ModifiedOn": 5},
        {"Credit": {"Value": "much"}},
    ],
)
def test_values_that_do_not_fit_are_refused(raw):
    with pytest.raises(ODataError):
        parse_entity(raw, ACCOUNT, MODEL)
    with pytest.raises(ODataError):
        post(raw)


def test_an_unknown_type_is_refused():
    odd = EntityType("O", "N", (), _properties(Shape="Edm.Geography"), {})
    with pytest.raises(ODataError, match=r"Edm\.Geography"):
        parse_entity({"Shape": "x"}, odd, MODEL)


def test_identity_of_an_entity():
    assert entity_key(VALUES, ACCOUNT) == (("AccountId", ID),)
    assert entity_uri(RAW) == f"https://h/s.svc/AccountSet(guid'{ID}')"
    assert etag(RAW) is None
    assert etag({"__metadata": {"etag": 'W/"1"'}}) == 'W/"1"'
    for missing in ({}, {"AccountId": None}):
        with pytest.raises(ODataError, match="AccountId"):
            entity_key(missing, ACCOUNT)


def digest(**changes):
    return content_digest({**VALUES, **changes}, ACCOUNT, MODEL, leave_out=frozenset({"ModifiedOn"}))


def test_the_digest_is_16_bytes_and_independent_of_order():
    backwards = dict(reversed(VALUES.items()))
    assert content_digest(backwards, ACCOUNT, MODEL, leave_out=frozenset({"ModifiedOn"})) == digest()
    assert len(digest()) == 16


@pytest.mark.parametrize(
    "joined", [{"Nickname": None}, {"Agent": {"Id": None, "LogicalName": None, "Name": None}}]
)
def test_a_property_that_joins_the_type_changes_no_digest_while_it_is_null(joined):
    assert digest(**joined) == digest()


@pytest.mark.parametrize(
    "changes",
    [{"ModifiedOn": datetime(2020, 1, 1)}, {"Owner": {**VALUES["Owner"], "Name": "A. M. Turing"}}],
)
def test_the_digest_leaves_out_the_stamp_and_names_of_references(changes):
    assert digest(**changes) == digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"Name": "Cafe"},
        {"Name": None},
        {"Name": "\ud800"},
        {"Owner": {**VALUES["Owner"], "Id": None}},
        {"Owner": {**VALUES["Owner"], "LogicalName": "team"}},
        {"Status": {"Value": 2}},
        {"Credit": {"Value": Decimal("1000.0001")}},
        {"Employees": 0},
        {"DoNotPhone": None},
        {"Version": 73921447},
        {"Latitude": 51.5008},
    ],
)
def test_the_digest_moves_with_content(changes):
    assert digest(**changes) != digest()


def test_a_whole_body_that_was_read_can_be_posted_back():
    assert post(RAW) == VALUES
    assert post({"d": RAW}) == VALUES
    assert post(b"\xef\xbb\xbf" + json.dumps(RAW).encode()) == VALUES


@pytest.mark.parametrize(
    ("body", "posted"),
    [
        ({}, {}),
        (
            {"Owner": {"Id": str(ID), "LogicalName": "account"}},
            {"Owner": {"Id": ID, "LogicalName": "account"}},
        ),
        ({"Owner": {"Id": f"{{{ID}}}".upper()}}, {"Owner": {"Id": ID}}),
        ({"Owner": None}, {"Owner": {"Id": None, "LogicalName": None, "Name": None}}),
        ({"Status": {"Value": "1"}}, {"Status": {"Value": 1}}),
        ({"Status": {"Value": None}}, {"Status": {"Value": None}}),
        ({"Credit": {"Value": "12.50"}}, {"Credit": {"Value": Decimal("12.50")}}),
        ({"Credit": {"Value": 12.5}}, {"Credit": {"Value": Decimal("12.5")}}),
        ({"ModifiedOn": "2016-08-25T16:00:00.000Z"}, {"ModifiedOn": datetime(2016, 8, 25, 16)}),
        ({"ModifiedOn": "/Date(-1990137600000)/"}, {"ModifiedOn": datetime(1906, 12, 9)}),
        ({"ModifiedOn": "12/25/2022"}, {"ModifiedOn": datetime(2022, 12, 25)}),
        ({"Name": " "}, {"Name": " "}),
        ({"contacts": [{"Name": "x"}]}, {"contacts": [{"Name": "x"}]}),
        ({"contacts": {"__deferred": {"uri": "u"}}}, {}),
    ],
)
def test_what_clients_post_is_understood(body, posted):
    assert post(body) == posted


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"{}"', b"\xff", b'{"Nme":"x"}', b'{"A":' + b"[" * 200_000]
)
def test_bodies_that_are_no_entity_are_refused(body):
    with pytest.raises(ODataError):
        post(body)
