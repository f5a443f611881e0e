from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.odata.models import ModelDefinition, PropertyDefinition
from proxy.reconcile.policy import (
    Effect,
    Mode,
    OnConflict,
    Policies,
    Policy,
    PollRules,
    SweepRules,
    SyncRules,
)
from proxy.setting_tables import ModelPropertySettings, ModelSettings, SetPolicySettings
from proxy.setting_types import Address, mask_password
from proxy.settings import Settings, SettingsError

CONFIG = Path(__file__).parents[2] / "config"
ROOT = "http://crm/Org/XRMServices/2011/OrganizationData.svc"


def load(text: str = "", environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Settings of a file with this text; `__` in the name of an override stands for a dot."""
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return Settings.load(None, tomllib.loads(text) | dotted, environment=environment or {})


def problems(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    path = tmp_path / "syncpoint.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        Settings.load(path, environment=environment or {})
    return caught.value.problems


# What stands in the file and what the program does are equal, both ways.


def test_the_commented_file_shows_every_default_and_nothing_else() -> None:
    shown = tomllib.loads((CONFIG / "syncpoint.toml").read_text(encoding="utf-8"))
    defaults = Settings().model_dump(mode="json", exclude_none=True)
    assert (defaults.pop("sets"), defaults.pop("models"), defaults.pop("callers")) == ({}, {}, {})
    assert shown == defaults


def commented_table() -> str:
    text = (CONFIG / "syncpoint.toml").read_text(encoding="utf-8")
    return re.sub(r"^# ?", "", text[text.index("# [sets.AccountSet]") :], flags=re.MULTILINE)


def test_the_commented_table_of_a_set_shows_every_key_with_its_default() -> None:
    shown = tomllib.loads(commented_table())["sets"]["AccountSet"]
    assert set(shown) == set(SetPolicySettings.model_fields)
    assert shown.pop("effects") != []
    assert shown.pop("initial") != {}
    policies = load(commented_table()).policies()
    stated = vars_of(policies.of("AccountSet"))
    assert stated["secured"] == frozenset()
    assert {**stated, "effects": (), "initial": {}, "secured": None} == vars_of(Policy())


def test_the_commented_model_shows_every_key() -> None:
    shown = tomllib.loads(commented_table())["models"]["Organisation"]
    assert set(shown) == set(ModelSettings.model_fields)
    assert set(shown["properties"]["name"]) == set(ModelPropertySettings.model_fields)
    definitions = load(commented_table()).definitions()
    assert definitions["Organisation"] == ModelDefinition(
        "AccountSet",
        ModelSettings().key,
        {
            "name": PropertyDefinition("string", "Name"),
            "parent": PropertyDefinition("foreign key", "ParentAccountId", "Organisation"),
        },
    )


def test_models_are_shown_as_a_file_that_can_be_loaded() -> None:
    settings = load(commented_table())
    assert load(settings.to_toml()).models == settings.models != {}


def vars_of(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__slots__}


def test_every_key_has_a_comment_above_it() -> None:
    lines = (CONFIG / "syncpoint.toml").read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert len(keys) > 20
    assert [lines[number] for number in keys if not lines[number - 1].startswith("# ")] == []


def test_a_models_names_keep_their_case_in_the_environment_and_a_wrong_key_gets_a_suggestion(
    tmp_path: Path,
) -> None:
    environment = {
        "SYNCPOINT_MODELS__Organisation__SET": "AccountSet",
        "SYNCPOINT_MODELS__Organisation__PROPERTIES__ukName__KIND": "string",
    }
    assert load(environment=environment).definitions() == {
        "Organisation": ModelDefinition("AccountSet", "id", {"ukName": PropertyDefinition("string")})
    }
    text = '[models.A]\nsett = "AccountSet"\n[models.A.properties.b]\nkind = "text"\noff = "Name"\n'
    assert problems(tmp_path, text) == (
        "models.A.properties.b.kind: must be 'string', 'boolean', 'integer', 'datetime', 'reference' or"
        " 'foreign key', not 'text'",
        "models.A.properties.b.off: unknown key; did you mean models.A.properties.b.of?",
        "models.A.sett: unknown key; did you mean models.A.set?",
    )


def test_the_production_example_can_be_loaded() -> None:
    settings = Settings.load(CONFIG / "production.example.toml", environment={})
    assert settings.upstream.service_root.startswith("http")
    effects = {name: policy.effects for name, policy in settings.policies().by_set.items()}
    assert Effect("CustomerAddressSet", ("Address1_AddressId", "Address2_AddressId")) in effects["ContactSet"]
    assert Effect("ContactSet", ("ParentId",)) in effects["CustomerAddressSet"]


def test_the_sandboxs_file_can_be_loaded() -> None:
    policies = Settings.load(CONFIG / "sandbox.toml", environment={}).policies()
    assert policies.of("AccountSet").effects[0].entity_set == "CustomerAddressSet"


# Where a value comes from.


def test_the_environment_outranks_the_file_and_overrides_outrank_both(tmp_path: Path) -> None:
    path = tmp_path / "syncpoint.toml"
    path.write_text(
        'listen = "127.0.0.1:1"\ndata_dir = "file"\n[log]\nlevel = "error"\n[sync]\nlie_limit = 7\n'
    )
    environment = {"SYNCPOINT_DATA_DIR": "environment", "SYNCPOINT_LOG__LEVEL": "debug", "OTHER": "x"}
    settings = Settings.load(path, {"data_dir": "override", "log.format": None}, environment=environment)
    assert settings.listen == ("127.0.0.1", 1)
    assert settings.data_dir == Path("override")
    assert (settings.log.level, settings.log.format) == ("debug", "auto")
    assert settings.sync.lie_limit == 7


def test_the_processs_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCPOINT_UPSTREAM__AUTH__MODE", "service")
    monkeypatch.setenv("SYNCPOINT_UPSTREAM__CONNECTIONS", "3")
    assert Settings.load(None).upstream.connections == 3


def test_the_environment_keeps_the_case_of_set_names_and_takes_lists_as_json() -> None:
    settings = load(
        environment={
            "SYNCPOINT_SETS__AccountSet__MODE": "forward",
            "SYNCPOINT_SETS__AccountSet__VOLATILE": '["OpenDeals"]',
            "SYNCPOINT_SETS__AccountSet__EFFECTS": '[{"set": "TaskSet", "via": ["TaskId"]}]',
        }
    )
    policy = settings.policies().of("AccountSet")
    assert policy.mode is Mode.FORWARD
    assert policy.volatile == {"OpenDeals"}
    assert policy.effects == (Effect("TaskSet", ("TaskId",)),)


@pytest.mark.parametrize(
    "name",
    [
        "SYNCPOINT_SERVICE_HOST",
        "SYNCPOINT_SERVICE_PORT",
        "SYNCPOINT_SERVICE_PORT_HTTP",
        "SYNCPOINT_PORT",
        "SYNCPOINT_PORT_8010_TCP_ADDR",
    ],
)
def test_what_kubernetes_says_about_a_service_called_syncpoint_is_no_setting(name: str) -> None:
    assert load(environment={name: "tcp://10.0.0.1:8010"}) == Settings()


# Problems.


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    text = """
        listen = "8010"
        [upstream]
        connections = 0
        [upstream.auth]
        mode = "callers"
        [sync]
        audit_share = 1.5
    """
    environment = {"SYNCPOINT_LOG__LEVEL": "loud", "SYNCPOINT_DATA_DIRR": "x"}
    assert problems(tmp_path, text, environment) == (
        "listen: must be HOST:PORT, as in 127.0.0.1:8010 or [::1]:8010",
        "log.level: must be 'debug', 'info', 'warning' or 'error', not 'loud' (from SYNCPOINT_LOG__LEVEL)",
        "upstream.connections: must be greater than or equal to 1, not 0",
        "upstream.auth.mode: must be 'service', 'caller', 'basic', 'bearer', 'ntlm', 'negotiate'"
        " or 'adfs-forms', not 'callers'",
        "sync.audit_share: must be less than or equal to 1, not 1.5",
        "data_dirr: unknown key; did you mean data_dir? (from SYNCPOINT_DATA_DIRR)",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('lisen = "x"', "lisen: unknown key; did you mean listen?"),
        ("zzz = 1", "zzz: unknown key"),
        ("[log]\nlevl = 1", "log.levl: unknown key; did you mean log.level?"),
        ("[upstream]\nmode = 1", "upstream.mode: unknown key; did you mean upstream.auth.mode?"),
        ('[log]\npublic_origin = ""', "log.public_origin: unknown key; did you mean public_origin?"),
        ("[sets.A]\nvolatil = []", "sets.A.volatil: unknown key; did you mean sets.A.volatile?"),
        ("log = 5", "log: must be a table"),
        ("sets = 5", "sets: must be a table"),
        (
            '[sets.A]\nmode = "shadw"',
            "sets.A.mode: must be 'forward', 'shadow', 'checked', 'bounded' or 'mirror', not 'shadw'",
        ),
        (
            '[sets.A]\nmode = "mirror"',
            'sets.A.mode: "mirror" is no setting: "syncpoint cutover SET" makes the mirror the authority',
        ),
        (
            '[defaults]\nmode = "mirror"',
            'defaults.mode: "mirror" is no setting: "syncpoint cutover SET" makes the mirror the authority',
        ),
        ('[sets.A]\neffects = [{ set = "B" }]', "sets.A.effects[0].via: Field required"),
        (
            '[sets.A]\nvolatile = "B"',
            'sets.A.volatile: must be a list; in the environment as JSON, as in ["A", "B"]',
        ),
        ('services_listen = "127.0.0.1:8010"', "settings: listen and services_listen must differ"),
        (
            'public_origin = "https://a/b"',
            "public_origin: must be a scheme and a host, as in https://crm.example.com",
        ),
        ('public_origin = "a.b"', "public_origin: must be an absolute http or https URL"),
        ("[sync]\nsettle_s = inf", "sync.settle_s: must be a finite number, not inf"),
        ("[limits]\nshutdown_s = 0", "limits.shutdown_s: must be greater than 0, not 0"),
        (
            '[upstream.stamp]\nmodified = ""',
            "upstream.stamp.modified: String should have at least 1 character, not ''",
        ),
    ],
)
def test_a_problem_names_the_key_and_says_what_to_do(tmp_path: Path, text: str, problem: str) -> None:
    assert problems(tmp_path, text) == (problem,)


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ("crm/Data.svc", "must be an absolute http or https URL"),
        ("ftp://crm/Data.svc", "must be an absolute http or https URL"),
        ("http:///Data.svc", "must be an absolute http or https URL"),
        ("http://user:topsecret@crm/Data.svc", "must not hold credentials"),
        ("http://crm/Data.svc?x=1", "must have no query, no fragment and no port 0"),
        ("http://crm/Data.svc#x", "must have no query, no fragment and no port 0"),
        ("http://crm:99999/Data.svc", "Port out of range 0-65535"),
    ],
)
def test_a_service_root_that_cannot_be_one(tmp_path: Path, root: str, problem: str) -> None:
    assert problems(tmp_path, f'[upstream]\nservice_root = "{root}"') == (
        f"upstream.service_root: {problem}",
    )


def test_a_service_root_loses_its_last_slash() -> None:
    assert load(upstream__service_root=f"{ROOT}/").upstream.service_root == ROOT


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"listen = ", r"Invalid value \(at end of document\)"),
        (b"\xff = 1", "codec can't decode"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"broken\.toml: .*{problem}"):
        Settings.load(path, environment={})


@pytest.mark.parametrize(("name", "problem"), [("missing.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Settings.load(tmp_path / name, environment={})


def test_a_value_where_the_environment_needs_a_table(tmp_path: Path) -> None:
    told = problems(tmp_path, "log = 5", {"SYNCPOINT_LOG__LEVEL": "info"})
    assert told == ("SYNCPOINT_LOG__LEVEL: log is no table", "log: must be a table")


# Secrets.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:topsecret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("postgresql://me:top%40se%2Fcret@db/x?sslmode=require", "postgresql://me:***@db/x?sslmode=require"),
        ("postgresql://me:top[secret@h1:5432,h2:5433/x", "postgresql://me:***@h1:5432,h2:5433/x"),
        ("postgresql:///x?host=/run/pg&password=topsecret", "postgresql:///x?host=/run/pg&password=***"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("postgres://", "postgres://"),
        ("postgresql://[::1]:5432/x?options=-c%20a", "postgresql://[::1]:5432/x?options=-c%20a"),
        ("postgresql://%2Frun%2Fpg/x", "postgresql://%2Frun%2Fpg/x"),
        ("", ""),
    ],
)
def test_a_database_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert mask_password(url) == shown
    settings = load(database_url=url)
    assert settings.database_url == url
    assert tomllib.loads(settings.to_toml())["database_url"] == shown
    assert "cret" not in repr(settings) + settings.to_toml()


def test_a_bad_database_url_is_not_repeated(tmp_path: Path) -> None:
    told = problems(tmp_path, "", {"SYNCPOINT_DATABASE_URL": "mysql://me:topsecret@db/x"})
    assert told == (
        "database_url: must be a URL that starts with postgresql:// (from SYNCPOINT_DATABASE_URL)",
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:top%secret@db/x",
        "postgresql://me:top/secret@db/x",
        "postgresql://me:1/secret@db/x",
        "postgresql://me:top@secret@db/x",
        "postgresql://me:top@se/cret@db/x",
        "postgresql://me:topsecret@[::1/x",
        "postgresql://me:topsecret@db:52x/x",
        "postgresql://me:top secret@db/x",
    ],
)
def test_a_database_url_that_would_be_misread_is_not_repeated(tmp_path: Path, url: str) -> None:
    (told,) = problems(tmp_path, "", {"SYNCPOINT_DATABASE_URL": url})
    assert told == (
        "database_url: is not valid; special characters in a password must be percent-encoded"
        " (from SYNCPOINT_DATABASE_URL)"
    )


# Values.


def test_what_is_dumped_loads_again_as_the_same() -> None:
    text = """
        public_origin = "https://crm.example.com"
        [sets.AccountSet]
        mode = "forward"
        effects = [{ set = "TaskSet", via = ["TaskId", "Other"] }]
        [sets."odd name \\u00e9"]
        title = 'quote " and \\ and é'
        volatile = ["A"]
    """
    settings = load(text, upstream__service_root=ROOT)
    assert load(settings.to_toml()) == settings


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.listen = Address("127.0.0.1", 1)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.log.level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8010", ("127.0.0.1", 8010)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, address: tuple[str, int]) -> None:
    assert Address.parse(text) == address
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "8010", ":8010", "h:", "h:65536", "h:-1", "::1:80", "h:x", "h:٣", "[]:1"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


def test_both_listeners_may_let_the_system_choose() -> None:
    assert load(listen="127.0.0.1:0", services_listen="127.0.0.1:0").listen.port == 0


def test_a_set_takes_from_the_default_policy_what_it_does_not_say() -> None:
    policies = load(
        """
        [defaults]
        mode = "forward"
        stale_if_error_s = 60
        on_conflict = "upstream-wins"
        [sets.AccountSet]
        mode = "checked"
        title = "Name"
        volatile = ["OpenDeals"]
        [sets.TaskSet]
        stale_if_error_s = 0
        """
    ).policies()
    assert policies.of("LeadSet") == Policy(Mode.FORWARD, 60, OnConflict.UPSTREAM_WINS)
    assert policies.of("AccountSet") == Policy(
        Mode.CHECKED, 60, OnConflict.UPSTREAM_WINS, volatile=frozenset({"OpenDeals"}), title="Name"
    )
    assert policies.of("TaskSet") == Policy(Mode.FORWARD, 0, OnConflict.UPSTREAM_WINS)


def test_the_defaults_are_those_of_the_sync_rules() -> None:
    assert Settings().sync_rules() == SyncRules()
    assert Settings().policies() == Policies()
    assert Settings().policies().of("AccountSet") == Policy()


def test_the_sync_rules_take_each_setting() -> None:
    settings = load(
        sync__settle_s=1,
        sync__audit_share=0.5,
        sync__lie_limit=2,
        sync__conflict_trip=3,
        upstream__write_limit_s=4,
        upstream__stamp__modified="Changed",
        upstream__stamp__version="Row",
        upstream__auth__mode="caller",
        upstream__auth__visibility_ttl_s=5,
    )
    rules = SyncRules(1, 0.5, 2, 3, 4, "Changed", "Row", per_caller=True, visibility_ttl_s=5)
    assert settings.sync_rules() == rules


# The identity of background work.


def test_the_headers_of_background_work_are_secrets_and_come_from_the_environment() -> None:
    name = "SYNCPOINT_UPSTREAM__SERVICE__HEADERS"
    settings = load(environment={name: '{"Authorization": "Bearer s3cret"}'})
    assert settings.service_headers() == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in settings.to_toml()
    assert "s3cret" not in repr(settings)
    assert tomllib.loads(settings.to_toml())["upstream"]["service"]["headers"] == {"Authorization": "***"}


def test_headers_that_cannot_be_read_are_told_without_showing_them(tmp_path: Path) -> None:
    told = problems(tmp_path, "", {"SYNCPOINT_UPSTREAM__SERVICE__HEADERS": "Bearer s3cret"})
    assert "upstream.service.headers: must be a table" in told[0]
    assert "s3cret" not in told[0]


def test_the_proxys_own_identity_needs_no_headers() -> None:
    assert load().service_headers() == {}


def test_background_work_takes_each_setting() -> None:
    settings = load(
        background__poll_every_s=1,
        background__poll_overlap_s=2,
        background__look_back_s=3,
        background__sweep_every_s=4,
        background__sweep_pages_per_s=5,
        background__sweep_missing_share=0.6,
    )
    assert settings.poll_rules() == PollRules(1, 2, 3)
    assert settings.sweep_rules() == SweepRules(4, 5, 0.6)


def test_a_bounded_set_takes_its_age_from_its_table_or_the_defaults() -> None:
    policies = load(
        """
        [defaults]
        max_age_s = 90
        [sets.AccountSet]
        mode = "bounded"
        deletes_may_lag = true
        """
    ).policies()
    assert policies.of("AccountSet") == Policy(Mode.BOUNDED, max_age_s=90, deletes_may_lag=True)


def test_secured_properties_are_stated_by_set_or_for_all() -> None:
    policies = load('[upstream.auth]\nmode = "caller"\n[sets.A]\nsecured = ["X"]\n[sets.B]').policies()
    assert (policies.of("A").secured, policies.of("B").secured) == (frozenset("X"), None)
    assert [policies.may_store(name) for name in "ABC"] == [True, False, False]
    policies = load('[upstream.auth]\nmode = "caller"\n[defaults]\nsecured = []\n[sets.B]').policies()
    assert [policies.may_store(name) for name in "ABC"] == [True, True, True]
    assert load("[sets.B]").policies().may_store("B")


# Logins.


LOGIN = "[upstream.auth]\nmode = 'basic'\nuser = 'u'\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LOGIN, "mode 'basic' needs password or password_file"),
        (LOGIN + "password = 'x'\npassword_file = 'y'", "password and password_file exclude each other"),
        ("[upstream.auth]\nmode = 'ntlm'\npassword = 'x'", "mode 'ntlm' needs user"),
        (
            "[upstream.auth]\nmode = 'bearer'\npassword = 'x'\ntoken_url = 'https://a/t'",
            "mode 'bearer' needs user",
        ),
        (
            LOGIN.replace("basic", "adfs-forms") + "password = 'x'",
            "mode 'adfs-forms' needs login_origins: where the password may go",
        ),
    ],
)
def test_a_login_that_lacks_something(tmp_path: Path, text: str, problem: str) -> None:
    assert problems(tmp_path, text) == (f"upstream.auth: {problem}",)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    environment = {"SYNCPOINT_UPSTREAM__AUTH__PASSWORD": "topsecret"}
    path = tmp_path / "login.toml"
    path.write_text(LOGIN)
    settings = Settings.load(path, environment=environment)
    assert settings.upstream.auth.read_password() == "topsecret"
    assert tomllib.loads(settings.to_toml())["upstream"]["auth"]["password"] == "***"
    assert "topsecret" not in settings.to_toml() + repr(settings) + str(settings.model_dump())
    assert problems(tmp_path, LOGIN + "password = 4711") == (
        "upstream.auth.password: must be a valid string",
    )
    told = problems(tmp_path, LOGIN.replace("basic", "basik"), environment)
    assert "topsecret" not in str(told)


def test_a_password_file_is_read_each_time_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = load(LOGIN + f"password_file = '{file}'")
    for text, password in (("a b\n", "a b"), ("c\r\n", "c"), (" d", " d")):
        file.write_text(text)
        assert settings.upstream.auth.read_password() == password
