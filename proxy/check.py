"""What is wrong with the settings, or will surprise: `syncpoint config check`. Nothing is connected to."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from proxy.caller_settings import login_problems
from proxy.setting_tables import LOGIN_MODES, LoginSettings
from proxy.setting_types import Address
from proxy.settings import Settings, SettingsError, exposed
from proxy.tls import Tls

_LOOPBACK = ("127.", "::1", "localhost")


def problems(settings: Settings) -> Iterator[str]:
    """What keeps the proxy from doing its work, a sentence each."""
    root = urlsplit(settings.upstream.service_root)
    if not root.hostname:
        yield "upstream.service_root: not set"
    elif _is_ours(settings.listen, root.hostname, root.port or (443 if root.scheme == "https" else 80)):
        yield "upstream.service_root: leads to the proxy itself"
    yield from exposed(settings)
    yield from login_problems(settings.callers)
    try:
        Tls(settings)
    except SettingsError as error:
        yield from error.problems
    for table, login in _logins(settings):
        try:
            login.read_password()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            yield f"{table}.password_file: {reason}"


def warnings(settings: Settings) -> Iterator[str]:
    """What works, but not as one may think."""
    if settings.upstream.auth.mode == "caller":
        yield from _of_caller_mode(settings)
    else:
        yield from _of_one_identity(settings)
    for table, login in _logins(settings):
        yield from _of_login(table, login, settings)
    yield from _of_callers(settings)


def _of_caller_mode(settings: Settings) -> Iterator[str]:
    auth, root = settings.upstream.auth, urlsplit(settings.upstream.service_root)
    if urlsplit(settings.public_origin).hostname != root.hostname:
        yield (
            "upstream.auth.mode: Kerberos tickets and ADFS forms are bound to upstream's host name; for"
            f" clients that log in with them take over the name {root.hostname}, and say so in public_origin"
        )
    if settings.tls.certificate or root.scheme == "https":
        yield (
            "upstream.auth.mode: logins bound to the TLS channel (Extended Protection) cannot pass a proxy"
            " that ends TLS; upstream must not require it"
        )
    if settings.service_headers() is None:
        yield (
            "upstream.service: not set; nothing is done in the background, and unanswered writes settle when"
            " a caller next reads what they wrote"
        )
    if settings.defaults.secured is None and all(own.secured is None for own in settings.sets.values()):
        yield "secured: stated for no set, so nothing is mirrored; every request is forwarded"
    if not auth.visibility_ttl_s and settings.defaults.stale_if_error_s:
        yield "defaults.stale_if_error_s: never comes to bear while upstream.auth.visibility_ttl_s is 0"


def _of_one_identity(settings: Settings) -> Iterator[str]:
    auth = settings.upstream.auth
    if not settings.callers and not _is_loopback(settings.listen):
        yield (
            f"listen: whoever reaches {settings.listen} has the proxy's rights; it does not ask who they are"
            " while there are no callers"
        )
    if auth.mode == "service" and (auth.user or auth.password.get_secret_value() or auth.password_file):
        yield "upstream.auth: user and password are not used in mode 'service'"
    if settings.upstream.service.mode:
        yield "upstream.service.mode: only used beside upstream.auth.mode = 'caller'"


def _of_login(table: str, login: LoginSettings, settings: Settings) -> Iterator[str]:
    root = urlsplit(settings.upstream.service_root)
    asked = [login.token_url] if login.token_url else [*login.login_origins]
    if login.mode in ("basic", "bearer") and root.scheme == "http":
        asked.append(settings.upstream.service_root)
    if open_ones := [url for url in asked if url.startswith("http:") and not _is_local_name(url)]:
        yield f"{table}: the password crosses the network in the clear, to {', '.join(open_ones)}"
    if login.mode in ("ntlm", "negotiate") and root.scheme == "https":
        yield (
            f"{table}.mode: the login is not bound to the TLS channel; upstream must not require Extended"
            " Protection"
        )
    if login.password_file and _is_open_to_others(Path(login.password_file)):
        yield f"{table}.password_file: users other than the owner and its group may read it"


def _of_callers(settings: Settings) -> Iterator[str]:
    addresses = (settings.listen, settings.services_listen)
    is_plain = not settings.tls.certificate and not all(each.is_loopback for each in addresses)
    for name, caller in settings.callers.items():
        if caller.basic is not None and is_plain:
            yield f"callers.{name}.basic: without tls.certificate passwords cross the network in the clear"
        for network in caller.networks:
            if network.prefixlen == 0:
                yield f"callers.{name}.networks: {network} is everybody"
            elif network.is_loopback and not settings.services_listen.is_loopback:
                yield f"callers.{name}.networks: behind a proxy on this machine {network} is everybody"
        if not (caller.read or caller.write or caller.admin or caller.metrics):
            yield f"callers.{name}: has no rights"


def _logins(settings: Settings) -> Iterator[tuple[str, LoginSettings]]:
    own = {"upstream.auth": settings.upstream.auth, "upstream.service": settings.upstream.service}
    yield from ((table, login) for table, login in own.items() if login.mode in LOGIN_MODES)


def _is_ours(address: Address, host: str, port: int) -> bool:
    is_local = host.startswith(_LOOPBACK) or host == address.host
    return is_local and port == address.port


def _is_loopback(address: Address) -> bool:
    return address.host.startswith(_LOOPBACK)


def _is_local_name(url: str) -> bool:
    return (urlsplit(url).hostname or "").startswith(_LOOPBACK)


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
