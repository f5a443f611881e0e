"""`syncpoint config check`: what it says of which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from calling import network_of, password_of, token_of
from click.testing import CliRunner

from proxy.check import problems, warnings
from proxy.cli import main
from proxy.settings import Settings

ROOT = "https://crm.example.com/Org/Data.svc"
BASIC = {"upstream.auth.mode": "basic", "upstream.auth.user": "svc", "upstream.auth.password": "topsecret"}
CALLER = {"upstream.auth.mode": "caller", "defaults.secured": [], "public_origin": "https://crm.example.com"}


def loaded(**overrides: Any) -> Settings:
    return Settings.load(None, {"upstream.service_root": ROOT} | overrides, environment={})


def test_the_defaults_with_a_service_root_are_fine() -> None:
    assert ([*problems(loaded())], [*warnings(loaded())]) == ([], [])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"upstream.service_root": ""}, "upstream.service_root: not set"),
        ({"listen": "0.0.0.0:80"} | BASIC, "listen: 0.0.0.0:80 is more than the loopback"),
        ({"services_listen": "0.0.0.0:80"}, "services_listen: 0.0.0.0:80 is more than the loopback"),
        ({"upstream.service_root": "http://localhost:8010/x"}, "leads to the proxy itself"),
        (
            {"upstream.service_root": "http://10.0.0.1:80/x", "listen": "10.0.0.1:80"},
            "leads to the proxy itself",
        ),
        ({"tls.certificate": "/missing.pem"}, "tls.certificate: No such file"),
        (
            BASIC | {"upstream.auth.password": "", "upstream.auth.password_file": "/missing"},
            "upstream.auth.password_file: No such file",
        ),
    ],
)
def test_problems(overrides: dict[str, Any], said: str) -> None:
    (found,) = problems(loaded(**overrides))
    assert said in found


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (CALLER | {"public_origin": "https://other"}, "take over the name crm.example.com"),
        (CALLER, "Extended Protection"),
        (CALLER, "upstream.service: not set"),
        ({"upstream.auth.mode": "caller"}, "nothing is mirrored"),
        (CALLER | {"defaults.stale_if_error_s": 60}, "defaults.stale_if_error_s: never"),
        ({"listen": "0.0.0.0:80"}, "has the proxy's rights"),
        (
            {"services_listen": "0.0.0.0:80", "callers.one": password_of("u", "p", read=["*"])},
            "callers.one.basic: without tls.certificate passwords cross the network in the clear",
        ),
        ({"callers.one": token_of("x")}, "callers.one: has no rights"),
        ({"callers.one": network_of("0.0.0.0/0")}, "callers.one.networks: 0.0.0.0/0 is everybody"),
        (
            {"services_listen": "0.0.0.0:80", "callers.one": network_of("127.0.0.0/8")},
            "callers.one.networks: behind a proxy on this machine 127.0.0.0/8 is everybody",
        ),
        (BASIC | {"upstream.auth.mode": "service"}, "not used in mode 'service'"),
        (BASIC | {"upstream.service_root": "http://crm/x"}, "in the clear, to http://crm/x"),
        (
            BASIC | {"upstream.auth.mode": "adfs-forms", "upstream.auth.login_origins": ["http://sts"]},
            "in the clear, to http://sts",
        ),
        (BASIC | {"upstream.auth.mode": "ntlm"}, "not bound to the TLS channel"),
        (
            {f"upstream.service.{name.rpartition('.')[2]}": value for name, value in BASIC.items()},
            "only used beside",
        ),
    ],
)
def test_warnings(overrides: dict[str, Any], said: str) -> None:
    settings = loaded(**overrides)
    assert [found for found in warnings(settings) if said in found] != []
    assert [*problems(settings)] == []
    assert not any("topsecret" in found for found in warnings(settings))


def test_caller_mode_under_upstreams_own_name_over_plain_http_warns_of_no_binding() -> None:
    service = {f"upstream.service.{name.rpartition('.')[2]}": value for name, value in BASIC.items()}
    plain = {"upstream.service_root": "http://127.0.0.1:1/x", "public_origin": "http://127.0.0.1"}
    assert [*warnings(loaded(**CALLER | service | plain))] == []


def test_a_password_file_open_to_everybody_is_told(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    settings = loaded(**BASIC | {"upstream.auth.password": "", "upstream.auth.password_file": str(file)})
    file.chmod(0o644)
    assert any("may read it" in found for found in warnings(settings))
    file.chmod(0o600)
    assert not any("may read it" in found for found in warnings(settings))


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "syncpoint.toml"
    file.write_text(f"listen = '0.0.0.0:8010'\n[upstream]\nservice_root = '{ROOT}'\n")
    fine = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert (fine.exit_code, fine.stdout.count("warning: ")) == (0, 1)
    file.write_text("[upstream.auth]\nmode = 'ntlm'\n")
    assert CliRunner().invoke(main, ["config", "check", "--config", str(file)]).exit_code == 3
    file.write_text("")
    wrong = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert (wrong.exit_code, "service_root: not set" in wrong.stderr) == (3, True)
