import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.expressions import Literal
from proxy.odata.primitives import PRIMITIVES, parse_literal

ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
SUMMER = timezone(timedelta(hours=1))

# type, value, JSON text, Atom text, URI literal: each written from the value and read back to it.
SPELLINGS = [
    ("Edm.String", "plain", '"plain"', "plain", "'plain'"),
    ("Edm.String", "O'Brien", '"O\'Brien"', "O'Brien", "'O''Brien'"),
    ("Edm.String", "", '""', "", "''"),
    ("Edm.String", 'a"b\\c/d', '"a\\"b\\\\c/d"', 'a"b\\c/d', "'a\"b\\c/d'"),
    ("Edm.String", "Caf\u00e9", '"Caf\\u00e9"', "Caf\u00e9", "'Caf\u00e9'"),
    ("Edm.String", "\U0001f600", '"\\ud83d\\ude00"', "\U0001f600", "'\U0001f600'"),
    ("Edm.String", "\t\r\n\x01", '"\\t\\r\\n\\u0001"', "\t\r\n\x01", "'\t\r\n\x01'"),
    ("Edm.String", " blanks ", '" blanks "', " blanks ", "' blanks '"),
    ("Edm.Boolean", True, "true", "true", "true"),
    ("Edm.Boolean", False, "false", "false", "false"),
    ("Edm.Guid", ID, f'"{ID}"', str(ID), f"guid'{ID}'"),
    ("Edm.Byte", 255, "255", "255", "255"),
    ("Edm.SByte", -128, "-128", "-128", "-128"),
    ("Edm.Int16", 32767, "32767", "32767", "32767"),
    ("Edm.Int32", -(2**31), "-2147483648", "-2147483648", "-2147483648"),
    ("Edm.Int64", 73921446, '"73921446"', "73921446", "73921446L"),
    ("Edm.Int64", -(2**63), f'"{-(2**63)}"', str(-(2**63)), f"{-(2**63)}L"),
    ("Edm.Double", 51.5007, "51.5007", "51.5007", "51.5007D"),
    ("Edm.Double", 0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", "0.30000000000000004D"),
    ("Edm.Double", 1e20, "1E+20", "1E+20", "1E+20D"),
    ("Edm.Double", 3.0, "3", "3", "3D"),
    ("Edm.Double", -math.inf, '"-INF"', "-INF", "-INF"),
    ("Edm.Single", 0.25, "0.25", "0.25", "0.25F"),
    ("Edm.Binary", b"\n\xff", '"Cv8="', "Cv8=", "X'0AFF'"),
    ("Edm.Binary", b"", '""', "", "X''"),
    (
        "Edm.DateTime",
        datetime(2016, 8, 25, 16),
        '"\\/Date(1472140800000)\\/"',
        "2016-08-25T16:00:00Z",
        "datetime'2016-08-25T16:00:00'",
    ),
    (
        "Edm.DateTime",
        datetime(1906, 12, 9),
        '"\\/Date(-1990137600000)\\/"',
        "1906-12-09T00:00:00Z",
        "datetime'1906-12-09T00:00:00'",
    ),
    (
        "Edm.DateTime",
        datetime(1, 1, 1),
        '"\\/Date(-62135596800000)\\/"',
        "0001-01-01T00:00:00Z",
        "datetime'0001-01-01T00:00:00'",
    ),
    (
        "Edm.DateTime",
        datetime(9999, 12, 31, 23, 59, 59, 999000),
        '"\\/Date(253402300799999)\\/"',
        "9999-12-31T23:59:59.999Z",
        "datetime'9999-12-31T23:59:59.999'",
    ),
    (
        "Edm.DateTimeOffset",
        datetime(2016, 8, 25, 16, tzinfo=SUMMER),
        '"\\/Date(1472140800000+0060)\\/"',
        "2016-08-25T16:00:00+01:00",
        "datetimeoffset'2016-08-25T16:00:00+01:00'",
    ),
    (
        "Edm.DateTimeOffset",
        datetime(2016, 8, 25, 16, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        '"\\/Date(1472140800000-0330)\\/"',
        "2016-08-25T16:00:00-05:30",
        "datetimeoffset'2016-08-25T16:00:00-05:30'",
    ),
    (
        "Edm.DateTimeOffset",
        datetime(2016, 8, 25, 16, tzinfo=UTC),
        '"\\/Date(1472140800000+0000)\\/"',
        "2016-08-25T16:00:00Z",
        "datetimeoffset'2016-08-25T16:00:00Z'",
    ),
    ("Edm.Time", timedelta(hours=13, minutes=20), '"PT13H20M"', "PT13H20M", "time'PT13H20M'"),
    ("Edm.Time", timedelta(0), '"PT0S"', "PT0S", "time'PT0S'"),
    ("Edm.Time", timedelta(days=1, seconds=0.5), '"P1DT0.5S"', "P1DT0.5S", "time'P1DT0.5S'"),
    ("Edm.Time", -timedelta(seconds=90), '"-PT1M30S"', "-PT1M30S", "time'-PT1M30S'"),
]


@pytest.mark.parametrize(("name", "value", "json_text", "atom", "literal"), SPELLINGS)
def test_a_value_is_written_and_read_in_every_spelling(name, value, json_text, atom, literal):
    primitive = PRIMITIVES[name]
    assert primitive.to_json_text(value) == json_text
    assert primitive.to_atom(value) == atom
    assert primitive.to_literal(value) == literal
    for read in (
        primitive.from_json(json.loads(json_text)),
        primitive.from_atom(atom),
        primitive.from_literal(literal),
    ):
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize("text", ["1000.0000", "1.0000000000", "0.00", "-12.50", "7"])
def test_decimals_keep_their_scale(text):
    decimal = PRIMITIVES["Edm.Decimal"]
    for value in (decimal.from_json(text), decimal.from_atom(text), decimal.from_literal(text + "M")):
        assert decimal.to_json_text(value) == f'"{text}"'
        assert decimal.to_atom(value) == text
        assert decimal.to_literal(value) == text + "M"


def test_every_primitive_type_of_v2_is_there():
    written = "Binary Boolean Byte DateTime DateTimeOffset Decimal Double Guid Int16 Int32 Int64 SByte Single"
    assert sorted(PRIMITIVES) == [f"Edm.{name}" for name in (*written.split(), "String", "Time")]
    assert all(primitive.name == name for name, primitive in PRIMITIVES.items())


@pytest.mark.parametrize(
    ("name", "posted", "value"),
    [
        ("Edm.DateTime", "/Date(1472140800000)/", datetime(2016, 8, 25, 16)),
        ("Edm.DateTime", "/Date(1472140800000+0100)/", datetime(2016, 8, 25, 16)),
        ("Edm.DateTime", "2016-08-25T16:00:00", datetime(2016, 8, 25, 16)),
        ("Edm.DateTime", "2016-08-25T16:00:00.123Z", datetime(2016, 8, 25, 16, 0, 0, 123000)),
        ("Edm.DateTime", "2016-08-25T16:00:00+01:00", datetime(2016, 8, 25, 15)),
        ("Edm.DateTime", "2016-08-25T16:00:00-05:30", datetime(2016, 8, 25, 21, 30)),
        ("Edm.DateTime", "2016-08-25", datetime(2016, 8, 25)),
        ("Edm.DateTime", "12/25/2022", datetime(2022, 12, 25)),
        ("Edm.DateTime", "9999-12-31T23:59:59.9999999Z", datetime.max),
        ("Edm.Guid", "{8F2C6A50-0D61-E611-80C5-00155D010A01}", ID),
        ("Edm.Int32", "1", 1),
        ("Edm.Int64", 73921446, 73921446),
        ("Edm.Decimal", 12.5, Decimal("12.5")),
        ("Edm.Decimal", 12, Decimal(12)),
        ("Edm.Double", "51.5", 51.5),
        ("Edm.Double", 7, 7.0),
        ("Edm.Double", "INF", math.inf),
    ],
)
def test_what_clients_post_is_understood(name, posted, value):
    assert PRIMITIVES[name].from_json(posted) == value


@pytest.mark.parametrize(
    ("name", "posted"),
    [
        ("Edm.String", 5),
        ("Edm.Boolean", 1),
        ("Edm.Boolean", "true"),
        ("Edm.Guid", "1234"),
        ("Edm.Guid", "8f2c6a500d61e61180c500155d010a01"),
        ("Edm.Guid", "{8f2c6a50-0d61-e611-80c5-00155d010a01"),
        ("Edm.Byte", 256),
        ("Edm.Byte", -1),
        ("Edm.SByte", 128),
        ("Edm.Int16", 32768),
        ("Edm.Int32", 2**31),
        ("Edm.Int32", True),
        ("Edm.Int32", 1.0),
        ("Edm.Int32", "one"),
        ("Edm.Int32", "\u0661"),
        ("Edm.Int64", 2**63),
        ("Edm.Int64", "9" * 5000),
        ("Edm.Decimal", "1e5"),
        ("Edm.Decimal", "NaN"),
        ("Edm.Decimal", math.nan),
        ("Edm.Decimal", 1e300),
        ("Edm.Decimal", Decimal("1E+999999999")),
        ("Edm.Decimal", False),
        ("Edm.Double", "1_000"),
        ("Edm.Double", "infinity"),
        ("Edm.Double", "1e999"),
        ("Edm.Double", 10**400),
        ("Edm.Double", True),
        ("Edm.Single", 1e300),
        ("Edm.Binary", "no base64!"),
        ("Edm.Binary", "\u00e9"),
        ("Edm.DateTime", "2016-8-25"),
        ("Edm.DateTime", "2016-02-30T00:00:00"),
        ("Edm.DateTime", "/Date(999999999999999)/"),
        ("Edm.DateTime", "/Date(abc)/"),
        ("Edm.DateTime", "0001-01-01T00:00:00+01:00"),
        ("Edm.DateTime", 1472140800000),
        ("Edm.DateTimeOffset", "2016-08-25T16:00:00"),
        ("Edm.DateTimeOffset", "/Date(1472140800000+9999)/"),
        ("Edm.Time", "13:20"),
        ("Edm.Time", "P"),
        ("Edm.Time", "PT"),
        ("Edm.Time", "P1M"),
        ("Edm.Guid", None),
    ],
)
def test_what_does_not_fit_its_type_is_refused(name, posted):
    with pytest.raises(ODataError):
        PRIMITIVES[name].from_json(posted)


@pytest.mark.parametrize("text", [" true ", "1"])
def test_atom_booleans_are_those_of_xml_schema(text):
    assert PRIMITIVES["Edm.Boolean"].from_atom(text) is True


@pytest.mark.parametrize("name", [name for name in PRIMITIVES if name != "Edm.String"])
def test_blanks_around_atom_text_matter_only_to_strings(name):
    primitive = PRIMITIVES[name]
    sample = next((value for kind, value, *_ in SPELLINGS if kind == name), Decimal("1.50"))
    assert primitive.from_atom(f"\n {primitive.to_atom(sample)} ") == sample


@pytest.mark.parametrize("microsecond", [500, 999_999])
def test_json_dates_drop_what_is_below_a_millisecond_towards_1970(microsecond):
    write = PRIMITIVES["Edm.DateTime"].to_json_text
    after = datetime(1970, 1, 1, 0, 0, 1, microsecond)
    before = datetime(1970, 1, 1) - (after - datetime(1970, 1, 1))
    milliseconds = 1000 + microsecond // 1000
    assert write(after) == f'"\\/Date({milliseconds})\\/"'
    assert write(before) == f'"\\/Date({-milliseconds})\\/"'


@pytest.mark.parametrize(
    ("text", "type_name", "value"),
    [
        ("guid'{8F2C6A50-0D61-E611-80C5-00155D010A01}'", "Edm.Guid", ID),
        ("GUID'8f2c6a50-0d61-e611-80c5-00155d010a01'", "Edm.Guid", ID),
        ("'O''Brien'", "Edm.String", "O'Brien"),
        ("''", "Edm.String", ""),
        ("'datetime''x'''", "Edm.String", "datetime'x'"),
        ("5", "Edm.Int32", 5),
        ("-2147483648", "Edm.Int32", -(2**31)),
        ("2147483648", "Edm.Int64", 2**31),
        ("9223372036854775808", "Edm.Decimal", Decimal(2**63)),
        ("5L", "Edm.Int64", 5),
        ("5l", "Edm.Int64", 5),
        ("1.5M", "Edm.Decimal", Decimal("1.5")),
        ("1.5", "Edm.Double", 1.5),
        ("1.5d", "Edm.Double", 1.5),
        ("1e3", "Edm.Double", 1000.0),
        ("1.5f", "Edm.Single", 1.5),
        ("INF", "Edm.Double", math.inf),
        ("-INF", "Edm.Double", -math.inf),
        ("INFF", "Edm.Single", math.inf),
        ("INFD", "Edm.Double", math.inf),
        ("true", "Edm.Boolean", True),
        ("null", "null", None),
        ("datetime'2011-07-15'", "Edm.DateTime", datetime(2011, 7, 15)),
        ("datetime'2011-07-15T16:19'", "Edm.DateTime", datetime(2011, 7, 15, 16, 19)),
        ("datetime'2011-07-15T16:19:54'", "Edm.DateTime", datetime(2011, 7, 15, 16, 19, 54)),
        ("datetime'2011-07-15T16:19:54.123Z'", "Edm.DateTime", datetime(2011, 7, 15, 16, 19, 54, 123000)),
        (
            "datetime'2011-07-15T16:19:54.1234567'",
            "Edm.DateTime",
            datetime(2011, 7, 15, 16, 19, 54, 123456),
        ),
        ("datetime'0001-01-01'", "Edm.DateTime", datetime.min),
        ("datetime'9999-12-31T23:59:59.9999999'", "Edm.DateTime", datetime.max),
        ("X'0aFF'", "Edm.Binary", b"\n\xff"),
        ("binary'0AFF'", "Edm.Binary", b"\n\xff"),
        ("time'PT1H'", "Edm.Time", timedelta(hours=1)),
    ],
)
def test_literals_are_read_with_their_type_and_text(text, type_name, value):
    assert parse_literal(text) == Literal(type_name, value, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "'",
        "'a'b'",
        "a'b'",
        "guid'1234'",
        "guid'8f2c6a50-0d61-e611-80c5-00155d010a01",
        "datetime'2011-7-15'",
        "datetime'2011-07-15T1:00:00'",
        "datetime'2011-07-15T16:19:54+01:00'",
        "datetime'2011-02-30'",
        "datetime'2011-07-15T16:19:54.12345678'",
        "X'0'",
        "X'0G'",
        "+5",
        "5.",
        ".5",
        "5LL",
        "1.5L",
        "2147483648000000000000L",
        "True",
        "NULL",
        "'nul\x00'",
        "'lone \ud800'",
    ],
)
def test_what_is_no_literal_is_refused_with_its_place(text):
    with pytest.raises(ODataError) as caught:
        parse_literal(text, 17)
    assert caught.value.status == 400
    assert (caught.value.position, caught.value.token) == (17, text)


def test_a_datetime_that_is_not_one_is_called_so():
    with pytest.raises(ODataError, match=r"Unrecognized 'Edm\.DateTime' literal"):
        parse_literal("datetime'2011-7-15'")


@pytest.mark.parametrize(
    ("name", "literal"),
    [
        ("Edm.Guid", "'8f2c6a50-0d61-e611-80c5-00155d010a01'"),
        ("Edm.Guid", "datetime'2011-07-15'"),
        ("Edm.String", "plain"),
        ("Edm.Int32", "5L"),
        ("Edm.Int64", "+5"),
        ("Edm.Double", "1.5M"),
        ("Edm.Double", "+1.5"),
        ("Edm.Boolean", "1"),
        ("Edm.Binary", "guid'00'"),
    ],
)
def test_a_literal_of_another_type_is_refused(name, literal):
    with pytest.raises(ODataError):
        PRIMITIVES[name].from_literal(literal)
