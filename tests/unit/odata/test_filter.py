import time
from datetime import datetime
from uuid import UUID

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.expressions import Binary, Call, Literal, Logical, OrderItem, PropertyPath, Unary
from proxy.odata.filter import parse_filter, parse_orderby, print_filter, print_orderby

ID = "8f2c6a50-0d61-e611-80c5-00155d010a01"


def path(text):
    return PropertyPath(tuple(text.split("/")))


def number(value):
    return Literal("Edm.Int32", value, str(value))


def string(value):
    return Literal("Edm.String", value, "'" + value.replace("'", "''") + "'")


A, B, C, D = map(path, "ABCD")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("Name eq 'O''Brien'", Binary("eq", path("Name"), string("O'Brien"))),
        ("  Name  eq\t'a'  ", Binary("eq", path("Name"), string("a"))),
        (
            f"ParentCustomerId/Id eq (guid'{ID}')",
            Binary("eq", path("ParentCustomerId/Id"), Literal("Edm.Guid", UUID(ID), f"guid'{ID}'")),
        ),
        ("not substringof('x',Name)", Unary("not", Call("substringof", (string("x"), path("Name"))))),
        ("StatusCode/Value eq -1", Binary("eq", path("StatusCode/Value"), number(-1))),
        ("A ne null", Binary("ne", A, Literal("null", None, "null"))),
        ("A eq true", Binary("eq", A, Literal("Edm.Boolean", True, "true"))),
        ("A ge 5L", Binary("ge", A, Literal("Edm.Int64", 5, "5L"))),
        (
            "A lt datetime'2011-07-15T16:19:54.123Z'",
            Binary(
                "lt",
                A,
                Literal(
                    "Edm.DateTime",
                    datetime(2011, 7, 15, 16, 19, 54, 123000),
                    "datetime'2011-07-15T16:19:54.123Z'",
                ),
            ),
        ),
        ("isof(Edm.String)", Call("isof", (path("Edm.String"),))),
        ("cast(A,'Edm.Int32')", Call("cast", (A, string("Edm.Int32")))),
        ("eq eq mod", Binary("eq", path("eq"), path("mod"))),
        ("and", path("and")),
        ("substring(A,1,2)", Call("substring", (A, number(1), number(2)))),
        ("length ( A )", Call("length", (A,))),
        ("_a1/Stra\u00dfe", path("_a1/Stra\u00dfe")),
    ],
)
def test_expressions_are_read(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("A or B and C", Logical("or", (A, Logical("and", (B, C))))),
        ("A and B or C", Logical("or", (Logical("and", (A, B)), C))),
        ("(A or B) and C", Logical("and", (Logical("or", (A, B)), C))),
        ("A eq B and C", Logical("and", (Binary("eq", A, B), C))),
        ("A eq B lt C", Binary("eq", A, Binary("lt", B, C))),
        ("A lt B eq C", Binary("eq", Binary("lt", A, B), C)),
        ("A lt B add C", Binary("lt", A, Binary("add", B, C))),
        ("A add B mul C", Binary("add", A, Binary("mul", B, C))),
        ("A mul B add C", Binary("add", Binary("mul", A, B), C)),
        ("A sub B sub C", Binary("sub", Binary("sub", A, B), C)),
        ("A sub (B sub C)", Binary("sub", A, Binary("sub", B, C))),
        ("A div B mod C", Binary("mod", Binary("div", A, B), C)),
        ("not A eq B", Binary("eq", Unary("not", A), B)),
        ("not (A eq B)", Unary("not", Binary("eq", A, B))),
        ("-A add B", Binary("add", Unary("-", A), B)),
        ("-(A add B)", Unary("-", Binary("add", A, B))),
        ("- 5", Unary("-", number(5))),
        ("-5", number(-5)),
        ("--5", Unary("-", number(-5))),
        ("not not A", Unary("not", Unary("not", A))),
    ],
)
def test_precedence_and_grouping(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize("operator", ["and", "or"])
@pytest.mark.parametrize(
    "text", ["A {0} B {0} C {0} D", "(A {0} B) {0} (C {0} D)", "A {0} (B {0} (C {0} D))"]
)
def test_chains_are_flat_however_they_are_bracketed(text, operator):
    assert parse_filter(text.format(operator)) == Logical(operator, (A, B, C, D))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("((Name eq 'O''Brien'))", "Name eq 'O''Brien'"),
        ("10 sub (4 sub 3)", "10 sub (4 sub 3)"),
        ("(10 sub 4) sub 3", "10 sub 4 sub 3"),
        ("(A mul B) add C", "A mul B add C"),
        ("A mul (B add C)", "A mul (B add C)"),
        ("(A or B) and C", "(A or B) and C"),
        ("(A and B) or C", "A and B or C"),
        ("not (A eq B)", "not (A eq B)"),
        ("not(A)", "not A"),
        ("(not A) eq B", "not A eq B"),
        ("- 5", "-(5)"),
        ("-(-A)", "--A"),
        ("concat( concat(A,', ') , B)", "concat(concat(A,', '),B)"),
        (f"Id eq (GUID'{ID.upper()}')", f"Id eq GUID'{ID.upper()}'"),
        ("(A eq B) eq (C eq D)", "A eq B eq (C eq D)"),
    ],
)
def test_printing_needs_no_bracket_too_many(text, printed):
    tree = parse_filter(text)
    assert print_filter(tree) == printed
    assert parse_filter(printed) == tree


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("substringof", (2,)),
        ("endswith", (2,)),
        ("startswith", (2,)),
        ("length", (1,)),
        ("indexof", (2,)),
        ("replace", (3,)),
        ("substring", (2, 3)),
        ("tolower", (1,)),
        ("toupper", (1,)),
        ("trim", (1,)),
        ("concat", (2,)),
        ("day", (1,)),
        ("hour", (1,)),
        ("minute", (1,)),
        ("month", (1,)),
        ("second", (1,)),
        ("year", (1,)),
        ("round", (1,)),
        ("floor", (1,)),
        ("ceiling", (1,)),
        ("isof", (1, 2)),
        ("cast", (1, 2)),
    ],
)
def test_functions_take_the_arguments_of_the_standard(name, counts):
    for count in range(1, 5):
        text = f"{name}({','.join('A' * count)})"
        if count in counts:
            assert parse_filter(text) == Call(name, (A,) * count)
        else:
            with pytest.raises(ODataError, match=f"'{name}' at position 0"):
                parse_filter(text)


@pytest.mark.parametrize(
    ("text", "position", "token"),
    [
        ("", 0, ""),
        ("Name eq", 7, ""),
        ("Name eq 'x", 8, "'"),
        ("Name eq guid'12'", 8, "guid'12'"),
        ("Name eq datetime'2011-7-15'", 8, "datetime'2011-7-15'"),
        ("Name eq 5x", 8, "5x"),
        ("Name eq 1.", 8, "1."),
        ("Name = 5", 5, "="),
        ("Name EQ 5", 5, "EQ"),
        ("Name eq 5 and", 13, ""),
        ("Name eq 5 5", 10, "5"),
        ("(Name eq 5", 10, ""),
        ("Name eq 5)", 9, ")"),
        ("A eq foo(B)", 5, "foo"),
        ("Length(A)", 0, "Length"),
        ("length()", 7, ")"),
        ("concat(A,)", 9, ")"),
        ("A/ B eq 1", 1, "/"),
        ("/A eq 1", 0, "/"),
        ("A..B eq 1", 1, "..B"),
        ("A.B eq 1", 0, "A.B"),
        ("length(Edm.String)", 7, "Edm.String"),
        ("A,B", 1, ","),
        ("not", 3, ""),
        ("A eq 'nul\x00'", 5, "'nul\x00'"),
        ("\u00e9 eq \u20ac", 5, "\u20ac"),
    ],
)
def test_errors_carry_position_and_token(text, position, token):
    with pytest.raises(ODataError) as caught:
        parse_filter(text)
    assert (caught.value.status, caught.value.position, caught.value.token) == (400, position, token)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "A" + ")" * 5000,
        "not " * 5000 + "A",
        "-" * 5000 + "A",
        "length(" * 5000 + "A" + ")" * 5000,
        " add ".join("A" * 5000),
        "A add (" * 5000 + "B" + ")" * 5000,
        "A or B and C eq D lt A add B mul (" * 5000 + "B" + ")" * 5000,
        " eq ".join("A" * 52),
    ],
)
def test_what_is_too_deep_is_refused(text):
    with pytest.raises(ODataError, match="too many levels"):
        parse_filter(text)


def test_depth_is_the_height_of_the_tree():
    assert parse_filter("A add B add C", depth=3)
    with pytest.raises(ODataError, match="too many levels"):
        parse_filter("A add B add C", depth=2)
    assert parse_filter("(" * 50 + "A" + ")" * 50) == A


@pytest.mark.parametrize("term", ["(A)", "length(A)", "not A", "-A", "(((A)))"])
def test_depth_does_not_add_up_along_a_chain(term):
    assert len(parse_filter(" and ".join([term] * 200)).operands) == 200


def test_long_chains_are_flat_and_counted():
    chain = [f"AccountId eq guid'{ID}'"] * 2000
    tree = parse_filter(" or ".join(chain))
    assert len(tree.operands) == 2000
    assert parse_filter(print_filter(tree)) == tree
    with pytest.raises(ODataError, match="too many terms"):
        parse_filter(" or ".join([*chain, "A"]))
    assert parse_filter("A and B or C and D", terms=6)
    with pytest.raises(ODataError, match="too many terms"):
        parse_filter("A and B or C and D", terms=5)


@pytest.mark.parametrize(
    "text",
    [
        "'" * 1_000_001,
        " " * 1_000_000 + "'",
        "a/" * 500_000,
        "a." * 500_000,
        "1" * 1_000_000 + "x",
        "''" * 500_000 + "x",
    ],
    ids=lambda text: f"{text[:2]}…{text[-1]}",
)
def test_hostile_text_takes_linear_time(text):
    started = time.perf_counter()
    with pytest.raises(ODataError):
        parse_filter(text)
    # Squared it takes many minutes, linear less than a second.
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("text", "items", "printed"),
    [
        ("Name", (OrderItem(path("Name")),), "Name"),
        ("Name asc", (OrderItem(path("Name")),), "Name"),
        (
            "ModifiedOn desc , StatusCode/Value asc,length(Name) desc",
            (
                OrderItem(path("ModifiedOn"), True),
                OrderItem(path("StatusCode/Value")),
                OrderItem(Call("length", (path("Name"),)), True),
            ),
            "ModifiedOn desc,StatusCode/Value,length(Name) desc",
        ),
        ("desc desc", (OrderItem(path("desc"), True),), "desc desc"),
        ("(Name) desc", (OrderItem(path("Name"), True),), "Name desc"),
    ],
)
def test_orderby(text, items, printed):
    assert parse_orderby(text) == items
    assert print_orderby(items) == printed
    assert parse_orderby(printed) == items


@pytest.mark.parametrize(
    ("text", "position"),
    [("", 0), ("Name,", 5), ("Name up", 5), ("Name DESC", 5), ("Name desc asc", 10), (",Name", 0)],
)
def test_broken_orderby_is_refused_where_it_breaks(text, position):
    with pytest.raises(ODataError) as caught:
        parse_orderby(text)
    assert caught.value.position == position


def test_positions_lead_back_to_the_text():
    tree = parse_filter("A eq 1 and length(Name) gt 5")
    assert tree.operands[0].left.position == 0
    assert tree.operands[1].left.position == 11
    assert tree.operands[1].left.arguments[0].position == 18
