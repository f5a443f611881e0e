"""What operators do, and what they see of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from world import Answer, World


def key_of(place: World, number: int = 0) -> str:
    return f"AccountSet(guid'{place.a_key('AccountSet', number)}')"


async def api(place: World, path: str, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    return await place.send(f"{place.proxy.services_url}/api/{path}", method, named, data)


async def history(place: World, number: int = 0) -> list[dict[str, Any]]:
    """Oldest first."""
    answer = await api(place, f"entities/{key_of(place, number)}/revisions")
    assert answer.status == 200, answer.text
    return [*reversed(answer.json()["revisions"])]


def upstream(place: World, number: int = 0) -> Any:
    return place.sandbox.organisation.entity(
        "AccountSet", place.sandbox.organisation.keys("AccountSet")[number]
    )


async def set_back(place: World, number: int = 0, name: str = "Restored") -> str:
    """Make the mirror newer than upstream; the id of the conflict that a read finds."""
    organisation = place.sandbox.organisation
    key = organisation.keys("AccountSet")[number]
    await place.ask(f"/AccountSet(guid'{key}')")
    stamp = upstream(place, number)["ModifiedOn"]
    organisation.change("AccountSet", key, {"Name": name}, modified_on=stamp - timedelta(days=1))
    answer = await place.ask(f"/AccountSet(guid'{key}')")
    assert answer.status == 409
    found = (await api(place, "conflicts?limit=500")).json()["conflicts"]
    return str(next(shown["id"] for shown in found if str(key) in shown["key"]))
