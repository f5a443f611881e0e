"""The table of the proxy's own errors: nothing that can be raised is missing, and the docs know every row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import BUG, TABLE, Row, error_response
from proxy.reconcile.errors import SyncError
from proxy.reconcile.ports import UpstreamFailure

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"


def kinds_of(error: type[Exception]) -> Iterator[type[Exception]]:
    for kind in error.__subclasses__():
        yield kind
        yield from kinds_of(kind)


@pytest.mark.parametrize("base", [UpstreamFailure, SyncError])
def test_every_failure_that_has_a_name_has_a_row(base: type[Exception]) -> None:
    kinds = [kind for kind in kinds_of(base) if kind.__module__.startswith("proxy.")]
    assert len(kinds) >= 4
    assert [kind for kind in kinds if not issubclass(kind, tuple(TABLE))] == []


@pytest.mark.parametrize(
    "row", sorted({*TABLE.values(), BUG}, key=lambda row: row.code), ids=lambda row: row.code
)
def test_the_docs_tell_of_every_row(row: Row) -> None:
    assert f"| `{row.code}` | {row.status} | `{row.proxy_error}` |" in DOCS.read_text(encoding="utf-8")


def test_what_has_no_row_is_a_bug() -> None:
    response = error_response(LookupError("a secret"), "application/json")
    assert response.status == 500
    assert b"secret" not in bytes(response.body)  # type: ignore[arg-type]
