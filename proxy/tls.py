"""TLS of both sides: contexts made of files, whose certificates can be read again while they are in use."""

from __future__ import annotations

import ssl

from proxy.setting_tables import ListenerTlsSettings, TlsSettings, UpstreamTlsSettings
from proxy.settings import Settings, SettingsError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Tls:
    """`listeners`: None where they speak plain HTTP. `upstream`: for upstream and where logins lead.

    A connection keeps what it was made with; `reload` is for those to come.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError where a file cannot be used."""
        self.listeners = _listener_context(settings.tls) if settings.tls.certificate else None
        self.upstream = _upstream_context(settings.upstream.tls)

    def reload(self, settings: Settings) -> None:
        """Read all files again, of listeners that still speak TLS or still do not.

        Raises SettingsError, and then nothing has changed.
        """
        # On contexts of their own first: what is half loaded cannot be taken back.
        if self.listeners is not None:
            _listener_context(settings.tls)
        _upstream_context(settings.upstream.tls)
        if self.listeners is not None:
            self.listeners.minimum_version = _VERSIONS[settings.tls.min_version]
            _load(self.listeners, settings.tls, "tls")
        self.upstream.minimum_version = _VERSIONS[settings.upstream.tls.min_version]
        _load_upstream(self.upstream, settings.upstream.tls)


def _listener_context(files: ListenerTlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[files.min_version]
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files, "tls")
    return context


def _upstream_context(files: UpstreamTlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context() if not files.ca_file else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[files.min_version]
    context.set_alpn_protocols(["http/1.1"])
    _load_upstream(context, files)
    return context


def _load_upstream(context: ssl.SSLContext, files: UpstreamTlsSettings) -> None:
    if files.ca_file:
        try:
            context.load_verify_locations(files.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError([f"upstream.tls.ca_file: {error.strerror or 'no certificates'}"]) from error
    if files.certificate:
        _load(context, files, "upstream.tls")


def _load(context: ssl.SSLContext, files: TlsSettings, table: str) -> None:
    try:
        # A key that is encrypted must not have the process ask for a password at the terminal.
        context.load_cert_chain(files.certificate, files.key or None, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        problem = error.strerror or "no certificate and key that belong together"
        raise SettingsError([f"{table}.certificate: {problem}"]) from error
