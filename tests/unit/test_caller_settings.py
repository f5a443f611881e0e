"""Callers in the configuration: what is wrong with them is told, and what is secret of them is not."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from calling import CHEAP, basic, password_of, token_of

from proxy.authentication import Authenticator
from proxy.caller_settings import CallerSettings, ShownSettings, login_problems
from proxy.passwords import PasswordHash
from proxy.reconcile.errors import LoginRequired, RightMissing, TooManyLogins
from proxy.reconcile.rights import Rights, Shown
from proxy.settings import Settings, SettingsError, exposed

CONFIG = Path(__file__).parents[2] / "config" / "syncpoint.toml"


def load(callers: Any) -> Settings:
    return Settings.load(None, {"callers": callers}, environment={})


def problems(callers: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(callers)
    return caught.value.problems


def test_the_commented_caller_shows_every_key() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    shown = tomllib.loads(re.sub(r"^# ?", "", text[text.index("# [sets.AccountSet]") :], flags=re.MULTILINE))
    caller = shown["callers"]["reports"]
    assert set(caller) == set(CallerSettings.model_fields)
    assert {key for each in caller["properties"].values() for key in each} == set(ShownSettings.model_fields)
    rights = load(shown["callers"]).callers["reports"].rights("reports")
    assert rights == Rights(
        "reports",
        frozenset({"AccountSet", "ContactSet", "model/Organisation"}),
        properties={
            "AccountSet": Shown(frozenset({"Revenue", "CreditLimit"}), but=True),
            "ContactSet": Shown(frozenset({"FullName", "ParentCustomerId"})),
        },
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "needs a way to say who it is: token_sha256, basic, ntlm, kerberos or trust"),
    ({"read": ["*"]}, "needs a way to say who it is: token_sha256, basic, ntlm, kerberos or trust"),
    ({"ntlm": {"user": "u"}}, "needs password or password_file, and not both"),
    ({"ntlm": {"user": "u", "password": "p", "password_file": "f"}}, "and not both"),
    ({"ntlm": {"user": "a:b", "password": "p"}}, "should match"),
    ({"trust": "network"}, 'trust = "network" and networks need each other'),
    (token_of("x", networks=["10.0.0.0/8"]), 'trust = "network" and networks need each other'),
    (token_of("x", admin=True, properties={"A": {"deny": ["B"]}}), "properties would hide nothing"),
    (token_of("x", properties={"A": {"deny": ["B"]}}), "properties.A: neither read nor write names the set"),
    (token_of("x", read=["A"], properties={"A": {}}), "needs allow or deny, and not both"),
    (
        token_of("x", read=["A"], properties={"A": {"allow": [], "deny": []}}),
        "needs allow or deny, and not both",
    ),
    (token_of("x", read=["*"], properties={"model/T": {"deny": ["B"]}}), "is shown as a whole"),
    (token_of("x", read=["*"], properties={"*": {"deny": ["B"]}}), "properties.*: name the sets"),
]


@pytest.mark.parametrize(("caller", "problem"), WRONG)
def test_what_is_wrong_with_a_caller_is_told(caller: dict[str, Any], problem: str) -> None:
    (told,) = problems({"one": caller})
    assert told.startswith("callers.one")
    assert problem in told


def test_what_is_wrong_between_callers_is_told_at_once() -> None:
    two = token_of("x") | password_of("u", "p")
    callers = {"a": two, "b c": two | {"trust": "network", "networks": ["::1"]}}
    (told,) = problems(callers)
    for problem in (
        "callers.b c: the name must be letters",
        "callers.b c.token_sha256: callers.a has the same",
        "callers.b c.basic.user: callers.a has the same",
    ):
        assert problem in told


SECRET = "S3cret-7431"


@pytest.mark.parametrize(
    "caller",
    [
        {"token_sha256": SECRET},
        {"token_sha256": [SECRET]},
        {"token_sha256": {SECRET: 1}},
        {"token_sha256": 7431},
        {"basic": SECRET},
        {"basic": {"user": "u", "scrypt": SECRET}},
        {"basic": {"user": "u", "scrypt": 7431}},
        {"basic": {"user": f"u:{SECRET}", "scrypt": str(PasswordHash.of("x", CHEAP))}},
        {"ntlm": SECRET},
        {"ntlm": {"user": f"u:{SECRET}", "password": "x"}},
        {"ntlm": {"user": "u", "password": 7431}},
        {"trust": SECRET},
        {"trust": "network", "networks": SECRET},
        {"read": SECRET, "admin": SECRET},
    ],
)
def test_a_problem_never_quotes_what_may_be_a_secret(caller: dict[str, Any]) -> None:
    for told in problems({"one": caller}):
        assert told.startswith("callers.one")
        assert SECRET not in told
        assert "7431" not in told


def test_callers_come_from_the_environment_too() -> None:
    made = token_of("x")["token_sha256"][0]
    settings = Settings.load(
        None,
        environment={
            "SYNCPOINT_CALLERS__Reports__TOKEN_SHA256": made,
            "SYNCPOINT_CALLERS__Reports__READ": '["AccountSet"]',
            "SYNCPOINT_CALLERS__Reports__PROPERTIES__AccountSet__DENY": '["Revenue"]',
        },
    )
    rights = settings.callers["Reports"].rights("Reports")
    assert (rights.who, rights.may_read("AccountSet"), rights.may_read("ContactSet")) == (
        "Reports",
        True,
        False,
    )
    assert rights.properties == {"AccountSet": Shown(frozenset({"Revenue"}), but=True)}


def test_what_is_shown_of_the_settings_has_no_password_and_can_be_read_again() -> None:
    caller = password_of("importer", SECRET, trust="network", networks=["10.0.0.0/8", "fd00::/8"], read=["*"])
    caller["ntlm"] = {"user": "u", "password": SECRET}
    settings = load({"importer": caller})
    assert SECRET not in settings.to_toml() + repr(settings)
    text = settings.to_toml() + repr(settings)
    assert caller["basic"]["scrypt"] not in text
    again = load(tomllib.loads(settings.to_toml())["callers"])
    assert again.callers["importer"].networks == settings.callers["importer"].networks
    assert again.callers["importer"].basic is not None
    assert again.callers["importer"].basic.hash() is None  # nobody gets in by what was masked


@pytest.mark.parametrize(
    ("address", "is_open"),
    [("127.0.0.1:1", False), ("127.8.0.1:1", False), ("[::1]:1", False), ("localhost:1", False)]
    + [(f"{host}:1", True) for host in ("0.0.0.0", "[::]", "10.0.0.1", "localhost.example", "127.example")],
)
def test_only_the_loopback_is_closed_by_itself(address: str, is_open: bool) -> None:
    settings = Settings.load(None, {"services_listen": address}, environment={})
    assert bool(exposed(settings)) is is_open
    with_callers = {"services_listen": address, "callers": {"one": token_of("x")}}
    assert exposed(Settings.load(None, with_callers, environment={})) == []


class Transport:
    """A connection from `address`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._address, 4711, 0, 0) if name == "peername" else default


@pytest.mark.parametrize(
    ("address", "gets_in"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),  # an IPv4 client of a socket for both
        ("10.2.0.1", False),
        ("::ffff:10.2.0.1", False),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fe80::1", False),
        ("::10.1.2.3", False),
        ("", False),
    ],
)
async def test_the_other_end_of_the_connection_is_looked_up_in_the_networks(
    address: str, gets_in: bool
) -> None:
    networks = {"trust": "network", "networks": ["10.1.0.0/16", "fd00::/8"], "read": ["*"]}
    authenticator = Authenticator(load({"inside": networks}).callers, lambda _: None)
    request = make_mocked_request("GET", "/", transport=Transport(address))
    if gets_in:
        assert (await authenticator.rights_of(request)).who == "inside"
    else:
        with pytest.raises(RightMissing):
            await authenticator.rights_of(request)


async def test_what_keeps_callers_from_logging_in_is_told(tmp_path: Path) -> None:
    absent, broken = tmp_path / "absent", tmp_path / "broken"
    broken.write_bytes(b"\xff")
    callers = {
        "a": {"ntlm": {"user": "a", "password_file": str(absent)}},
        "b": {"ntlm": {"user": "b", "password_file": str(broken)}},
        "c": {"kerberos": "c@EXAMPLE"},
    }
    told = [*login_problems(load(callers).callers)]
    assert told[:2] == [
        "callers.a.ntlm.password_file: No such file or directory",
        "callers.b.ntlm.password_file: no UTF-8",
    ]
    assert (told[2:] == []) is (importlib.util.find_spec("gssapi") is not None)


async def test_failures_are_forgotten_after_a_minute_and_passwords_after_five() -> None:
    now = 0.0
    callers = load({"importer": password_of("importer", "right", read=["*"])}).callers
    authenticator = Authenticator(callers, lambda _: None, clock=lambda: now)

    def request(password: str, address: str) -> Any:
        return make_mocked_request("GET", "/", basic("importer", password), transport=Transport(address))

    for host in range(10):  # all of one customer's network
        with pytest.raises(LoginRequired):
            await authenticator.rights_of(request("wrong", f"2001:db8::{host:x}"))
    with pytest.raises(TooManyLogins):
        await authenticator.rights_of(request("right", "2001:db8::ffff"))
    assert (await authenticator.rights_of(request("right", "2001:db8:1::1"))).who == "importer"
    now = 61.0
    assert (await authenticator.rights_of(request("right", "2001:db8::ffff"))).who == "importer"
