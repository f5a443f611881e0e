"""Pure rules of reading and storing: given what we hold, what upstream says and `now`, decide.

Sync contract, rules 1 to 3 and 7. Nothing here does I/O or looks at a clock.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from proxy.reconcile.ports import Directives, Fetched, Stored
from proxy.reconcile.progress import Following
from proxy.reconcile.stamp import Comparison, Stamp, compare


@dataclass(frozen=True, slots=True)
class Serve:
    """Show what is held without asking upstream; `age` in whole seconds."""

    age: int


class Need(enum.Enum):
    """What to ask upstream before anything is shown."""

    CHECK = "check"
    FETCH = "fetch"


def is_servable(held: Stored | None) -> bool:
    """True where the row may stand for the entity once its stamp is confirmed.

    A tombstone never answers a checked read (rule 11); an open intent or conflict means that only a
    fetch tells (rules 2 and 5).
    """
    return held is not None and held.document is not None and held.intents == 0 and held.conflict is None


def decide_entity_read(
    held: Stored | None, confirmed_at: datetime | None, allowed_age: float, now: datetime
) -> Serve | Need:
    """Choose how to answer a read of one entity.

    confirmed_at: when a check last confirmed the row as held; None where none did.
    allowed_age: seconds that the request lets the answer be old; 0 for a plain request.
    """
    if held is None or not is_servable(held):
        return Need.FETCH
    age = age_of(held, confirmed_at, now)
    if age < allowed_age:
        return Serve(int(age))
    return Need.CHECK if held.settled else Need.FETCH


def age_of(held: Stored, confirmed_at: datetime | None, now: datetime) -> float:
    """Seconds since upstream was known to be in this state; never negative."""
    since = max(held.fetched_at, confirmed_at) if confirmed_at else held.fetched_at
    return max(0.0, (now - since).total_seconds())


def looked_at(following: Following, *, deletes_may_lag: bool) -> datetime | None:
    """Since when nothing about the set is known to have changed unseen: the older of the last poll and the
    last sweep, as only that can say that nothing was deleted; None before there was one."""
    if deletes_may_lag:
        return following.polled_at
    return None if following.swept_at is None else min(following.polled_at, following.swept_at)


def followed_at(held: Stored, following: Following | None, *, deletes_may_lag: bool) -> datetime | None:
    """When the background last saw the row to be as held; None where it cannot tell.

    A poll sees what moves ModifiedOn, and says so only of rows that were fetched since it began to follow,
    and whose ModifiedOn is evidence (rule 3). That nothing was deleted only a sweep can say.
    """
    if following is None or held.stamp.modified_on is None or not held.settled:
        return None
    if held.fetched_at < following.since:
        return None
    return looked_at(following, deletes_may_lag=deletes_may_lag)


def allowed_age(directives: Directives, lifetime_s: float = 0.0) -> float:
    """Seconds by which an answer may lag behind upstream, as the request says (RFC 9111, 5.2.1).

    lifetime_s: what the set's policy allows a request that says nothing; 0 where reads are checked, so that
    `max-stale` counts from the moment of the last look.
    """
    if directives.no_cache:
        return 0.0
    if directives.only_if_cached:
        ceiling = math.inf if directives.max_age is None else float(directives.max_age)
    else:
        ceiling = lifetime_s if directives.max_age is None else float(directives.max_age)
    return ceiling + (directives.max_stale or 0.0)


def in_sync(held: Stored | None, seen: Stamp) -> bool:
    """True where a check's stamp confirms the row, so that it may be shown (rule 2)."""
    return (
        held is not None
        and is_servable(held)
        and held.settled
        and compare(held.stamp, seen) is Comparison.SAME
    )


class Storing(enum.Enum):
    """What becomes of a fetched state."""

    PUT = "put"
    TOUCH = "touch"  # just what is held
    IGNORE = "ignore"  # a newer fetch or an open intent was first
    CONFLICT = "conflict"


def decide_storing(held: Stored | None, fetched: Fetched) -> Storing:
    """Decide what a fetch does to the row, `held` being read after the fetch came back.

    A state that upstream shows as older is a conflict only if the fetch began after the row's last
    change and the content differs (rule 2).
    """
    if held is None:
        return Storing.PUT
    if fetched.fetch_number <= held.fetch_number or held.intents:
        return Storing.IGNORE
    if held.document is None:
        return Storing.PUT
    if held.digest != fetched.digest and compare(held.stamp, fetched.stamp) is Comparison.MIRROR_NEWER:
        return Storing.CONFLICT
    if held.document == fetched.document and held.conflict is None:
        return Storing.TOUCH
    return Storing.PUT


def lied(held: Stored | None, fetched: Fetched) -> bool:
    """True where content changed under a stamp that was good evidence (rule 3)."""
    return (
        held is not None
        and held.document is not None
        and held.settled
        and fetched.fetch_number > held.fetch_number
        and held.digest != fetched.digest
        and compare(held.stamp, fetched.stamp) is Comparison.SAME
    )


def is_settled(stamp: Stamp, upstream_sent_at: datetime | None, settle_s: float) -> bool:
    """True where an unmoved stamp proves unmoved content from now on.

    A stamp that counts writes always does. One that counts seconds does only if its second, and
    `settle_s` more for writes that commit late, had passed on upstream's clock when the fetch was sent.
    """
    if stamp.is_exact:
        return True
    if not stamp.says_a_time or stamp.modified_on is None or upstream_sent_at is None:
        return False
    return stamp.modified_on < upstream_sent_at.replace(tzinfo=None) - timedelta(seconds=settle_s)
