"""The tables of the configuration file, each a group of settings that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from proxy.odata.models import Kind
from proxy.reconcile.policy import Mode, OnConflict
from proxy.setting_types import (
    Count,
    GuidText,
    HttpUrl,
    Names,
    Origin,
    PropertyName,
    Rate,
    Seconds,
    Secret,
    SecretHeader,
    Share,
    Timeout,
    fields_from_json,
    list_from_json,
)

LOGIN_MODES = ("basic", "bearer", "ntlm", "negotiate", "adfs-forms")


class Table(BaseModel):
    """A group of settings: frozen, and no unknown key passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(Table):
    """What is logged, and how: `auto` is `console` on a terminal and `json` elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class LoginSettings(Table):
    """An identity of the proxy's own, and how it logs in; `mode` "": it does not."""

    mode: Literal["", "basic", "bearer", "ntlm", "negotiate", "adfs-forms"] = ""
    user: str = ""
    password: Secret = Field(default=SecretStr(""), repr=False)
    password_file: str = ""
    token_url: HttpUrl = ""
    scope: str = ""
    home_realm: str = ""
    login_origins: Annotated[tuple[Origin, ...], BeforeValidator(list_from_json)] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        has_password = bool(self.password.get_secret_value())
        if has_password and self.password_file:
            raise ValueError("password and password_file exclude each other")
        if self.mode in LOGIN_MODES:
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


class ServiceSettings(LoginSettings):
    """The proxy's own identity upstream, for what it asks with no client behind it: fields, or a login."""

    headers: Annotated[Mapping[str, SecretHeader], BeforeValidator(fields_from_json)] = {}


class StampSettings(Table):
    """The properties that say when an entity last changed."""

    modified: PropertyName = "ModifiedOn"
    version: PropertyName = "VersionNumber"


class TlsSettings(Table):
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


class UpstreamSettings(Table):
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
    service: ServiceSettings = ServiceSettings()
    stamp: StampSettings = StampSettings()


class SyncSettings(Table):
    """What holds for all entity sets; see `proxy.reconcile.policy.SyncRules`."""

    settle_s: Seconds = 5.0
    audit_share: Share = 0.01
    lie_limit: Count = 5
    conflict_trip: Count = 20


class BackgroundSettings(Table):
    """What the proxy does without being asked, and how much of upstream it may use for it."""

    enabled: bool = True
    requests_in_flight: Count = 4
    requests_per_s: Rate = 20.0
    backfill_sets_at_once: Count = 3
    poll_every_s: Timeout = 30.0
    poll_overlap_s: Seconds = 300.0
    look_back_s: Timeout = 86400.0
    sweep_every_s: Timeout = 86400.0
    sweep_pages_per_s: Rate = 1.0
    sweep_missing_share: Share = 0.05
    metadata_every_s: Timeout = 3600.0


class CutoverSettings(Table):
    """Moving entity sets from upstream to the mirror, and back."""

    wait_s: Timeout = 60.0
    verified_within_s: Timeout = 86400.0


class DialectSettings(Table):
    """How the mirror answers in upstream's place; see `proxy.odata.dialect.Dialect`. `headers`: what
    upstream's web server says in every answer. `user`: id of the systemuser that writes for those whom no
    other is known to be."""

    language: Literal["2011", "v2"] = "2011"
    batches: bool = False
    headers: Annotated[Mapping[str, str], BeforeValidator(fields_from_json)] = {
        "Server": "Microsoft-IIS/7.5",
        "X-AspNet-Version": "4.0.30319",
        "X-Powered-By": "ASP.NET",
    }
    user: GuidText = ""


class LimitSettings(Table):
    """Bounds on what one client may use, and on how long stopping may take."""

    request_body_bytes: Count = 64 * 1024 * 1024
    mirror_page: Count = 5000
    shutdown_s: Timeout = 30.0


class DatabaseSettings(Table):
    """The pool of connections to Postgres."""

    pool_size: Count = 10
    statement_timeout_s: Timeout = 15.0
    connect_timeout_s: Timeout = 5.0


def _chosen_mode(value: object) -> object:
    if value in (Mode.MIRROR, Mode.MIRROR.value):
        raise ValueError('"mirror" is no setting: "syncpoint cutover SET" makes the mirror the authority')
    return value


_Mode = Annotated[Mode, BeforeValidator(_chosen_mode)]


class DefaultPolicySettings(Table):
    """The policy of every entity set that says nothing else."""

    mode: _Mode = Mode.CHECKED
    stale_if_error_s: Seconds = 0.0
    on_conflict: OnConflict = OnConflict.ERROR
    max_age_s: Seconds = 60.0
    deletes_may_lag: bool = False
    keep_revisions_days: Annotated[int, Field(ge=0)] = 0
    secured: Names | None = None


class EffectSettings(Table):
    """A write changes those entities of `set` that its properties `via` name."""

    set: PropertyName
    via: Annotated[tuple[str, ...], Field(min_length=1)]


class SetPolicySettings(Table):
    """The policy of one entity set; what is None comes from the default policy."""

    mode: _Mode | None = None
    stale_if_error_s: Seconds | None = None
    on_conflict: OnConflict | None = None
    max_age_s: Seconds | None = None
    deletes_may_lag: bool | None = None
    keep_revisions_days: Annotated[int, Field(ge=0)] | None = None
    secured: Names | None = None
    volatile: Names = ()
    computed: Names = ()
    title: str = ""
    effects: Annotated[tuple[EffectSettings, ...], BeforeValidator(list_from_json)] = ()
    initial: Annotated[Mapping[str, str | bool | int | float], BeforeValidator(fields_from_json)] = {}


class ModelPropertySettings(Table):
    """A property of a model; see `proxy.odata.models.PropertyDefinition`."""

    kind: Kind
    of: str = ""
    model: str = ""


class ModelSettings(Table):
    """An entity set under names that new services chose; see `proxy.odata.models.ModelDefinition`."""

    set: str = ""
    key: str = "id"
    properties: Mapping[str, ModelPropertySettings] = {}
