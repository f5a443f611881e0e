"""A module of more than 500 lines is more than one module."""

from __future__ import annotations

from source import module_name, modules

LIMIT = 500


def test_no_module_is_longer_than_can_be_read() -> None:
    lengths = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > LIMIT} == {}
