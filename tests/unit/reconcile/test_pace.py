from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.reconcile.pace import Pace, rest_asked
from proxy.reconcile.ports import Reply, Request

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ASKED = Request("GET", "/page", CIMultiDict())


def reply(status: int, **headers: str) -> Reply:
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Reply(status, "", CIMultiDictProxy(fields), b"", NOW, NOW)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (reply(200), None),
        (reply(500, Retry_After="17"), None),
        (reply(429, Retry_After="17"), 17.0),
        (reply(503, Retry_After=" 0 "), 0.0),
        (reply(503, Retry_After="Wed, 04 Mar 2026 05:07:07 GMT"), 60.0),
        (reply(503, Retry_After="Wed, 04 Mar 2026 05:00:00 GMT"), 0.0),
        (reply(503, Retry_After="9" * 40), 999999999.0),
        (reply(503), -1.0),
        (reply(503, Retry_After="soon"), -1.0),
    ],
)
def test_how_long_upstream_wants_to_be_left_alone(answer: Reply, seconds: float | None) -> None:
    assert rest_asked(answer, NOW) == seconds


class Answering:
    """An upstream that answers what it is told to, one after another, and counts who is there."""

    def __init__(self, *answers: Reply) -> None:
        self.answers = list(answers)
        self.sent = self.inside = self.most = 0

    async def send(self, request: Request, *, joinable: bool = False) -> Reply:
        self.sent += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        return self.answers.pop(0) if self.answers else reply(200)


def paced(upstream: Answering, *, in_flight: int = 2, per_second: float = 1e6) -> Pace:
    return Pace(upstream, in_flight=in_flight, per_second=per_second, now=lambda: NOW)


async def test_no_more_are_in_flight_than_allowed() -> None:
    upstream = Answering()
    pace = paced(upstream, in_flight=3)
    await asyncio.gather(*(pace.send(ASKED) for _ in range(20)))
    assert (upstream.sent, upstream.most) == (20, 3)


async def test_requests_are_spaced_by_the_rate() -> None:
    pace = paced(Answering(), per_second=100)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(pace.send(ASKED) for _ in range(11)))
    assert asyncio.get_running_loop().time() - began >= 0.1, "ten intervals of a hundredth"


async def test_all_rest_when_one_is_told_to() -> None:
    upstream = Answering(reply(429, Retry_After="3600"))
    pace = paced(upstream)
    waiting = [asyncio.create_task(pace.send(ASKED)) for _ in range(2)]
    while not upstream.sent or upstream.inside:  # noqa: ASYNC110
        await asyncio.sleep(0)
    others = [asyncio.create_task(pace.send(ASKED)) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert upstream.sent <= 2, "what had left before, and nothing after"
    assert not any(task.done() for task in others)
    for task in (*waiting, *others):
        task.cancel()


async def test_it_gives_up_after_a_while_and_shows_the_refusal() -> None:
    upstream = Answering(*[reply(503, Retry_After="0")] * 20)
    assert (await paced(upstream).send(ASKED)).status == 503
    assert upstream.sent == 6
