"""Queries in every construct of the language over the sets of `things`, and rows that tell answers apart."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from proxy.odata.primitives import PRIMITIVES


def _keys(step: int, count: int) -> list[uuid.UUID]:
    return [uuid.UUID(int=number * step % 2**128) for number in range(1, count + 1)]


THING_KEYS = _keys(0x9E3779B97F4A7C15F39CC0605CEDC835, 40)
BOX_KEYS = _keys(0xD1B54A32D192ED03C2B2AE3D27D4EB4F, 8)

# fmt: off
TEXTS = [
    "Café", "CAFE", "cafe  ", "cafe\u0301", "caf", "É", "e", "ea", "Straße", "STRASSE", "\u0130stanbul",
    "istanbul", "ΟΔΟΣ", "οδος", "οδοσ", "\ufb01ne", "fine", "Å", "A", "a", "Ærø", "ø", "100%", "1000", "_",
    "a_b", "axb", "[x]", "O'Brien", "\\", "\\%", " lead", "tab\t", "\u00a0nbsp\u00a0", "が", "か", "日本",
    "\U0001f600", "Ω", "ω", "a b", "A  B ", "null", "ZZZ", "zzz", "~", "%(v0)s", "\u00bd", "1\u20442",
    "x" * 300,
]
# fmt: on
WHOLES = [0, 1, -1, 2, 3, -7, 10, 100, 255, -128, 2**31 - 1, -(2**31)]
LONGS = [*WHOLES, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
_DECIMALS = "0 0.1 0.10 -0.5 0.5 1.5 2.5 -2.5 1 3 100.0000 0.3333 1e-10 922337203685477.5807"
DECIMALS = [Decimal(text) for text in [*_DECIMALS.split(), "12345678901234567890.123456789"]]
REALS = [0.0, 0.1, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-5, 1e15, 123456789.123, 0.1 + 0.2, 1e300, -1e-300]
SINGLES = [0.0, 0.5, 1.5, -2.5, 0.10000000149011612, 16777216.0, 3.0]
MOMENTS = [
    datetime(1753, 1, 1),
    datetime(1969, 12, 31, 23, 59, 59),
    datetime(1970, 1, 1),
    datetime(2016, 2, 29),
    datetime(2016, 8, 25, 16, 0, 1),
    datetime(2016, 8, 25, 16, 0, 1, 999000),
    datetime(9999, 12, 31, 23, 59, 59),
]
INSTANTS = [
    datetime(2016, 8, 25, 16, tzinfo=UTC),
    datetime(2016, 8, 25, 18, tzinfo=timezone(timedelta(hours=2))),
    datetime(2016, 8, 25, 16, 30, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
]
SPANS = [timedelta(0), timedelta(1), timedelta(1, -1), timedelta(microseconds=1), timedelta(-1)]
BINARIES = [b"", b"\x00", b"\xff", b"\x00\xff"]
GUIDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID(int=1 << 64), THING_KEYS[0], BOX_KEYS[0]]


# Rows


@dataclass(frozen=True, slots=True)
class Rows:
    """Records as `Organisation.insert` takes them, in an order in which each refers to earlier ones."""

    boxes: Sequence[dict[str, Any]]
    things: Sequence[dict[str, Any]]
    pairs: Sequence[tuple[uuid.UUID, uuid.UUID]]


def rows(seed: int) -> Rows:
    """The same seed gives the same rows; about a quarter of all values are null."""
    source = random.Random(seed)

    def some(values: Sequence[Any]) -> Any:
        return None if source.random() < 0.25 else source.choice(values)

    def reference(name: str, keys: Sequence[uuid.UUID]) -> Any:
        return {"Id": source.choice(keys), "LogicalName": name} if keys and source.random() < 0.75 else None

    boxes: list[dict[str, Any]] = []
    for index, key in enumerate(BOX_KEYS):
        within = reference("box", BOX_KEYS[:index])
        boxes.append({"BoxId": key, "Name": some(TEXTS), "Size": some(WHOLES), "WithinBoxId": within})
    things: list[dict[str, Any]] = []
    for index, key in enumerate(THING_KEYS):
        parent = reference("thing", THING_KEYS[:index])
        if source.random() < 0.1:  # a lookup of several types
            parent = reference("box", BOX_KEYS)
        kind, price = some(WHOLES), some([each for each in DECIMALS if abs(each) < 10**15])
        things.append(
            {
                "ThingId": key,
                "Name": some(TEXTS),
                "Text": some(TEXTS),
                "Tiny": some([0, 1, 7, 255]),
                "Signed": some([0, -128, 127, 3]),
                "Small": some([0, -32768, 32767, 5]),
                "Whole": some(WHOLES),
                "Big": some(LONGS),
                "Amount": some(DECIMALS),
                "Real": some(REALS),
                "Short": some(SINGLES),
                "Flag": some([True, False]),
                "Moment": some(MOMENTS),
                "Instant": some(INSTANTS),
                "Span": some(SPANS),
                "Bytes": some(BINARIES),
                "Other": some(GUIDS),
                "Price": None if price is None else {"Value": price},
                "Kind": None if kind is None else {"Value": kind},
                "ParentThingId": parent,
                "InBox": reference("box", BOX_KEYS),
            }
        )
    pairs = [(thing, box) for thing in THING_KEYS for box in BOX_KEYS if source.random() < 0.2]
    return Rows(boxes, things, pairs)


# Queries


@dataclass(frozen=True, slots=True)
class Asked:
    """A query on the things as text; `page` is the most that the mirror gives at once."""

    filter: str = ""
    orderby: str = ""
    top: int | None = None
    skip: int = 0
    page: int = 1000

    @property
    def raw(self) -> str:
        """As a request has it."""
        options = {"$filter": self.filter, "$orderby": self.orderby, "$skip": self.skip or ""}
        if self.top is not None:
            options["$top"] = str(self.top)
        return "&".join(f"{name}={quote(str(value))}" for name, value in options.items() if value != "")


class _Writer:
    """Writes expressions of a type, no deeper than asked. `choose` takes one of several things."""

    def __init__(self, choose: Callable[[Sequence[Any]], Any]) -> None:
        self._choose = choose

    def one_of(self, *choices: Any) -> Any:
        return self._choose(choices)

    def literal(self, type_name: str, values: Sequence[Any]) -> str:
        return PRIMITIVES[type_name].to_literal(self.one_of(*values))

    def text(self, depth: int) -> str:
        if depth <= 0 or self.one_of(True, False):
            if self.one_of(True, True, False):
                return self.one_of(
                    "Name", "Text", "box/Name", "parent/Name", "parent/box/within/Name", "InBox/Name"
                )
            return self.literal("Edm.String", ["", "  ", "a", "E", "caf", "%", *TEXTS[:40]])
        name = self.one_of("tolower", "toupper", "trim", "concat", "substring", "substring", "replace")
        first = self.text(depth - 1)
        if name == "concat":
            return f"concat({first},{self.text(depth - 1)})"
        if name == "replace":
            return f"replace({first},{self.text(0)},{self.text(0)})"
        if name == "substring":
            more = f",{self.whole(0)}" if self.one_of(True, False) else ""
            return f"substring({first},{self.whole(depth - 1)}{more})"
        return f"{name}({first})"

    def whole(self, depth: int) -> str:
        if depth <= 0 or self.one_of(True, False):
            return self.one_of(
                *("Whole", "Tiny", "Signed", "Small", "Kind/Value", "box/Size", "parent/Whole"),
                *("0", "1", "2", "-1", "3", "10", "255", "7L"),
            )
        name = self.one_of("length", "indexof", "part", "sum", "negative")
        if name == "length":
            return f"length({self.text(depth - 1)})"
        if name == "indexof":
            return f"indexof({self.text(depth - 1)},{self.text(0)})"
        if name == "part":
            part = self.one_of("year", "month", "day", "hour", "minute", "second")
            return f"{part}({self.moment()})"
        if name == "negative":
            return f"-({self.whole(depth - 1)})"
        operator = self.one_of("add", "sub", "mul", "div", "mod")
        return f"({self.whole(depth - 1)} {operator} {self.whole(0)})"

    def number(self, depth: int) -> str:
        kind = self.one_of("whole", "big", "decimal", "double")
        if kind == "whole":
            return self.whole(depth)
        if depth > 0 and self.one_of(True, False):
            name = self.one_of("round", "floor", "ceiling", "sum", "negative")
            if name == "negative":
                return f"-({self.number(depth - 1)})"
            if name == "sum":
                operator = self.one_of("add", "sub", "mul", "div", "mod")
                return f"({self.number(depth - 1)} {operator} {self.number(0)})"
            return f"{name}({self.number(depth - 1)})"
        if kind == "big":
            return self.one_of(
                "Big", "parent/Big", "9007199254740993L", "2147483648", "-9223372036854775808L"
            )
        if kind == "decimal":
            return self.one_of(
                "Amount", "Price/Value", "parent/Amount", "0.1M", "-2.5M", "100M", "3M", "0.30M"
            )
        return self.one_of(
            "Real", "Short", "parent/Real", "0.1", "2.5d", "0.5f", "1e15", "-0.5", "3.0", "0.3"
        )

    def moment(self) -> str:
        return self.one_of("Moment", "parent/Moment", self.literal("Edm.DateTime", MOMENTS))

    def pair(self, depth: int) -> tuple[str, str, bool]:
        """Two expressions that can be compared, and whether they have an order."""
        match self.one_of(
            "text", "text", "number", "number", "guid", "moment", "instant", "span", "bytes", "flag"
        ):
            case "text":
                return self.text(depth), self.text(depth - 1), True
            case "number":
                return self.number(depth), self.number(depth - 1), True
            case "guid":
                guid = self.literal("Edm.Guid", GUIDS)
                first = self.one_of("ThingId", "Other", "InBox/Id", "parent/ThingId", "box/WithinBoxId/Id")
                return first, self.one_of("Other", "ParentThingId/Id", guid, guid), True
            case "moment":
                return self.moment(), self.moment(), True
            case "instant":
                return (
                    "Instant",
                    self.one_of("parent/Instant", self.literal("Edm.DateTimeOffset", INSTANTS)),
                    True,
                )
            case "span":
                return "Span", self.one_of("parent/Span", self.literal("Edm.Time", SPANS)), True
            case "bytes":
                return "Bytes", self.one_of("parent/Bytes", self.literal("Edm.Binary", BINARIES)), False
            case _:
                return (
                    f"({self.condition(depth - 1)})",
                    self.one_of("Flag", "true", "false", "parent/Flag"),
                    False,
                )

    def comparison(self, depth: int) -> str:
        first, second, ordered = self.pair(depth)
        operators = ("eq", "ne", "lt", "le", "gt", "ge") if ordered else ("eq", "ne")
        if self.one_of(True, False, False, False):
            first, second = second, first
        return f"{first} {self.one_of(*operators)} {second}"

    def condition(self, depth: int) -> str:
        if depth > 0 and self.one_of(True, False):
            match self.one_of("and", "or", "or", "not", "not"):
                case "not":
                    return f"not ({self.condition(depth - 1)})"
                case operator:
                    count = self.one_of(2, 2, 3)
                    return f" {operator} ".join(f"({self.condition(depth - 1)})" for _ in range(count))
        match self.one_of("compare", "compare", "compare", "null", "match", "several", "plain"):
            case "compare":
                return self.comparison(depth)
            case "null":
                tested = self.one_of(
                    "box", "parent/box", "parent", self.text(depth), self.number(depth), "Flag"
                )
                return self.one_of(f"{tested} eq null", f"null ne {tested}")
            case "match":
                one, other = self.text(depth), self.text(0)
                return self.one_of(
                    f"substringof({other},{one})", f"startswith({one},{other})", f"endswith({one},{other})"
                )
            case "several":
                path = self.one_of("Name", "Whole", "ThingId", "Amount", "box/Name", "Big")
                values = {
                    "Whole": ("Edm.Int32", WHOLES),
                    "Big": ("Edm.Int32", WHOLES),
                    "ThingId": ("Edm.Guid", THING_KEYS),
                    "Amount": ("Edm.Double", REALS[:9]),
                }
                type_name, pool = values.get(path, ("Edm.String", TEXTS[:40]))
                count = self.one_of(2, 3, 5)
                return " or ".join(f"{path} eq {self.literal(type_name, pool)}" for _ in range(count))
            case _:
                return self.one_of("Flag", "parent/Flag", "true", "null")

    def orderby(self) -> str:
        items = []
        for _ in range(self.one_of(0, 1, 1, 2)):
            expression = self.one_of(
                *("Name", "Text", "Whole", "Amount", "Real", "Flag", "Moment", "Other", "ThingId", "Span"),
                *(
                    "Instant",
                    "Bytes",
                    "box/Name",
                    "parent/box/Size",
                    "Price/Value",
                    "parent/ParentThingId/Id",
                ),
                *("length(Name)", "year(Moment)", "tolower(Text)", "Name eq 'cafe'"),
            )
            items.append(expression + self.one_of("", " desc", " asc"))
        return ",".join(items)


def _query(writer: _Writer) -> Asked:
    """Some of them cannot be worked out over some rows."""
    one_of = writer.one_of
    return Asked(
        filter=writer.condition(one_of(0, 1, 1, 2, 2, 3)) if one_of(True, True, True, True, False) else "",
        orderby=writer.orderby(),
        top=one_of(None, None, None, 0, 3, 20),
        skip=one_of(0, 0, 0, 2, 15),
        page=one_of(1000, 1000, 1000, 7),
    )


@st.composite
def _drawn(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Asked:
    return _query(_Writer(lambda choices: draw(st.sampled_from(choices))))


def _diced(number: int) -> Asked:
    return _query(_Writer(random.Random(number).choice))


# What Hypothesis draws itself is often small or like what it drew before; dice know no such habits.
queries = st.one_of(_drawn(), st.integers(0, 2**64).map(_diced))
