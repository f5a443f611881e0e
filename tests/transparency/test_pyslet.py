"""pyslet, an Atom client, unchanged, against the sandbox directly and through the proxy: the same results."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from typing import Any

import pytest
from world import World, world

from proxy.sandbox import Switches

# pyslet is of 2017: it warns of its own old names, and its source of old escapes where it is compiled first.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyslet.odata2.client import Client
    from pyslet.odata2.core import CommonExpression, Entity

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NEW = uuid.UUID(int=77)


@pytest.fixture
async def place(database_url):
    # Its parser takes long over every entry, so the organisation is small, and so are its pages.
    async with world(database_url, rows=25, switches=Switches(page_size=5)) as made:
        yield made


def shown(value: Any) -> Any:
    """An entity's properties, lookups and the like member by member, as comparable text."""
    if hasattr(value, "value"):
        return None if value.value is None else str(value.value)
    names = value.data_keys() if isinstance(value, Entity) else value.iterkeys()
    return {name: shown(value[name]) for name in names}


def reads(root: str, contact: uuid.UUID, account: uuid.UUID) -> list[Any]:
    """Metadata, one entity, a query over several pages, `$select`, a navigation property, a missing key."""
    client = Client(f"{root}/")
    seen: list[Any] = [sorted(client.feeds)]
    with client.feeds["ContactSet"].open() as contacts:
        seen.append(shown(contacts[contact]))
        contacts.set_filter(CommonExpression.from_str("StatusCode/Value eq 1"))
        contacts.set_orderby(CommonExpression.orderby_from_str("FullName asc"))
        seen.append([shown(entity) for entity in contacts.itervalues()])
    with client.feeds["ContactSet"].open() as contacts:
        contacts.select_keys()
        contacts.set_page(4, 3)
        seen.append([entity.key() for entity in contacts.iterpage()])
    with client.feeds["AccountSet"].open() as accounts:
        with accounts[account]["contact_customer_accounts"].open() as related:
            seen.append([shown(entity) for entity in related.itervalues()])
        seen.append(uuid.UUID(int=1) in accounts)
    client.close()
    return seen


def writes(root: str) -> list[Any]:
    """Create, change, read and delete one contact."""
    client = Client(f"{root}/")
    seen: list[Any] = []
    with client.feeds["ContactSet"].open() as contacts:
        made = contacts.new_entity()
        for name, value in (("ContactId", NEW), ("FirstName", "Grace"), ("LastName", "Hopper <&>")):
            made[name].set_from_value(value)
        contacts.insert_entity(made)
        seen.append((made.key(), made["FullName"].value))
        changed = contacts[NEW]
        changed["JobTitle"].set_from_value("Rear admiral")
        contacts.update_entity(changed)
        read = contacts[NEW]
        seen.append((read["JobTitle"].value, read["FullName"].value))
        del contacts[NEW]
        seen.append(NEW in contacts)
    client.close()
    return seen


async def test_reads_are_the_same_direct_and_through_the_proxy(place: World) -> None:
    organisation = place.sandbox.organisation
    contact = organisation.keys("ContactSet")[0]
    account = next(
        reference["Id"]
        for key in organisation.keys("ContactSet")
        if (reference := organisation.entity("ContactSet", key)["ParentCustomerId"])
        and reference["LogicalName"] == "account"
    )
    direct = await asyncio.to_thread(reads, place.direct_root, contact, account)
    assert len(direct[2]) > 10
    assert direct[4]
    # Forwarded at first; learned from that; then written by the proxy.
    for _ in range(3):
        place.clear()
        assert await asyncio.to_thread(reads, place.proxy_root, contact, account) == direct
        await place.idle()
    checks = [line for line in place.upstream_requests() if "$select=VersionNumber,ModifiedOn,Con" in line]
    assert len(checks) >= 3


async def test_writes_are_the_same_direct_and_through_the_proxy(place: World) -> None:
    direct = await asyncio.to_thread(writes, place.direct_root)
    place.clear()
    assert await asyncio.to_thread(writes, place.proxy_root) == direct
    assert direct[0] == (NEW, "Grace Hopper <&>")
    assert direct[-1] is False
    sent = [line.split()[0] for line in place.upstream_requests() if not line.startswith("GET")]
    assert sent == ["POST", "PUT", "DELETE"]
