"""One login however many requests wait for it, tried a limited number of times, no wrong password twice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

from multidict import CIMultiDict

from proxy.reconcile.ports import Reply, UpstreamFailure, UpstreamLoginFailed

# Login pages sometimes come with other markup (field manual, 9.2).
TRIES = 3
# After a failure, requests fail with it for so long before the next login: no storms while upstream is down.
HOLD_OFF_S = 5.0


class PasswordRefused(Exception):
    """Who was asked knows the user or the password not. Trying again would lock the account."""


class LoginUnclear(Exception):
    """What came is neither a yes nor a no. The text has no secrets and nothing that was received."""


@dataclass(slots=True, eq=False)
class Proof:
    """What a login gave: header fields for each request. `until`: when it ends, by the loop's clock.

    `worked`: upstream has taken it at least once.
    """

    fields: dict[str, str] = field(default_factory=dict, repr=False)
    until: float | None = None
    worked: bool = False


class LogsIn(Protocol):
    """A way to log in."""

    async def log_in(self, password: str) -> Proof:
        """Raises PasswordRefused, LoginUnclear, UpstreamFailure."""


class Login(LogsIn, Protocol):
    """One whose proof goes with each request."""

    def is_over(self, status: int, headers: CIMultiDict[str], page: bytes, *, odata: bool) -> bool:
        """True where an answer says that nobody is logged in. `page`: as much of the body as is there.

        `odata`: the answer to something below the service root, where HTML is never content.
        """

    def learn(self, proof: Proof, reply: Reply) -> None:
        """Take from a good answer what prolongs the proof."""


class Gate:
    """Gives proofs. `notice` is told why a login failed, None of each that did not."""

    def __init__(
        self, login: LogsIn, password: Callable[[], str], notice: Callable[[str | None], None]
    ) -> None:
        self._login = login
        self._password = password
        self._notice = notice
        self._proof: Proof | None = None
        self._task: asyncio.Task[Proof] | None = None
        self._salt = secrets.token_bytes(16)
        self._refused = b""
        self._failed_at = float("-inf")

    async def proof(self) -> Proof:
        """The proof in force, after a login where there is none. Raises UpstreamFailure."""
        proof = self._proof
        if proof is not None and (proof.until is None or _now() < proof.until):
            return proof
        return await self._joined()

    async def renewed(self, over: Proof) -> Proof:
        """Another proof than the one that upstream took no longer. Raises UpstreamFailure."""
        if self._proof is over:
            self._proof = None
            if not over.worked:  # logging in again would be a loop
                self._failed_at = _now()
                raise self._failure("upstream does not take what its login gave")
        return await self.proof()

    def forget(self) -> None:
        """Somebody has looked after it: try again, the same password even."""
        self._refused = b""
        self._failed_at = float("-inf")

    async def _joined(self) -> Proof:
        if self._task is None:
            self._task = asyncio.create_task(self._log_in())
            self._task.add_done_callback(self._done)
        return await asyncio.shield(self._task)

    def _done(self, task: asyncio.Task[Proof]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # whoever still waits has seen it

    async def _log_in(self) -> Proof:
        try:
            password = self._password()
        except OSError as error:
            raise self._failure(f"the password's file cannot be read: {error.strerror}") from None
        digest = blake2b(password.encode(), key=self._salt).digest()
        if digest == self._refused:
            raise UpstreamLoginFailed("the password was refused and is not tried again")
        if _now() - self._failed_at < HOLD_OFF_S:
            raise UpstreamLoginFailed("the last login failed just now")
        try:
            self._proof = await self._try(password)
        except PasswordRefused:
            self._refused = digest
            raise self._failure("the user or the password was refused; it is not tried again") from None
        except UpstreamFailure as error:
            self._failed_at = _now()
            raise self._failure(f"no answer to the login: {type(error).__name__}") from error
        self._notice(None)
        return self._proof

    async def _try(self, password: str) -> Proof:
        for _ in range(TRIES):
            try:
                return await self._login.log_in(password)
            except LoginUnclear as error:
                problem = str(error)
        self._failed_at = _now()
        raise self._failure(problem)

    def _failure(self, problem: str) -> UpstreamLoginFailed:
        self._notice(problem)
        return UpstreamLoginFailed(problem)


def _now() -> float:
    return asyncio.get_running_loop().time()
