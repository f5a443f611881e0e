"""The skip token (field manual 4.2)."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest

from proxy.odata.errors import ODataError
from proxy.sandbox.cookies import read_cookie, write_cookie

FIRST = uuid.UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
LAST = uuid.UUID("3c77e1aa-0e61-e611-80c5-00155d010b77")
KEY = ("accountid", "Edm.Guid")


def test_it_looks_like_the_field_manuals_sample() -> None:
    assert write_cookie(1, ["accountid"], [LAST], [FIRST]) == (
        "1,'accountid','%7B3C77E1AA-0E61-E611-80C5-00155D010B77%7D','%7B8F2C6A50-0D61-E611-80C5-00155D010A01%7D'"
    )


def test_it_holds_a_triple_for_each_column_and_the_keys_last() -> None:
    token = write_cookie(2, ["name", "accountid"], ["Zed", LAST], [None, FIRST])
    assert token.startswith("2,'name','Zed',null,'accountid','%7B3C77")


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("Edm.String", "O'Brien, & Söhne + 'co' 100%"),
        ("Edm.String", "null"),
        ("Edm.String", None),
        ("Edm.Int32", -5),
        ("Edm.Int64", 2**40),
        ("Edm.Decimal", Decimal("1000.0000")),
        ("Edm.Double", -0.1),
        ("Edm.Boolean", True),
        ("Edm.DateTime", datetime(2016, 8, 25, 16, 0, 1)),
        ("Edm.Guid", FIRST),
    ],
)
def test_what_was_written_is_read(type_name: str, value: Any) -> None:
    token = write_cookie(7, ["x", "accountid"], [value, LAST], [None, FIRST])
    assert token.isascii()
    assert not set(token) & set(' &+#?{}"')
    cookie = read_cookie(unquote(token), [("x", type_name), KEY])
    assert (cookie.page, cookie.last) == (7, (value, LAST))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "1",
        "1,'accountid'",
        "1,'name','a','b'",
        "1,'accountid','not a key','b'",
        "1,'accountid',null,null",
        "1,'accountid','{8F2C6A50-0D61-E611-80C5-00155D010A01}','{8F2C6A50-0D61-E611-80C5-00155D010A01}','x'",
    ],
)
def test_what_is_no_token_of_the_query_is_refused(token: str) -> None:
    with pytest.raises(ODataError):
        read_cookie(token, [KEY])
