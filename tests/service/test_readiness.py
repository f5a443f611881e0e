"""`/readyz`: 503 says which part of the proxy cannot do its work."""

from __future__ import annotations

from typing import Any

from relay import relayed
from world import World, world

NOBODY = "http://127.0.0.1:9/Org/XRMServices/2011/OrganizationData.svc"


async def readiness(place: World) -> tuple[int, Any]:
    answer = await place.send(f"{place.proxy.services_url}/readyz")
    return answer.status, answer.json()


async def test_not_while_postgres_is_away(database_url: str) -> None:
    async with relayed(database_url) as relay, world(relay.url) as place:
        assert await readiness(place) == (200, {"database": True, "metadata": True})
        await relay.down()
        assert await readiness(place) == (503, {"database": False, "metadata": True})
        await relay.up()
        assert await readiness(place) == (200, {"database": True, "metadata": True})


async def test_not_before_upstream_has_told_its_metadata(database_url: str) -> None:
    async with world(database_url, upstream__service_root=NOBODY) as place:
        assert await readiness(place) == (503, {"database": True, "metadata": False})
        assert (await place.send(f"{place.proxy.services_url}/healthz")).status == 200
