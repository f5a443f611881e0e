"""Collections in mode `bounded`: byte for byte what upstream would show, without asking it, and how old."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from lifecycle import load, model_of
from storing import query
from world import Answer, World, world

from proxy.sandbox import Switches

HIT = "syncpoint; hit; detail=age-allowed"


class Time:
    """The proxy's clock."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def pass_by(self, place: World, seconds: float) -> None:
        """Let both clocks show so much more, and forget what was cached for a moment."""
        self.passed += timedelta(seconds=seconds)
        place.sandbox.clock.advance(seconds)
        place.proxy.service.sets._following.clear()


@pytest.fixture
def time() -> Time:
    return Time()


async def followed(place: World) -> None:
    """Poll and sweep everything."""
    await place.proxy.poller.poll(model_of(place))
    query(place.proxy.store._connections._url, "DELETE FROM syncpoint.walks WHERE stage = 'sweep'")
    await place.proxy.sweeper.sweep(model_of(place))
    place.proxy.service.sets._following.clear()


@pytest.fixture
async def place(database_url: str, time: Time) -> AsyncIterator[World]:
    async with world(database_url, rows=120, now=time, sets__AccountSet__mode="bounded") as made:
        await load(made)
        # A check has shown how upstream takes `$select`.
        await made.ask("/AccountSet?$top=3&$filter=Name%20ge%20%27%27", Cache_Control="no-cache")
        await made.idle()
        await made.ask("/AccountSet?$top=3&$filter=Name%20ge%20%27%27")
        time.pass_by(made, 600)
        await followed(made)
        yield made


async def asked(place: World, path: str, **headers: str) -> tuple[Answer, list[str]]:
    """The answer, and what it made the proxy ask upstream."""
    place.clear()
    answer = await place.ask(quote(path, safe="/?&=$(),'%"), **headers)
    return answer, place.upstream_requests()


async def assert_equal(place: World, path: str) -> None:
    """The answer is upstream's, and upstream was not asked."""
    answer, seen = await asked(place, path)
    assert (answer.status, answer.cache, seen) == (200, HIT, []), path
    direct = await place.ask(quote(path, safe="/?&=$(),'%"), direct=True)
    assert answer.text == place.rooted(direct.text), path
    for name in ("Content-Type", "DataServiceVersion"):
        assert answer.headers[name] == direct.headers[name]


def questions(place: World, dice: random.Random) -> Iterator[str]:
    """Queries of the 2011 dialect that have one answer."""
    organisation = place.sandbox.organisation
    keys = organisation.keys("AccountSet")

    def some(name: str) -> object:
        return (organisation.entity("AccountSet", dice.choice(keys)) or {})[name]

    def term() -> str:
        name, city = str(some("Name")), str(some("Address1_City"))
        employees, modified = some("NumberOfEmployees") or 5, some("ModifiedOn")
        assert isinstance(modified, datetime)
        return dice.choice(
            (
                f"AccountId eq guid'{dice.choice(keys)}'",
                f"Name eq '{name.upper()}'"
                if name.isascii() and not set(name) & set("'&")
                else "Name ne null",
                f"substringof('{name[1:4].strip()}',Name)"
                if name[1:4].isalpha() and name.isascii()
                else "Name ne null",
                f"startswith(Address1_City,'{city[:2]}')" if city[:2].isascii() else "Address1_City ne null",
                f"not endswith(Name,'{'d'}')",
                f"NumberOfEmployees {dice.choice(('ge', 'lt', 'eq', 'ne'))} {employees}",
                f"ModifiedOn {dice.choice(('ge', 'lt', 'gt'))} datetime'{modified.isoformat()}'",
                "PrimaryContactId/Id eq null",
                "PrimaryContactId/Id ne null",
                "StateCode/Value eq 0",
                "DoNotEMail eq true",
            )
        )

    while True:
        options = []
        if dice.random() < 0.8:
            joined = f" {dice.choice(('and', 'or'))} ".join(term() for _ in range(dice.choice((1, 1, 2, 3))))
            options.append(f"$filter={joined}")
        if dice.random() < 0.4:
            order = dice.choice(("ModifiedOn", "CreatedOn desc", "NumberOfEmployees desc,ModifiedOn"))
            options += [f"$orderby={order}", f"$top={dice.choice((1, 7, 50))}"]
            if dice.random() < 0.5:
                options.append(f"$skip={dice.choice((0, 3, 500))}")
        if dice.random() < 0.3:
            options.append("$select=Name,ModifiedOn,PrimaryContactId")
        yield f"/AccountSet?{'&'.join(options)}"


async def test_pages_are_upstreams_own_byte_for_byte(place: World) -> None:
    dice = random.Random(7)
    made = questions(place, dice)
    for _ in range(150):
        await assert_equal(place, next(made))


async def test_a_page_shows_the_moment_that_its_age_tells(place: World, time: Time) -> None:
    path = "/AccountSet?$filter=NumberOfEmployees ge 0&$orderby=NumberOfEmployees desc,ModifiedOn&$top=20"
    before = (await place.ask(quote(path, safe="/?&=$(),'%"), direct=True)).text
    key = place.sandbox.organisation.keys("AccountSet")[5]
    organisation = place.sandbox.organisation
    organisation.change("AccountSet", key, {"NumberOfEmployees": 2**30})
    time.pass_by(place, 20)
    answer, seen = await asked(place, path)
    assert (answer.cache, seen, answer.text) == (HIT, [], place.rooted(before))
    assert 20 <= int(answer.headers["Age"]) <= 25
    time.pass_by(place, 20)
    await place.proxy.poller.poll(model_of(place))
    time.pass_by(place, 1)
    await assert_equal(place, path)
    answer, _ = await asked(place, path)
    assert 41 <= int(answer.headers["Age"]) <= 46, "deletes count, and the sweep is older"
    # The sandbox' own tables: nothing that depends on the account goes with it.
    organisation.tables.drop("AccountSet", organisation.keys("AccountSet")[9])
    time.pass_by(place, 10)
    await followed(place)
    time.pass_by(place, 1)
    await assert_equal(place, path)
    time.pass_by(place, 60)
    answer, seen = await asked(place, path)
    assert "detail=checked" in answer.cache
    assert len(seen) == 1


async def test_next_links_are_upstreams_and_lead_on_both_ways(place: World, time: Time) -> None:
    path = "/AccountSet?$filter=StateCode/Value eq 0 or StateCode/Value eq 1&$select=Name"
    await assert_equal(place, path)
    answer, _ = await asked(place, path)
    pages = [answer.json()["d"]]
    while "__next" in pages[-1]:
        url = pages[-1]["__next"]
        place.clear()
        by_mirror = await place.send(url, headers={"Accept": "application/json"})
        assert (by_mirror.cache, place.upstream_requests()) == (HIT, [])
        by_upstream = await place.send(
            url, headers={"Accept": "application/json", "Cache-Control": "no-cache"}
        )
        assert by_upstream.text == by_mirror.text
        pages.append(by_mirror.json()["d"])
    assert [len(page["results"]) for page in pages] == [50, 50, 20]
    assert len({row["__metadata"]["uri"] for page in pages for row in page["results"]}) == 120


# What upstream refuses, what nobody knows, and what depends on the order of strings.
NOT_CERTAIN = [
    "$orderby=Name",
    "$orderby=Name desc&$top=3",
    "$orderby=ModifiedOn",  # its next link is not known
    "$top=60",
    "$skip=3",
    "$top=0",
    "$filter=Name gt 'M'",
    "$filter=Name eq 'Café'",
    "$filter=substringof('a_b',Name)",
    "$filter=Name eq ''",
    "$filter=not (NumberOfEmployees gt 5)",
    "$filter=PrimaryContactId/Name eq 'X'",
    "$filter=length(Name) gt 3",
    "$filter=NumberOfEmployees add 1 gt 3",
    "$filter=AccountId gt guid'00000000-0000-0000-0000-000000000001'",
    "$filter=account_primary_contact/LastName eq 'X'",
    "$filter=Nothing eq 1",
    "$filter=Name eq",
    "$inlinecount=allpages",
    "$expand=account_primary_contact",
    "$format=json",
    "$skiptoken=1,'accountid'",
    "$skiptoken=1,'name','a','b','accountid','%7BX%7D','%7BX%7D'",
]


@pytest.mark.parametrize("options", NOT_CERTAIN)
async def test_what_is_not_certain_is_upstreams_to_answer(place: World, options: str) -> None:
    answer, seen = await asked(place, f"/AccountSet?{options}")
    assert seen
    assert "age-allowed" not in answer.cache
    direct = await place.ask(quote(f"/AccountSet?{options}", safe="/?&=$(),'%"), direct=True)
    assert (answer.status, answer.text) == (direct.status, place.rooted(direct.text))


async def test_credentials_and_directives_ask_upstream(place: World) -> None:
    path = "/AccountSet?$filter=NumberOfEmployees ge 0&$top=3"
    for headers in (
        {"Authorization": "Basic eDp5"},
        {"Cache_Control": "no-cache"},
        {"Cache_Control": "max-age=0"},
    ):
        answer, seen = await asked(place, path, **headers)
        assert (answer.status, len(seen)) == (200, 1)


@pytest.mark.parametrize(
    "doubt",
    [
        "intents = 1",
        "settled = false",
        "conflict = 1",
        "stamp_modified_on = NULL",
    ],
)
async def test_one_row_in_doubt_anywhere_keeps_pages_from_being_certain(
    place: World, time: Time, doubt: str
) -> None:
    path = "/AccountSet?$filter=NumberOfEmployees ge 0&$top=3"
    await assert_equal(place, path)
    url = place.proxy.store._connections._url
    query(
        url,
        f'UPDATE mirror."AccountSet" SET {doubt} WHERE "AccountId" ='
        ' (SELECT "AccountId" FROM mirror."AccountSet" ORDER BY "NumberOfEmployees" NULLS FIRST LIMIT 1)',
    )
    answer, _ = await asked(place, path)
    assert answer.cache == HIT, "what was held at the moment that the age tells is not in doubt"
    time.pass_by(place, 5)
    query(url, "UPDATE syncpoint.following SET polled_at = polled_at + interval '1 second'")
    query(url, "UPDATE syncpoint.following SET swept_at = swept_at + interval '1 second'")
    answer, seen = await asked(place, path)
    assert seen
    assert "detail=checked" in answer.cache


async def test_a_set_that_was_not_loaded_as_a_whole_is_asked_for(database_url: str, time: Time) -> None:
    async with world(database_url, rows=60, now=time, sets__AccountSet__mode="bounded") as place:
        await place.fill("AccountSet")
        time.pass_by(place, 600)
        await followed(place)
        time.pass_by(place, 1)
        answer, seen = await asked(place, "/AccountSet?$filter=NumberOfEmployees ge 0&$top=3")
        assert seen
        assert "age-allowed" not in answer.cache


async def test_a_row_without_modified_on_is_vouched_for_by_its_own_fetch_alone(
    database_url: str, time: Time
) -> None:
    policy = {"sets__AccountSet__mode": "bounded", "sets__AccountSet__deletes_may_lag": True}
    switches = Switches(modified_on="null_on_some", version_number="null")
    path = "/AccountSet?$filter=NumberOfEmployees ge 0&$top=3"
    async with world(database_url, rows=60, now=time, switches=switches, **policy) as place:
        await load(place)
        await place.proxy.poller.poll(model_of(place))
        time.pass_by(place, 5)
        _, seen = await asked(place, path)
        assert seen, "polls look by ModifiedOn"
