"""Another upstream: mock-sap, somebody else's OData v2 server, unchanged, with clients that others wrote.

It indents its JSON, writes other URLs, has string keys, etags and dates for stamps, and speaks no Atom.
Nothing in the proxy knows which upstream it has; only settings differ.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyodata
import pytest
from mocksap.server import Config, make_server
from yarl import URL

from proxy.app import Proxy, running
from proxy.settings import Settings

TIMESTAMP = re.compile('"timestamp": "[0-9.]*"')  # of an error: the server's own clock, which does not stand
CLIENTS = Path(__file__).parents[1] / "clients"
PATH = "/sap/opu/odata/IWBEP/GWSAMPLE_BASIC"


@pytest.fixture
def upstream() -> Iterator[str]:
    """The origin of a server whose clock stands, so that two answers to one question are equal."""
    server = make_server(Config(port=0, csrf=False, quiet=True, log_requests=False, clock="2026-03-01T12:00"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    host, port = server.server_address[:2]
    yield f"http://{host}:{port}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Place:
    upstream: str
    proxy: Proxy
    session: aiohttp.ClientSession

    async def ask(self, origin: str, path: str, method: str = "GET", **sent: Any) -> tuple[int, str, str]:
        """Status, Cache-Status, and the body as upstream would have said it."""
        url = URL(origin + PATH + path, encoded=True)
        headers = {"Accept": "application/json"}
        async with self.session.request(method, url, headers=headers, **sent) as answer:
            text = TIMESTAMP.sub("", (await answer.text()).replace(self.proxy.url, self.upstream))
            return answer.status, answer.headers.get("Cache-Status", ""), text

    async def both(self, path: str) -> str:
        """A read, direct and through the proxy, equal to the byte; the proxy's Cache-Status."""
        direct = await self.ask(self.upstream, path)
        status, cache, text = await self.ask(self.proxy.url, path)
        await self.proxy.background.drain()
        assert (status, text) == (direct[0], direct[2]), path
        return cache


@pytest.fixture
async def place(upstream: str, database_url: str) -> AsyncIterator[Place]:
    settings = {
        "listen": "127.0.0.1:0",
        "services_listen": "127.0.0.1:0",
        "database_url": database_url,
        "upstream.service_root": upstream + PATH,
        "upstream.stamp.modified": "ChangedAt",
        "upstream.stamp.version": "none",
        "upstream.deleted_code": "No entity with key",
        "sync.audit_share": 0.0,
    }
    loaded = Settings.load(None, settings, environment={})
    async with running(loaded) as proxy, aiohttp.ClientSession() as session:
        yield Place(upstream, proxy, session)


READS = [
    "/BusinessPartnerSet",
    "/BusinessPartnerSet?$format=json",
    "/BusinessPartnerSet?$top=3&$select=BusinessPartnerID,CompanyName",
    "/BusinessPartnerSet?$filter=CompanyName%20ge%20'C'&$orderby=CompanyName%20desc",
    "/BusinessPartnerSet?$inlinecount=allpages&$top=2&$skip=1",
    "/BusinessPartnerSet/$count",
    "/BusinessPartnerSet('0100000000')",
    "/BusinessPartnerSet('0100000000')?$select=CompanyName,Address,EmailAddress",
    "/BusinessPartnerSet(BusinessPartnerID='0100000000')",
    "/BusinessPartnerSet('0100000000')/CompanyName",
    "/BusinessPartnerSet('0100000000')/CompanyName/$value",
    "/BusinessPartnerSet('0100000000')/Address",
    "/BusinessPartnerSet('0100000000')/Address/City",
    "/BusinessPartnerSet('0100000000')?$expand=ToContacts",
    "/BusinessPartnerSet('0100000000')/ToSalesOrders",
    "/BusinessPartnerSet('0100000000')/$links/ToSalesOrders",
    "/BusinessPartnerSet('9999999999')",
    "/BusinessPartnerSet(guid'nonsense')",
    "/BusinessPartnerSet?$filter=Nothing%20eq%201",
    "/SalesOrderSet?$top=5",
    "/SalesOrderLineItemSet(SalesOrderID='0500000000',ItemPosition='0000000010')",
    "/SalesOrderLineItemSet?$top=4&$orderby=NetAmount%20desc",
    "/ProductSet?$filter=substringof('o',Name)&$top=4",
    "/ContactSet?$top=4",
    "/NothingSet",
    "/",
    "/$metadata",
]


async def test_reads_are_the_servers_own_cold_and_warm(place: Place) -> None:
    for path in READS:
        await place.both(path)
    warm = {path: await place.both(path) for path in READS}
    hits = [path for path, cache in warm.items() if "; hit" in cache]
    assert "/BusinessPartnerSet" in hits
    assert "/BusinessPartnerSet('0100000000')" in hits
    assert "/SalesOrderSet?$top=5" in hits


async def test_a_change_behind_the_proxy_is_seen(place: Place) -> None:
    path = "/BusinessPartnerSet('0100000000')"
    for name in ("First", "Second", "Third"):
        await place.both(path)
        changed = await place.ask(place.upstream, path, "MERGE", json={"CompanyName": f"{name} Ltd"})
        assert changed[0] == 204
        await place.both(path)
        status, _, text = await place.ask(place.proxy.url, path)
        assert status == 200
        assert f'"{name} Ltd"' in text


async def story(place: Place, origin: str) -> list[Any]:
    """What one client does; what it saw."""
    client = await pyodata.Client.build_async_client(origin + PATH, place.session)
    client.config["http"]["update_method"] = "MERGE"
    partners = client.entity_sets.BusinessPartnerSet
    seen: list[Any] = [sorted(entity_set.name for entity_set in client.schema.entity_sets)]
    for _ in range(2):
        one = await partners.get_entity("0100000000").async_execute()
        seen.append((one.CompanyName, one.BusinessPartnerID))
        rows = await partners.get_entities().filter("CompanyName ge 'A'").top(5).async_execute()
        seen.append([row.CompanyName for row in rows])
        await place.proxy.background.drain()
    fields = {"BusinessPartnerID": "0200000000", "CompanyName": "Harbour Works"}
    created = await partners.create_entity().set(**fields).async_execute()
    seen.append(created.CompanyName)
    await partners.update_entity(created.BusinessPartnerID).set(CompanyName="Quay Works").async_execute()
    changed = await partners.get_entity(created.BusinessPartnerID).async_execute()
    seen.append(changed.CompanyName)
    await partners.delete_entity(created.BusinessPartnerID).async_execute()
    try:
        await partners.get_entity(created.BusinessPartnerID).async_execute()
    except pyodata.exceptions.HttpError as error:
        seen.append(error.response.status_code)
    return seen


async def test_pyodata_sees_the_same_direct_and_through_the_proxy(place: Place) -> None:
    direct = await story(place, place.upstream)
    assert await story(place, place.proxy.url) == direct
    assert direct[-3:] == ["Harbour Works", "Quay Works", 404]


async def javascript(root: str) -> list[Any]:
    """What a client in JavaScript saw of a service."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "story.mjs",
        root,
        cwd=CLIENTS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return list(json.loads(output))


@pytest.mark.skipif(
    not ((CLIENTS / "node_modules").exists() and shutil.which("node")),
    reason="node is not there, or `make install` found no npm",
)
async def test_a_client_in_javascript_sees_the_same_direct_and_through_the_proxy(place: Place) -> None:
    direct = await javascript(place.upstream + PATH)
    assert await javascript(place.proxy.url + PATH) == direct
    assert direct[-2:] == ["Pier Works", direct[-1]]
    await place.proxy.background.drain()
    assert await place.proxy.store.open_intents() == []
