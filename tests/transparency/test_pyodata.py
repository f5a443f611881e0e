"""pyodata, unchanged, against the sandbox directly and through the proxy: the same results."""

from __future__ import annotations

import uuid
from typing import Any

import pyodata
import pytest
from cutover import cut_over, loaded_world
from pyodata.v2.model import Config
from world import World, world


@pytest.fixture
async def place(database_url):
    async with world(database_url) as made:
        yield made


async def service(place: World, root: str) -> Any:
    config = Config(default_error_policy=None)
    # MERGE is what Dynamics 2011 knows; pyodata would send PATCH.
    made = await pyodata.Client.build_async_client(root, place.session, config=config)
    made.config["http"]["update_method"] = "MERGE"
    return made


async def story(place: World, root: str, key: uuid.UUID, number: int) -> list[Any]:
    """What one client does: metadata, get, query, pages, create, update, delete; what it saw."""
    client = await service(place, root)
    contacts = client.entity_sets.ContactSet
    seen: list[Any] = [sorted(s.name for s in client.schema.entity_sets)]
    for _ in range(2):
        one = await contacts.get_entity(ContactId=str(key)).async_execute()
        seen.append((one.FullName, one.LastName, str(one.ModifiedOn)))
        query = contacts.get_entities().select("FullName,ContactId").filter("StatusCode/Value eq 1").top(60)
        rows = await query.async_execute()
        seen.append([row.FullName for row in rows])
        while rows.next_url:  # which pyodata takes only from the root that it was given
            rows = await contacts.get_entities().next_url(rows.next_url).async_execute()
            seen.append([row.FullName for row in rows])
        await place.idle()
    created = (
        await contacts.create_entity().set(FirstName="Grace", LastName=f"Hopper {number}").async_execute()
    )
    seen.append((created.FirstName, created.LastName))
    made = str(created.ContactId)
    await contacts.update_entity(ContactId=made).set(JobTitle="Rear admiral").async_execute()
    changed = await contacts.get_entity(ContactId=made).async_execute()
    seen.append((changed.JobTitle, changed.FullName))
    await contacts.delete_entity(ContactId=made).async_execute()
    try:
        await contacts.get_entity(ContactId=made).async_execute()
    except pyodata.exceptions.HttpError as error:
        seen.append(error.response.status_code)
    return seen


async def test_the_same_results_direct_and_through_the_proxy(place: World) -> None:
    key = place.sandbox.organisation.keys("ContactSet")[0]
    direct = await story(place, place.direct_root, key, 1)
    proxied = await story(place, place.proxy_root, key, 1)
    assert proxied == direct
    assert direct[-1] == 404
    assert [len(names) for names in direct[2:4]] == [50, 10], "one page and the rest of sixty"


async def test_the_same_results_without_upstream(database_url: str) -> None:
    async with loaded_world(database_url) as (place, switch_off):
        key = place.sandbox.organisation.keys("ContactSet")[0]
        direct = await story(place, place.direct_root, key, 1)
        await cut_over(place)
        await switch_off()
        assert await story(place, place.proxy_root, key, 1) == direct
