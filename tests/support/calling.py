"""Callers for tests: tokens, passwords and what is configured of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from structlog.testing import capture_logs

from proxy.passwords import PasswordHash, token_hash

CHEAP = (2, 1, 1)


def token_of(*tokens: str, **rights: Any) -> dict[str, Any]:
    """A caller that shows one of these tokens."""
    return {"token_sha256": [token_hash(each) for each in tokens], **rights}


def password_of(user: str, password: str, **rights: Any) -> dict[str, Any]:
    """A caller that uses Basic; the hash costs next to nothing."""
    return {"basic": {"user": user, "scrypt": str(PasswordHash.of(password, CHEAP))}, **rights}


def network_of(*networks: str) -> dict[str, Any]:
    """A caller that says nothing, with all rights to read."""
    return {"trust": "network", "networks": networks, "read": ["*"]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@contextmanager
def logged() -> Iterator[list[Mapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


def told(lines: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["event"] == event]
