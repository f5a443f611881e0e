"""What upstream's clock may show, from Date headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.reconcile.ports import Reply
from proxy.upstream.clock import WINDOW, UpstreamClock

NOON = datetime(2016, 8, 25, 12, 0, 0, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def reply(date: str | datetime | None, received_at: datetime) -> Reply:
    headers: CIMultiDict[str] = CIMultiDict()
    if isinstance(date, datetime):
        date = date.strftime("%a, %d %b %Y %H:%M:%S GMT")
    if date is not None:
        headers["Date"] = date
    return Reply(200, "OK", CIMultiDictProxy(headers), b"", received_at, received_at)


def test_nothing_is_known_before_a_date_was_seen() -> None:
    assert UpstreamClock().earliest(NOON) is None


@pytest.mark.parametrize("offset", [-3600, -1, 0, 1, 86400])
def test_the_bound_is_date_minus_arrival(offset: float) -> None:
    clock = UpstreamClock()
    clock.observe(reply(NOON + seconds(offset), NOON + seconds(0.25)))
    assert clock.earliest(NOON + seconds(60)) == NOON + seconds(60 + offset - 0.25)


@pytest.mark.parametrize("offset", [-7.3, 0.0, 0.999, 7.3])
@pytest.mark.parametrize("took", [0.0, 0.02, 3.0])
def test_the_bound_is_never_above_the_true_offset(offset: float, took: float) -> None:
    clock = UpstreamClock()
    for step in range(50):
        made = NOON + seconds(step * 0.37)
        shown = (made + seconds(offset)).replace(microsecond=0)
        clock.observe(reply(shown, made + seconds(took)))
    earliest = clock.earliest(NOON)
    assert earliest is not None
    assert NOON + seconds(offset - took - 1) <= earliest <= NOON + seconds(offset)


def test_the_slowest_server_counts_however_many_answers_others_give() -> None:
    clock = UpstreamClock()
    clock.observe(reply(NOON - seconds(30), NOON))
    for step in range(2000):
        at = NOON + seconds(step * 0.1)
        clock.observe(reply(at.replace(microsecond=0) + seconds(2), at))
    assert clock.earliest(NOON) == NOON - seconds(30)


def test_an_answer_counts_for_the_window_and_no_longer() -> None:
    clock = UpstreamClock()
    clock.observe(reply(NOON - seconds(30), NOON))
    clock.observe(reply(NOON + WINDOW, NOON + WINDOW))
    assert clock.earliest(NOON) == NOON - seconds(30)
    clock.observe(reply(NOON + WINDOW + seconds(1), NOON + WINDOW + seconds(1)))
    assert clock.earliest(NOON) == NOON


def test_the_least_of_what_is_left_counts_next() -> None:
    clock = UpstreamClock(window=seconds(100))
    for at, offset in ((0, -30), (10, -20), (20, -10), (105, 0)):
        clock.observe(reply(NOON + seconds(at + offset), NOON + seconds(at)))
    assert clock.earliest(NOON) == NOON - seconds(20)


def test_the_newest_answer_stays_however_old() -> None:
    clock = UpstreamClock()
    clock.observe(reply(NOON - seconds(1), NOON))
    assert clock.earliest(NOON + 100 * WINDOW) == NOON + 100 * WINDOW - seconds(1)


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Thu, 99 Aug 2016 12:00:00 GMT", "\udcff", "1472126400", "Thu, 25 Aug"]
)
def test_an_answer_without_a_date_says_nothing(date: str | None) -> None:
    clock = UpstreamClock()
    clock.observe(reply(date, NOON))
    assert clock.earliest(NOON) is None


@pytest.mark.parametrize(
    "date",
    [
        "Thu, 25 Aug 2016 12:00:00 GMT",
        "Thursday, 25-Aug-16 12:00:00 GMT",
        "Thu Aug 25 12:00:00 2016",
        "Thu, 25 Aug 2016 12:00:00 -0000",
        "Thu, 25 Aug 2016 14:00:00 +0200",
    ],
)
def test_every_form_of_an_http_date(date: str) -> None:
    clock = UpstreamClock()
    clock.observe(reply(date, NOON))
    assert clock.earliest(NOON) == NOON
