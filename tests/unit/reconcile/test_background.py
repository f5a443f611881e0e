"""Tasks that must end, and that must not be lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from proxy.reconcile.background import Background, cancelled


async def test_a_task_that_drops_its_cancellation_is_cancelled_again() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 2:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            heard += 1

    await asyncio.wait_for(cancelled([asyncio.create_task(deaf())]), 30)
    assert heard == 2


async def test_what_a_task_raised_in_the_place_of_its_cancellation_is_raised() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("at the end") from None

    tasks = [asyncio.create_task(fails())]
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="at the end"):
        await cancelled(tasks)


async def test_finish_lets_work_end_though_its_caller_is_cancelled() -> None:
    background = Background(lambda _: None)
    go, ended = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        ended.append(True)

    caller = asyncio.create_task(background.finish("work", work()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    await background.drain()
    assert ended == [True]


async def test_stopping_waits_for_what_requests_began_and_for_nothing_else() -> None:
    observed: list[object] = []
    background = Background(observed.append)
    go, ended = asyncio.Event(), []

    async def write() -> None:
        await go.wait()
        background.spawn("refresh", asyncio.Event().wait())
        ended.append(True)

    background.spawn("feed", asyncio.Event().wait())
    writing = asyncio.create_task(background.finish("write", write()))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(background.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    go.set()
    await asyncio.wait_for(asyncio.gather(writing, stopping), 30)
    assert (ended, observed) == ([True], [])
