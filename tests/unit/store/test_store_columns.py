"""Which columns a set's table has, and how values travel there."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from storing import ACCOUNTS, MODEL, an_entity_set

from proxy.odata.edm import ComplexType, Model, Property
from proxy.odata.primitives import PRIMITIVES
from proxy.store.columns import SQL_TYPES, encoder, storable, typed_paths


def test_every_primitive_type_has_a_column_type() -> None:
    assert SQL_TYPES.keys() == PRIMITIVES.keys()


def test_complex_types_come_member_by_member_in_document_order() -> None:
    assert [path.path for path in typed_paths(ACCOUNTS.entity_type, MODEL)] == [
        "AccountId",
        "Name",
        "ModifiedOn",
        "VersionNumber",
        "PrimaryContactId/Id",
        "PrimaryContactId/LogicalName",
        "PrimaryContactId/Name",
        "CreditLimit/Value",
    ]


def test_nested_unknown_and_endless_types() -> None:
    inner = ComplexType(
        "Inner", "N", {"Deep": Property("Deep", "Edm.Int32"), "Again": Property("Again", "N.Outer")}
    )
    outer = ComplexType("Outer", "N", {"In": Property("In", "N.Inner")})
    model = Model("C", {}, {"N.Inner": inner, "N.Outer": outer}, {})
    entity_set = an_entity_set(
        "S", ["K"], {"K": "Edm.Int32", "O": "N.Outer", "Where": "Edm.Geography", "What": "N.Nothing"}
    )
    paths = typed_paths(entity_set.entity_type, model)
    assert [path.path for path in paths] == ["K", "O/In/Deep"]
    assert paths[1].value({"O": {"In": {"Deep": 3}}}) == 3
    assert paths[1].value({"O": {"In": None}}) is None
    assert paths[1].value({}) is None


@pytest.mark.parametrize(
    ("edm_type", "value", "encoded"),
    [
        ("Edm.Binary", b"\x00\xff", "\\x00ff"),
        ("Edm.DateTime", datetime(1, 1, 1), "0001-01-01T00:00:00"),
        ("Edm.DateTimeOffset", datetime(9999, 12, 31, tzinfo=UTC), "9999-12-31T00:00:00+00:00"),
        ("Edm.Decimal", Decimal("1.2500"), "1.2500"),
        ("Edm.Double", float("nan"), "nan"),
        ("Edm.Single", -0.5, "-0.5"),
        ("Edm.Guid", uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("Edm.String", "a\x00b\ud800c", "a�b�c"),
        ("Edm.Time", timedelta(days=-1, microseconds=7), "-1 days 7 microseconds"),
    ],
)
def test_values_travel_as_postgres_reads_them(edm_type: str, value: Any, encoded: str) -> None:
    encode = encoder(edm_type)
    assert encode is not None
    assert encode(value) == encoded


def test_text_that_postgres_takes_is_left_alone() -> None:
    text = "Zoë 🚢 \\u0000 \x01 \ufffe"
    assert storable(text) == text
