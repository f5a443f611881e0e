"""Plug-ins of the sandbox: what they do to writes, and later to other records."""

from __future__ import annotations

from sandboxing import served

from proxy.sandbox import Plugin


async def test_a_plugin_rewrites_what_clients_save() -> None:
    upper = Plugin("AccountSet", rewrite={"Name": str.upper})
    async with served(plugins=(upper,)) as world:
        reply = await world.send("POST", "/AccountSet", {"Name": "Adam", "Telephone1": "ext. 1"})
        assert (reply.d["Name"], reply.d["Telephone1"]) == ("ADAM", "ext. 1")
        trusted = world.sandbox.organisation.insert("AccountSet", {"Name": "Eve"})
        assert (world.sandbox.organisation.entity("AccountSet", trusted) or {})["Name"] == "Eve"


async def test_a_workflow_touches_the_parent_when_its_time_has_come() -> None:
    later = Plugin("ContactSet", touches="ParentCustomerId", sets={"Description": "seen"}, after_s=30)
    async with served(plugins=(later,)) as world:
        organisation, clock = world.sandbox.organisation, world.sandbox.clock
        parent = organisation.insert("AccountSet", {"Name": "Adam"})
        posted = {"LastName": "Hopper", "ParentCustomerId": {"Id": str(parent), "LogicalName": "account"}}
        assert (await world.send("POST", "/ContactSet", posted)).status == 201
        path = f"/AccountSet(guid'{parent}')"
        clock.advance(29)
        assert (await world.get(path)).d["Description"] is None
        clock.advance(1)
        touched = (await world.get(path)).d
        assert (touched["Description"], touched["ModifiedOn"]) == ("seen", "/Date(1472140830000)/")
        organisation.remove("AccountSet", parent)
        assert (await world.get(path)).status == 404
