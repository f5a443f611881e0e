"""The types of settings: how their text is read, judged and shown."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

MASK = "***"
_ENCODED = r"%[0-9A-Fa-f]{2}"
_HOST = rf"(?:\[[^\]@/\s]*\]|(?:[^\[\]@/?:,%\s]|{_ENCODED})*)(?::[0-9]*)?"
# Stricter than libpq, which quotes what it cannot make out, and that may be a piece of the password.
_DATABASE_URL = re.compile(
    rf"postgres(?:ql)?://(?:(?:[^@/%\s]|{_ENCODED})*@)?{_HOST}(?:,{_HOST})*"
    rf"(?:/(?:[^@?%\s]|{_ENCODED})*)?(?:\?(?:[^%\s]|{_ENCODED})*)?"
)


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

    @property
    def is_loopback(self) -> bool:
        """True where nobody but this machine's own users gets there; a name may mean anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def list_from_json(value: object) -> object:
    """Lists reach us as text when they come from the environment."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be a list; in the environment as JSON, as in ["A", "B"]') from None


def fields_from_json(value: object) -> object:
    """Header fields reach us as text when they come from the environment, which must not be shown."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('must be a table; in the environment as JSON, as in {"Name": "value"}') from None


def _guid_text(value: str) -> str:
    """Empty for none."""
    try:
        return str(UUID(value)) if value else ""
    except ValueError:
        raise ValueError("must be a GUID, or empty") from None


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
    if not value:
        return value
    if value.partition("://")[0] not in ("postgresql", "postgres"):
        raise ValueError("must be a URL that starts with postgresql://")
    if not _DATABASE_URL.fullmatch(value):
        raise ValueError("is not valid; special characters in a password must be percent-encoded")
    return value


def mask_password(url: str) -> str:
    """A database URL as it may be shown."""
    url = re.sub(r"(://[^:@/?#]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(password=)[^&#]*", rf"\1{MASK}", url)


ListenAddress = Annotated[Address, BeforeValidator(_address), PlainSerializer(str, return_type=str)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Origin = Annotated[HttpUrl, AfterValidator(_origin)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
GuidText = Annotated[str, AfterValidator(_guid_text)]
Names = Annotated[tuple[str, ...], BeforeValidator(list_from_json)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: MASK if secret.get_secret_value() else "", return_type=str)
]
SecretHeader = Annotated[SecretStr, PlainSerializer(lambda _: MASK, return_type=str)]
PropertyName = Annotated[str, Field(min_length=1)]
