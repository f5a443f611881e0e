"""NTLM and Negotiate of callers: logins of several messages, which hold for a connection (RFC 4559, 6).

pyspnego's server side judges the messages. It takes its users from a file that the environment names, and
from nowhere else, so they stand in a file of this process' memory; and it takes NTLMv1 unless the environment
says otherwise. Both are said while it works, on the event loop's one thread, and not for longer.
"""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import spnego
from aiohttp import web
from spnego._ntlm_raw.crypto import ntowfv1

_NO_LM = "0" * 32
_PROTOCOLS = {"ntlm": spnego.NegotiateOptions.use_ntlm, "negotiate": spnego.NegotiateOptions.use_negotiate}
_NTLM_V2_ONLY = "5"


class ConnectionLogins:
    """`users`: passwords by user, who is `DOMAIN\\user` or a name alone. `schemes`: those to offer, the best
    first."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self.schemes = ("Negotiate", "NTLM") if users else ("Negotiate",)
        self._handshakes: WeakKeyDictionary[asyncio.Task[Any], spnego.ContextProxy] = WeakKeyDictionary()
        self._users: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        lines = [f"{user}:0:{_NO_LM}:{_nt_hash(password)}:[U]:0\n" for user, password in users.items()]
        self._file = self._in_memory("".join(lines).encode())

    def user_of(self, request: web.BaseRequest) -> str | None:
        """Who has logged in the request's connection."""
        return self._users.get(request.task)

    def step(self, request: web.BaseRequest, scheme: str, message: bytes) -> str | bytes:
        """The user whose login the message completes, or what is to be answered to it. Raises ValueError."""
        self._users.pop(request.task, None)
        context = self._handshakes.pop(request.task, None)
        try:
            with self._environment():
                if context is None:
                    context = spnego.server(protocol=scheme, options=_PROTOCOLS[scheme])
                answer = context.step(message)
                user = (context.client_principal or "") if context.complete else None
        except Exception as error:  # anybody can send these messages; what they break is a failed login
            raise ValueError("The login failed.") from error
        if user is None:
            self._handshakes[request.task] = context
            return answer or b""
        self._users[request.task] = user
        return user

    def _in_memory(self, content: bytes) -> str:
        """The path of a file that ends with this object, and is on no disk where the system can do that."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("callers")
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp()
            weakref.finalize(self, os.unlink, path)
        os.write(descriptor, content)
        weakref.finalize(self, os.close, descriptor)
        return path

    @contextmanager
    def _environment(self) -> Iterator[None]:
        wanted = {"NTLM_USER_FILE": self._file, "LM_COMPAT_LEVEL": _NTLM_V2_ONLY}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _nt_hash(password: str) -> str:
    """What NTLM makes of a password; as good as the password itself to who wants to log in by NTLM."""
    return base64.b16encode(ntowfv1(password)).decode()
