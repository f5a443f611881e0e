"""Settings: a TOML file, then the environment, then what the command line says; read once, frozen.

The defaults live here, because the wheel holds nothing but the package; `config/syncpoint.toml` shows
them with a comment for each key. Every key is also an environment variable: `SYNCPOINT_` and its path
with `__` (`SYNCPOINT_UPSTREAM__SERVICE_ROOT`); names of entity sets keep their case there
(`SYNCPOINT_SETS__AccountSet__MODE`), and lists are written as JSON.

Durations are seconds and sizes bytes, as the key names say.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from proxy.reconcile.policy import Effect, Mode, OnConflict, Policies, Policy, SyncRules

ENVIRONMENT_PREFIX = "SYNCPOINT_"
MASK = "***"
_LOGIN_MODES = ("basic", "bearer", "ntlm", "negotiate", "adfs-forms")
# What Kubernetes and Docker links put into the environment of a service called "syncpoint".
_SERVICE_LINK = re.compile(r"SYNCPOINT_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\w+)?|NAME)")


class SettingsError(Exception):
    """The settings cannot be used. `problems`: every one of them, a sentence each, free of secrets."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Address(NamedTuple):
    """A TCP address to listen on. Port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`HOST:PORT`, an IPv6 host in brackets. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError("must be HOST:PORT, as in 127.0.0.1:8010 or [::1]:8010")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _from_json(value: object) -> object:
    """Lists reach us as text when they come from the environment."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be a list; in the environment as JSON, as in ["A", "B"]') from None


def _http_url(value: str) -> str:
    """Without a trailing slash; an empty text stays empty."""
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an absolute http or https URL")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials")
    if parts.port == 0 or "?" in value or "#" in value:
        raise ValueError("must have no query, no fragment and no port 0")
    return value.rstrip("/")


def _origin(value: str) -> str:
    if urlsplit(value).path:
        raise ValueError("must be a scheme and a host, as in https://crm.example.com")
    return value


def _database_url(value: str) -> str:
    if value and urlsplit(value).scheme not in ("postgresql", "postgres"):
        raise ValueError("must be a URL that starts with postgresql://")
    return value


def mask_password(url: str) -> str:
    """A database URL as it may be shown."""
    url = re.sub(r"(://[^:@/?#]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(password=)[^&#]*", rf"\1{MASK}", url)


ListenAddress = Annotated[Address, BeforeValidator(_address), PlainSerializer(str, return_type=str)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Origin = Annotated[HttpUrl, AfterValidator(_origin)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: MASK if secret.get_secret_value() else "", return_type=str)
]
Names = Annotated[tuple[str, ...], BeforeValidator(_from_json)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
PropertyName = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(_Table):
    """What is logged, and how: `auto` is `console` on a terminal and `json` elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class LoginSettings(_Table):
    """An identity of the proxy's own, and how it logs in."""

    mode: Literal["basic", "bearer", "ntlm", "negotiate", "adfs-forms"]
    user: str = ""
    password: Secret = Field(default=SecretStr(""), repr=False)
    password_file: str = ""
    token_url: HttpUrl = ""
    scope: str = ""
    home_realm: str = ""
    login_origins: Annotated[tuple[Origin, ...], BeforeValidator(_from_json)] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        has_password = bool(self.password.get_secret_value())
        if has_password and self.password_file:
            raise ValueError("password and password_file exclude each other")
        if self.mode in _LOGIN_MODES:
            if not has_password and not self.password_file:
                raise ValueError(f"mode {self.mode!r} needs password or password_file")
            if not self.user and (self.mode != "bearer" or self.token_url):
                raise ValueError(f"mode {self.mode!r} needs user")
            if self.mode == "adfs-forms" and not self.login_origins:
                raise ValueError("mode 'adfs-forms' needs login_origins: where the password may go")
        return self

    def read_password(self) -> str:
        """The password, a file's without the newline at its end. Raises OSError."""
        if self.password_file:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        return self.password.get_secret_value()


class AuthSettings(LoginSettings):
    """Whose identity upstream sees."""

    mode: Literal["service", "caller", "basic", "bearer", "ntlm", "negotiate", "adfs-forms"] = "service"  # type: ignore[assignment]
    visibility_ttl_s: Seconds = 0.0


class StampSettings(_Table):
    """The properties that say when an entity last changed."""

    modified: PropertyName = "ModifiedOn"
    version: PropertyName = "VersionNumber"


class TlsSettings(_Table):
    """A certificate with its chain and its key, PEM files; the key may stand in the certificate's."""

    certificate: str = ""
    key: str = ""
    min_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _key_has_its_certificate(self) -> Self:
        if self.key and not self.certificate:
            raise ValueError("key needs certificate")
        return self


class ListenerTlsSettings(TlsSettings):
    """Of both listeners: plain HTTP without a certificate."""


class UpstreamTlsSettings(TlsSettings):
    """Towards upstream; the certificate is the one the proxy shows."""

    ca_file: str = ""


class UpstreamSettings(_Table):
    """The service that is mirrored, and how patient we are with it."""

    service_root: HttpUrl = ""
    connections: Count = 32
    connect_timeout_s: Timeout = 10.0
    read_timeout_s: Timeout = 120.0
    reply_limit_bytes: Count = 256 * 1024 * 1024
    write_limit_s: Seconds = 300.0
    deleted_code: Annotated[str, Field(min_length=1)] = "-2147220969"
    tls: UpstreamTlsSettings = UpstreamTlsSettings()
    auth: AuthSettings = AuthSettings()
    service: LoginSettings | None = None
    stamp: StampSettings = StampSettings()


class SyncSettings(_Table):
    """What holds for all entity sets; see `proxy.reconcile.policy.SyncRules`."""

    settle_s: Seconds = 5.0
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    lie_limit: Count = 5
    conflict_trip: Count = 20


class LimitSettings(_Table):
    """Bounds on what one client may use, and on how long stopping may take."""

    request_body_bytes: Count = 64 * 1024 * 1024
    shutdown_s: Timeout = 30.0


class DatabaseSettings(_Table):
    """The pool of connections to Postgres."""

    pool_size: Count = 10
    statement_timeout_s: Timeout = 15.0
    connect_timeout_s: Timeout = 5.0


class DefaultPolicySettings(_Table):
    """The policy of every entity set that says nothing else."""

    mode: Mode = Mode.CHECKED
    stale_if_error_s: Seconds = 0.0
    on_conflict: OnConflict = OnConflict.ERROR
    secured: Names | None = None


class EffectSettings(_Table):
    """A write changes those entities of `set` that its properties `via` name."""

    set: PropertyName
    via: Annotated[tuple[str, ...], Field(min_length=1)]


class SetPolicySettings(_Table):
    """The policy of one entity set; what is None comes from the default policy."""

    mode: Mode | None = None
    stale_if_error_s: Seconds | None = None
    on_conflict: OnConflict | None = None
    secured: Names | None = None
    volatile: Names = ()
    title: str = ""
    effects: Annotated[tuple[EffectSettings, ...], BeforeValidator(_from_json)] = ()


class Settings(_Table):
    """All settings. Parts are handed down; nobody but the wiring holds the whole."""

    listen: ListenAddress = Address("127.0.0.1", 8010)
    services_listen: ListenAddress = Address("127.0.0.1", 8011)
    database_url: DatabaseUrl = Field(default="", repr=False)
    data_dir: Path = Path(".syncpoint")
    public_origin: Origin = ""
    tls: ListenerTlsSettings = ListenerTlsSettings()
    log: LogSettings = LogSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    sync: SyncSettings = SyncSettings()
    limits: LimitSettings = LimitSettings()
    database: DatabaseSettings = DatabaseSettings()
    defaults: DefaultPolicySettings = DefaultPolicySettings()
    sets: Mapping[str, SetPolicySettings] = {}

    @model_validator(mode="after")
    def _listeners_differ(self) -> Self:
        if self.listen == self.services_listen and self.listen.port:
            raise ValueError("listen and services_listen must differ")
        return self

    @classmethod
    def load(
        cls,
        config: Path | None,
        overrides: Mapping[str, object] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Read `config` (if given), then the environment, then `overrides` by dotted path.

        Overrides that are None count as not given. Raises SettingsError with all problems at once.
        """
        problems: list[str] = []
        tables = _read_file(config, problems) if config else {}
        sources: dict[Location, str] = {}
        for name, path, text in _environment(os.environ if environment is None else environment):
            sources[path] = name
            _put(tables, path, text, name, problems)
        for dotted, value in (overrides or {}).items():
            if value is not None:
                _put(tables, tuple(dotted.split(".")), value, dotted, problems)
        try:
            settings = cls.model_validate(tables)
        except ValidationError as error:
            problems += [
                _problem(found["type"], found["loc"], found["msg"], found["input"], sources)
                for found in error.errors()
            ]
        if problems:
            raise SettingsError(problems)
        return settings

    def policies(self) -> Policies:
        """The dial as the sync rules know it."""
        default = Policy(**dict(self.defaults) | {"secured": _set_of(self.defaults.secured)})
        own = {name: _policy(default, own) for name, own in self.sets.items()}
        return Policies(default, own, self.upstream.auth.mode == "caller")

    def sync_rules(self) -> SyncRules:
        """What holds for all sets, as the sync rules know it."""
        return SyncRules(
            **dict(self.sync),
            write_limit_s=self.upstream.write_limit_s,
            deleted_code=self.upstream.deleted_code,
            modified_property=self.upstream.stamp.modified,
            version_property=self.upstream.stamp.version,
            per_caller=self.upstream.auth.mode == "caller",
            visibility_ttl_s=self.upstream.auth.visibility_ttl_s,
        )

    def to_toml(self) -> str:
        """The settings in force as a file that `load` reads, passwords masked."""
        shown = self.model_dump(mode="json", exclude_none=True)
        shown["database_url"] = mask_password(self.database_url)
        return _toml(shown)


Location = tuple[int | str, ...]


def _set_of(names: Names | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _policy(default: Policy, own: SetPolicySettings) -> Policy:
    return replace(
        default,
        **own.model_dump(include={"mode", "stale_if_error_s", "on_conflict"}, exclude_none=True),
        secured=default.secured if own.secured is None else _set_of(own.secured),
        volatile=frozenset(own.volatile),
        title=own.title or None,
        effects=tuple(Effect(effect.set, effect.via) for effect in own.effects),
    )


def _read_file(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    except ValueError as error:  # broken TOML, or no UTF-8
        problems.append(f"{path}: {error}")
    return {}


def _environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Location, str]]:
    """(variable, path of its key, text) of every variable that is meant for us, tables before their keys."""
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX) or _SERVICE_LINK.fullmatch(name):
            continue
        parts = name.removeprefix(ENVIRONMENT_PREFIX).split("__")
        path = tuple(part.lower() for part in parts)
        if path[0] == "sets":  # entity set names are case-sensitive
            path = (*path[:1], *parts[1:2], *path[2:])
        yield name, path, environment[name]


def _put(tables: dict[str, Any], path: Location, value: object, source: str, problems: list[str]) -> None:
    *parents, key = map(str, path)
    for parent in parents:
        tables = tables.setdefault(parent, {})
        if not isinstance(tables, dict):
            problems.append(f"{source}: {parent} is no table")
            return
    tables[key] = value


def _problem(
    kind: str, location: Location, message: str, value: object, sources: Mapping[Location, str]
) -> str:
    """One sentence: the key, what is wrong with it, and the variable it came from."""
    if kind == "extra_forbidden":
        message = f"unknown key{_suggestion(location)}"
    elif kind in ("model_type", "dict_type"):
        message = "must be a table"
    else:
        message = message.removeprefix("Value error, ").replace("Input should", "must", 1)
        is_secret = location[-1:] == ("password",)
        if kind != "value_error" and not is_secret and isinstance(value, (str, int, float)):
            message += f", not {value!r}"
    variable = sources.get(location)
    return f"{_dotted(location)}: {message}" + (f" (from {variable})" if variable else "")


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "settings"


def _suggestion(location: Location) -> str:
    """The nearest key beside the unknown one, or the same key in another table."""
    *parents, name = map(str, location)
    known = list(_key_paths(Settings, ()))
    if parents[:1] == ["sets"]:
        known += _key_paths(SetPolicySettings, tuple(parents[:2]))
    siblings = {path[-1]: path for path in known if list(path[:-1]) == parents}
    near = [siblings[found] for found in get_close_matches(name, siblings, n=1)]
    elsewhere = [path for path in known if path[-1] == name]
    return f"; did you mean {'.'.join(found[0])}?" if (found := near or elsewhere) else ""


def _key_paths(table: type[BaseModel], parents: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in table.model_fields.items():
        yield (*parents, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _key_paths(field.annotation, (*parents, name))


def _toml(table: Mapping[str, Any], parents: tuple[str, ...] = ()) -> str:
    """TOML of nested tables; a JSON text of a string or a list is one of TOML too."""
    lines = [f"{name} = {_toml_value(value)}" for name, value in table.items() if not isinstance(value, dict)]
    text = "".join(f"{line}\n" for line in lines)
    for name, value in table.items():
        if isinstance(value, dict):
            path = (*parents, name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name))
            header = f"\n[{'.'.join(path)}]\n" if any(not isinstance(v, dict) for v in value.values()) else ""
            text += header + _toml(value, path)
    return text


def _toml_value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
