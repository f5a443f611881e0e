"""The way back: what was written without upstream reaches it, in order, and what it refuses is listed."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import command
import pytest
from lifecycle import load, model_of
from moving_sets import UNIT, a_cutover, a_plan, authorities, environment, path_of, trust_nothing, verify
from storing import query
from world import World, world

from proxy.reconcile.cutover import CannotMove
from proxy.reconcile.replays import Replayed
from proxy.reconcile.way_back import WayBack
from proxy.sandbox import Fault


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    trust_nothing(monkeypatch)


@asynccontextmanager
async def cut_over(database_url: str, **settings: Any) -> AsyncIterator[World]:
    async with world(database_url, rows=12, **settings) as place:
        assert await load(place, *model_of(place).entity_sets)
        await verify(place)
        await a_cutover(place).move(a_plan())
        await place.proxy.service.sets.authorities.read()
        place.clear()
        yield place


async def back(place: World, report: Callable[[str], None] = lambda _: None) -> list[Replayed]:
    cutover = a_cutover(place, report)
    refused = await WayBack(place.proxy.store, model_of(place), cutover.alone, report).move(a_plan())
    await place.proxy.service.sets.authorities.read()
    return list(refused)


async def post(place: World, entity_set: str, body: dict[str, Any]) -> str:
    """The key of a new entity."""
    answer = await place.ask(
        f"/{entity_set}", "POST", body=json.dumps(body).encode(), Content_Type="application/json"
    )
    assert answer.status == 201, answer.text
    name = entity_set.removesuffix("Set") + "Id"
    return str(answer.json()["d"][name])


def upstreams(place: World, entity_set: str, key: str) -> Any:
    return place.sandbox.organisation.entity(entity_set, uuid.UUID(key))


def sent(place: World) -> list[str]:
    return [seen for seen in place.upstream_requests() if not seen.startswith("GET ")]


async def some_writes(place: World) -> tuple[str, str, str]:
    """Two updates of one account, an account with a contact, and an account that is gone."""
    assert (await place.merge(path_of(place), '{"Name":"One"}')).status == 204
    assert (await place.merge(path_of(place), '{"Name":"Two"}')).status == 204
    made = await post(place, "AccountSet", {"Name": "Made"})
    lookup = {"Id": made, "LogicalName": "account"}
    contact = await post(place, "ContactSet", {"LastName": "New", "ParentCustomerId": lookup})
    gone = place.a_key("TaskSet", 3)
    assert (await place.ask(f"/TaskSet(guid'{gone}')", "DELETE")).status == 204
    assert place.upstream_requests() == []
    return made, contact, gone


async def test_what_was_written_without_upstream_reaches_it_in_order(database_url: str) -> None:
    async with cut_over(database_url) as place:
        made, contact, gone = await some_writes(place)
        assert await back(place) == []
        assert [seen.split("(")[0] for seen in sent(place)] == [
            "MERGE /AccountSet",
            "MERGE /AccountSet",
            "POST /AccountSet",
            "POST /ContactSet",
            "DELETE /TaskSet",
        ]
        assert upstreams(place, "AccountSet", place.a_key("AccountSet"))["Name"] == "Two"
        assert upstreams(place, "AccountSet", made)["Name"] == "Made"
        assert upstreams(place, "ContactSet", contact)["LastName"] == "New"
        assert upstreams(place, "TaskSet", gone) is None
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")
        # The stamps are upstream's: nothing has moved, and nothing is in conflict.
        for path in (path_of(place), f"/AccountSet(guid'{made}')", f"/ContactSet(guid'{contact}')"):
            direct = await place.ask(path, direct=True)
            assert (await place.ask(path)).text == place.rooted(direct.text)
        assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(0,)]
        assert (await place.merge(path_of(place), '{"Name":"Upstream again"}')).status == 204
        assert upstreams(place, "AccountSet", place.a_key("AccountSet"))["Name"] == "Upstream again"
        # What was compared before the cutover is no evidence for the next.
        assert query(database_url, "SELECT count(*) FROM syncpoint.verifications") == [(0,)]


async def test_most_is_sent_while_the_mirror_goes_on(database_url: str) -> None:
    async with cut_over(database_url) as place:
        for number in range(45):
            assert (await place.merge(path_of(place), f'{{"Name":"{number}"}}')).status == 204
        seen: list[tuple[str, set[str]]] = []
        await back(place, lambda line: seen.append((line, set(authorities(database_url).values()))))
        assert seen[0] == ("45 writes sent", {"mirror"})
        assert upstreams(place, "AccountSet", place.a_key("AccountSet"))["Name"] == "44"


async def test_what_upstream_refuses_is_listed_and_left_as_a_conflict(database_url: str) -> None:
    async with cut_over(database_url) as place:
        contact, removed = place.a_key("ContactSet"), place.a_key("TaskSet")
        assert (await place.merge(path_of(place), '{"Name":"Taken"}')).status == 204
        assert (await place.merge(f"/ContactSet(guid'{contact}')", '{"LastName":"Never"}')).status == 204
        assert (await place.merge(f"/TaskSet(guid'{removed}')", '{"Subject":"Never"}')).status == 204
        place.sandbox.organisation.remove("TaskSet", uuid.UUID(removed))
        place.sandbox.faults.add(Fault(kind="status", status=403, method="MERGE", path="ContactSet"))
        found = await back(place)
        assert [(one.operation, one.entity_set, one.status) for one in found] == [
            ("MergeEntity", "ContactSet", 403),
            ("MergeEntity", "TaskSet", 404),
        ]
        assert "Does Not Exist" in found[1].message
        conflicts = query(database_url, "SELECT entity_set, entity_key FROM syncpoint.conflicts")
        assert conflicts == [("ContactSet", f"guid'{contact}'")]
        assert (await place.ask(f"/ContactSet(guid'{contact}')")).status == 409
        assert upstreams(place, "AccountSet", place.a_key("AccountSet"))["Name"] == "Taken"
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")


@pytest.mark.parametrize(("kind", "times"), [("applied_no_answer", 1), ("reset_before", 2)])
async def test_what_upstream_did_not_answer_waits_for_another_try(
    database_url: str, kind: str, times: int
) -> None:
    async with cut_over(database_url, upstream__write_limit_s=0.0) as place:
        made, _, _ = await some_writes(place)
        place.sandbox.faults.add(Fault(kind=kind, method="POST", path="AccountSet"))  # type: ignore[arg-type]
        with pytest.raises(CannotMove, match="did not answer local write 3"):
            await back(place)
        assert authorities(database_url) == dict.fromkeys(UNIT, "mirror")
        assert (await place.ask(f"/AccountSet(guid'{made}')")).json()["d"]["Name"] == "Made"
        assert await back(place) == []
        assert sent(place).count("POST /AccountSet") == times
        assert upstreams(place, "AccountSet", made)["Name"] == "Made"


async def test_a_write_that_upstream_did_not_answer_is_looked_for(database_url: str) -> None:
    async with cut_over(database_url, upstream__write_limit_s=0.0) as place:
        made, contact, _ = await some_writes(place)
        # As if it had been killed with each of two under way: of these the first arrived.
        place.sandbox.organisation.change("AccountSet", uuid.UUID(place.a_key("AccountSet")), {"Name": "One"})
        query(
            database_url,
            "INSERT INTO syncpoint.replays (local_write, entity_set, entity_key, sent_at)"
            " SELECT id, entity_set, entity_key, now() FROM syncpoint.local_writes WHERE id IN (1, 3)",
        )
        assert await back(place) == []
        assert [seen.split("(")[0] for seen in sent(place)] == [
            "MERGE /AccountSet",
            "POST /AccountSet",
            "POST /ContactSet",
            "DELETE /TaskSet",
        ]
        assert upstreams(place, "AccountSet", made)["Name"] == "Made"
        assert upstreams(place, "ContactSet", contact)["LastName"] == "New"


async def test_one_that_may_still_arrive_is_not_sent_again(database_url: str) -> None:
    async with cut_over(database_url) as place:
        await some_writes(place)
        query(
            database_url,
            "INSERT INTO syncpoint.replays (local_write, entity_set, entity_key, sent_at)"
            " SELECT id, entity_set, entity_key, now() FROM syncpoint.local_writes WHERE id = 3",
        )
        with pytest.raises(CannotMove, match="local write 3 may still be applied"):
            await back(place)
        assert authorities(database_url) == dict.fromkeys(UNIT, "mirror")
        assert len(sent(place)) == 2


async def test_only_what_is_the_mirrors_can_be_given_back(database_url: str) -> None:
    async with world(database_url, rows=5) as place:
        with pytest.raises(CannotMove, match="not of the authority mirror"):
            await back(place)


@pytest.mark.parametrize("line", ["2. writes sent", "new writes wait", "is taken over"])
async def test_a_killed_way_back_sends_nothing_twice(
    database_url: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reconcile.cutover.LEASE_S", 0.2)
    async with cut_over(database_url, upstream__write_limit_s=0.0) as place:
        names = [str(number) for number in range(25)]
        for name in names:
            assert (await place.merge(path_of(place), f'{{"Name":"{name}"}}')).status == 204
        made = await post(place, "AccountSet", {"Name": "Made"})
        given = environment(place, database_url)
        async with command.running("cutover", *UNIT, "--back", **given) as running:
            await running.says(line)
            os.kill(running.process.pid, signal.SIGKILL)
            await running.process.wait()
        await place.proxy.service.sets.authorities.read()
        # The mirror answers, and takes writes as soon as what was killed is put back.
        assert (await place.ask(path_of(place))).json()["d"]["Name"] == "24"
        assert (await place.merge(path_of(place, 1), '{"Name":"Meanwhile"}')).status == 204
        code, output, errors = await command.run("cutover", *UNIT, "--back", **given)
        assert (code, errors) == (0, ""), output
        await place.proxy.service.sets.authorities.read()
        merged = [seen for seen in sent(place) if seen == f"MERGE {path_of(place)}"]
        assert len(merged) == len(names)
        assert len([seen for seen in sent(place) if seen.startswith("POST")]) == 1
        assert upstreams(place, "AccountSet", made)["Name"] == "Made"
        assert upstreams(place, "AccountSet", place.a_key("AccountSet", 1))["Name"] == "Meanwhile"
        assert authorities(database_url) == dict.fromkeys(UNIT, "upstream")
