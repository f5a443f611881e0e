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
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from proxy.caller_settings import CallerSettings, ShownSettings, problems_of
from proxy.odata.dialect import Dialect
from proxy.odata.models import ModelDefinition, PropertyDefinition
from proxy.reconcile.policy import Effect, Policies, Policy, PollRules, SweepRules, SyncRules
from proxy.setting_tables import (
    LOGIN_MODES,
    BackgroundSettings,
    CutoverSettings,
    DatabaseSettings,
    DefaultPolicySettings,
    DialectSettings,
    LimitSettings,
    ListenerTlsSettings,
    LogSettings,
    ModelPropertySettings,
    ModelSettings,
    SetPolicySettings,
    SyncSettings,
    Table,
    UpstreamSettings,
)
from proxy.setting_types import Address, DatabaseUrl, ListenAddress, Names, Origin, mask_password

ENVIRONMENT_PREFIX = "SYNCPOINT_"
# What Kubernetes and Docker links put into the environment of a service called "syncpoint".
_SERVICE_LINK = re.compile(r"SYNCPOINT_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\w+)?|NAME)")


class SettingsError(Exception):
    """The settings cannot be used. `problems`: every one of them, a sentence each, free of secrets."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Settings(Table):
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
    background: BackgroundSettings = BackgroundSettings()
    cutover: CutoverSettings = CutoverSettings()
    dialect: DialectSettings = DialectSettings()
    limits: LimitSettings = LimitSettings()
    database: DatabaseSettings = DatabaseSettings()
    defaults: DefaultPolicySettings = DefaultPolicySettings()
    sets: Mapping[str, SetPolicySettings] = {}
    models: Mapping[str, ModelSettings] = {}
    callers: Mapping[str, CallerSettings] = {}

    @model_validator(mode="after")
    def _listeners_differ(self) -> Self:
        if self.listen == self.services_listen and self.listen.port:
            raise ValueError("listen and services_listen must differ")
        return self

    @model_validator(mode="after")
    def _callers_differ(self) -> Self:
        if problems := [*problems_of(self.callers)]:
            raise ValueError("; ".join(problems))
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

    def spoken(self) -> Dialect:
        """The language that the mirror answers in after a cutover."""
        return Dialect(self.dialect.language, self.dialect.batches)

    def poll_rules(self) -> PollRules:
        """How changes are followed."""
        own = self.background
        return PollRules(own.poll_every_s, own.poll_overlap_s, own.look_back_s)

    def sweep_rules(self) -> SweepRules:
        """How deletes are looked for."""
        own = self.background
        return SweepRules(own.sweep_every_s, own.sweep_pages_per_s, own.sweep_missing_share)

    def service_headers(self) -> Mapping[str, str] | None:
        """What background work sends to say who it is; None: it has no identity, and does not start.

        Where the clients' own credentials go upstream there is none but a stated one (rule 8).
        """
        stated = {name: value.get_secret_value() for name, value in self.upstream.service.headers.items()}
        has_identity = stated or self.upstream.service.mode or self.upstream.auth.mode != "caller"
        return stated if has_identity else None

    def definitions(self) -> dict[str, ModelDefinition]:
        """The models, not yet held against a metadata document."""
        return {
            name: ModelDefinition(
                model.set,
                model.key,
                {each: PropertyDefinition(**dict(found)) for each, found in model.properties.items()},
            )
            for name, model in self.models.items()
        }

    def to_toml(self) -> str:
        """The settings in force as a file that `load` reads, passwords masked."""
        shown = self.model_dump(mode="json", exclude_none=True)
        shown["database_url"] = mask_password(self.database_url)
        return _toml(shown)


def exposed(settings: Settings) -> list[str]:
    """What is open to who has not said who they are; nothing but a machine's own users may have that.

    Upstream's namespace is, where upstream asks nobody either, and where it asks each client itself.
    """
    logs_in = settings.upstream.auth.mode in LOGIN_MODES
    listeners = {"services_listen": settings.services_listen} | (
        {"listen": settings.listen} if logs_in else {}
    )
    return [
        f"{name}: {address} is more than the loopback, so callers must say who they are: name them"
        " ([callers.NAME]; `syncpoint token NAME` makes a token)"
        for name, address in listeners.items()
        if not settings.callers and not address.is_loopback
    ]


def differences(before: BaseModel, after: BaseModel, prefix: str = "") -> Iterator[str]:
    """The dotted names of the settings that differ; those of an entity set or a caller as one."""
    for name in type(before).model_fields:
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, BaseModel) and isinstance(other, BaseModel):
            yield from differences(one, other, f"{prefix}{name}.")
        elif name in ("sets", "models", "callers"):
            yield from (f"{name}.{each}" for each in _different(one, other))
        elif one != other:
            yield prefix + name


def _different(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


Location = tuple[int | str, ...]


def _set_of(names: Names | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _policy(default: Policy, own: SetPolicySettings) -> Policy:
    return replace(
        default,
        **own.model_dump(include=set(DefaultPolicySettings.model_fields) - {"secured"}, exclude_none=True),
        secured=default.secured if own.secured is None else _set_of(own.secured),
        volatile=frozenset(own.volatile),
        computed=frozenset(own.computed),
        title=own.title or None,
        effects=tuple(Effect(effect.set, effect.via) for effect in own.effects),
        initial=dict(own.initial),
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
        if path[0] in ("sets", "models", "callers"):  # names of ours and of the metadata keep their case
            path = tuple(parts[index] if index % 2 else part for index, part in enumerate(path))
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
        # What stands in a wrong place among callers may be a password too.
        is_secret = location[-1:] == ("password",) or location[:1] == ("callers",)
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
    if parents[:1] == ["models"]:
        known += _key_paths(ModelSettings, tuple(parents[:2]))
        known += _key_paths(ModelPropertySettings, tuple(parents[:4]))
    if parents[:1] == ["callers"]:
        known += _key_paths(CallerSettings, tuple(parents[:2]))
        known += _key_paths(ShownSettings, tuple(parents[:4]))
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
    lines = [
        f"{_toml_key(name)} = {_toml_value(value)}"
        for name, value in table.items()
        if not isinstance(value, dict)
    ]
    text = "".join(f"{line}\n" for line in lines)
    for name, value in table.items():
        if isinstance(value, dict):
            path = (*parents, _toml_key(name))
            header = f"\n[{'.'.join(path)}]\n" if any(not isinstance(v, dict) for v in value.values()) else ""
            text += header + _toml(value, path)
    return text


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def _toml_value(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{_toml_key(name)} = {_toml_value(item)}" for name, item in value.items())
            + " }"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
