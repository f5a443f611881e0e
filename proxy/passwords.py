"""Tokens and passwords of callers: how they are made, and what is kept of them.

A token is 256 random bits, so its SHA-256 tells nothing of it. A password is what people choose: scrypt
(RFC 7914) makes each guess cost memory and time. Its hash carries its parameters:
`scrypt:N:r:p:SALT:HASH`, salt and hash in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Self

_LENGTH = 32
_COST = (2**15, 8, 3)
_MOST_BYTES = 256 * 1024 * 1024
_FORMAT = re.compile(r"scrypt:(\d{1,9}):(\d{1,4}):(\d{1,4}):([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)")


def new_token() -> str:
    return secrets.token_urlsafe(_LENGTH)


def token_hash(token: str) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is kept of a password. `cost`: scrypt's N, r and p."""

    cost: tuple[int, int, int]
    salt: bytes
    derived: bytes

    @classmethod
    def of(cls, password: str, cost: tuple[int, int, int] = _COST) -> Self:
        """With a new salt."""
        salt = secrets.token_bytes(16)
        return cls(cost, salt, _derived(password, cost, salt, _LENGTH))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, without the text."""
        found = _FORMAT.fullmatch(text)
        if found is None:
            raise ValueError(
                "must be scrypt:N:r:p:SALT:HASH, as `syncpoint token NAME --basic USER` makes it"
            )
        n, r, p = int(found[1]), int(found[2]), int(found[3])
        salt, derived = (base64.b64decode(part, validate=True) for part in (found[4], found[5]))
        if n < 2 or n & (n - 1) or not r or not p or _memory(n, r, p) > _MOST_BYTES or len(derived) < 16:
            raise ValueError("has parameters that scrypt cannot be used with")
        return cls((n, r, p), salt, derived)

    def is_of(self, password: str) -> bool:
        """Takes the time that its cost says."""
        derived = _derived(password, self.cost, self.salt, len(self.derived))
        return hmac.compare_digest(derived, self.derived)

    def __str__(self) -> str:
        salt, derived = (base64.b64encode(part).decode() for part in (self.salt, self.derived))
        return ":".join(("scrypt", *map(str, self.cost), salt, derived))


def _memory(n: int, r: int, p: int) -> int:
    return 128 * r * (n + p + 2)


def _derived(password: str, cost: tuple[int, int, int], salt: bytes, length: int) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(
        password.encode("utf-8", "surrogateescape"),
        salt=salt,
        n=n,
        r=r,
        p=p,
        maxmem=_memory(n, r, p) + 1024 * 1024,
        dklen=length,
    )
