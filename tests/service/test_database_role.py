"""What the proxy needs of its database: a role that owns it, and may do nothing else on the server."""

from __future__ import annotations

from lifecycle import model_of
from storing import query
from world import world


async def test_the_owner_of_a_blank_database_is_enough(blank_database_url: str) -> None:
    rights = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    asked = f"SELECT {rights} FROM pg_roles WHERE rolname = current_user"
    assert query(blank_database_url, asked) == [(False,)]
    models = {"Organisation": {"set": "AccountSet", "properties": {"rank": {"kind": "integer"}}}}
    async with world(blank_database_url, rows=3, models=models) as place:
        await place.fill("AccountSet", "ContactSet")
        path = f"/AccountSet(guid'{place.a_key('AccountSet')}')"
        assert (await place.merge(path, '{"Name":"Zaffre"}')).status == 204
        await place.idle()
        found = await place.mirror("/AccountSet?$filter=Name%20eq%20'zaffre'&$select=Name")
        assert [shown["Name"] for shown in found.json()["d"]["results"]] == ["Zaffre"]
        model = await place.send(f"{place.proxy.services_url}/model/Organisation")
        assert model.status == 200
        await place.proxy.poller.poll(model_of(place))
        await place.proxy.sweeper.sweep(model_of(place))
        assert place.proxy.metrics.registry.get_sample_value("syncpoint_unexpected_errors_total") == 0
    rows = query(blank_database_url, "SELECT count(*) FROM syncpoint.revisions")
    assert rows[0][0] > 6
