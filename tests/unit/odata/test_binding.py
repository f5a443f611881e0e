"""Names resolved and types worked out: what an expression comes to, and what it is refused for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from things import MODEL, RELATIONSHIPS, THINGS

from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.bound import (
    Arithmetic,
    BoundExpression,
    Comparison,
    Constant,
    Invocation,
    IsNull,
    Junction,
    Negation,
    Not,
    OneOf,
    Path,
    paths_in,
)
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby

ONE = "8f2c6a50-0d61-e611-80c5-00155d010a01"


def bound(text: str) -> BoundExpression:
    return bind_filter(parse_filter(text), THINGS, MODEL, RELATIONSHIPS)


def shown(tree: BoundExpression) -> str:
    """The tree as text: operators with the type that operands are taken as, constants with their own."""
    short: Any = lambda name: name.removeprefix("Edm.")  # noqa: E731
    match tree:
        case Constant(type=type_name, value=value):
            return f"{value}:{short(type_name)}"
        case Path(steps=steps, members=members):
            return "/".join([*(f"<{step.name}>" for step in steps), *members])
        case Comparison(operator=operator, left=left, right=right, operand_type=type_name):
            return f"({shown(left)} {operator}:{short(type_name)} {shown(right)})"
        case Arithmetic(operator=operator, left=left, right=right, type=type_name):
            return f"({shown(left)} {operator}:{short(type_name)} {shown(right)})"
        case Negation(operand=operand, type=type_name):
            return f"-:{short(type_name)} {shown(operand)}"
        case Not(operand=operand):
            return f"not {shown(operand)}"
        case IsNull(operand=operand, negated=negated):
            return f"({shown(operand)} is{' not' if negated else ''} null)"
        case OneOf(operand=operand, values=values, operand_type=type_name):
            return f"({shown(operand)} in:{short(type_name)} {values})"
        case Junction(operator=operator, operands=operands):
            return "(" + f" {operator} ".join(map(shown, operands)) + ")"
        case Invocation(name=name, arguments=arguments, type=type_name):
            return f"{name}:{short(type_name)}({', '.join(map(shown, arguments))})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name eq 'x'", "(Name eq:String x:String)"),
        ("'x' eq Name", "(Name eq:String x:String)"),
        ("5 lt Whole", "(Whole gt:Int32 5:Int32)"),
        ("Name eq Text", "(Name eq:String Text)"),
        # Paths: complex members, to-one navigation, several steps.
        ("Price/Value gt 1M", "(Price/Value gt:Decimal 1:Decimal)"),
        ("InBox/Id eq Other", "(InBox/Id eq:Guid Other)"),
        ("box/Name eq 'x'", "(<box>/Name eq:String x:String)"),
        ("parent/box/within/Size eq 1", "(<parent>/<box>/<within>/Size eq:Int32 1:Int32)"),
        ("parent/InBox/Name eq 'x'", "(<parent>/InBox/Name eq:String x:String)"),
        # Null: of a property, of an entity, of whatever else.
        ("Name eq null", "(Name is null)"),
        ("null ne Name", "(Name is not null)"),
        ("box eq null", "(<box>/BoxId is null)"),
        ("parent/box ne null", "(<parent>/<box>/BoxId is not null)"),
        ("length(Name) eq null", "(length:Int32(Name) is null)"),
        ("Whole gt null", "(Whole gt:Int32 None:Int32)"),
        ("(Whole add null) eq 5", "((Whole add:Int32 None:Int32) eq:Int32 5:Int32)"),
        ("length(null) eq 5", "(None:Int32 eq:Int32 5:Int32)"),
        ("null", "None:Boolean"),
        # Numbers: the wider type, an integer for narrow ones, a Decimal for what is spelt beside one.
        ("Tiny eq 5", "(Tiny eq:Int32 5:Int32)"),
        ("Small add Tiny eq 5", "((Small add:Int32 Tiny) eq:Int32 5:Int32)"),
        ("Whole eq 5000000000", "(Whole eq:Int64 5000000000:Int64)"),
        ("Whole eq 5L", "(Whole eq:Int64 5:Int64)"),
        ("Whole eq 1.5", "(Whole eq:Double 1.5:Double)"),
        ("Whole eq 1.5M", "(Whole eq:Decimal 1.5:Decimal)"),
        ("Amount eq 5", "(Amount eq:Decimal 5:Decimal)"),
        ("Amount eq 0.1", "(Amount eq:Decimal 0.1:Decimal)"),
        ("Amount eq 1e2d", "(Amount eq:Decimal 1E+2:Decimal)"),
        ("Amount eq Real", "(Amount eq:Double Real)"),
        ("Amount eq NaN", "(Amount eq:Double nan:Double)"),
        ("Amount eq 1e300", "(Amount eq:Double 1e+300:Double)"),
        ("Real eq 1.5M", "(Real eq:Double 1.5:Double)"),
        ("Short eq 1.5f", "(Short eq:Double 1.5:Double)"),
        ("Short mul 2 gt Whole", "((Short mul:Double 2.0:Double) gt:Double Whole)"),
        ("-Tiny eq 5", "(-:Int32 Tiny eq:Int32 5:Int32)"),
        ("-(5) eq Whole", "(-:Int32 5:Int32 eq:Int32 Whole)"),
        # Conditions.
        ("Flag", "Flag"),
        ("not Flag and Flag eq true", "(not Flag and (Flag eq:Boolean True:Boolean))"),
        ("(Whole gt 1) eq Flag", "((Whole gt:Int32 1:Int32) eq:Boolean Flag)"),
        # Functions.
        ("substringof('x',Name)", "substringof:Boolean(x:String, Name)"),
        ("substring(Name,1,Tiny) eq 'x'", "(substring:String(Name, 1:Int32, Tiny) eq:String x:String)"),
        ("year(Moment) eq 2016", "(year:Int32(Moment) eq:Int32 2016:Int32)"),
        ("round(Amount) eq 1", "(round:Decimal(Amount) eq:Decimal 1:Decimal)"),
        ("floor(Short) eq 1", "(floor:Double(Short) eq:Double 1.0:Double)"),
        ("ceiling(Tiny) eq 1", "(ceiling:Int32(Tiny) eq:Int32 1:Int32)"),
        # A multi-get is one test, whatever stands beside it.
        (
            "Whole eq 1 or Name eq 'x' or 2 eq Whole or Whole gt 7",
            "((Whole in:Int32 (1, 2)) or (Name eq:String x:String) or (Whole gt:Int32 7:Int32))",
        ),
        ("Whole eq 1 or Whole eq 2L", "((Whole eq:Int32 1:Int32) or (Whole eq:Int64 2:Int64))"),
        ("Whole eq 1 and Whole eq 2", "((Whole eq:Int32 1:Int32) and (Whole eq:Int32 2:Int32))"),
        ("box/Size eq 1 or Whole eq 1", "((<box>/Size eq:Int32 1:Int32) or (Whole eq:Int32 1:Int32))"),
        ("Whole eq 1 or Whole eq null", "((Whole eq:Int32 1:Int32) or (Whole is null))"),
    ],
)
def test_an_expression_is_bound(text: str, expected: str) -> None:
    assert shown(bound(text)) == expected


def test_a_thousand_keys_are_one_test() -> None:
    keys = [f"ThingId eq guid'{ONE[:-4]}{number:04x}'" for number in range(1000)]
    tree = bound(" or ".join(keys))
    assert isinstance(tree, OneOf)
    assert len(tree.values) == 1000


def test_a_double_beside_a_decimal_keeps_its_digits() -> None:
    tree = bound("Amount eq 0.12345678901234567890")
    assert isinstance(tree, Comparison)
    assert tree.right == Constant("Edm.Decimal", Decimal("0.12345678901234567890"))


@pytest.mark.parametrize(
    ("text", "status", "token", "position"),
    [
        ("Name eq 'x' and Nome eq 'y'", 400, "Nome", 16),
        ("Name/Id eq 'x'", 400, "Id", 5),
        ("Price/Cents eq 1", 400, "Cents", 6),
        ("InBox/Id/More eq 1", 400, "More", 9),
        ("box/within/Colour eq 1", 400, "Colour", 11),
        ("children/Name eq 'x'", 400, "children", 0),
        ("parent/children/Name eq 'x'", 400, "children", 7),
        ("box eq 'x'", 400, "box", 0),
        ("parent/box eq Other", 400, "box", 7),
        ("1 eq 1 and Price eq 5", 400, "Price", 11),
        ("Price eq null", 400, "Price", 0),
        ("Name eq 5", 400, "eq", 5),
        ("Flag and Other eq 'x'", 400, "eq", 15),
        ("Moment eq Instant", 400, "eq", 7),
        ("Flag lt true", 400, "lt", 5),
        ("Bytes ge Bytes", 400, "ge", 6),
        ("Name add 5 eq 5", 400, "add", 5),
        ("Moment sub Moment eq 5", 400, "sub", 7),
        ("-Name eq 5", 400, "-", 0),
        ("Flag or Whole", 400, "Whole", 8),
        ("Flag and Whole add 1", 400, "add", 15),
        ("not 5", 400, "5", 4),
        ("'yes'", 400, "'yes'", 0),
        ("Flag or length(Name)", 400, "length", 8),
        ("length(Whole) eq 5", 400, "length", 0),
        ("Flag and substring(Name,'x') eq 'y'", 400, "substring", 9),
        ("substring(Name,1.5) eq 'y'", 400, "substring", 0),
        ("year(Instant) eq 5", 400, "year", 0),
        ("round(Name) eq 5", 400, "round", 0),
        ("Flag and isof('Edm.String')", 501, "isof", 9),
        ("cast(Whole,'Edm.String') eq 'x'", 501, "cast", 0),
        ("É eq 1", 400, "É", 0),
        ("DROP eq 1", 400, "DROP", 0),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str, status: int, token: str, position: int) -> None:
    with pytest.raises(ODataError) as refused:
        bound(text)
    error = refused.value
    assert (error.status, error.token, error.position) == (status, token, position)
    assert token in error.message


def test_an_order_is_bound() -> None:
    items = parse_orderby("box/Name desc, Whole add 1, ThingId")
    order = bind_orderby(items, THINGS, MODEL, RELATIONSHIPS)
    assert [(shown(item.expression), item.descending) for item in order] == [
        ("<box>/Name", True),
        ("(Whole add:Int32 1:Int32)", False),
        ("ThingId", False),
    ]


@pytest.mark.parametrize("text", ["children", "box", "Price", "Nome desc"])
def test_an_order_needs_a_value(text: str) -> None:
    with pytest.raises(ODataError):
        bind_orderby(parse_orderby(text), THINGS, MODEL, RELATIONSHIPS)


def test_all_paths_of_an_expression_are_found() -> None:
    text = "not (length(Name) add -Whole gt Big and (Small eq 1 or Small eq 2)) or box eq null"
    found = ["/".join(path.members) for path in paths_in(bound(text))]
    assert found == ["Name", "Whole", "Big", "Small", "BoxId"]
