"""Settings of those who may call: how they show who they are, and what they may see and do."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from proxy.odata.edm import Model
from proxy.passwords import PasswordHash
from proxy.reconcile.rights import EVERY, Rights, Shown
from proxy.setting_tables import Table
from proxy.setting_types import MASK, Names, Secret, list_from_json

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _token_hash(value: str) -> str:
    # Never quoted: who errs here may have put the token itself in.
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("must be a SHA-256 in lower-case hexadecimal, as `syncpoint token NAME` makes it")
    return value


def _one_or_many(value: object) -> object:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return (value,)
    return list_from_json(value)


def _password_hash(value: SecretStr) -> SecretStr:
    if value.get_secret_value() != MASK:  # as settings are shown, which have to be readable again
        PasswordHash.parse(value.get_secret_value())
    return value


class BasicSettings(Table):
    """A user of Basic; the hash has the cost in it, see `proxy.passwords`."""

    user: Annotated[str, Field(min_length=1, pattern="^[^:]*$")]
    scrypt: Annotated[Secret, AfterValidator(_password_hash)]

    def hash(self) -> PasswordHash | None:
        """None where it is masked: no password is right."""
        text = self.scrypt.get_secret_value()
        return None if text == MASK else PasswordHash.parse(text)


class NtlmSettings(Table):
    """A user of NTLM, also within Negotiate: `DOMAIN\\user`, or a name alone."""

    user: Annotated[str, Field(min_length=1, pattern=r"^[^:\r\n]*$")]
    password: Secret = Field(default=SecretStr(""), repr=False)
    password_file: str = ""

    @model_validator(mode="after")
    def _has_one_password(self) -> Self:
        if bool(self.password.get_secret_value()) == bool(self.password_file):
            raise ValueError("needs password or password_file, and not both")
        return self

    def read_password(self) -> str:
        """The password, a file's without the newline at its end. Raises OSError and UnicodeDecodeError."""
        if self.password_file:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        return self.password.get_secret_value()


class ShownSettings(Table):
    """Which properties of an entity set are shown: those allowed, or all but those denied."""

    allow: Names | None = None
    deny: Names | None = None

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("needs allow or deny, and not both")
        return self


class CallerSettings(Table):
    """One caller."""

    token_sha256: Annotated[
        tuple[Annotated[str, AfterValidator(_token_hash)], ...], BeforeValidator(_one_or_many)
    ] = ()
    basic: BasicSettings | None = None
    ntlm: NtlmSettings | None = None
    kerberos: str = ""
    trust: Literal["", "network"] = ""
    networks: Annotated[tuple[Network, ...], BeforeValidator(list_from_json)] = ()
    names: Names = ()
    read: Names = ()
    write: Names = ()
    admin: bool = False
    metrics: bool = False
    properties: Mapping[str, ShownSettings] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not (self.token_sha256 or self.basic or self.ntlm or self.kerberos or self.trust):
            raise ValueError("needs a way to say who it is: token_sha256, basic, ntlm, kerberos or trust")
        if bool(self.trust) != bool(self.networks):
            raise ValueError('trust = "network" and networks need each other')
        if self.names and not self.trust:
            raise ValueError('names are for trust = "network"')
        if self.admin and self.properties:
            raise ValueError("admin shows everything, so properties would hide nothing")
        for name in self.properties:
            if name == EVERY:
                raise ValueError(
                    f"properties.{name}: name the sets, each for itself; this would hide nothing"
                )
            if name.startswith("model/"):
                raise ValueError(f"properties.{name}: what only the mirror keeps is shown as a whole")
            if not {name, EVERY} & {*self.read, *self.write}:
                raise ValueError(f"properties.{name}: neither read nor write names the set")
        return self

    def rights(self, name: str) -> Rights:
        """What the caller of this name may do."""
        shown = {
            entity_set: Shown(frozenset(each.allow or each.deny or ()), but=each.allow is None)
            for entity_set, each in self.properties.items()
        }
        return Rights(
            name, frozenset(self.read), frozenset(self.write), shown, self.admin, self.metrics or self.admin
        )


def problems_of(callers: Mapping[str, CallerSettings]) -> Iterator[str]:
    """What is wrong between callers, a sentence each: nobody may be two of them."""
    said: dict[tuple[str, object], str] = {}
    for name, caller in callers.items():
        if not _NAME.fullmatch(name):
            yield f"callers.{name}: the name must be letters, digits, '.', '_' and '-', at most 64"
        ways: list[tuple[str, object]] = [("token_sha256", each) for each in caller.token_sha256]
        ways += [("networks", each) for each in caller.networks]
        ways += [("basic.user", caller.basic.user)] if caller.basic else []
        ways += [("user", caller.ntlm.user.lower())] if caller.ntlm else []
        ways += [("user", caller.kerberos.lower())] if caller.kerberos else []
        for way in ways:
            if way in said:
                yield f"callers.{name}.{way[0]}: callers.{said[way]} has the same"
            said.setdefault(way, name)


def problems_with(
    callers: Mapping[str, CallerSettings], model: Model | None, models: Mapping[str, object]
) -> Iterator[str]:
    """What keeps callers from being known, and what rights name that is not there: a property that is spelt
    wrong would not be hidden."""
    yield from login_problems(callers)
    if model is None:
        return
    known = {EVERY, *model.entity_sets, *(f"model/{name}" for name in models)}
    for name, caller in callers.items():
        for right, sets in (
            ("read", caller.read),
            ("write", caller.write),
            ("properties", caller.properties),
        ):
            for unknown in (each for each in sets if each not in known):
                yield f"callers.{name}.{right}: there is no entity set '{unknown}'"
        for set_name, shown in caller.properties.items():
            place = f"callers.{name}.properties.{set_name}"
            if (entity_set := model.entity_sets.get(set_name)) is None:
                continue
            for each in (*(shown.allow or ()), *(shown.deny or ())):
                if each not in entity_set.entity_type.properties:
                    yield f"{place}: there is no property '{each}'"
            for each in shown.deny or ():
                if each in entity_set.entity_type.key:
                    yield f"{place}: '{each}' is of the key, which is always shown"


def login_problems(callers: Mapping[str, CallerSettings]) -> Iterator[str]:
    """What keeps callers from logging in their connections."""
    for name, caller in callers.items():
        try:
            if caller.ntlm is not None:
                caller.ntlm.read_password()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            yield f"callers.{name}.ntlm.password_file: {reason}"
        if caller.kerberos and importlib.util.find_spec("gssapi") is None:
            yield f"callers.{name}.kerberos: needs the Python package gssapi, and a keytab (KRB5_KTNAME)"
