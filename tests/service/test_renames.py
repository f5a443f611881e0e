"""A renamed entity: one stored record, and whoever shows its old name is fetched again when next read."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

from storing import ACCOUNTS, LINES, REFRESH, account, query, state
from world import world

from proxy.reconcile.ports import Query
from proxy.store import PostgresStore

CONTACT = uuid.UUID(int=77)


def referring(number: int, fetch_number: int, to: uuid.UUID | None = CONTACT) -> Any:
    values = {
        **dict(account(number)),
        "Name": "a",
        "PrimaryContactId": {"Id": to, "LogicalName": "contact", "Name": "Old"},
    }
    return state(account(number), fetch_number, "a", values=values)


async def test_who_refers_to_a_renamed_entity_is_not_settled(store: PostgresStore, database_url: str) -> None:
    renamed = account(CONTACT.int)
    await store.put(ACCOUNTS, [referring(1, 1), referring(2, 9), referring(3, 1, None)], REFRESH)
    first = '{"Name": "Old", "City": "x"}'
    await store.put(ACCOUNTS, [state(renamed, 2, "1", document=first)], REFRESH)
    await store.put(ACCOUNTS, [state(renamed, 3, "2", document=first.replace("x", "y"))], REFRESH)
    assert query(database_url, "SELECT count(*) FROM syncpoint.renames") == [(0,)]
    await store.put(ACCOUNTS, [state(renamed, 4, "3", document=first.replace("Old", "New"))], REFRESH)
    await store.put(ACCOUNTS, [state(renamed, 5, "4", document=first.replace("Old", "Newer"))], REFRESH)
    assert query(database_url, "SELECT id::text, fetch_number FROM syncpoint.renames") == [(str(CONTACT), 5)]
    rows = await store.get(ACCOUNTS, [account(number) for number in (1, 2, 3)])
    assert [rows[account(number)].settled for number in (1, 2, 3)] == [False, True, True]
    found = {row.key: row.settled for row in (await store.find(Query(ACCOUNTS))).rows}
    assert [found[account(number)] for number in (1, 2, 3)] == [False, True, True]
    await store.touch(ACCOUNTS, [replace(referring(1, 6), stamp=referring(1, 1).stamp)])
    assert (await store.get(ACCOUNTS, [account(1)]))[account(1)].settled


async def test_the_learned_title_is_the_name(store: PostgresStore, database_url: str) -> None:
    query(
        database_url,
        "INSERT INTO syncpoint.set_states (entity_set, title, proven, lies, hits_audited) "
        "VALUES ('AccountSet', 'City', '{}', 0, 0)",
    )
    await store.put(ACCOUNTS, [state(account(1), 1, "1", document='{"Name": "a", "City": "x"}')], REFRESH)
    await store.put(ACCOUNTS, [state(account(1), 2, "2", document='{"Name": "b", "City": "x"}')], REFRESH)
    assert query(database_url, "SELECT * FROM syncpoint.renames") == []
    await store.put(ACCOUNTS, [state(account(1), 3, "3", document='{"Name": "b", "City": "y"}')], REFRESH)
    assert len(query(database_url, "SELECT * FROM syncpoint.renames")) == 1


async def test_sets_without_lookups_or_with_other_keys_are_none_the_worse(store: PostgresStore) -> None:
    key = (("Order", "o"), ("Line", 1))
    await store.put(LINES, [state(key, 1, "1")], REFRESH)
    await store.put(LINES, [state(key, 2, "2")], REFRESH)
    assert (await store.get(LINES, [key]))[key].settled


async def test_a_rename_upstream_is_shown_by_the_next_read_of_who_refers_to_it(database_url: str) -> None:
    async with world(database_url) as place:
        organisation = place.sandbox.organisation
        referrer, parent = organisation.keys("AccountSet")[:2]
        reference = {"Id": parent, "LogicalName": "account", "Name": None}
        long_ago = datetime(2016, 5, 1, 12, 30)
        organisation.change("AccountSet", referrer, {"ParentAccountId": reference}, modified_on=long_ago)
        for key in (parent, referrer, referrer):
            answer = await place.ask(f"/AccountSet(guid'{key}')")
        assert "hit" in answer.cache
        unmoved = organisation.entity("AccountSet", referrer)
        assert unmoved is not None
        place.clear()
        await place.merge(f"/AccountSet(guid'{parent}')", '{"Name":"Renamed"}')
        moved = organisation.entity("AccountSet", referrer)
        assert moved is not None
        assert moved["ModifiedOn"] == unmoved["ModifiedOn"]
        path = f"/AccountSet(guid'{referrer}')"
        direct = await place.ask(path, direct=True)
        answer = await place.ask(path)
        assert answer.text == place.rooted(direct.text)
        assert answer.json()["d"]["ParentAccountId"]["Name"] == "Renamed"
        assert query(database_url, "SELECT count(*) FROM syncpoint.renames") == [(1,)]
        assert "hit" in (await place.ask(path)).cache
