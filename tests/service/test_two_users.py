"""Two users of different rights (rule 8): each read form shows to each what upstream would itself."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle import load, model_of
from storing import tables_with
from two_users import Place, Read, Scheme, batch, two_users
from world import Answer

from proxy.sandbox import Fault, Rights

SCHEMES: list[Scheme] = ["basic", "ntlm"]
SEEN, HIDDEN = "/AccountSet(guid'{0}')", "/AccountSet(guid'{1}')"
NAME = f"{SEEN}?$select=Name"
READS = [
    Read(SEEN),
    Read(HIDDEN),
    Read(f"{SEEN}?$select=Name,Fax,Revenue"),
    Read(NAME),
    Read("/AccountSet"),
    Read("/AccountSet?$top=2&$select=Fax,Name"),
    Read("/AccountSet?$filter=startswith(Fax,'0')&$orderby=Name"),
    Read("/AccountSet?$inlinecount=allpages"),
    Read("/ContactSet"),
    Read(f"{SEEN}?$expand=account_parent_account"),
    Read("/AccountSet?$expand=account_parent_account"),
    Read("/ContactSet?$expand=contact_customer_accounts"),
    Read(f"{SEEN}/account_parent_account"),
    Read(f"{HIDDEN}/account_parent_account"),
    Read(f"{SEEN}/account_parent_account?$select=Fax"),
    Read(f"{SEEN}/$links/account_parent_account"),
    Read("/AccountSet/$count"),
    Read("/AccountSet/$count?$filter=Fax%20ne%20null"),
    Read(f"{SEEN}/Fax"),
    Read(f"{SEEN}/Fax/$value"),
    Read(f"{HIDDEN}/Name"),
    Read(f"{HIDDEN}/Name/$value"),
    Read(SEEN, headers={"If_None_Match": "*"}),
    Read(HIDDEN, headers={"If_Modified_Since": "Mon, 04 Jan 2016 00:00:00 GMT"}),
    batch("AccountSet(guid'{0}')", "AccountSet(guid'{1}')", "AccountSet", "ContactSet?$select=FullName"),
]
DIRECTIVES = ["max-stale", "max-stale=600", "max-age=1000", "no-cache", "no-store", "max-age=0"]
DOWN = Fault("status", status=503, times=1000)


class Time:
    def __init__(self) -> None:
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed


async def warm(place: Place) -> None:
    """Have the mirror hold what both users' reads bring in, the lesser one's first."""
    for user in (place.low, place.ada) * 2:
        for read in READS:
            await place.answer(user, read)
        await place.world.idle()


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_each_read_form_from_cold_to_warm(database_url: str, scheme: Scheme, accept: str) -> None:
    async with two_users(database_url, scheme) as place:
        hits: dict[str, set[str]] = {"CRM\\ada": set(), "CRM\\low": set()}
        for turn in range(3):
            for read in READS:
                told = replace(read, headers={**read.headers, "Accept": accept})
                for user in place.users if turn % 2 else place.users[::-1]:
                    answer = await place.answer(user, told)
                    place.assert_same(answer, await place.told(user, told), (turn, user.name, read))
                    if "hit" in answer.cache:
                        hits[user.name].add(read.path)
                    await place.world.idle()
        # The mirror was in play: for both users, and for what one of them may not see.
        assert {SEEN, "/AccountSet", f"{SEEN}?$select=Name,Fax,Revenue"} <= hits["CRM\\ada"] & hits[
            "CRM\\low"
        ]
        assert HIDDEN in hits["CRM\\ada"] - hits["CRM\\low"]
        secret = f"0{uuid.UUID(place.keys[0]).int % 997}"
        assert not await tables_with(database_url, f'Fax":"{secret}"')


@pytest.mark.parametrize("ttl", [0, 600])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_directives_widen_nothing(database_url: str, scheme: Scheme, ttl: int) -> None:
    """An older answer is for whom upstream has shown the same entity; then it is the same, or none."""
    settings = {"upstream__auth__visibility_ttl_s": ttl, "sets.ContactSet.secured": []}
    async with two_users(database_url, scheme, **settings) as place:
        await warm(place)
        alone = set()
        for user in place.users:
            for read in READS:
                told = await place.told(user, read)
                for directive in DIRECTIVES:
                    answer = await place.answer(user, read, Cache_Control=directive)
                    place.assert_same(answer, told, (user.name, read, directive))
                if read.method == "GET":
                    answer = await place.answer(user, read, Cache_Control="only-if-cached")
                    if answer.status != 504:
                        alone.add((user.name, read.path))
                        place.assert_same(answer, told, (user.name, read))
        assert alone == set()
        # A set without secured properties is answered alone, to whom it was shown.
        key = place.world.a_key("ContactSet")
        contact = Read(f"/ContactSet(guid'{key}')")
        for user, status in ((place.ada, 200 if ttl else 504), (place.low, 504)):
            told = await place.told(user, contact)
            await place.answer(user, contact)
            answer = await place.answer(user, contact, Cache_Control="only-if-cached")
            assert answer.status == status
            assert answer.status == 504 or answer.json() == as_told(place, told)


def as_told(place: Place, told: Answer) -> object:
    """The document, with the proxy's root."""
    return json.loads(place.world.rooted(told.text))


@pytest.mark.parametrize("ttl", [0, 600])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_while_upstream_fails_nobody_sees_more(database_url: str, scheme: Scheme, ttl: int) -> None:
    settings = {"upstream__auth__visibility_ttl_s": ttl, "defaults__stale_if_error_s": 3600}
    async with two_users(database_url, scheme, **settings) as place:
        await warm(place)
        contacts = [Read(f"/ContactSet(guid'{place.world.a_key('ContactSet', n)}')") for n in range(2)]
        for user in place.users:
            for read in contacts:
                await place.answer(user, read)
        told = {
            (user.name, read.path, str(read.headers)): await place.told(user, read)
            for user in place.users
            for read in [*READS, *contacts]
        }
        place.world.sandbox.faults.add(replace(DOWN))
        shown = set()
        for user in place.users:
            for read in [*READS, *contacts]:
                answer = await place.answer(user, read)
                if answer.status != 503:
                    shown.add((user.name, read.path))
                    before = told[user.name, read.path, str(read.headers)]
                    assert (before.status, answer.json()) == (200, as_told(place, before))
        assert shown == (alone(contacts) if ttl else set())


def alone(contacts: Sequence[Read]) -> set[tuple[str, str]]:
    """Who may be shown what without upstream: what it showed them, and no secured property."""
    common = {(name, path) for name in ("CRM\\ada", "CRM\\low") for path in (NAME, contacts[1].path)}
    return common | {("CRM\\ada", contacts[0].path)}


@pytest.mark.parametrize("ttl", [0, 600])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_bounded_sets_are_bounded_by_rights_too(database_url: str, scheme: Scheme, ttl: int) -> None:
    """The background keeps them fresh as somebody who sees everything: callers see what they did before."""
    time = Time()
    settings = {
        "upstream__auth__visibility_ttl_s": ttl,
        "defaults__mode": "bounded",
        "defaults__max_age_s": 3600,
    }
    async with two_users(database_url, scheme, now=time, service=True, **settings) as place:
        await load(place.world, "AccountSet", "ContactSet")
        await place.world.proxy.poller.poll(model_of(place.world))
        await place.world.proxy.sweeper.sweep(model_of(place.world))
        contacts = [Read(f"/ContactSet(guid'{place.world.a_key('ContactSet', n)}')") for n in range(2)]
        aged = set()
        for _ in range(3):
            for user in place.users:
                for read in [*READS, *contacts]:
                    answer = await place.answer(user, read)
                    place.assert_same(answer, await place.told(user, read), (user.name, read))
                    if "age-allowed" in answer.cache:
                        aged.add((user.name, read.path))
                    await place.world.idle()
        assert aged == (alone(contacts) if ttl else set())
        # A right that is taken away is gone: at once, or when the confirmation has run out.
        key = uuid.UUID(place.world.a_key("ContactSet", 1))
        rights = place.world.sandbox.switches.rights
        rights["crm\\low"] = Rights(rights["crm\\low"].hidden_rows | {("ContactSet", key)})  # type: ignore[index]
        time.passed += timedelta(seconds=ttl)
        assert (await place.answer(place.low, contacts[1])).status == 404
        assert (await place.answer(place.ada, contacts[1])).status == 200


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_what_the_lesser_user_fetched_feeds_the_other_no_nulls(
    database_url: str, scheme: Scheme
) -> None:
    async with two_users(database_url, scheme) as place:
        for feeding in (SEEN, "/AccountSet", "/AccountSet?$expand=account_parent_account", READS[-1]):
            await place.answer(place.low, feeding if isinstance(feeding, Read) else Read(feeding))
            await place.world.idle()
        for read in (Read(SEEN), Read("/AccountSet"), Read(f"{SEEN}?$select=Fax")):
            answer = await place.answer(place.ada, read)
            assert read.path == "/AccountSet" or "hit" in answer.cache
            assert place.world.sandbox.organisation.entity("AccountSet", uuid.UUID(place.keys[0]))["Fax"]
            place.assert_same(answer, await place.told(place.ada, read), read)


async def test_equal_requests_at_once_are_shared_by_those_of_equal_credentials_only(
    database_url: str,
) -> None:
    """One upstream connection, held: everything else waits together, and may join."""
    async with two_users(database_url, "basic", upstream__connections=1) as place:
        read = Read(f"{SEEN}?$select=Name,Fax")
        for user in place.users * 2:
            await place.answer(user, read)
        told = [await place.told(user, read) for user in place.users]
        event = asyncio.Event()
        fault = Fault("hold", path="ContactSet", event=event)
        place.world.sandbox.faults.add(fault)
        held = asyncio.create_task(place.answer(place.ada, Read("/ContactSet?$top=1")))
        await fault.reached.wait()
        place.world.clear()
        asked = [asyncio.create_task(place.answer(user, read)) for user in place.users * 10]
        await asyncio.sleep(0)
        while len(place.world.proxy.upstream._flights._waiting) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        event.set()
        await held
        for number, answer in enumerate(await asyncio.gather(*asked)):
            place.assert_same(answer, told[number % 2], number)
        users = [entry.user for entry in place.world.sandbox.journal if "AccountSet" in entry.target]
        assert set(users) == {"CRM\\ada", "CRM\\low"}
        assert len(users) < len(asked)
