"""Random walks: a client reads and writes through the proxy while Dynamics changes behind its back.

After every step a read through the proxy is the answer that Dynamics gives itself, byte for byte. What no
stamp tells of is left out: names that lookups show, and lookups that lose their record (field manual, 7.2).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from world import Hands, World, world

from proxy.sandbox import Switches

STEPS = 150
FOREIGN = "https://crm.example.org"  # how a sandbox with another origin calls itself
UPDATED = re.compile(r"<updated>[^<]*</updated>")
SETS = {"AccountSet": "AccountId", "ContactSet": "ContactId", "TaskSet": "ActivityId"}
TEXTS = ("Description", "Name", "Telephone1", "EMailAddress1", "Subject", "Category", "FirstName")
WORDS = ("", "a", "Zoë", "  ", "O'Hara & Söhne", "<b>", "\\u00e9\\/", "😀", "x" * 300, None)
BEHAVIOURS = {
    "plain": Switches(page_size=7),
    "versions rise": Switches(page_size=7, version_number="rising"),
    "stamps are null here and there": Switches(page_size=7, modified_on="null_on_some"),
    "stamps move for new values only": Switches(page_size=7, modified_on="moves_on_value"),
    "another origin, PUT resets": Switches(page_size=7, root="foreign_origin", put="reset"),
}


class Walk:
    """One client, one organisation, one source of chance."""

    def __init__(self, place: World, hands: Hands, chance: random.Random) -> None:
        self.place = place
        self.hands = hands
        self.chance = chance
        self.organisation = place.sandbox.organisation
        self.hits = 0

    def some_set(self) -> str:
        return self.chance.choice(list(SETS))

    def some_key(self, set_name: str) -> Any:
        keys = self.organisation.keys(set_name)
        return self.chance.choice(keys[:9])  # few, so that they meet

    def path(self, set_name: str) -> str:
        return f"/{set_name}(guid'{self.some_key(set_name)}')"

    def some_texts(self, set_name: str) -> dict[str, Any]:
        properties = self.organisation.entity_set(set_name).entity_type.properties
        # Names of accounts and contacts show in lookups elsewhere.
        linked = {"Name", "FirstName"}
        names = [name for name in TEXTS if name in properties and name not in linked]
        return {name: self.chance.choice(WORDS) for name in self.chance.sample(names, 2)}

    # Steps

    async def behind(self) -> None:
        """Another user of Dynamics changes a record, deletes or makes one, or time goes by."""
        set_name = self.some_set()
        deed = self.chance.random()
        if deed < 0.6:
            self.organisation.change(set_name, self.some_key(set_name), self.some_texts(set_name))
        elif deed < 0.7:
            self.organisation.remove("TaskSet", self.some_key("TaskSet"))
        elif deed < 0.8:
            self.organisation.insert("TaskSet", self.some_texts("TaskSet"))
        else:
            self.hands.advance(self.place, self.chance.choice((0.4, 1, 4, 6, 60)))

    async def write(self) -> None:
        """The same write would get this answer from Dynamics itself, but it can be sent only once."""
        method = self.chance.choice(("MERGE", "MERGE", "PUT", "tunnelled", "property", "POST", "DELETE"))
        # Where a PUT resets, it resets names as well, which show in lookups elsewhere.
        set_name = "TaskSet" if method == "PUT" else self.some_set()
        text = json.dumps(self.some_texts(set_name)).encode()
        headers = {"Content_Type": "application/json"}
        if method == "POST":
            answer = await self.place.ask(f"/{set_name}", "POST", body=text, **headers)
            assert answer.status == 201
            key = answer.json()["d"][SETS[set_name]]
            await self.same(f"/{set_name}(guid'{key}')")
        elif method == "DELETE":
            answer = await self.place.ask(self.path("TaskSet"), "DELETE")
            assert answer.status == 204
        elif method == "property":
            path = self.path(set_name) + "/Description"
            answer = await self.place.ask(path, "PUT", body=b'{"Description":"one"}', **headers)
            assert answer.status == 204
        elif method == "tunnelled":
            answer = await self.place.ask(
                self.path(set_name), "POST", body=text, X_HTTP_Method="MERGE", **headers
            )
            assert answer.status == 204
        else:
            answer = await self.place.ask(self.path(set_name), method, body=text, **headers)
            assert answer.status == 204

    async def read(self) -> None:
        set_name = self.some_set()
        select = f"$select={SETS[set_name]},Description,ModifiedOn"
        options: list[str] = [
            "",
            "?",
            f"?{select}",
            "?$select=Description",
            f"?_={self.chance.randrange(99)}&{select}",
        ]
        lists = [
            "?$top=5",
            f"?$orderby=ModifiedOn desc&{select}",
            "?$filter=Description ne null",
            "?$skip=3&$orderby=Description",
            f"?$filter=substringof('a',Description)&{select}",
            "?$top=9&$orderby=CreatedOn desc",
        ]
        if self.chance.random() < 0.5:
            path = self.path(set_name) + self.chance.choice(options)
        else:
            path = f"/{set_name}" + self.chance.choice(lists + options).replace(" ", "%20")
        accept = self.chance.choice(("application/json", "application/json", "application/atom+xml"))
        await self.same(path, accept)

    async def same(self, path: str, accept: str = "application/json") -> None:
        """A read of `path`, and of a page that its answer links to."""
        for _ in range(3):
            direct = await self.place.ask(path, direct=True, Accept=accept)
            answer = await self.place.ask(path, Accept=accept)
            self.hits += "; hit" in answer.cache
            assert answer.status == direct.status, path
            expected = self.place.rooted(direct.text.replace(FOREIGN, self.place.proxy.url))
            shown, meant = (UPDATED.sub("", text) for text in (answer.text, expected))
            assert shown == meant, f"{path} as {accept}: {answer.cache}"
            link = re.search(r'"__next": ?"[^"]*?\.svc(/[^"]+)"', answer.text)
            if link is None:
                return
            path = link[1]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_every_answer_is_dynamics_own(database_url: str, behaviour: str) -> None:
    seed = int(os.environ.get("SYNCPOINT_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SYNCPOINT_TEST_SEED={seed}")
    hands = Hands()
    async with world(database_url, rows=20, switches=BEHAVIOURS[behaviour], now=hands.now) as place:
        walk = Walk(place, hands, random.Random(seed))
        steps: list[Callable[[], Any]] = [walk.behind, walk.write, walk.read, walk.read, walk.read]
        for _ in range(STEPS):
            await walk.chance.choice(steps)()
        await place.idle()
        assert walk.hits


@pytest.mark.parametrize("version_number", ["null", "rising"])
async def test_no_read_is_older_than_its_request(database_url: str, version_number: Any) -> None:
    """Rule 1 under load: changes count up, and a read shows a count from between its start and its end."""
    seed = int(os.environ.get("SYNCPOINT_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SYNCPOINT_TEST_SEED={seed}")
    chance = random.Random(seed)
    hands = Hands()
    switches = Switches(version_number=version_number)
    async with world(database_url, rows=4, switches=switches, now=hands.now) as place:
        organisation = place.sandbox.organisation
        keys = organisation.keys("TaskSet")[:3]
        for key in keys:
            organisation.change("TaskSet", key, {"Subject": "0"})
        in_turn = {key: asyncio.Lock() for key in keys}
        hits = 0

        def count(key: Any) -> int:
            return int((organisation.entity("TaskSet", key) or {})["Subject"])

        async def change(key: Any) -> None:
            async with in_turn[key]:
                text = str(count(key) + 1)
                if chance.random() < 0.5:
                    organisation.change("TaskSet", key, {"Subject": text})
                else:
                    await place.merge(f"/TaskSet(guid'{key}')", f'{{"Subject":"{text}"}}')

        async def read(path: str) -> None:
            nonlocal hits
            before = {key: count(key) for key in keys}
            answer = await place.ask(path)
            hits += "; hit" in answer.cache
            shown = answer.json()["d"]
            for entity in shown.get("results", [shown]):
                key = uuid.UUID(entity["ActivityId"])
                if key in before:
                    assert before[key] <= int(entity["Subject"]) <= count(key), answer.cache

        async def client() -> None:
            for _ in range(60):
                key = chance.choice(keys)
                deed = chance.random()
                if deed < 0.2:
                    await change(key)
                elif deed < 0.4:
                    hands.advance(place, chance.choice((0.3, 3, 9)))
                elif deed < 0.8:
                    await read(f"/TaskSet(guid'{key}')")
                else:
                    await read("/TaskSet?$orderby=CreatedOn")

        await asyncio.gather(*(client() for _ in range(6)))
        assert hits
