"""`$select` where upstream shows properties in an order of its own: its bytes, whatever way a read takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from world import Answer, World, world

import proxy.sandbox.render
from proxy.odata import verbose_json

SELECT = "?$select=Name,AccountNumber,AccountId"


class InDocumentOrder:
    """Writes entities as a server does that goes by its metadata document."""

    def __getattr__(self, name: str) -> Any:
        return getattr(verbose_json, name)

    def write_entity(
        self, shown: Any, entity_set: Any, model: Any, root: str, *, select: Any = None, **more: Any
    ) -> str:
        if select is not None:
            select = [name for name in entity_set.entity_type.properties if name in select]
        return verbose_json.write_entity(shown, entity_set, model, root, select=select, **more)


@pytest.fixture(params=[False, True], ids=["checked", "audited"])
async def place(
    request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(proxy.sandbox.render, "verbose_json", InDocumentOrder())
    async with world(database_url, audit=request.param) as made:
        yield made


async def read(place: World, path: str, **headers: str) -> Answer:
    direct = await place.ask(path, direct=True)
    assert list(direct.json()["d"])[1:] != ["Name", "AccountNumber", "AccountId"]
    answer = await place.ask(path, **headers)
    assert answer.text == place.rooted(direct.text)
    return answer


@pytest.mark.parametrize(
    "cache_control", ["", "no-cache", "max-age=1000", "max-stale"], ids=["plain", "no-cache", "age", "stale"]
)
async def test_what_is_held_is_not_sliced(place: World, cache_control: str) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await place.ask(path)
    for _ in range(2):
        answer = await read(place, path + SELECT, Cache_Control=cache_control)
        assert "hit" not in answer.cache


async def test_what_was_fetched_is_not_sliced(place: World) -> None:
    path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
    await read(place, path + SELECT)
    await place.idle()
    key = place.sandbox.organisation.keys("AccountSet")[0]
    place.sandbox.organisation.change("AccountSet", key, {"Name": "Moved"})
    assert (await read(place, path + SELECT)).json()["d"]["Name"] == "Moved"
    await place.idle()
    held = await place.ask(path, Cache_Control="only-if-cached")
    assert held.json()["d"]["Name"] == "Moved"
