"""Logins of the proxy's own: one identity towards upstream, whoever asks (`upstream.auth.mode`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from proxy.upstream.client import UpstreamClient
from proxy.upstream.login.client import LoggedInClient
from proxy.upstream.login.connections import LoggedInConnections
from proxy.upstream.login.forms import FormsLogin
from proxy.upstream.login.gate import Gate, Login
from proxy.upstream.login.headers import HeaderLogin, basic, bearer
from proxy.upstream.login.oauth import OAuthLogin
from proxy.upstream.login.web import Web

Mode = Literal["basic", "bearer", "ntlm", "negotiate", "adfs-forms"]
LOGIN_MODES: tuple[Mode, ...] = ("basic", "bearer", "ntlm", "negotiate", "adfs-forms")
AnyClient = UpstreamClient | LoggedInClient | LoggedInConnections

__all__ = ["LOGIN_MODES", "AnyClient", "Gate", "logged_in"]


def logged_in(
    client: UpstreamClient,
    web: Web,
    mode: Mode,
    *,
    root_path: str,
    user: str,
    password: Callable[[], str],
    connections: int,
    token_url: str = "",
    scope: str = "",
    home_realm: str = "",
    notice: Callable[[str | None], None],
) -> tuple[AnyClient, Gate]:
    """`client` under the identity of `user`, and the gate its logins go through.

    `password`: read again for each login. `token_url`: where client credentials are exchanged for bearer
    tokens, the password is the token where it is empty. `web`: for what is not upstream itself. `notice` is
    told why a login failed, and None of each that did not.
    """
    if mode in ("ntlm", "negotiate"):
        connecting = LoggedInConnections(client, mode, user, root_path, connections)
        gate = Gate(connecting, password, notice)
        connecting.gate = gate
        return connecting, gate
    login: Login
    if mode == "adfs-forms":
        login = FormsLogin(web, client.origin, user, home_realm)
    elif mode == "bearer" and token_url:
        login = OAuthLogin(web, token_url, user, scope)
    else:
        login = HeaderLogin(client, root_path, basic(user) if mode == "basic" else bearer)
    gate = Gate(login, password, notice)
    return LoggedInClient(client, gate, login, root_path), gate
