"""Conflicts, intents and comparisons by command, beside a running proxy."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from lifecycle import load, mirrored, model_of
from storing import query, revisions
from world import JSON, World, world


async def command(place: World, database_url: str, *arguments: str) -> tuple[int, str]:
    """Exit code and what it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SYNCPOINT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean
        | {
            "SYNCPOINT_DATABASE_URL": database_url,
            "SYNCPOINT_UPSTREAM__SERVICE_ROOT": place.direct_root,
            "SYNCPOINT_LOG__LEVEL": "error",
        },
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode() + errors.decode()


async def conflict(place: World, number: int) -> None:
    organisation = place.sandbox.organisation
    key = organisation.keys("AccountSet")[number]
    await place.ask(f"/AccountSet(guid'{key}')")
    entity = organisation.entity("AccountSet", key)
    assert entity is not None
    before = entity["ModifiedOn"] - timedelta(days=1)
    organisation.change("AccountSet", key, {"Name": f"Restored {number}"}, modified_on=before)
    assert (await place.ask(f"/AccountSet(guid'{key}')")).status == 409


async def test_conflicts_are_listed_and_resolved(database_url: str) -> None:
    async with world(database_url, rows=4) as place:
        for number in range(3):
            await conflict(place, number)
        code, listed = await command(place, database_url, "conflicts")
        assert (code, len(listed.splitlines())) == (0, 3)
        assert place.a_key("AccountSet") in listed.splitlines()[0]
        numbers = [line.split("\t")[0] for line in listed.splitlines()]
        code, told = await command(
            place, database_url, "conflicts", "resolve", numbers[0], "999", "--winner", "upstream"
        )
        assert (code, told.splitlines()) == (
            1,
            [f"{numbers[0]}\tresolved", "999\tThere is no conflict 999."],
        )
        code, told = await command(
            place, database_url, "conflicts", "resolve", "--set", "AccountSet", "--winner", "mirror"
        )
        assert (code, told.splitlines()) == (0, [f"{number}\tresolved\tName" for number in numbers[1:]])
        assert (await command(place, database_url, "conflicts", "list", "--set", "AccountSet")) == (0, "")
        *_, last = revisions(database_url, "source, client, request_id")
        assert last[:2] == ("client write", "command")
        assert last[2].startswith("command-")


async def test_intents_and_verify(database_url: str) -> None:
    async with world(database_url, rows=4) as place:
        await place.ask("/AccountSet")
        await place.idle()
        query(
            database_url,
            "INSERT INTO syncpoint.intents (method, entity_set, touched, body, content_type, source,"
            " request_id, opened_at, fetch_number, closed_at, outcome) VALUES ('CreateEntity', 'AccountSet',"
            " '[]', '', '', 'client write', 'r1', now(), 1, now(), 'undetermined')",
        )
        code, told = await command(place, database_url, "intents")
        assert (code, told.split("\t")[1:4]) == (0, ["undetermined", "CreateEntity", "AccountSet()"])
        code, told = await command(place, database_url, "verify")
        assert (code, told.splitlines()[0]) == (
            0,
            "AccountSet: the same; upstream 4, mirror 4, contents compared 4",
        )
        query(
            database_url, 'DELETE FROM mirror."AccountSet" WHERE "AccountId" = %s', place.a_key("AccountSet")
        )
        code, told = await command(place, database_url, "verify", "AccountSet", "--sample", "1")
        assert code == 1
        assert told.splitlines()[1] == f"  missing: 1, as guid'{place.a_key('AccountSet')}'"
        code, told = await command(place, database_url, "verify", "AccountSet", "--repair")
        assert (code, told.splitlines()[-1]) == (0, "  repaired: 1")
        code, told = await command(place, database_url, "verify", "NoSuchSet")
        assert (code, "NoSuchSet" in told) == (3, True)


async def stopped_sweep(place: World) -> str:
    """Have a sweep find nothing where there was something; the number of its question."""
    organisation = place.sandbox.organisation
    for key in organisation.keys("AccountSet"):
        organisation.tables.drop("AccountSet", key)
    query(place.proxy.store._connections._url, "DELETE FROM syncpoint.walks WHERE stage = 'sweep'")
    await place.proxy.sweeper.sweep(model_of(place))
    url = f"{place.proxy.services_url}/api/sweeps"
    (asked,) = (await place.send(url, headers=JSON)).json()["questions"]
    assert (asked["entity_set"], asked["kind"]) == ("AccountSet", "empty")
    return str(asked["id"])


async def test_sweeps_are_believed_or_done_again(database_url: str) -> None:
    async with world(database_url, rows=4) as place:
        await load(place)
        number = await stopped_sweep(place)
        code, told = await command(place, database_url, "sweeps")
        assert (code, told.split("\t")[:2]) == (0, [number, "AccountSet"])
        code, told = await command(place, database_url, "sweeps", "again", number, "999")
        assert (code, told.splitlines()) == (
            1,
            [f"{number}\tAccountSet: swept again", "999\tNo sweep waits for an answer to 999."],
        )
        number = await stopped_sweep(place)
        code, told = await command(place, database_url, "sweeps", "believe", number)
        assert (code, told) == (0, f"{number}\tAccountSet: believed\n")
        assert await command(place, database_url, "sweeps") == (0, "")
        await place.proxy.sweeper.sweep(model_of(place))
        assert mirrored(database_url) == []


async def test_the_admin_api_answers_a_sweep(database_url: str) -> None:
    async with world(database_url, rows=4) as place:
        await load(place)
        url = f"{place.proxy.services_url}/api/sweeps/{await stopped_sweep(place)}/answer"
        headers = {**JSON, "Content-Type": "application/json"}
        assert (await place.send(url, "POST", headers, b'{"accepted": 1}')).status == 400
        answer = await place.send(url, "POST", headers, b'{"accepted": true}')
        assert (answer.status, answer.json()["entity_set"]) == (200, "AccountSet")
        assert (await place.send(url, "POST", headers, b'{"accepted": true}')).status == 404
        await place.proxy.sweeper.sweep(model_of(place))
        assert mirrored(database_url) == []
