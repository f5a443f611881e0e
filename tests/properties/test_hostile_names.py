"""SQL out of names and values that others chose: nothing but quoted identifiers and bound parameters.

Names come through a metadata document as far as one can have them, and to the store alone as anything at all;
values, and whole queries, as anything. Everything is stored and found again, and nothing else is touched.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from storing import REFRESH, a_model, an_entity_set, query, state

import proxy.store
from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.csdl import CSDL_NAMESPACES, parse_metadata
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.models import ModelDefinition, PropertyDefinition, derive
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationships
from proxy.odata.uri import entity_path
from proxy.reconcile.errors import ReadRefused
from proxy.reconcile.exchange import MirrorAsk
from proxy.reconcile.mirror_reader import MirrorReader
from proxy.reconcile.observations import Observation
from proxy.reconcile.policy import Policies, Policy
from proxy.reconcile.ports import Query
from proxy.reconcile.sets import Sets
from proxy.store import PostgresStore
from proxy.store.columns import CONTROL_NAMES
from proxy.store.names import SYSTEM_COLUMNS

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failure names itself; to shrink it takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ROOT = "http://h/X.svc"

WORDS = [
    *(
        "select",
        "table",
        "user",
        "group",
        "order",
        "null",
        "all",
        "public",
        "pg_catalog",
        "syncpoint",
        "mirror",
    ),
    *sorted(SYSTEM_COLUMNS | CONTROL_NAMES),
    *("rows", "position", "key_text", "always", "c0", "c1", "old", "excluded", "value", "_"),
    *(
        "x" * 63,
        "x" * 64,
        "x" * 200,
        "é" * 32,
        "é" * 31 + "x",
        "名前" * 40,
        "Straße",
        "STRASSE",
        "ﬁ",
        "İ",
        "ß",
    ),
]
HOSTILE = [
    *(
        '"',
        '""',
        "'",
        "''",
        "\\",
        "\\'",
        "%",
        "%s",
        "%(rows)s",
        "%%",
        ":",
        ":value",
        "::text",
        "?",
        "$1",
        "{0}",
    ),
    *('"; drop table syncpoint.intents; --', "'); drop schema syncpoint cascade; --", "/*", "*/", "--", ";"),
    *("E'\\x00'", "$$", "\u2028", "\ufeff", "\u202e", "\t", "\n", "\x7f", "a" * 200, "\U0001f6a2"),
]
LITERALS = ("null", "true", "false", "INF", "NaN")  # in an expression they mean themselves
identifiers = st.one_of(
    st.sampled_from(WORDS),
    st.text(st.characters(categories=["L", "Nd", "Nl", "Pc"]), min_size=1, max_size=200),
).filter(lambda name: name.isidentifier() and name not in LITERALS)
anything = st.one_of(
    st.sampled_from([*WORDS, *HOSTILE]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=200),
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=6).map("".join),
).map(lambda name: name.replace("/", "|"))  # a slash joins names to a path, and csdl lets no name have one
values = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
fragments = st.lists(
    st.one_of(
        st.sampled_from([*HOSTILE, *WORDS[:11]]),
        st.sampled_from(
            [" eq ", " and ", "(", ")", ",", "/", "1", "null", "guid'", "substringof(", " desc", "$"]
        ),
    ),
    min_size=1,
    max_size=8,
).map("".join)


@dataclass
class Place:
    """A database in which only tables of entity sets and views of models may come to be."""

    url: str
    runner: asyncio.Runner

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def begin(self) -> None:
        for kind, schema, name in query(
            self.url,
            "SELECT 'VIEW', schemaname, viewname FROM pg_views WHERE schemaname = 'model' UNION ALL"
            " SELECT 'TABLE', schemaname, tablename FROM pg_tables WHERE schemaname = 'mirror'",
        ):
            quoted = name.replace('"', '""').replace("%", "%%")
            query(self.url, f'DROP {kind} {schema}."{quoted}" CASCADE', None)
        query(self.url, "TRUNCATE syncpoint.names, syncpoint.revisions")

    def others(self) -> list[tuple[Any, ...]]:
        """Every relation that no metadata document makes, with its columns; and what a canary sings."""
        return query(
            self.url,
            "SELECT relname::text, relnamespace::regnamespace::text, relnatts::text FROM pg_class"
            " WHERE relnamespace::regnamespace::text IN ('syncpoint', 'public', 'information_schema')"
            " UNION ALL SELECT song, count(*)::text, '' FROM public.canary GROUP BY song ORDER BY 1, 2",
        )


@pytest.fixture(scope="module")
def place(databases: Any, template: str) -> Iterator[Place]:
    with databases.database(template) as url, asyncio.Runner() as runner:
        query(url, "CREATE SCHEMA IF NOT EXISTS public")
        query(url, "CREATE TABLE public.canary (song text)")
        query(url, "INSERT INTO public.canary VALUES ('tweet')")
        yield Place(url, runner)


def key_of(entity_set: EntitySet, number: int) -> EntityKey:
    return ((entity_set.entity_type.key[0], uuid.UUID(int=number)),)


# The store alone: any name at all


@EXAMPLES
@given(
    st.lists(anything, min_size=3, max_size=3, unique=True),
    st.lists(values, min_size=2, max_size=2),
)
def test_the_store_quotes_whatever_it_is_given(
    place: Place, names: Sequence[str], held: Sequence[str]
) -> None:
    set_name, key, text = names
    entity_set = an_entity_set(set_name, [key], {key: "Edm.Guid", text: "Edm.String"})
    place.begin()
    before = place.others()

    async def store_and_find() -> None:
        store = PostgresStore(place.url, a_model(entity_set))
        try:
            keys = [key_of(entity_set, number) for number in range(2)]
            shown = [{**dict(one), text: value} for one, value in zip(keys, held, strict=True)]
            states = [
                state(one, 1, values=values, document=json.dumps(values, default=str))
                for one, values in zip(keys, shown, strict=True)
            ]
            await store.put(entity_set, states, REFRESH)
            found = await store.get(entity_set, keys)
            assert [json.loads(found[one].document or "")[text] for one in keys] == [*held]
            page = await store.find(Query(entity_set, count=True))
            assert (page.total, {row.key for row in page.rows}) == (2, {*keys})
            assert len(await store.revisions(entity_set, keys[0])) == 1
            await store.bury(entity_set, keys[0], 2, REFRESH)
            assert (await store.find(Query(entity_set, count=True))).total == 1
        finally:
            await store.close()

    place.run(store_and_find())
    assert place.others() == before


# Through a metadata document


def document(names: Sequence[str]) -> bytes:
    one, key, text, other, two, key_two, text_two, there, back, association = map(quoteattr, names)
    return f"""<Schema Namespace="N" xmlns="{CSDL_NAMESPACES[2]}">
<EntityType Name={one}><Key><PropertyRef Name={key}/></Key><Property Name={key} Type="Edm.Guid"/>
 <Property Name={text} Type="Edm.String"/><Property Name={other} Type="Edm.Guid"/>
 <NavigationProperty Name={there} Relationship="N.{names[9]}" FromRole="many" ToRole="one"/></EntityType>
<EntityType Name={two}><Key><PropertyRef Name={key_two}/></Key><Property Name={key_two} Type="Edm.Guid"/>
 <Property Name={text_two} Type="Edm.String"/>
 <NavigationProperty Name={back} Relationship="N.{names[9]}" FromRole="one" ToRole="many"/></EntityType>
<Association Name={association}><End Role="many" Type="N.{names[0]}" Multiplicity="*"/>
 <End Role="one" Type="N.{names[4]}" Multiplicity="0..1"/>
 <ReferentialConstraint><Principal Role="one"><PropertyRef Name={key_two}/></Principal>
 <Dependent Role="many"><PropertyRef Name={other}/></Dependent></ReferentialConstraint></Association>
<EntityContainer Name="C"><EntitySet Name={one} EntityType="N.{names[0]}"/>
 <EntitySet Name={two} EntityType="N.{names[4]}"/>
 <AssociationSet Name="A" Association="N.{names[9]}"><End Role="many" EntitySet={one}/>
 <End Role="one" EntitySet={two}/></AssociationSet></EntityContainer></Schema>""".encode()


def literal(text: str) -> str:
    return PRIMITIVES["Edm.String"].to_literal(text)


@dataclass
class Mirror:
    """Two sets that refer to each other, one entity in each, and what reads them."""

    store: PostgresStore
    model: Model
    reader: MirrorReader
    seen: list[Observation]

    async def ask(self, path: str, **options: str) -> Any:
        asked = "&".join(f"${name}={quote(value, safe='')}" for name, value in options.items())
        ask = MirrorAsk(ROOT, path, asked, CIMultiDict({"Accept": "application/json"}))
        body = (await self.reader.read(ask, self.model)).body
        return json.loads(body)["d"] if path[-7:] != "/$count" else int(body)


def opened(url: str, model: Model) -> Mirror:
    store = PostgresStore(url, model)
    seen: list[Observation] = []
    sets = Sets(store, Policies(Policy(), {}), seen.append)
    now = lambda: datetime.now(UTC)  # noqa: E731
    reader = MirrorReader(store, sets, seen.append, now, root_path="/X.svc", page_limit=50)
    return Mirror(store, model, reader, seen)


def entity(entity_set: EntitySet, key: EntityKey, values: dict[str, Any]) -> Any:
    shown = {"__metadata": {"uri": f"\x01/X.svc/{entity_path(entity_set, key)}"}, **values}
    return state(key, 1, values=values, document=json.dumps(shown, default=str).replace("\\u0001", "\x01"))


async def fill(mirror: Mirror, names: Sequence[str], text: str) -> None:
    one, _, text_one, other, two, _, text_two, *_ = names
    sets = mirror.model.entity_sets
    keys = key_of(sets[one], 1), key_of(sets[two], 2)
    states = (
        {**dict(keys[0]), text_one: text, other: keys[1][0][1]},
        {**dict(keys[1]), text_two: text},
    )
    for name, key, shown in zip((one, two), keys, states, strict=True):
        await mirror.store.put(sets[name], [entity(sets[name], key, shown)], REFRESH)


def distinct(names: Sequence[str]) -> bool:
    """Names that one type or container has beside each other differ."""
    one, key, text, other, two, key_two, text_two, there, back, _ = names
    return one != two and len({key, text, other, there}) == 4 and len({key_two, text_two, back}) == 3


def found_alike(place: Place, names: Sequence[str], text: str) -> None:
    """Store entities whose text is `text`, and find them by it in every way; nothing else changes."""
    one, key, text_one, _, two, _, text_two, there, back, _ = names
    before = place.others()
    mirror = opened(place.url, parse_metadata(document(names)))

    async def read() -> None:
        try:
            await fill(mirror, names, text)
            ours = f"{text_one} eq {literal(text)}"
            found = await mirror.ask(
                f"/{quote(one)}", filter=ours, orderby=f"{text_one} desc,{there}/{text_two}", select=text_one
            )
            assert [shown[text_one] for shown in found["results"]] == [text]
            expanded = await mirror.ask(
                f"/{quote(one)}", expand=there, filter=f"{there}/{text_two} eq {literal(text)}"
            )
            assert [shown[there][text_two] for shown in expanded["results"]] == [text]
            entity_url = f"/{quote(one)}({quote(key)}=guid'{uuid.UUID(int=1)}')"
            assert (await mirror.ask(f"{entity_url}/{quote(there)}"))[text_two] == text
            referring = await mirror.ask(
                f"/{quote(two)}(guid'{uuid.UUID(int=2)}')/{quote(back)}", inlinecount="allpages"
            )
            assert (referring["__count"], len(referring["results"])) == ("1", 1)
            other = f"not ({ours}) and substringof({literal(text)},{text_one})"
            assert await mirror.ask(f"/{quote(one)}/$count", filter=other) == 0
            assert mirror.seen == []
        finally:
            await mirror.store.close()

    place.run(read())
    assert place.others() == before


@EXAMPLES
@given(
    st.lists(identifiers, min_size=10, max_size=10).filter(distinct),
    values.filter(lambda text: "\x00" not in text),
)
def test_names_of_a_metadata_document_and_values_of_clients(
    place: Place, names: Sequence[str], text: str
) -> None:
    place.begin()
    found_alike(place, names, text)


NAMES = ["One", "Id", "Text", "Other", "Two", "Id", "Text", "there", "back", "one_two"]


@EXAMPLES
@given(
    st.sampled_from(["filter", "orderby", "select", "expand", "skiptoken", "top", "path", "key"]), fragments
)
def test_queries_that_are_anything(place: Place, option: str, text: str) -> None:
    place.begin()
    before = place.others()
    mirror = opened(place.url, parse_metadata(document(NAMES)))

    async def read() -> None:
        try:
            await fill(mirror, NAMES, "x")
            path = {"path": f"/One/{quote(text)}", "key": f"/One({quote(text)})"}.get(option, "/One")
            try:
                await mirror.ask(path, **({} if option in ("path", "key") else {option: text}))
            except ReadRefused as refused:
                assert refused.status in (400, 404, 405, 501)
            assert mirror.seen == []
        finally:
            await mirror.store.close()

    place.run(read())
    assert place.others() == before


STORE = Path(proxy.store.__file__).parent
OURS = sorted(
    {
        name
        for path in STORE.glob("*.py")
        for name in re.findall(
            r"(?:cte|alias|subquery|render_derived|table_valued|lateral)\((?:name=)?\"(\w+)\"",
            path.read_text(),
        )
    }
    | {"excluded", "One_1", "anon_1", "s0", "s1", "s0_one"}
)


# Under names of models

model_names = st.sampled_from(
    [*OURS, "select", "table", "user", "Order", "GROUP", "ctid", "document", "C0", "x" * 59]
)


@EXAMPLES
@given(
    model_names,
    st.lists(
        model_names.filter(lambda name: name not in ("ctid", "C0")),
        min_size=2,
        max_size=2,
        unique_by=str.lower,
    ),
    values.filter(lambda text: "\x00" not in text),
)
def test_names_of_models(place: Place, name: str, properties: Sequence[str], text: str) -> None:
    place.begin()
    model = parse_metadata(document(NAMES))
    definition = ModelDefinition(
        "One",
        "Id",
        {properties[0]: PropertyDefinition("string", "Text"), properties[1]: PropertyDefinition("string")},
    )
    mapped = derive({name: definition}, model)
    before = place.others()
    mirror = opened(place.url, model)

    async def read() -> None:
        try:
            await fill(mirror, NAMES, text)
            models = mirror.store.models()
            await models.follow(mapped)
            entity_set = mapped.model.entity_sets[name]
            relationships = Relationships(mapped.model)
            condition = bind_filter(
                parse_filter(f"{properties[0]} eq {literal(text)}"), entity_set, mapped.model, relationships
            )
            order = bind_orderby(parse_orderby(",".join(properties)), entity_set, mapped.model, relationships)
            key = key_of(entity_set, 1)
            kept = {mapped.sets[name].own[0].kept_as: ("string", text)}
            assert await models.keep(mapped.sets[name], key, kept, REFRESH)
            found = await models.find(Query(entity_set, condition, order, count=True))
            assert (found.total, [row.key for row in found.rows]) == (1, [key])
        finally:
            await mirror.store.close()

    place.run(read())
    assert place.others() == before


@pytest.mark.parametrize("name", OURS)
def test_sets_that_are_named_as_parts_of_our_statements(place: Place, name: str) -> None:
    """As either end of a relationship, in every statement that a store has for entities."""
    assert len(OURS) > 10
    for names in ([name, *NAMES[1:]], [*NAMES[:4], name, *NAMES[5:]]):
        place.begin()
        found_alike(place, names, "x")
