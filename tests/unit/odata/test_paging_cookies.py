"""The skip token of Dynamics 2011 (field manual, 4.2)."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.paging_cookies import Column, read_cookie, write_cookie

LAST, FIRST = (uuid.UUID(f"{number}c77e1aa-0e61-e611-80c5-00155d010b77") for number in (3, 8))
KEY = Column("AccountId", "Edm.Guid")


def test_the_manuals_own_example() -> None:
    token = write_cookie(1, [KEY], [LAST], [FIRST])
    last, first = (f"'%7B{number}C77E1AA-0E61-E611-80C5-00155D010B77%7D'" for number in (3, 8))
    assert token == f"1,'accountid',{last},{first}"
    assert read_cookie(unquote(token), [KEY]).last == (LAST,)


@pytest.mark.parametrize(
    ("edm_type", "value"),
    [
        ("Edm.String", "O'Brien, 1 & 2"),
        ("Edm.String", ""),
        ("Edm.String", "null"),
        ("Edm.String", None),
        ("Edm.DateTime", datetime(2016, 8, 25, 16, 0, 0, 123000)),
        ("Edm.Decimal", Decimal("1E+3")),
        ("Edm.Double", 51.5),
        ("Edm.Boolean", False),
        ("Edm.Int32", -7),
    ],
)
def test_what_is_written_is_read(edm_type: str, value: Any) -> None:
    columns = [Column("X/Value", edm_type), KEY]
    cookie = read_cookie(unquote(write_cookie(4, columns, [value, LAST], [None, FIRST])), columns)
    assert (cookie.page, cookie.last) == (4, (value, LAST))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "1,'x'",
        "1,'name','a','b'",
        "1,'accountid','{3C77E1AA-0E61-E611-80C5-00155D010B77}'",
        "1,'accountid','no guid','{3C77E1AA-0E61-E611-80C5-00155D010B77}'",
        "1" + ",'accountid'" * 50_000,
        "1,'" + "''" * 50_000,
    ],
)
def test_what_is_no_token_of_the_query_is_refused(token: str) -> None:
    with pytest.raises(ODataError) as refused:
        read_cookie(token, [KEY])
    assert refused.value.status == 400
