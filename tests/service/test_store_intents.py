"""Write intents on a real Postgres: opened, listed, settled; rules 5 and 6."""

from __future__ import annotations

import pytest
from storing import (
    ACCOUNTS,
    LINES,
    MODEL,
    NOW,
    REFRESH,
    TASKS,
    WRITE,
    a_model,
    account,
    an_intent,
    query,
    revisions,
    state,
    task,
)

from proxy.odata.edm import EntitySet
from proxy.odata.uri import format_key
from proxy.reconcile.ports import Intent, NewConflict, Outcome, Settlement, Stored, StoreUnavailable, Touched
from proxy.store import PostgresStore

LINE = (("Order", "o'1"), ("Line", 1))


async def row(store: PostgresStore, number: int = 1, entity_set: EntitySet = ACCOUNTS) -> Stored | None:
    key = account(number) if entity_set is ACCOUNTS else task(number)
    return (await store.get(entity_set, [key])).get(key)


async def settle(store: PostgresStore, intent: Intent, outcome: Outcome, **shown: object) -> None:
    number = await store.next_fetch_number()
    await store.settle_intent(intent, Settlement(outcome, number, **shown))  # type: ignore[arg-type]


async def test_opening_marks_what_is_held_and_what_is_not(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    drawn = await store.next_fetch_number()
    intent = await store.open_intent(an_intent(account(1), Touched(TASKS, task(1)), Touched(LINES, LINE)))
    assert intent.fetch_number > drawn
    known = await row(store)
    assert known is not None
    assert (known.document, known.intents, known.settled) == (state(account(1), 0, "a").document, 1, False)
    assert (known.fetch_number, known.fetched_at) == (intent.fetch_number, NOW)
    for entity_set, key in ((TASKS, task(1)), (LINES, LINE)):
        bare = (await store.get(entity_set, [key]))[key]
        assert (bare.document, bare.deleted_at, bare.intents, bare.settled) == (None, None, 1, False)
        assert (bare.fetch_number, bare.fetched_at) == (intent.fetch_number, NOW)


async def test_a_higher_number_of_a_row_stays(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 10_000)], REFRESH)
    await store.open_intent(an_intent(account(1)))
    known = await row(store)
    assert known is not None
    assert known.fetch_number == 10_000


async def test_an_entity_named_twice_is_counted_once(store: PostgresStore) -> None:
    intent = await store.open_intent(
        an_intent(account(1), Touched(TASKS, task(1)), Touched(ACCOUNTS, account(1)), Touched(TASKS, task(1)))
    )
    assert intent.touched == [("TaskSet", task(1))]
    known = await row(store)
    assert known is not None
    assert known.intents == 1
    await settle(store, intent, Outcome.REFUSED)
    assert await row(store) is None


async def test_open_intents_are_listed_oldest_first(store: PostgresStore) -> None:
    first = await store.open_intent(an_intent(account(1), Touched(LINES, LINE)))
    second = await store.open_intent(an_intent(None))
    third = await store.open_intent(an_intent(LINE, entity_set=LINES))
    assert await store.open_intents() == [first, second, third]
    assert await store.open_intents(limit=1) == [first]
    assert await store.intents_of(ACCOUNTS, account(1)) == [first]
    assert await store.intents_of(LINES, LINE) == [first, third]
    assert await store.intents_of(ACCOUNTS, account(2)) == []
    await settle(store, first, Outcome.UNDETERMINED)
    assert await store.open_intents() == [second, third]
    assert await store.intents_of(ACCOUNTS, account(1)) == []


async def test_a_target_that_postgres_cannot_hold_is_not_written_to(
    store: PostgresStore, database_url: str
) -> None:
    with pytest.raises(StoreUnavailable):
        await store.open_intent(an_intent((("Order", "\x00"), ("Line", 1)), entity_set=LINES))
    assert query(database_url, "SELECT count(*) FROM syncpoint.intents") == [(0,)]


async def test_an_applied_write_is_stored_recorded_and_closed(
    store: PostgresStore, database_url: str
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    written = state(account(1), number, "b")
    await store.settle_intent(intent, Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, written)]))
    assert await row(store) == Stored(
        account(1), written.document, written.stamp, written.digest, True, number, NOW
    )
    columns = "source, user_name, client, request_id, method, fetch_number, document"
    assert revisions(database_url, columns)[1:] == [
        ("client write", "writer", "10.0.0.2", "w-1", "MergeEntity", number, written.document)
    ]
    assert query(database_url, "SELECT outcome, closed_at IS NOT NULL FROM syncpoint.intents") == [
        ("applied", True)
    ]


async def test_an_applied_write_is_in_the_history_though_nothing_changed(
    store: PostgresStore, database_url: str
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    same = state(account(1), number, "a")
    await store.settle_intent(intent, Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, same)]))
    assert revisions(database_url, "source") == ["upstream refresh", "client write"]


async def test_a_refused_write_leaves_the_row_but_for_the_next_fetch(
    store: PostgresStore, database_url: str
) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    await settle(store, intent, Outcome.REFUSED)
    known = await row(store)
    assert known is not None
    assert (known.document, known.intents, known.settled) == (state(account(1), 0, "a").document, 0, False)
    assert len(revisions(database_url)) == 1


async def test_marks_of_entities_never_seen_go_with_the_intent(store: PostgresStore) -> None:
    intent = await store.open_intent(an_intent(account(1), Touched(TASKS, task(1))))
    other = await store.open_intent(an_intent(None, Touched(TASKS, task(1))))
    await settle(store, intent, Outcome.REFUSED)
    assert await row(store) is None
    bare = await row(store, 1, TASKS)
    assert bare is not None
    assert bare.intents == 1
    await settle(store, other, Outcome.REFUSED)
    assert await row(store, 1, TASKS) is None


async def test_a_create_is_stored_under_the_key_that_upstream_made(
    store: PostgresStore, database_url: str
) -> None:
    intent = await store.open_intent(an_intent(None, Touched(TASKS, task(1))))
    created = state(account(5), intent.fetch_number, "new")
    await store.settle_intent(
        intent,
        Settlement(
            Outcome.APPLIED,
            intent.fetch_number,
            seen=[(ACCOUNTS, created)],
            written=[Touched(ACCOUNTS, account(5))],
        ),
    )
    known = await row(store, 5)
    assert known is not None
    assert (known.document, known.fetch_number) == (created.document, intent.fetch_number)
    assert revisions(database_url, "source, document") == [("client write", created.document)]


async def test_a_create_that_the_poller_saw_first_is_in_the_history_all_the_same(
    store: PostgresStore, database_url: str
) -> None:
    intent = await store.open_intent(an_intent(None))
    await store.put(ACCOUNTS, [state(account(5), intent.fetch_number + 50, "new")], REFRESH)
    created = state(account(5), intent.fetch_number, "new")
    await store.settle_intent(
        intent,
        Settlement(
            Outcome.APPLIED,
            intent.fetch_number,
            seen=[(ACCOUNTS, created)],
            written=[Touched(ACCOUNTS, account(5))],
        ),
    )
    known = await row(store, 5)
    assert known is not None
    assert known.fetch_number == intent.fetch_number + 50
    assert revisions(database_url, "source") == ["upstream refresh", "client write"]


async def test_a_state_shown_by_the_answer_itself_outranks_the_own_mark_only(store: PostgresStore) -> None:
    intent = await store.open_intent(an_intent(account(1)))
    answer = state(account(1), intent.fetch_number, "answered")
    await store.settle_intent(
        intent, Settlement(Outcome.APPLIED, intent.fetch_number, seen=[(ACCOUNTS, answer)])
    )
    known = await row(store)
    assert known is not None
    assert known.document == answer.document


async def test_a_delete_leaves_a_tombstone(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    await settle(store, intent, Outcome.APPLIED, removed=[Touched(ACCOUNTS, account(1))])
    known = await row(store)
    assert known is not None
    assert (known.document, known.intents, known.deleted_at is None) == (None, 0, False)
    assert revisions(database_url, "source, deleted") == [("upstream refresh", False), ("client write", True)]


async def test_a_delete_of_an_entity_never_seen_leaves_a_tombstone(store: PostgresStore) -> None:
    intent = await store.open_intent(an_intent(account(1)))
    await settle(store, intent, Outcome.APPLIED, removed=[Touched(ACCOUNTS, account(1))])
    known = await row(store)
    assert known is not None
    assert known.deleted_at is not None


async def test_what_is_stale_is_to_be_fetched(store: PostgresStore) -> None:
    await store.put(TASKS, [state(task(1), 0), state(task(2), 0)], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    stale = [Touched(TASKS, task(1)), Touched(TASKS, task(9)), Touched(TASKS, task(1))]
    await settle(store, intent, Outcome.APPLIED, stale=stale)
    first, second, none = [await row(store, number, TASKS) for number in (1, 2, 9)]
    assert first is not None
    assert second is not None
    assert (first.settled, second.settled, none) == (False, True, None)


async def test_a_state_never_seen_is_recorded_by_its_request(store: PostgresStore, database_url: str) -> None:
    await store.put(ACCOUNTS, [state(account(1), 0, "a")], REFRESH)
    intent = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    others = state(account(1), number, "somebody else's")
    await store.settle_intent(
        intent,
        Settlement(
            Outcome.APPLIED,
            number,
            seen=[(ACCOUNTS, others)],
            unseen=[Touched(ACCOUNTS, account(1))],
        ),
    )
    assert revisions(database_url, "source, user_name, unseen, document")[1:] == [
        ("client write", "writer", True, '{"Name":"posted"}'),
        ("settlement", None, False, others.document),
    ]


async def test_a_batch_records_each_entity_it_wrote_and_tells_its_own_states_from_others(
    store: PostgresStore, database_url: str
) -> None:
    held = [state(account(number), 0, "held") for number in (1, 2, 3, 4)]
    await store.put(ACCOUNTS, held, REFRESH)
    named = [Touched(ACCOUNTS, account(number)) for number in (1, 2, 3, 4)] + [Touched(TASKS, task(1))]
    intent = await store.open_intent(an_intent(None, *named))
    number = await store.next_fetch_number()
    await store.settle_intent(
        intent,
        Settlement(
            Outcome.APPLIED,
            number,
            seen=[
                (ACCOUNTS, state(account(1), number, "held")),
                (ACCOUNTS, state(account(2), number, "somebody else's")),
                (ACCOUNTS, state(account(4), number, "held")),
                (ACCOUNTS, state(account(5), number, "made")),
                (TASKS, state(task(1), number, "made")),
            ],
            removed=[Touched(ACCOUNTS, account(3))],
            written=[
                *(Touched(ACCOUNTS, account(number)) for number in (1, 2, 3, 5)),
                Touched(TASKS, task(1)),
            ],
            unseen=[Touched(ACCOUNTS, account(2))],
        ),
    )
    found = revisions(database_url, "entity_key, source, unseen, deleted")[4:]
    one, two, three, five = (format_key(account(number)) for number in (1, 2, 3, 5))
    assert sorted(found) == sorted(
        [
            (one, "client write", False, False),
            (two, "client write", True, False),
            (two, "settlement", False, False),
            (three, "client write", False, True),
            (five, "client write", False, False),
            (format_key(task(1)), "client write", False, False),
        ]
    )
    for number in (1, 2, 4):
        known = await row(store, number)
        assert known is not None
        assert known.intents == 0


async def test_a_body_that_is_no_text_is_recorded_as_far_as_it_is(
    store: PostgresStore, database_url: str
) -> None:
    new = an_intent(account(1))
    intent = await store.open_intent(
        type(new)(**{name: getattr(new, name) for name in new.__slots__} | {"body": b"\x00\xff{"})
    )
    assert (await store.open_intents())[0].body == b"\x00\xff{"
    await settle(store, intent, Outcome.APPLIED, unseen=[Touched(ACCOUNTS, account(1))])
    assert revisions(database_url) == ["��{"]


async def test_a_settlement_without_certainty_is_not_the_clients_revision(
    store: PostgresStore, database_url: str
) -> None:
    intent = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    shown = state(account(1), number, "found")
    await store.settle_intent(intent, Settlement(Outcome.UNDETERMINED, number, seen=[(ACCOUNTS, shown)]))
    assert revisions(database_url, "source, user_name, request_id") == [
        ("settlement", None, WRITE.request_id)
    ]
    known = await row(store)
    assert known is not None
    assert known.document == shown.document


async def test_settled_twice_is_settled_once(store: PostgresStore, database_url: str) -> None:
    first = await store.open_intent(an_intent(account(1)))
    second = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    ending = Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, state(account(1), number, "b"))])
    await store.settle_intent(first, ending)
    await store.settle_intent(first, ending)
    await settle(store, first, Outcome.REFUSED)
    known = await row(store)
    assert known is not None
    assert known.intents == 1
    assert len(revisions(database_url)) == 1
    assert query(database_url, "SELECT outcome FROM syncpoint.intents ORDER BY id") == [("applied",), (None,)]
    assert await store.open_intents() == [second]


async def test_of_two_writers_the_last_wins_and_both_are_in_the_history(
    store: PostgresStore, database_url: str
) -> None:
    first = await store.open_intent(an_intent(account(1)))
    second = await store.open_intent(an_intent(account(1)))
    early, late = await store.next_fetch_number(), await store.next_fetch_number()
    for intent, number in ((second, late), (first, early)):
        shown = state(account(1), number, f"by {intent.id}")
        await store.settle_intent(intent, Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, shown)]))
        known = await row(store)
        assert known is not None
        assert known.document == state(account(1), late, f"by {second.id}").document
    assert known.intents == 0
    assert revisions(database_url, "fetch_number") == [late, early]


async def test_side_effects_are_stored_only_where_no_other_writer_is_at_work(store: PostgresStore) -> None:
    await store.open_intent(an_intent(task(1), entity_set=TASKS))
    mine = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    shown = [
        (ACCOUNTS, state(account(1), number, "a")),
        (TASKS, state(task(1), number)),
        (TASKS, state(task(2), number)),
    ]
    await store.settle_intent(mine, Settlement(Outcome.APPLIED, number, seen=shown))
    held = [known and known.document for known in [await row(store, n, TASKS) for n in (1, 2)]]
    assert held == [None, state(task(2), number).document]


async def test_settling_clears_the_conflict(store: PostgresStore) -> None:
    await store.put(ACCOUNTS, [state(account(1), 1, "a")], REFRESH)
    known = await row(store)
    assert known is not None
    assert await store.record_conflict(NewConflict(ACCOUNTS, known, state(account(1), 2, "old"), NOW, "r"))
    intent = await store.open_intent(an_intent(account(1)))
    number = await store.next_fetch_number()
    await store.settle_intent(
        intent, Settlement(Outcome.APPLIED, number, seen=[(ACCOUNTS, state(account(1), number, "b"))])
    )
    known = await row(store)
    assert known is not None
    assert known.conflict is None
    assert await store.conflict_count(ACCOUNTS) == 0


async def test_intents_of_a_set_that_is_unknown_for_now_wait(store: PostgresStore) -> None:
    intent = await store.open_intent(an_intent(account(1), Touched(TASKS, task(1))))
    store.use_model(a_model(ACCOUNTS))
    assert await store.open_intents() == []
    store.use_model(MODEL)
    assert await store.open_intents() == [intent]
