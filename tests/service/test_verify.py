"""`verify`: every kind of drift is found, named and repaired, and nothing else is touched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from storing import query, revisions
from world import World, world

from proxy.reconcile.verifier import Drift, Verified, Verifier


async def load(place: World) -> None:
    """Every account into the mirror."""
    await place.ask("/AccountSet")
    await place.idle()


async def verify(place: World, **how: Any) -> Verified:
    model = place.proxy.metadata.model
    assert model is not None
    verifier = Verifier(place.proxy.service, place.proxy.store)
    return await verifier.verify(model.entity_sets["AccountSet"], model, **how)


def drift(place: World) -> None:
    """One of each kind: the accounts 0 to 4."""
    organisation = place.sandbox.organisation
    keys = organisation.keys("AccountSet")
    for number, days in ((1, 1), (2, -1), (3, 0)):
        entity = organisation.entity("AccountSet", keys[number])
        assert entity is not None
        stamp = entity["ModifiedOn"] + timedelta(days=days)
        organisation.change("AccountSet", keys[number], {"Name": "Drifting"}, modified_on=stamp)


ALL = {Drift.MISSING: 1, Drift.BEHIND: 1, Drift.AHEAD: 1, Drift.CONTENT: 1, Drift.EXTRA: 1}


@pytest.mark.parametrize("sample", [None, 1000])
async def test_drift_is_found_by_kind_and_repaired(database_url: str, sample: int | None) -> None:
    async with world(database_url, rows=12) as place:
        await load(place)
        assert not (await verify(place, sample=sample)).drift
        keys = place.sandbox.organisation.keys("AccountSet")
        query(database_url, 'DELETE FROM mirror."AccountSet" WHERE "AccountId" = %s', str(keys[0]))
        drift(place)
        place.sandbox.organisation.remove("AccountSet", keys[4])
        before = len(revisions(database_url))
        found = await verify(place, sample=sample)
        assert dict(found.drift) == ALL
        assert found.examples[Drift.EXTRA] == [f"guid'{keys[4]}'"]
        assert (found.upstream, found.mirror, found.repaired) == (11, 11, 0)
        assert len(revisions(database_url)) == before
        repaired = await verify(place, sample=sample, repair=True)
        assert (dict(repaired.drift), repaired.repaired) == (ALL, 4)
        assert dict((await verify(place, sample=sample)).drift) == {Drift.AHEAD: 1}
        assert revisions(database_url, "source")[before:] == ["comparison"] * 4
        assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts WHERE settled_at IS NULL") == [
            (1,)
        ]


async def test_a_sample_compares_no_more_contents_than_asked(database_url: str) -> None:
    async with world(database_url, rows=12) as place:
        await load(place)
        place.clear()
        found = await verify(place, sample=3)
        assert (found.upstream, found.mirror, found.contents) == (12, 12, 3)
        assert len(place.upstream_requests()) == 2


async def test_what_is_under_way_is_left_alone(database_url: str) -> None:
    async with world(database_url, rows=12) as place:
        await load(place)
        query(database_url, 'UPDATE mirror."AccountSet" SET intents = 1')
        drift(place)
        found = await verify(place, repair=True)
        assert (dict(found.drift), found.under_way, found.repaired) == ({}, 12, 0)
