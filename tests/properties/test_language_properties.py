"""What holds of every expression, key, query and request, whatever it says."""

from datetime import datetime
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.odata.binding import bind_filter
from proxy.odata.edm import ComplexType, EntitySet, EntityType, Model, NavigationProperty, Property
from proxy.odata.errors import ODataError
from proxy.odata.expressions import Binary, Call, Logical, OrderItem, PropertyPath, Unary
from proxy.odata.filter import parse_filter, parse_orderby, print_filter, print_orderby
from proxy.odata.headers import parse_cache_control
from proxy.odata.media import response_format
from proxy.odata.operation import Forwarded, Opaque, ReadCollection, ReadEntity, parse_operation
from proxy.odata.primitives import PRIMITIVES, parse_literal
from proxy.odata.query_options import parse_query, restore_select, with_select
from proxy.odata.relationships import Relationships
from proxy.odata.uri import format_key, parse_key, parse_resource_path

# Values of every type, within what the type can hold.
representable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
VALUES = {
    "Edm.String": representable,
    "Edm.Boolean": st.booleans(),
    "Edm.Guid": st.uuids(),
    "Edm.Byte": st.integers(0, 255),
    "Edm.SByte": st.integers(-128, 127),
    "Edm.Int16": st.integers(-(2**15), 2**15 - 1),
    "Edm.Int32": st.integers(-(2**31), 2**31 - 1),
    "Edm.Int64": st.integers(-(2**63), 2**63 - 1),
    "Edm.Decimal": st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=4
    ),
    "Edm.Double": st.floats(allow_nan=False),
    "Edm.Single": st.floats(allow_nan=False, width=32),
    "Edm.Binary": st.binary(max_size=40),
    "Edm.DateTime": st.datetimes(),
    "Edm.Time": st.timedeltas(),
}
typed_values = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(PRIMITIVES[name]), VALUES[name])
)

names = st.sampled_from(["Int32", "String", "Id", "Ref", "one", "nav"]) | st.from_regex(
    r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True
).filter(
    lambda name: name not in ("not", "null", "true", "false", "INF", "NaN", "INFD", "INFF", "NaND", "NaNF")
)
literals = st.one_of(
    typed_values.map(lambda typed: parse_literal(typed[0].to_literal(typed[1]))),
    st.sampled_from(
        ["null", "INF", "-INF", "1.5", "99999999999", "GUID'8f2c6a50-0d61-e611-80c5-00155d010a01'"]
    ).map(parse_literal),
)
leaves = literals | st.lists(names, min_size=1, max_size=3).map(lambda parts: PropertyPath(tuple(parts)))


def _logical(operator, operands):
    flat = []
    for operand in operands:
        same = isinstance(operand, Logical) and operand.operator == operator
        flat += operand.operands if same else [operand]
    return Logical(operator, tuple(flat))


def _branches(children):
    return st.one_of(
        st.builds(Unary, st.sampled_from(["not", "-"]), children),
        st.builds(
            Binary,
            st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "div", "mod"]),
            children,
            children,
        ),
        st.builds(_logical, st.sampled_from(["and", "or"]), st.lists(children, min_size=2, max_size=4)),
        st.builds(lambda name, a: Call(name, (a,)), st.sampled_from(["length", "trim", "year"]), children),
        st.builds(lambda a, b: Call("substringof", (a, b)), children, children),
        st.builds(lambda a, b, c: Call("replace", (a, b, c)), children, children, children),
        st.builds(lambda a, t: Call("isof", (a, PropertyPath((t,)))), children, st.just("Edm.String")),
    )


trees = st.recursive(leaves, _branches, max_leaves=25)

part_properties = {name.removeprefix("Edm."): Property(name.removeprefix("Edm."), name) for name in VALUES}
part = EntityType(
    "Part",
    "N",
    tuple(part_properties),
    part_properties,
    {"nav": NavigationProperty("nav", "r", "a", "b", "N.Thing", "*")},
)
thing = EntityType(
    "Thing",
    "N",
    ("Id",),
    {"Id": Property("Id", "Edm.String"), "Ref": Property("Ref", "N.Ref")},
    {"one": NavigationProperty("one", "r", "a", "b", "N.Part", "0..1")},
)
keyless = EntityType("Keyless", "N", (), {}, {})
model = Model(
    "Context",
    {kind.qualified_name: kind for kind in (part, thing, keyless)},
    {"N.Ref": ComplexType("Ref", "N", {"Id": Property("Id", "Edm.Guid")})},
    {f"{kind.name}Set": EntitySet(f"{kind.name}Set", kind) for kind in (part, thing, keyless)},
    {("PartSet", "nav"): "ThingSet", ("ThingSet", "one"): "PartSet"},
    frozenset({"Fn"}),
)
# Text made of what the languages are made of gets further into a parser than random text does.
fragments = st.sampled_from(
    [
        *"()',/=&?$%.-+: ",
        *("''", "%27", "%zz", "%24", "%E9", "$select", "$filter", "$links", "$value", "$count", "$metadata"),
        *(
            "PartSet",
            "ThingSet",
            "KeylessSet",
            "Fn",
            "nav",
            "one",
            "Ref",
            "Id",
            "guid'",
            "datetime'",
            "X'",
            "null",
        ),
        *(
            "eq",
            "and",
            "not ",
            "or",
            "length(",
            "isof(",
            "desc",
            "5",
            "1.5M",
            "INF",
            "a",
            "\u00e9",
            "\x00",
            "\ud800",
        ),
    ]
)
garbage = st.text() | st.lists(fragments, max_size=25).map("".join)


@given(trees)
def test_a_printed_filter_is_read_back_as_itself(tree):
    assert parse_filter(print_filter(tree)) == tree


@given(trees)
def test_binding_raises_odata_errors_and_nothing_else(tree):
    for entity_set in model.entity_sets.values():
        try:
            bind_filter(tree, entity_set, model, Relationships(model))
        except ODataError as error:
            assert error.message
            assert error.status in (400, 501)


@given(st.lists(st.builds(OrderItem, trees, st.booleans()), min_size=1, max_size=4).map(tuple))
def test_a_printed_order_is_read_back_as_itself(items):
    assert parse_orderby(print_orderby(items)) == items


@given(trees)
def test_a_bracket_around_the_whole_changes_nothing(tree):
    assert parse_filter(f"({print_filter(tree)})") == tree


@given(typed_values)
def test_values_survive_literals_and_atom(typed):
    primitive, value = typed
    assert primitive.from_literal(primitive.to_literal(value)) == value
    if primitive.name != "Edm.String":  # a parser of XML would normalize line ends first
        assert primitive.from_atom(primitive.to_atom(value)) == value


@given(typed_values)
def test_a_literal_says_its_own_type(typed):
    primitive, value = typed
    literal = parse_literal(primitive.to_literal(value))
    assert literal.value == value
    widths = {"Edm.Byte", "Edm.SByte", "Edm.Int16"}
    assert literal.type == ("Edm.Int32" if primitive.name in widths else primitive.name) or literal.value in (
        float("inf"),
        float("-inf"),
    )


@given(st.datetimes())
def test_json_dates_are_exact_to_the_millisecond(value):
    primitive = PRIMITIVES["Edm.DateTime"]
    text = primitive.to_json_text(value)
    assert text.startswith('"\\/Date(')
    read = primitive.from_json(text[1:-1].replace("\\/", "/"))
    assert abs(value - read).total_seconds() < 0.001
    assert read <= value if value >= datetime(1970, 1, 1) else read >= value


@given(st.fixed_dictionaries(VALUES), st.randoms())
def test_keys_survive_in_canonical_form_and_through_a_path_in_any_order(values, random):
    key = tuple((name, values[f"Edm.{name}"]) for name in part.key)
    predicate = format_key(key, part)
    assert parse_key(predicate, part) == key
    parts = [f"{name}={PRIMITIVES[f'Edm.{name}'].to_literal(value)}" for name, value in key]
    random.shuffle(parts)
    assert parse_resource_path(f"/PartSet({quote(','.join(parts), safe='')})", model).key == key


@given(garbage)
@example("'" * 3)
@example("--")
@example("null(")
@example("KeylessSet(5)")
def test_parsers_raise_odata_errors_and_nothing_else(text):
    for parse in (
        parse_filter,
        parse_orderby,
        parse_literal,
        lambda text: parse_key(text, part),
        lambda text: parse_key(text, thing),
        lambda text: parse_key(text, keyless),
        lambda text: parse_resource_path(text, model),
        lambda text: parse_resource_path("/ThingSet('a')/" + text, model),
        parse_query,
        lambda text: (parse_query("$top=" + text).top, parse_query("$skip=" + text).skip),
        *(primitive.from_json for primitive in PRIMITIVES.values()),
        *(primitive.from_atom for primitive in PRIMITIVES.values()),
        *(primitive.from_literal for primitive in PRIMITIVES.values()),
    ):
        try:
            parse(text)
        except ODataError as error:
            assert error.message
            assert error.position is None or 0 <= error.position <= len(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), st.lists, max_leaves=3))
def test_json_values_of_no_use_are_odata_errors(value):
    for primitive in PRIMITIVES.values():
        try:
            primitive.from_json(value)
        except ODataError as error:
            assert error.message


@given(st.sampled_from(["GET", "POST", "PUT", "MERGE", "DELETE", "HEAD", "X"]), garbage, garbage, garbage)
def test_every_request_is_some_operation(method, path, query, tunnelled):
    headers = CIMultiDict({"X-HTTP-Method": tunnelled, "Accept": query, "Cache-Control": query})
    for target in (path, f"/root.svc/{path}", f"/ROOT.svc/{path}?{query}", f"/root.svc/ThingSet('a')/{path}"):
        operation = parse_operation(method, target, headers, "/root.svc", model)
        assert isinstance(operation, Forwarded | Opaque) or operation.entity_set.name in model.entity_sets
        if isinstance(operation, ReadEntity | ReadCollection):
            assert method == "GET"
    response_format(query)
    assert isinstance(parse_cache_control([query, path]), dict)


segments = st.text("abc$%2Csel=,'+", max_size=6)
client_queries = st.one_of(
    st.none(),
    st.lists(
        segments | st.sampled_from(["$select=Name", "%24select=A%2CB", "$filter=x", ""]), max_size=5
    ).map("&".join),
)
stamps = st.lists(names, min_size=1, max_size=3, unique=True)


@given(client_queries, stamps)
def test_the_checks_query_differs_in_one_select_and_nothing_else(query, stamp):
    before, after = (query or "").split("&"), with_select(query, stamp).split("&")
    if len(after) > len(before):
        before.append("")
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    for segment in changed:
        assert parse_query(segment).select == tuple(stamp)


@given(client_queries, stamps)
def test_a_select_put_in_comes_out_again(query, stamp):
    link = restore_select(f"https://h/S?{with_select(query, stamp)}&$skiptoken=1", query, stamp)
    own = (query or "").split("&")
    if own[-1] == "" and not any(item.split("=")[0] in ("$select", "%24select") for item in own):
        own.pop()  # a trailing ampersand was used up
    assert link == "https://h/S?" + "&".join([*own, "$skiptoken=1"])
