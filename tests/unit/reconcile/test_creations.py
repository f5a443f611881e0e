"""The question by which an unanswered create is looked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from storing import an_entity_set

from proxy.reconcile.creations import creation_query

SINCE = datetime(2016, 5, 1, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
UNTIL = datetime(2016, 5, 1, 10, 15, tzinfo=UTC)
WINDOW = "CreatedOn ge datetime'2016-05-01T10:00:00' and CreatedOn le datetime'2016-05-01T10:15:00'"
ACCOUNTS = an_entity_set(
    "AccountSet",
    ["AccountId"],
    {
        "AccountId": "Edm.Guid",
        **dict.fromkeys(["Name", "City", "Fax", "Note"], "Edm.String"),
        "Size": "Edm.Int32",
    },
)


@pytest.mark.parametrize(
    ("posted", "asked"),
    [
        ({}, WINDOW),
        ({"Name": "O'Neill & co é"}, f"{WINDOW} and (Name eq 'O''Neill & co é')"),
        ({"Name": "", "City": None, "Size": 3}, WINDOW),
        ({"Note": "x" * 101, "Fax": "x" * 100}, f"{WINDOW} and (Fax eq '{'x' * 100}')"),
        (
            {"Name": "a", "City": "b", "Fax": "c", "Note": "d"},
            f"{WINDOW} and (Name eq 'a' or City eq 'b' or Fax eq 'c')",
        ),
        ({"nested": "a", "Size": 1, "Name": "b"}, f"{WINDOW} and (Name eq 'b')"),
    ],
)
def test_the_query_asks_for_the_time_and_for_some_strings(posted: dict[str, object], asked: str) -> None:
    query = creation_query(ACCOUNTS, posted, SINCE, UNTIL, by_strings=True)
    assert query.isascii()
    assert query.count("&") == 1
    assert unquote(query) == f"$filter={asked}&$top=50"
    by_time = creation_query(ACCOUNTS, posted, SINCE, UNTIL, by_strings=False)
    assert unquote(by_time) == f"$filter={WINDOW}&$top=50"
