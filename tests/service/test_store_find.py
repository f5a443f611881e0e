"""Questions to the mirror: comparisons, paths, order, pages, counts, and what Postgres cannot work out."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import storing
from things import BOXES, LIDS, MODEL, RELATIONSHIPS, THINGS

from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.relationships import Relationship, Relationships
from proxy.reconcile.ports import Found, Provenance, Query, Related, Source, StoreUnavailable
from proxy.sandbox import collation
from proxy.store import PostgresStore

ROWS: list[dict[str, Any]] = [
    {"Name": "Café", "Whole": 5, "Amount": Decimal("0.10"), "InBox": 1, "Flag": True},
    {"Name": "CAFE  ", "Whole": -5, "Amount": Decimal(100), "InBox": 2, "ParentThingId": 1},
    {"Name": None, "Whole": None, "Flag": False, "InBox": 3},
    {"Name": "50% [of] it_", "Whole": 2**31 - 1, "Big": 2**62, "ParentThingId": 2},
    {"Name": "O'Brien\\", "Whole": 0, "Real": 0.5, "Moment": datetime(2016, 8, 25, 16, 0, 1)},
]
BOX_ROWS: list[dict[str, Any]] = [
    {"Name": "Red", "Size": 1},
    {"Name": "Blue", "Size": 2, "WithinBoxId": 1},
    {"Name": "Gone", "Size": 3},
]


def key(number: int, entity_set: EntitySet = THINGS) -> EntityKey:
    # The twelfth byte weighs more than the fourth, so both orders of uuids show.
    return ((entity_set.entity_type.key[0], uuid.UUID(fields=(1000 - number, 0, 0, 0, 0, number))),)


def reference(entity_set: EntitySet, number: int) -> dict[str, Any]:
    return {"Id": key(number, entity_set)[0][1], "LogicalName": entity_set.entity_type.name.lower()}


async def put(store: PostgresStore, entity_set: EntitySet, number: int, values: dict[str, Any]) -> None:
    for name, target in (("InBox", BOXES), ("ParentThingId", THINGS), ("WithinBoxId", BOXES)):
        if isinstance(values.get(name), int):
            values = {**values, name: reference(target, values[name])}
    state = storing.state(key(number, entity_set), 1, values=values, document=f"{number}")
    await store.put(entity_set, [state], Provenance(Source.UPSTREAM_REFRESH))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    """Things 1 to 5 and boxes 1 to 3, the last of which is a tombstone."""
    made = PostgresStore(database_url, MODEL)
    for number, values in enumerate(ROWS, 1):
        await put(made, THINGS, number, values)
    for number, values in enumerate(BOX_ROWS, 1):
        await put(made, BOXES, number, values)
    for number, (thing, box) in enumerate([(1, 1), (1, 2), (1, 2), (2, 1), (2, 3)], 1):
        pair = {"ThingId": key(thing)[0][1], "BoxId": key(box, BOXES)[0][1]}
        await put(made, LIDS, number, pair)
    await made.bury(BOXES, key(3, BOXES), 9, Provenance(Source.UPSTREAM_REFRESH))
    yield made
    await made.close()


def a_query(
    filter_text: str = "", orderby: str = "", entity_set: EntitySet = THINGS, **options: Any
) -> Query:
    return Query(
        entity_set,
        bind_filter(parse_filter(filter_text), entity_set, MODEL, RELATIONSHIPS) if filter_text else None,
        bind_orderby(parse_orderby(orderby), entity_set, MODEL, RELATIONSHIPS) if orderby else (),
        **options,
    )


def numbers(found: Found) -> str:
    return "".join(row.document or "-" for row in found.rows)


async def answer(store: PostgresStore, filter_text: str = "", orderby: str = "", **options: Any) -> str:
    """The numbers of the things found, in their order."""
    return numbers(await store.find(a_query(filter_text, orderby, **options)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name eq 'cafe'", "12"),
        ("Name ne 'cafe'", "345"),
        ("not (Name eq 'cafe')", "345"),
        ("Name eq null", "3"),
        ("startswith(Name,'CAFÉ')", "12"),
        ("endswith(Name,'e')", "1"),
        ("substringof('% [OF] IT_',Name)", "4"),
        ("substringof('_',Name)", "4"),
        ("Name eq 'o''brien\\'", "5"),
        ("Name eq '%(v0)s %s %%'", ""),
        ("Whole eq 5 or Whole eq 0 or Name eq null", "135"),
        ("Name eq 'cafe' or Name eq 'O''BRIEN\\'", "125"),
        ("Amount eq 0.1", "1"),
        ("Whole gt -5.5 and Whole lt 1M", "25"),
        ("Big gt 4611686018427387903", "4"),
        ("Moment gt datetime'2016-08-25T16:00:00.999'", "5"),
        ("Flag", "1"),
        ("not Flag", "2345"),
        ("Flag eq false", "3"),
        ("(Name eq 'cafe') eq (Whole eq 5)", "1345"),
        # Paths.
        ("box/Name eq 'RED'", "1"),
        ("box/within/Name eq 'red'", "2"),
        ("parent/box/Size eq 1", "2"),
        ("parent/parent/Name eq 'cafe'", "4"),
        ("box eq null", "345"),
        ("box/Size ne 1", "2345"),
        ("InBox/Id ne null", "123"),
        ("InBox/LogicalName eq 'box'", "123"),
    ],
)
async def test_a_filter_finds_what_it_says(store: PostgresStore, text: str, expected: str) -> None:
    assert await answer(store, text) == expected
    assert await store.count_of(a_query(text)) == len(expected)


@pytest.mark.parametrize(
    ("orderby", "expected"),
    [
        ("", "12345"),
        ("ThingId desc", "54321"),
        ("Name", "34125"),
        ("Name desc", "51243"),
        ("Whole", "32514"),
        ("Flag desc,Whole desc", "13452"),
        ("box/Name", "34521"),
        ("box/within/Name desc,Whole", "23514"),
        ("length(Name) desc", "45213"),
        ("Whole mul 2L desc", "41523"),
        ("null,Name eq null desc", "31245"),
    ],
)
@pytest.mark.parametrize("page", [1, 2, 50])
async def test_an_order_holds_through_all_pages(
    store: PostgresStore, orderby: str, expected: str, page: int
) -> None:
    query = a_query("", orderby, page=page)
    seen = ""
    while True:
        found = await store.find(query)
        assert len(found.rows) == page or found.next is None
        seen += numbers(found)
        if found.next is None:
            break
        query = a_query("", orderby, page=page, after=found.next)
    assert seen == expected


@pytest.mark.parametrize(
    ("options", "expected", "more"),
    [
        ({"top": 2}, "12", False),
        ({"top": 0}, "", False),
        ({"top": 3, "page": 2}, "12", True),
        ({"top": 2, "page": 2}, "12", False),
        ({"skip": 3}, "45", False),
        ({"skip": 9}, "", False),
        ({"skip": 1, "page": 2}, "23", True),
        ({"page": 5}, "12345", False),
    ],
)
async def test_a_page_is_cut_and_says_whether_there_is_more(
    store: PostgresStore, options: dict[str, int], expected: str, more: bool
) -> None:
    found = await store.find(a_query(count=True, **options))
    assert (numbers(found), found.next is not None, found.total) == (expected, more, 5)


async def test_a_row_that_comes_or_goes_between_pages_shifts_nothing(store: PostgresStore) -> None:
    found = await store.find(a_query("", "Name", page=3))
    assert numbers(found) == "341"
    await store.bury(THINGS, key(3), 9, Provenance(Source.UPSTREAM_REFRESH))
    await put(store, THINGS, 6, {"Name": "Aaa"})
    assert await answer(store, "", "Name", after=found.next) == "25"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é",
        "bm8",
        "WzFd",
        "e30",
        "W251bGwsbnVsbCxudWxsXQ",
        "W1sxXSxbMl1d",
        "WyIneCciLCJ4Il0",
        "W10=" * 9,
    ],
)
async def test_a_skip_token_of_somebody_elses_is_refused(store: PostgresStore, token: str) -> None:
    with pytest.raises(ODataError, match="skiptoken"):
        await store.find(a_query("", "Name", after=token))


@pytest.mark.parametrize(
    "text",
    [
        "5 div Whole eq 1",
        "Whole mod 0 eq 1",
        "1.5 div 0.0 eq 1",
        "Amount div 0 gt 1",
        "Whole add 1 gt 0",
        "Big mul 4 gt 0",
        "Real mul 1e308 mul 1e308 gt 0",
    ],
)
async def test_what_cannot_be_worked_out_is_the_querys_error(store: PostgresStore, text: str) -> None:
    for ask in (store.find, store.count_of):
        with pytest.raises(ODataError, match="cannot be worked out") as refused:
            await ask(a_query(text))
        assert refused.value.status == 400
    with pytest.raises(ODataError, match="cannot be worked out"):
        await store.find(a_query("", text.partition(" eq ")[0].partition(" gt ")[0]))


async def test_a_store_that_is_down_is_no_error_of_the_query() -> None:
    store = PostgresStore("postgresql://nobody@127.0.0.1:1/none", MODEL)
    with pytest.raises(StoreUnavailable):
        await store.find(a_query("Whole div 0 eq 1"))
    await store.close()


@pytest.mark.parametrize(
    "text",
    [
        "substring(Name,-3,-1) eq ''",
        "substring(Name,9999999999,9999999999) eq 'x'",
        "substring(Name,0,2147483647) eq 'cafe'",
        "round(1e308) gt 1 and floor(-INF) lt 1 and ceiling(NaN) gt 1",
        "Real mod 1e-300 eq 0 or Real mod INF eq 1",
        "Amount mul 99999999999999999999999999999M gt 1",
        "Moment ge datetime'0001-01-01T00:00:00' and Moment le datetime'9999-12-31T23:59:59.9999999'",
        "Instant gt datetimeoffset'0001-01-01T00:00:00+14:00'",
        "Span gt time'-P999999999D'",
        "Bytes eq X'00' or Bytes eq binary'ff'",
        "Big eq -9223372036854775808 or -Big eq 5",
        "replace(Name,'','x') eq Name or indexof(Name,'') eq 0",
        "Name eq '\U0001f600\u2028\x01\x1f'",
        "Other eq guid'{00000000-0000-0000-0000-000000000000}'",
        "Other gt guid'ffffffff-ffff-ffff-ffff-ffffffffffff'",
    ],
)
async def test_values_at_the_edge_are_only_values(store: PostgresStore, text: str) -> None:
    await store.find(a_query(text))


@pytest.mark.parametrize(
    "text",
    [
        "not (" * 24 + "Flag" + ")" * 24,
        "concat(Name," * 47 + "'x'" + ")" * 47 + " ne ''",
        "substring(Name,indexof(Name," * 9 + "'x'" + "))" * 9 + " ne ''",
        " add ".join(["0"] * 48) + " eq Whole",
        "round(" * 47 + "Real" + ")" * 47 + " ge 0",
        "(" * 45 + "Flag" + ") eq true" * 45,
        "parent/" * 40 + "Name eq null",
        " or ".join(f"(Whole gt {number} and Name ne '{number}')" for number in range(600)),
    ],
    ids=range(8),
)
async def test_the_deepest_and_the_widest_expressions_are_answered(store: PostgresStore, text: str) -> None:
    assert isinstance(await answer(store, text), str)


async def test_what_is_too_deep_to_compile_is_the_querys_error(store: PostgresStore) -> None:
    with pytest.raises(ODataError, match="too deeply"):
        await answer(store, "substring(Name,indexof(Name," * 23 + "'x'" + "))" * 23 + " ne ''")


async def test_a_thousand_keys_are_found_at_once(store: PostgresStore) -> None:
    keys = [f"ThingId eq guid'{key(number)[0][1]}'" for number in (4, 2)]
    keys += [f"ThingId eq guid'{uuid.UUID(int=number)}'" for number in range(998)]
    assert await answer(store, " or ".join(keys)) == "24"
    names = " or ".join(f"Name eq 'no{number}'" for number in range(999))
    assert await answer(store, f"{names} or Name eq 'café'") == "12"


# Relationships


def led(entity_set: EntitySet, name: str) -> Relationship:
    found = RELATIONSHIPS.of(entity_set, name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("source", "number", "navigation", "expected"),
    [
        (THINGS, 1, "box", "1"),
        (THINGS, 3, "box", ""),
        (THINGS, 4, "box", ""),
        (THINGS, 1, "children", "2"),
        (THINGS, 2, "parent", "1"),
        (BOXES, 1, "things", "1"),
        (BOXES, 3, "things", ""),
        (THINGS, 1, "lids", "12"),
        (THINGS, 2, "lids", "1"),
        (BOXES, 1, "covered", "12"),
        (THINGS, 77, "lids", ""),
    ],
)
async def test_a_step_leads_where_it_leads(
    store: PostgresStore, source: EntitySet, number: int, navigation: str, expected: str
) -> None:
    relationship = led(source, navigation)
    within = Related(source, key(number, source), relationship)
    query = Query(relationship.target, within=within, count=True)
    found = await store.find(query)
    assert (numbers(found), found.total) == (expected, len(expected))
    several = await store.related(relationship, [key(number, source), key(99, source)], 10)
    assert [numbers(found) for found in several.values()] == [expected, ""]


async def test_what_is_led_to_comes_in_pages_for_each_source(store: PostgresStore) -> None:
    relationship = led(THINGS, "lids")
    found = await store.related(relationship, [key(2), key(1)], 1)
    assert [(numbers(page), page.next is not None) for page in found.values()] == [("1", False), ("1", True)]
    rest = Query(BOXES, within=Related(THINGS, key(1), relationship), after=found[key(1)].next, page=1)
    page = await store.find(rest)
    assert (numbers(page), page.next) == ("2", None)


async def test_a_filter_holds_within_what_is_led_to(store: PostgresStore) -> None:
    within = Related(BOXES, key(1, BOXES), led(BOXES, "covered"))
    assert await answer(store, "parent ne null", within=within) == "2"


async def test_pairs_that_no_set_shows_are_not_supported(store: PostgresStore) -> None:
    relationship = Relationship("hidden", THINGS, BOXES, True, "links", "hidden")
    query = Query(BOXES, within=Related(THINGS, key(1), relationship))
    for asking in (store.find(query), store.related(relationship, [key(1)], 5)):
        with pytest.raises(ODataError, match="hidden") as refused:
            await asking
        assert refused.value.status == 501


# Keys and names of other kinds


async def test_text_keys_that_compare_as_equal_are_all_found(database_url: str) -> None:
    lines = storing.an_entity_set(
        "Lines", ["Order", "Line"], {"Order": "Edm.String", "Line": "Edm.Int32", 'Od"d %(v0)s': "Edm.String"}
    )
    model = storing.a_model(lines)
    store = PostgresStore(database_url, model)
    keys: list[EntityKey] = [(("Order", order), ("Line", 1)) for order in ("a", "A", "a ", "b", "á")]
    states = [storing.state(each, 1, dict(each)["Order"], document=dict(each)["Order"]) for each in keys]
    await store.put(lines, states, Provenance(Source.UPSTREAM_REFRESH))
    seen: list[Any] = []
    after = None
    while len(seen) < 9:
        found = await store.find(Query(lines, page=1, after=after))
        seen += [row.document for row in found.rows]
        after = found.next
        if after is None:
            break
    assert seen == ["A", "a", "a ", "á", "b"]
    odd = bind_filter(parse_filter("Line eq 1"), lines, model, Relationships(model))
    assert len((await store.find(Query(lines, odd))).rows) == 5
    await store.close()


async def test_bad_text_in_a_key_leads_nowhere(store: PostgresStore) -> None:
    things = EntitySet("ThingSet", THINGS.entity_type)
    within = Related(things, (("ThingId", "\x00"),), led(THINGS, "box"))
    assert await store.find(Query(BOXES, within=within, count=True)) == Found((), 0)


# The functions in the database


def characters() -> Iterable[str]:
    """All of the basic plane that this Python knows."""
    for code in range(1, 0x10000):
        character = chr(code)
        if unicodedata.category(character) not in ("Cn", "Cs", "Co"):
            yield character


async def test_texts_fold_as_the_sandbox_folds_them(database_url: str, store: PostgresStore) -> None:
    texts = list(characters())
    rows = storing.query(
        database_url,
        "SELECT t, syncpoint.fold_all(t), syncpoint.fold(t) FROM unnest(%s) WITH ORDINALITY AS all_of(t, n)"
        " ORDER BY n",
        texts,
    )
    different = {text for text, folded, _ in rows if folded != collation.fold(text)}
    assert different == set()
    assert [fold for _, _, fold in rows] == [collation.fold_trimmed(text) for text in texts]


async def test_guids_sort_as_the_sandbox_sorts_them(database_url: str, store: PostgresStore) -> None:
    guids = [uuid.UUID(int=((number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)) for number in range(500)]
    guids += [uuid.UUID(int=1 << bit) for bit in range(128)]
    rows = storing.query(
        database_url,
        "SELECT guid FROM unnest(%s::uuid[]) AS t(guid) ORDER BY syncpoint.guid_order(guid)",
        [str(guid) for guid in guids],
    )
    assert [uuid.UUID(str(guid)) for (guid,) in rows] == sorted(guids, key=collation.guid_order)
