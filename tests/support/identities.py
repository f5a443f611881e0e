"""A world whose proxy logs in upstream as one user, in each of the ways."""

from __future__ import annotations

from typing import Any

from proxy.sandbox import Switches

USER, PASSWORD = "CRM\\svc-sync", "Zaffre-9915-Quokka"


def switches(auth: Any, **more: Any) -> Switches:
    return Switches(auth=auth, users={USER: PASSWORD}, **more)


def settings(mode: str, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    """For `world`: the login of `mode`, its password from the settings."""
    named = {"mode": mode, "user": USER, "password": password, **more}
    return {f"upstream__auth__{name}": value for name, value in named.items()}
