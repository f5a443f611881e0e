"""Readers and writers of one entity at once, in many orders: nobody is told of a conflict that is none."""

from __future__ import annotations

import pytest
from interleaving import Gates
from storing import query, revisions
from world import Answer, Hands, World, world

from proxy.sandbox import Switches

ORDERS = 40


def path_of(place: World, number: int) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


def counted(place: World, name: str) -> float:
    return place.proxy.metrics.registry.get_sample_value(name, {"entity_set": "AccountSet"}) or 0.0


async def interleaved(place: World, gates: Gates, number: int, page: str) -> list[Answer]:
    path = path_of(place, number)
    return await gates.run(
        number,
        place.ask(path),
        place.merge(path, '{"Name":"One"}'),
        place.ask(page),
        place.merge(path, '{"Name":"Two"}'),
        place.ask(path, Cache_Control="no-cache"),
    )


@pytest.mark.parametrize("version_number", ["null", "rising"])
async def test_readers_and_writers_at_once_find_no_conflict(
    database_url: str, version_number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    switches = Switches(version_number=version_number)  # type: ignore[arg-type]
    async with world(database_url, switches=switches, now=hands.now) as place:
        gates = Gates(
            monkeypatch, lambda: hands.advance(place, 10)
        )  # each state is settled when it is seen next
        for number in range(ORDERS):
            path = path_of(place, number)
            key = place.a_key("AccountSet", number)
            page = f"/AccountSet?$filter=AccountId%20eq%20guid'{key}'"
            known = {(await place.ask(path)).json()["d"]["Name"], "One", "Two"}
            await place.ask(page)
            await place.idle()
            read, one, shown, two, fresh = await interleaved(place, gates, number, page)
            await place.idle()
            said = f"order {number}"
            assert [one.status, two.status] == [204, 204], said
            assert [read.status, shown.status, fresh.status] == [200, 200, 200], said
            assert {read.json()["d"]["Name"], fresh.json()["d"]["Name"]} <= known, said
            assert {row["Name"] for row in shown.json()["d"]["results"]} <= known, said
            direct = await place.ask(path, direct=True)
            assert (await place.ask(path)).text == place.rooted(direct.text), said
        assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(0,)]
        assert counted(place, "syncpoint_conflicts_total") == 0
        assert counted(place, "syncpoint_lies_total") == 0
        assert await place.proxy.store.open_intents() == []
    assert revisions(database_url, "source").count("client write") == 2 * ORDERS, (
        "every write is in the history"
    )
