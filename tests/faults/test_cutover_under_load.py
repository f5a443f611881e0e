"""A cutover and the way back while clients read and write through two proxies: nobody notices."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from lifecycle import load, model_of
from moving_sets import UNIT, a_cutover, a_plan, authorities, verify
from storing import query, until
from world import Answer, World, world

from proxy.app import running
from proxy.reconcile.way_back import WayBack
from proxy.settings import Settings

ENTITIES = 3


class Client:
    """Writes rising numbers to one account through one proxy, and reads it through the other."""

    def __init__(self, place: World, number: int, proxies: list[str]) -> None:
        root = urlsplit(place.direct_root).path
        self._place = place
        self._path = f"{root}/AccountSet(guid'{place.a_key('AccountSet', number)}')"
        self._writes_at, self._reads_at = proxies[number % 2], proxies[(number + 1) % 2]
        self.key = place.a_key("AccountSet", number)
        self.acknowledged = 0
        self.problems: list[str] = []
        self.stops = False

    async def write(self) -> None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        while not self.stops:
            body = f'{{"Name":"{self.acknowledged + 1}"}}'.encode()
            answer = await self._place.send(self._writes_at + self._path, "MERGE", headers, body)
            if answer.status != 204:
                self._tell("write", answer)
                return
            self.acknowledged += 1

    async def read(self) -> None:
        while not self.stops:
            before = self.acknowledged
            answer = await self._place.send(
                self._reads_at + self._path, headers={"Accept": "application/json"}
            )
            if answer.status != 200:
                self._tell("read", answer)
            elif not before <= self._number(answer) <= self.acknowledged + 1:
                self._tell(f"read after {before}", answer)

    def _number(self, answer: Answer) -> int:
        name = answer.json()["d"]["Name"]
        return int(name) if name.isdigit() else 0

    def _tell(self, what: str, answer: Answer) -> None:
        self.stops = True
        self.problems.append(f"{what}: {answer.status} {answer.cache} {answer.text[:300]}")


async def test_no_request_fails_and_no_write_is_lost_or_sent_twice(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(world(database_url, rows=12))
        assert await load(place, *model_of(place).entity_sets)
        await verify(place)
        overrides = {
            "listen": "127.0.0.1:0",
            "services_listen": "127.0.0.1:0",
            "database_url": database_url,
            "upstream.service_root": place.direct_root,
            "background.enabled": False,
            "sync.audit_share": 0.0,
        }
        settings = Settings.load(None, overrides, environment={})
        other = await stack.enter_async_context(running(settings))
        proxies = ["{0.scheme}://{0.netloc}".format(urlsplit(each.url)) for each in (place.proxy, other)]
        clients = [Client(place, number, proxies) for number in range(ENTITIES)]
        place.clear()
        tasks = [asyncio.create_task(work()) for one in clients for work in (one.write, one.read)]

        async def some_more() -> None:
            reached = [one.acknowledged + 5 for one in clients]
            await until(
                lambda: (
                    any(one.problems for one in clients)
                    or all(one.acknowledged >= goal for one, goal in zip(clients, reached, strict=True))
                )
            )

        try:
            await some_more()
            cutover = a_cutover(place)
            await cutover.move(a_plan())
            await some_more()
            assert authorities(database_url) == dict.fromkeys(UNIT, "mirror")
            back = WayBack(place.proxy.store, model_of(place), cutover.alone, lambda _: None)
            assert await back.move(a_plan()) == []
            await some_more()
        finally:
            for one in clients:
                one.stops = True
            await asyncio.gather(*tasks, return_exceptions=True)
        assert [problem for one in clients for problem in one.problems] == []
        assert [task.exception() for task in tasks] == [None] * len(tasks)
        # Each write was carried out once by upstream: at once, or on the way back.
        merges = sum(seen.startswith("MERGE") for seen in place.upstream_requests())
        assert merges == sum(one.acknowledged for one in clients)
        ((locally,),) = query(database_url, "SELECT count(*) FROM syncpoint.local_writes")
        assert 5 * ENTITIES <= locally < merges
        for one in clients:
            (name,) = query(
                database_url, 'SELECT "Name" FROM mirror."AccountSet" WHERE "AccountId" = %s', one.key
            )[0]
            assert name == str(one.acknowledged)
        assert query(database_url, "SELECT count(*) FROM syncpoint.conflicts") == [(0,)]
