"""What the proxy is made of: listed, pinned, under known licences. An audit says no more than it knows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]


def shipped() -> dict[str, str]:
    """What an installation without extras brings, and its versions."""
    found: dict[str, str] = {}
    waiting = ["syncpoint"]
    while waiting:
        for text in metadata.distribution(waiting.pop()).requires or ():
            required = Requirement(text)
            name = canonicalize_name(required.name)
            if name in found or (required.marker and not required.marker.evaluate({"extra": ""})):
                continue
            found[name] = metadata.version(name)
            waiting.append(name)
    return found


def pinned() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bill") / "sbom.json"
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-file",
        str(path),
        sys.executable,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return {canonicalize_name(each["name"]): each for each in json.loads(path.read_text())["components"]}


def test_what_is_shipped_is_in_the_bill_with_its_licence(bill: dict[str, Any]) -> None:
    assert shipped().keys() >= {"aiohttp", "aiopg", "lxml", "sqlalchemy"}
    for name, version in shipped().items():
        assert bill[name]["version"] == version
        assert bill[name].get("licenses"), f"{name} does not say under which licence it comes"


def test_what_is_shipped_is_pinned() -> None:
    assert shipped().items() <= pinned().items()


def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", PROJECT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def looked_up(name: str, *vulnerabilities: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": [{"id": each} for each in vulnerabilities]}


NOT_FOUND = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("found", "status", "told"),
    [
        (None, 0, "SKIPPED"),
        ([NOT_FOUND], 0, "SKIPPED"),
        ([looked_up("a"), looked_up("b")], 0, "2 distributions looked up, 0"),
        ([looked_up("a"), looked_up("b", "CVE-1", "CVE-2")], 1, "b 1: CVE-1, CVE-2"),
        ([looked_up("a"), NOT_FOUND], 1, "c: the database does not know it"),
    ],
)
def test_an_audit_says_what_it_knows(found: Any, status: int, told: str) -> None:
    result, text = audit().verdict(None if found is None else {"dependencies": found})
    assert result == status
    assert told in text
    assert ("SKIPPED" in told) == ("SKIPPED" in text)
