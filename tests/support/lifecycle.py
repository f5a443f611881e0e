"""Background work driven step by step, against a sandbox and a real Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from storing import query
from world import World

from proxy.odata.edm import EntitySet, Model
from proxy.reconcile.backfill import Backfill, Load


def model_of(place: World) -> Model:
    model = place.proxy.metadata.model
    assert model is not None
    return model


def a_set(place: World, name: str = "AccountSet") -> EntitySet:
    return model_of(place).entity_sets[name]


async def load(
    place: World, *names: str, report: Callable[[Load], None] = lambda _: None, again: bool = False
) -> bool:
    """Load these sets into the mirror."""
    sets = [a_set(place, name) for name in names or ("AccountSet",)]
    return await Backfill(place.proxy.service, report).run(sets, model_of(place), at_once=2, again=again)


def mirrored(url: str, entity_set: str = "AccountSet", column: str = "document") -> Sequence[Any]:
    """One column of the set's entities in the mirror, tombstones left out."""
    rows = query(url, f'SELECT "{column}" FROM mirror."{entity_set}" WHERE document IS NOT NULL')
    return [value for (value,) in rows]


def pages_asked(place: World, entity_set: str = "AccountSet") -> list[str]:
    """The targets of page requests that reached upstream, in order."""
    prefix = f"GET /{entity_set}"
    return [
        seen.removeprefix("GET ")
        for seen in place.upstream_requests()
        if seen == prefix or seen.startswith(f"{prefix}?")
    ]
