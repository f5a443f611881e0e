"""Imports point one way, from cli over app, handlers and reconcile to odata."""

from __future__ import annotations

from pathlib import Path

import pytest
from source import PACKAGE, module_name, modules, names_imported

# What a module, or any module of a package, may import of ours; its own package goes without saying.
PORTS = {
    "proxy.reconcile.authority",
    "proxy.reconcile.changes",
    "proxy.reconcile.history",
    "proxy.reconcile.local_store",
    "proxy.reconcile.ports",
    "proxy.reconcile.progress",
    "proxy.reconcile.readiness",
    "proxy.reconcile.replays",
    "proxy.reconcile.stamp",
}
MAY_IMPORT: dict[str, set[str]] = {
    "proxy": set(),
    "proxy.__main__": {"proxy.cli"},
    "proxy.cli": {
        "proxy",
        "proxy.app",
        "proxy.check",
        "proxy.demo",
        "proxy.operating",
        "proxy.display",
        "proxy.events",
        "proxy.odata.errors",
        "proxy.passwords",
        "proxy.reconcile",
        "proxy.sandbox",
        "proxy.setting_types",
        "proxy.settings",
    },
    "proxy.check": {
        "proxy.caller_settings",
        "proxy.setting_tables",
        "proxy.setting_types",
        "proxy.settings",
        "proxy.tls",
    },
    "proxy.demo": {"proxy.app", "proxy.events", "proxy.reconcile.ports", "proxy.settings"},
    "proxy.display": {"proxy.reconcile"},
    "proxy.operating": {"proxy.app", "proxy.odata", "proxy.reconcile", "proxy.settings", "proxy.store"},
    "proxy.odata": set(),
    "proxy.reconcile": {"proxy.odata"},
    "proxy.store": {"proxy.odata", *PORTS},
    "proxy.upstream": {"proxy.odata", *PORTS},
    "proxy.sandbox": {"proxy.odata"},
    "proxy.settings": {
        "proxy.caller_settings",
        "proxy.odata.dialect",
        "proxy.odata.models",
        "proxy.reconcile.policy",
        "proxy.setting_tables",
        "proxy.setting_types",
    },
    "proxy.setting_tables": {"proxy.odata.models", "proxy.reconcile.policy", "proxy.setting_types"},
    "proxy.caller_settings": {
        "proxy.odata.edm",
        "proxy.passwords",
        "proxy.reconcile.rights",
        "proxy.setting_tables",
        "proxy.setting_types",
    },
    "proxy.passwords": set(),
    "proxy.connection_logins": set(),
    "proxy.authentication": {
        "proxy.caller_settings",
        "proxy.connection_logins",
        "proxy.passwords",
        "proxy.reconcile",
    },
    "proxy.setting_types": set(),
    "proxy.tls": {"proxy.setting_tables", "proxy.settings"},
    "proxy.metrics": set(),
    "proxy.events": {"proxy.metrics", "proxy.reconcile.observations", "proxy.upstream.calls"},
    "proxy.errors": {"proxy.odata", "proxy.passthrough", "proxy.reconcile", "proxy.uploads"},
    "proxy.responses": {"proxy.odata", "proxy.passthrough", "proxy.reconcile", "proxy.upstream.headers"},
    "proxy.passthrough": {
        "proxy.authentication",
        "proxy.reconcile.ports",
        "proxy.reconcile.rights",
        "proxy.uploads",
        "proxy.upstream",
    },
    "proxy.soap": {
        "proxy.authentication",
        "proxy.odata",
        "proxy.passthrough",
        "proxy.reconcile",
        "proxy.uploads",
        "proxy.upstream",
    },
    "proxy.uploads": set(),
    "proxy.middleware": {
        "proxy.authentication",
        "proxy.errors",
        "proxy.events",
        "proxy.odata.headers",
        "proxy.reconcile.errors",
        "proxy.reconcile.rights",
        "proxy.upstream.calls",
    },
    "proxy.mirror_batch": {"proxy.errors", "proxy.odata", "proxy.reconcile"},
    "proxy.model_route": {
        "proxy.authentication",
        "proxy.events",
        "proxy.middleware",
        "proxy.mirror_batch",
        "proxy.odata",
        "proxy.passthrough",
        "proxy.reconcile",
        "proxy.responses",
        "proxy.uploads",
    },
    "proxy.services": {
        "proxy.authentication",
        "proxy.events",
        "proxy.metrics",
        "proxy.middleware",
        "proxy.mirror_batch",
        "proxy.odata",
        "proxy.passthrough",
        "proxy.reconcile",
        "proxy.responses",
    },
    "proxy.changes": {"proxy.authentication", "proxy.odata", "proxy.reconcile"},
    "proxy.console": {"proxy.authentication", "proxy.odata", "proxy.passwords", "proxy.reconcile"},
    "proxy.handlers": {
        "proxy.authentication",
        "proxy.errors",
        "proxy.middleware",
        "proxy.odata",
        "proxy.passthrough",
        "proxy.reconcile",
        "proxy.responses",
        "proxy.soap",
        "proxy.uploads",
        "proxy.upstream",
    },
}
EVERYTHING = {"proxy.app"}

# Libraries that belong to one part of the house.
ONLY_IN: dict[str, set[str]] = {
    "aiohttp": {
        "proxy.app",
        "proxy.authentication",
        "proxy.changes",
        "proxy.connection_logins",
        "proxy.console",
        "proxy.errors",
        "proxy.handlers",
        "proxy.middleware",
        "proxy.mirror_batch",
        "proxy.model_route",
        "proxy.passthrough",
        "proxy.responses",
        "proxy.sandbox",
        "proxy.services",
        "proxy.soap",
        "proxy.uploads",
        "proxy.upstream",
    },
    "aiopg": {"proxy.store"},
    "click": {"proxy.cli"},
    "lxml": {"proxy.odata", "proxy.sandbox"},
    "prometheus_client": {"proxy.metrics"},
    "psutil": {"proxy.store"},
    "psycopg2": {"proxy.store"},
    "pydantic": {
        "proxy.caller_settings",
        "proxy.setting_tables",
        "proxy.setting_types",
        "proxy.settings",
    },
    "rich": {"proxy.cli", "proxy.display"},
    "spnego": {"proxy.connection_logins", "proxy.sandbox", "proxy.upstream"},
    "sqlalchemy": {"proxy.store"},
    "structlog": {"proxy.events"},
    "uvloop": {"proxy.cli", "proxy.demo"},
}


def is_within(name: str, parts: set[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def part_of(module: str) -> str:
    """The package or top-level module that a rule is stated for."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    module = module_name(path)
    part = part_of(module)
    if part in EVERYTHING:
        return
    allowed = MAY_IMPORT[part]
    ours = [name for name in names_imported(path) if is_within(name, {"proxy"})]
    # The package's own file holds its version; everything else is within it.
    within = (allowed | {part}) - {"proxy"}
    strangers = [name for name in ours if name not in allowed and not is_within(name, within)]
    assert strangers == []


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_a_library_stays_in_its_part_of_the_house(path: Path) -> None:
    part = part_of(module_name(path))
    libraries = {name.partition(".")[0] for name in names_imported(path)}
    assert {name for name in libraries if part not in ONLY_IN.get(name, {part})} == set()


def test_the_rules_speak_of_parts_that_exist() -> None:
    parts = {part_of(module_name(path)) for path in modules()}
    assert parts == set(MAY_IMPORT) | EVERYTHING


def test_only_the_app_knows_both_sides_of_a_port() -> None:
    knowing = set()
    for path in modules():
        names = set(names_imported(path))
        store = any(is_within(name, {"proxy.store"}) for name in names)
        upstream = any(is_within(name, {"proxy.upstream"}) for name in names)
        if store and upstream:
            knowing.add(part_of(module_name(path)))
    assert knowing == {"proxy.app"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "odata").rglob("*.py")), ids=module_name)
def test_the_protocol_has_no_clock_no_chance_and_no_io(path: Path) -> None:
    forbidden = {
        "asyncio",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "time",
    }
    assert {name.partition(".")[0] for name in names_imported(path)} & forbidden == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "reconcile").rglob("*.py")), ids=module_name)
def test_the_rules_are_told_the_time_and_never_ask(path: Path) -> None:
    assert "time" not in set(names_imported(path))
    text = path.read_text(encoding="utf-8")
    assert "datetime.now(" not in text
    assert "utcnow(" not in text
