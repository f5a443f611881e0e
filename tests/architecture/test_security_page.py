"""docs/security.md: every promise names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
TEXT = PAGE.read_text()
LINKS = re.findall(r"\[test\]\(([^)#]+)#(\w+)\)", TEXT)
PROMISES = re.findall(
    r"^- (?:.+\n)(?:  .+\n)*", TEXT.partition("## Promises")[2].partition("## Limits")[0], re.M
)


@pytest.mark.parametrize(("path", "name"), LINKS)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((PAGE.parent / path).read_text())
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert name in defined


def test_every_promise_names_one() -> None:
    assert len(PROMISES) > 25
    assert [promise for promise in PROMISES if "[test](" not in promise] == []
    assert TEXT.count("[test](") == len(LINKS)
