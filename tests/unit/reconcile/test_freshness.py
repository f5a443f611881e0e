"""The rules of reading and storing as decision tables."""

import math
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy.reconcile.freshness import (
    Need,
    Serve,
    Storing,
    allowed_age,
    decide_entity_read,
    decide_storing,
    in_sync,
    is_settled,
    lied,
)
from proxy.reconcile.ports import Directives, Fetched, Stored
from proxy.reconcile.stamp import Stamp

KEY = (("AccountId", uuid.UUID(int=1)),)
NOW = datetime(2016, 5, 1, 12, 0, 0, tzinfo=UTC)
T1, T2 = datetime(2016, 5, 1, 10, 0, 1), datetime(2016, 5, 1, 10, 0, 2)

HELD = Stored(
    key=KEY,
    document="{held}",
    stamp=Stamp(T1),
    digest=b"one",
    settled=True,
    fetch_number=10,
    fetched_at=NOW - timedelta(seconds=60),
)
FETCHED = Fetched(
    key=KEY,
    document="{held}",
    values={},
    stamp=Stamp(T1),
    digest=b"one",
    settled=True,
    fetch_number=11,
    fetched_at=NOW,
)


@pytest.mark.parametrize(
    ("held", "confirmed_s", "allowed", "expected"),
    [
        pytest.param(None, None, 0, Need.FETCH, id="never seen"),
        pytest.param(HELD, None, 0, Need.CHECK, id="settled"),
        pytest.param(replace(HELD, settled=False), None, 0, Need.FETCH, id="unsettled"),
        pytest.param(replace(HELD, document=None, deleted_at=NOW), None, 0, Need.FETCH, id="tombstone"),
        pytest.param(replace(HELD, intents=1), None, 900, Need.FETCH, id="open intent, whatever age"),
        pytest.param(replace(HELD, conflict=4), None, 900, Need.FETCH, id="open conflict, whatever age"),
        pytest.param(HELD, None, 61, Serve(60), id="fetched within the allowed age"),
        pytest.param(HELD, None, 60, Need.CHECK, id="just too old"),
        pytest.param(HELD, 5, 10, Serve(5), id="confirmed since"),
        pytest.param(HELD, 90, 61, Serve(60), id="confirmed before it was fetched"),
        pytest.param(replace(HELD, settled=False), None, 61, Serve(60), id="age allowed, settled or not"),
    ],
)
def test_decide_entity_read(held, confirmed_s, allowed, expected) -> None:
    confirmed_at = None if confirmed_s is None else NOW - timedelta(seconds=confirmed_s)
    assert decide_entity_read(held, confirmed_at, allowed, NOW) == expected


@pytest.mark.parametrize(
    ("directives", "seconds"),
    [
        (Directives(), 0),
        (Directives(max_age=30), 30),
        (Directives(max_age=0), 0),
        (Directives(max_stale=20), 20),
        (Directives(max_age=30, max_stale=20), 50),
        (Directives(max_stale=math.inf), math.inf),
        (Directives(only_if_cached=True), math.inf),
        (Directives(only_if_cached=True, max_age=5), 5),
        (Directives(no_cache=True, max_age=30), 0),
    ],
)
def test_allowed_age(directives: Directives, seconds: float) -> None:
    assert allowed_age(directives) == seconds


@pytest.mark.parametrize(
    ("held", "fetched", "expected"),
    [
        pytest.param(None, FETCHED, Storing.PUT, id="never seen"),
        pytest.param(HELD, FETCHED, Storing.TOUCH, id="just what is held"),
        pytest.param(HELD, replace(FETCHED, fetch_number=10), Storing.IGNORE, id="not newer by number"),
        pytest.param(
            replace(HELD, intents=1), replace(FETCHED, stamp=Stamp(T2)), Storing.IGNORE, id="open intent"
        ),
        pytest.param(
            HELD, replace(FETCHED, stamp=Stamp(T2), digest=b"two", document="{x}"), Storing.PUT, id="newer"
        ),
        pytest.param(
            HELD,
            replace(FETCHED, stamp=Stamp(T2), document="{moved}"),
            Storing.PUT,
            id="stamp moved, content same",
        ),
        pytest.param(
            HELD, replace(FETCHED, digest=b"two", document="{x}"), Storing.PUT, id="content moved, stamp not"
        ),
        pytest.param(
            replace(HELD, stamp=Stamp(T2)),
            replace(FETCHED, digest=b"two", document="{x}"),
            Storing.CONFLICT,
            id="older and different",
        ),
        pytest.param(
            replace(HELD, stamp=Stamp(T2)),
            replace(FETCHED, document="{x}"),
            Storing.PUT,
            id="older, same content",
        ),
        pytest.param(
            replace(HELD, stamp=Stamp(T2, 7)),
            replace(FETCHED, stamp=Stamp(T1, 8), digest=b"two", document="{x}"),
            Storing.PUT,
            id="version up outranks time down",
        ),
        pytest.param(replace(HELD, conflict=1), FETCHED, Storing.PUT, id="settles a conflict"),
        pytest.param(replace(HELD, document=None), FETCHED, Storing.PUT, id="tombstone or bare row"),
    ],
)
def test_decide_storing(held, fetched, expected) -> None:
    assert decide_storing(held, fetched) is expected


def test_a_lie_needs_good_evidence() -> None:
    changed = replace(FETCHED, digest=b"two")
    assert lied(HELD, changed)
    assert not lied(HELD, FETCHED)
    assert not lied(replace(HELD, settled=False), changed)
    assert not lied(HELD, replace(changed, stamp=Stamp(T2)))
    assert not lied(HELD, replace(changed, fetch_number=9))
    assert not lied(None, changed)


def test_only_a_settled_row_in_good_standing_is_in_sync() -> None:
    assert in_sync(HELD, Stamp(T1))
    assert not in_sync(HELD, Stamp(T2))
    assert not in_sync(replace(HELD, settled=False), Stamp(T1))
    assert not in_sync(replace(HELD, intents=1), Stamp(T1))
    assert not in_sync(replace(HELD, conflict=1), Stamp(T1))
    assert not in_sync(None, Stamp(T1))


@pytest.mark.parametrize(
    ("stamp", "clock", "expected"),
    [
        pytest.param(Stamp(T1), T1 + timedelta(seconds=6), True, id="its second is long past"),
        pytest.param(Stamp(T1), T1 + timedelta(seconds=5), False, id="just not past"),
        pytest.param(Stamp(T1), None, False, id="upstream never told the time"),
        pytest.param(Stamp(T1, 5), T1, True, id="a version counts writes"),
        pytest.param(Stamp(T1, None, "e"), T1, True, id="an etag too"),
        pytest.param(Stamp(None), T1, False, id="no stamp"),
        pytest.param(Stamp(datetime(2016, 5, 1)), T1, False, id="a midnight"),
        pytest.param(Stamp(datetime.max), T1, False, id="the end of time"),
    ],
)
def test_is_settled(stamp: Stamp, clock: datetime | None, expected: bool) -> None:
    sent_at = clock and clock.replace(tzinfo=UTC)
    assert is_settled(stamp, sent_at, 5) is expected
