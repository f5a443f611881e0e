"""Who asks: Basic, bearer tokens, NTLM and Negotiate by connection, the ADFS form chain (field manual, 9)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import spnego
from aiohttp import web
from spnego.exceptions import SpnegoError

from proxy.sandbox.forms import Forms
from proxy.sandbox.switches import Switches

_SCHEMES = {"ntlm": "NTLM", "negotiate": "Negotiate"}


class Logins:
    """The logins of one sandbox.

    `failures`: attempts with a wrong password. `handshakes`: logins of connections that were begun.
    """

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._handshakes: WeakKeyDictionary[asyncio.Task[Any], spnego.ContextProxy] = WeakKeyDictionary()
        self._connections: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.forms = Forms(switches)
        self.failures = 0
        self.handshakes = 0

    def end_all(self) -> None:
        """Forget who is logged in."""
        self._connections.clear()
        self.forms.end_all()

    def check(self, request: web.BaseRequest, body: bytes) -> str | web.Response:
        """The user who asks, "" where nobody needs to say; or what is answered instead."""
        match self._switches.auth:
            case "basic":
                return self._basic(request)
            case "bearer":
                return self._bearer(request)
            case "ntlm" | "negotiate" as scheme:
                return self._connection(request, _SCHEMES[scheme])
            case "adfs-forms":
                return self.forms.check(request, body)
            case _:
                return ""

    def _basic(self, request: web.BaseRequest) -> str | web.Response:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        known = self._switches.users
        if scheme.lower() == "basic" and (not known or known.get(user) == password):
            return user
        self.failures += scheme.lower() == "basic"
        return _challenge('Basic realm="crm"')

    def _bearer(self, request: web.BaseRequest) -> str | web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self._switches.tokens.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            self.failures += scheme.lower() == "bearer"
            return _challenge("Bearer authorization_uri=https://login.example.com/")
        return user

    def _connection(self, request: web.BaseRequest, scheme: str) -> str | web.Response:
        """NTLM logs in the connection: what follows on it needs no more (RFC 4559, 6)."""
        given, _, value = request.headers.get("Authorization", "").partition(" ")
        if given.lower() != scheme.lower():
            user = self._connections.get(request.task)
            return _challenge(scheme) if user is None else user
        self._connections.pop(request.task, None)
        try:
            with self._user_file():
                context = self._handshakes.pop(request.task, None)
                if context is None:
                    self.handshakes += 1
                    context = spnego.server(protocol=scheme.lower())
                answer = context.step(base64.b64decode(value))
                if context.complete:
                    user = self._connections[request.task] = (context.client_principal or "").lower()
                    return user
        except (SpnegoError, ValueError, KeyError):  # whatever is no message of a login
            self.failures += 1
            return _challenge(scheme)
        self._handshakes[request.task] = context
        return _challenge(f"{scheme} {base64.b64encode(answer or b'').decode()}")

    @contextmanager
    def _user_file(self) -> Iterator[None]:
        """pyspnego's server reads its users from a file that the environment names, and from nowhere else."""
        before = os.environ.get("NTLM_USER_FILE")
        with tempfile.NamedTemporaryFile("w", suffix=".users") as file:
            for user, password in self._switches.users.items():
                domain, _, name = user.rpartition("\\")
                file.write(f"{domain}:{name}:{password}\n")
            file.flush()
            os.environ["NTLM_USER_FILE"] = file.name
            try:
                yield
            finally:
                if before is None:
                    del os.environ["NTLM_USER_FILE"]
                else:
                    os.environ["NTLM_USER_FILE"] = before


def _challenge(value: str) -> web.Response:
    headers = {"WWW-Authenticate": value, "Content-Type": "text/html"}
    return web.Response(status=401, body=b"<html><title>401 - Unauthorized</title></html>", headers=headers)
