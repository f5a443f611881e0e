"""The cutover of a unit: readiness from evidence, the move, and all that may go wrong with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import command
import pytest
from lifecycle import a_set, load, model_of
from moving_sets import UNIT, a_cutover, a_plan, authorities, environment, path_of, trust_nothing, verify
from storing import query, until
from world import World, world

from proxy.reconcile.authority import Authority
from proxy.reconcile.cutover import CannotMove, put_back
from proxy.reconcile.readiness import Finding, Weight, is_ready
from proxy.reconcile.verifier import Verifier
from proxy.sandbox import Switches


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    trust_nothing(monkeypatch)


@asynccontextmanager
async def loaded(database_url: str, **settings: Any) -> AsyncIterator[World]:
    async with world(database_url, rows=12, **settings) as place:
        assert await load(place, *model_of(place).entity_sets)
        place.clear()
        yield place


def blocking(found: list[Finding]) -> list[tuple[str, str]]:
    return sorted({(one.entity_set, one.topic) for one in found if one.weight is Weight.BLOCKS})


def an_open_intent(url: str, entity_set: str, touched: str) -> None:
    """The mark of a write whose process is gone."""
    query(
        url,
        "INSERT INTO syncpoint.intents (method, entity_set, touched, body, content_type, source, request_id,"
        " opened_at, fetch_number) VALUES ('CreateEntity', %s, %s, '', '', 'client write', '', now(), 1)",
        entity_set,
        touched,
    )


# Readiness


async def test_a_unit_is_ready_once_it_was_compared_whole(database_url: str) -> None:
    async with loaded(database_url) as place:
        cutover = a_cutover(place)
        assert blocking(await cutover.check(a_plan())) == [(name, "drift") for name in UNIT]
        await verify(place)
        assert is_ready(await cutover.check(a_plan()))


async def test_what_refers_to_the_unit_has_to_come_along(database_url: str) -> None:
    async with loaded(database_url) as place:
        await verify(place)
        found = await a_cutover(place).check(a_plan("AccountSet"))
        assert blocking(found) == [("", "unit")]
        told = [one.text for one in found if one.topic == "unit"]
        assert [text.split()[0] for text in told] == ["ContactSet", "CustomerAddressSet", "TaskSet"]
        assert "ParentCustomerId" in told[0]
        left = await a_cutover(place).check(a_plan("AccountSet", left=UNIT[1:]))
        assert is_ready(left)
        assert [one.weight for one in left if one.topic == "unit"] == [Weight.LOOK] * 3


async def test_evidence_of_every_kind_stands_against_it(database_url: str) -> None:
    async with world(database_url, rows=12) as place:
        organisation = place.sandbox.organisation
        keys = organisation.keys("AccountSet")
        await place.fill("AccountSet")
        await verify(place, "AccountSet")
        plan = a_plan("AccountSet", left=UNIT[1:])
        query(
            database_url,
            "INSERT INTO syncpoint.conflicts (entity_set, entity_key, held_fetch_number, seen_fetch_number,"
            " found_at, request_id) VALUES ('AccountSet', 'x', 1, 2, now(), '')",
        )
        query(
            database_url,
            "INSERT INTO syncpoint.set_states (entity_set, proven, forward_reason, lies, hits_audited)"
            " VALUES ('AccountSet', '{}', 'a reason', 0, 0) ON CONFLICT (entity_set)"
            " DO UPDATE SET forward_reason = 'a reason'",
        )
        an_open_intent(database_url, "ContactSet", '[["AccountSet", "k"]]')
        an_open_intent(database_url, "AccountSet", "[]")
        query(
            database_url,
            "UPDATE syncpoint.intents SET closed_at = now(), outcome = 'undetermined' WHERE touched = '[]'",
        )
        query(
            database_url,
            "INSERT INTO syncpoint.computed (entity_set, property, differed, changed, filled)"
            " VALUES ('AccountSet', 'Name', 3, 0, 0), ('AccountSet', 'ModifiedOn', 0, 9, 0)",
        )
        query(
            database_url,
            "INSERT INTO syncpoint.shadow_examples (entity_set, shape, entity_key, request_id, mirror,"
            " upstream) VALUES ('AccountSet', 's', 'k', '', '{}', '{}')",
        )
        found = await a_cutover(place).check(plan)
        topics = ["computed", "conflicts", "loaded", "served", "shadow", "writes"]
        assert blocking(found) == [("", "writes"), *(("AccountSet", topic) for topic in topics)]
        computed = {one.text.split(":")[0]: one.weight for one in found if one.topic == "computed"}
        assert computed == {"Name": Weight.BLOCKS, "ModifiedOn": Weight.FINE}
        # Somebody else changes it.
        organisation.change("AccountSet", keys[1], {"Name": "By another way"})
        await place.ask(f"/AccountSet(guid'{keys[1]}')")
        await place.idle()
        others = [one.text for one in await a_cutover(place).check(plan) if one.topic == "others"]
        assert len(others) == 1
        assert others[0].startswith("1 changes in the last day")


async def test_drift_stands_against_it_until_it_is_repaired(database_url: str) -> None:
    async with loaded(database_url) as place:
        key = place.sandbox.organisation.keys("AccountSet")[0]
        place.sandbox.organisation.change("AccountSet", key, {"Name": "Elsewhere"})
        verifier = Verifier(place.proxy.service, place.proxy.store)
        await verifier.verify(a_set(place), model_of(place))
        plan = a_plan("AccountSet", left=UNIT[1:])
        assert blocking(await a_cutover(place).check(plan)) == [("AccountSet", "drift")]
        await verify(place, "AccountSet")
        assert is_ready(await a_cutover(place).check(plan))


async def test_what_upstream_computes_is_counted_at_every_read_back(database_url: str) -> None:
    async with loaded(database_url) as place:
        name = '{"Name":"New","CreatedOn":"\\/Date(1000000000000)\\/"}'
        assert (await place.merge(path_of(place), name)).status == 204
        body = b'{"LastName":"New"}'
        made = await place.ask("/ContactSet", "POST", body=body, Content_Type="application/json")
        assert made.status == 201
        await place.idle()
    counted = {
        (entity_set, name): counts
        for entity_set, name, *counts in query(
            database_url, "SELECT entity_set, property, differed, changed, filled FROM syncpoint.computed"
        )
    }
    assert counted["AccountSet", "CreatedOn"] == [1, 0, 0]
    assert counted["AccountSet", "ModifiedOn"] == [0, 1, 0]
    assert ("AccountSet", "Name") not in counted
    assert counted["ContactSet", "FullName"] == [0, 0, 1]
    assert counted["ContactSet", "ContactId"] == [0, 0, 1]
    assert ("ContactSet", "LastName") not in counted


# The move


async def test_the_move_takes_in_what_came_since_the_comparison(database_url: str) -> None:
    async with loaded(database_url) as place:
        await verify(place)
        organisation = place.sandbox.organisation
        keys = organisation.keys("AccountSet")
        organisation.change("AccountSet", keys[0], {"Name": "Late"})
        organisation.remove("AccountSet", keys[1])
        assert (await place.merge(path_of(place, 2), '{"Name":"Written"}')).status == 204
        said: list[str] = []
        await a_cutover(place, said.append).move(a_plan())
        assert authorities(database_url) == dict.fromkeys(UNIT, "mirror")
        names = dict(query(database_url, 'SELECT "AccountId", "Name" FROM mirror."AccountSet"'))
        assert names[str(keys[0])] == "Late"
        assert names[str(keys[1])] is None
        assert said[-1] == "the mirror is the authority"
        assert not any("is compared" in line for line in said)


async def test_what_is_not_ready_is_not_moved(database_url: str) -> None:
    async with loaded(database_url) as place:
        with pytest.raises(CannotMove, match="ContactSet has to come along"):
            await a_cutover(place).move(a_plan("AccountSet"))
        assert authorities(database_url) == {}


async def test_a_write_of_unknown_outcome_ends_it(database_url: str) -> None:
    async with loaded(database_url) as place:
        await verify(place)
        said: list[str] = []

        def report(line: str) -> None:
            said.append(line)
            if line.startswith("new writes wait"):  # as if it had been opened just before
                an_open_intent(database_url, "AccountSet", "[]")

        with pytest.raises(CannotMove, match="intents 1 is not known"):
            await a_cutover(place, report).move(a_plan())
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")
        assert (await place.merge(path_of(place), '{"Name":"Goes on"}')).status == 204


async def test_writes_under_way_end_before_the_move(database_url: str) -> None:
    async with loaded(database_url) as place:
        await verify(place)
        place.sandbox.switches = Switches(latency_ms=200)
        writing = asyncio.create_task(place.merge(path_of(place), '{"Name":"Under way"}'))
        await until(lambda: query(database_url, "SELECT count(*) FROM syncpoint.intents") == [(1,)])
        await a_cutover(place).move(a_plan())
        assert (await writing).status == 204
        key = place.a_key("AccountSet")
        names = dict(query(database_url, 'SELECT "AccountId", "Name" FROM mirror."AccountSet"'))
        assert names[key] == "Under way"


async def test_a_move_that_takes_too_long_is_given_up(database_url: str) -> None:
    async with loaded(database_url) as place:
        await verify(place)
        place.sandbox.switches = Switches(latency_ms=400)
        with pytest.raises(CannotMove, match="longer than writes may wait"):
            await a_cutover(place).move(a_plan(wait_s=0.5))
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")


async def test_one_at_a_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.reconcile.cutover.LEASE_S", -1.0)
    async with loaded(database_url) as place:
        assert await place.proxy.store.acquire_lease("cutover", 600.0)
        with pytest.raises(CannotMove, match="another cutover"):
            await a_cutover(place).move(a_plan())


async def test_what_a_killed_mover_left_is_put_back(database_url: str) -> None:
    async with loaded(database_url) as place:
        store, epochs = place.proxy.store, dict.fromkeys(UNIT, 0)
        assert await store.move_authorities(epochs, Authority.MOVING, Authority.UPSTREAM, "killed")
        await put_back(place.proxy.service)
        held = await store.holdings()
        assert {(one.authority, one.answers, one.epoch) for one in held} == {
            (Authority.UPSTREAM, Authority.UPSTREAM, 2)
        }


# As a command


async def cutover_command(place: World, database_url: str, *arguments: str) -> tuple[int, str, str]:
    return await command.run("cutover", *arguments, **environment(place, database_url))


async def test_the_command_says_what_is_missing_and_then_moves(database_url: str) -> None:
    async with loaded(database_url) as place:
        code, output, _ = await cutover_command(place, database_url, "AccountSet", "--check", "--json")
        shown = json.loads(output)
        assert (code, shown["ready"]) == (1, False)
        assert {one["topic"] for one in shown["findings"] if one["weight"] == "blocks"} == {"unit", "drift"}
        code, output, _ = await cutover_command(place, database_url, "AccountSet", "--check")
        assert "blocks\tAccountSet\tdrift\tnever compared" in output
        code, output, errors = await cutover_command(place, database_url, *UNIT)
        assert (code, errors) == (0, "")
        assert output.splitlines()[-1] == "the mirror is the authority"
        await until(lambda: place.proxy.service.sets.authorities.of("TaskSet")[0] is Authority.MIRROR)
        assert 'syncpoint_authority{authority="mirror",entity_set="TaskSet"} 1.0' in (
            place.proxy.metrics.render().decode()
        )
        shown = (await place.send(f"{place.proxy.services_url}/api/authorities")).json()["authorities"]
        assert [(one["entity_set"], one["authority"], one["epoch"]) for one in shown] == [
            (name, "mirror", 2) for name in UNIT
        ]
        code, _, errors = await cutover_command(place, database_url, *UNIT)
        assert (code, "authority is mirror already" in errors) == (1, True)


@pytest.mark.parametrize("line", ["new writes wait", "none is under way", "CustomerAddressSet: "])
async def test_a_killed_command_leaves_writes_waiting_no_longer_than_its_lease(
    database_url: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reconcile.cutover.LEASE_S", 0.2)  # how often the proxy looks
    async with loaded(database_url) as place:
        await verify(place)
        place.sandbox.switches = Switches(latency_ms=20)
        async with command.running("cutover", *UNIT, **environment(place, database_url)) as running:
            await running.says(line)
            os.kill(running.process.pid, signal.SIGSTOP)  # nothing more happens before it is killed
            assert set(authorities(database_url).values()) == {"moving"}
            writing = asyncio.create_task(place.merge(path_of(place), '{"Name":"Waits"}'))
            os.kill(running.process.pid, signal.SIGKILL)
        assert (await writing).status == 204
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")
        with suppress(CannotMove):
            await a_cutover(place).move(a_plan())
        assert authorities(database_url) == dict.fromkeys(UNIT, "mirror")
