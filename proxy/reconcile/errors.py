"""What the drivers raise when the sync rule itself demands an error. `proxy.errors` gives the status."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.odata.errors import ODataError


class SyncError(Exception):
    """An answer of the proxy's own, which upstream would not have given."""


class SyncConflict(SyncError):
    """The mirror is newer than upstream (rule 2)."""

    def __init__(self, entity_set: str, key: str, conflict: int) -> None:
        super().__init__(
            f"{entity_set}({key}): the mirror holds a newer state than upstream shows (conflict {conflict})."
        )
        self.conflict = conflict


class NotInMirror(SyncError):
    """The mirror was asked to answer by itself, and cannot (RFC 9111, 5.2.1.7)."""


class ReadRefused(SyncError):
    """A request to the mirror that is wrong, not supported, or for what is not there; `status` says which.

    `allow`: the methods that would do, for a 405.
    """

    def __init__(self, error: ODataError, allow: str = "GET, HEAD") -> None:
        super().__init__(error.message)
        self.status = error.status
        self.allow = allow


class OutcomeUnknown(SyncError):
    """A write was sent and not answered (rule 6)."""

    def __init__(self, intent: int) -> None:
        super().__init__(
            f"Upstream did not answer the write; whether it was applied is not known yet (intent {intent})."
            " Look at the entity before sending it again."
        )
        self.intent = intent


class AuthorityMoving(SyncError):
    """The set is being cut over, and that takes longer than a write may wait."""

    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__(
            "The entity set is being cut over just now, so the write was not begun. Send it again."
        )


class CommitUnknown(SyncError):
    """The mirror's database broke off while it committed a write of its own."""

    def __init__(self) -> None:
        super().__init__(
            "The mirror's database broke off; whether the write was made is not known."
            " Look at the entity before sending it again."
        )


class OnlyUpstream(SyncError):
    """The request names what was cut over, and asks what only upstream could answer."""


class WritesRefused(SyncError):
    """The write cannot be recorded, so it was not sent."""


class LoginRequired(SyncError):
    """Nobody has said who is calling, or not so that it could be believed.

    `challenges`: the ways of saying it, each a WWW-Authenticate field (RFC 9110, 11.6.1).
    """

    def __init__(self, message: str, challenges: Sequence[str]) -> None:
        super().__init__(message)
        self.challenges = tuple(challenges)


class TooManyLogins(SyncError):
    """So many logins from one address have failed that no more are tried for now."""


class RightMissing(SyncError):
    """The caller, `who`, may not do that."""

    def __init__(self, who: str, what: str) -> None:
        named = f"The caller '{who}'" if who else "The caller"
        super().__init__(f"{named} has no right to {what}.")
