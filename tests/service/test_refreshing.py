"""Refreshing beside the requests: no more of it than the mirror needs, and none that outlives the proxy."""

from __future__ import annotations

import asyncio

import pytest
from world import ATOM, World, world

import proxy.reconcile.feeder
from proxy.sandbox import Fault


def refreshes(place: World) -> list[str]:
    return [request for request in place.upstream_requests() if "$filter=ContactId" in request]


async def show(place: World, times: int, top: int) -> None:
    """Upstream shows equal pages of what the mirror lacks, in a form that it can only learn keys from."""
    await asyncio.gather(*(place.ask(f"/ContactSet?$top={top}", **ATOM) for _ in range(times)))


async def test_however_many_replies_show_an_entity_it_is_fetched_once(database_url: str) -> None:
    async with world(database_url) as place:
        hold = place.sandbox.faults.add(Fault(kind="hold", method="GET", path="$filter=ContactId"))
        await show(place, 10, 40)
        await asyncio.wait_for(hold.reached.wait(), 30)
        await show(place, 10, 40)
        assert hold.event is not None
        hold.event.set()
        await place.idle()
        assert len(refreshes(place)) == 2, "20 keys at once"
        await show(place, 1, 40)
        await place.idle()
        assert len(refreshes(place)) == 2
        held = await place.mirror("/ContactSet/$count", Accept="text/plain")
        assert int(held.text) == 40


async def test_what_was_fetched_while_its_refresh_waited_is_not_fetched_again(database_url: str) -> None:
    async with world(database_url) as place:
        shown = await place.ask("/ContactSet?$top=40", direct=True)
        hold = place.sandbox.faults.add(Fault(kind="hold", method="GET", path="$filter=ContactId"))
        await show(place, 1, 40)
        await asyncio.wait_for(hold.reached.wait(), 30)
        for row in shown.json()["d"]["results"][20:]:
            await place.ask(f"/ContactSet(guid'{row['ContactId']}')")
        assert hold.event is not None
        hold.event.set()
        await asyncio.wait_for(place.idle(), 60)
        assert len(refreshes(place)) == 1


async def test_what_is_too_much_to_refresh_is_left_to_the_next_read(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy.reconcile.feeder, "_DUE", 5)
    async with world(database_url) as place:
        await show(place, 1, 40)
        await place.idle()
        (refresh,) = refreshes(place)
        assert refresh.count("ContactId") == 5
        await show(place, 1, 40)
        await place.idle()
        assert len(refreshes(place)) == 2, "what was due is done, and there is room again"


async def test_no_refresh_keeps_the_proxy_from_stopping(database_url: str) -> None:
    async with world(database_url, upstream__read_timeout_s=1000) as place:
        hold = place.sandbox.faults.add(Fault(kind="hold", method="GET", path="$filter=ContactId"))
        await show(place, 1, 40)
        await asyncio.wait_for(hold.reached.wait(), 30)
        background = place.proxy.background
        await asyncio.wait_for(background.stop(), 30)
