"""The skip token of Dynamics 2011 against Microsoft's own sample (field manual 4.2)."""

from __future__ import annotations

from uuid import UUID

import pytest

from proxy.odata.skiptoken import read_skiptoken, write_skiptoken

LAST = UUID("3c2aee0f-0000-4000-8000-00000000000f")
FIRST = UUID("00000000-0000-4000-8000-00000000000a")
DECODED = f"1,'accountid','{{{str(LAST).upper()}}}','{{{str(FIRST).upper()}}}'"


def test_a_token_has_the_form_of_the_sample() -> None:
    token = write_skiptoken(1, "AccountId", LAST, FIRST)
    assert token.replace("%7B", "{").replace("%7D", "}") == DECODED
    assert read_skiptoken(DECODED, "AccountId") == (1, LAST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        DECODED[2:],
        DECODED + ",'x'",
        DECODED.replace("accountid", "contactid"),
        DECODED.replace("{", ""),
        DECODED.replace("1,", "1000000000,"),
        "1,'name','a','b'," + DECODED[2:],
    ],
)
def test_what_is_no_such_token_is_nothing(text: str) -> None:
    assert read_skiptoken(text, "AccountId") is None
