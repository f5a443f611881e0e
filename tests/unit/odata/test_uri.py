from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.uri import (
    ResourcePath,
    decode_path,
    format_key,
    parse_key,
    parse_resource_path,
    split_target,
)

ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
LITERAL = f"guid'{ID}'"
ACCOUNT = (("AccountId", ID),)
CONTACT = (("ContactId", ID),)
PART = (("Number", 5), ("Code", "x"))


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a/b", "/a/b", None),
        ("/a?", "/a", ""),
        ("/a?b=c?d", "/a", "b=c?d"),
        ("/a%3Fb?%24select=x", "/a%3Fb", "%24select=x"),
        ("*", "*", None),
    ],
)
def test_a_target_is_cut_at_its_first_question_mark(target, path, query):
    assert split_target(target) == (path, query)


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_the_root_is_the_service_document(paths_model, path):
    assert parse_resource_path(path, paths_model) == ResourcePath()


@pytest.mark.parametrize(
    ("path", "special"),
    [
        ("/$metadata", "metadata"),
        ("//%24metadata", "metadata"),
        ("/$batch", "batch"),
        ("/WhoAmI", "function"),
        ("/WhoAmI()", "function"),
    ],
)
def test_special_resources(paths_model, path, special):
    assert parse_resource_path(path, paths_model) == ResourcePath(special=special)


@pytest.mark.parametrize(
    "path", ["/AccountSet", "/AccountSet()", "//AccountSet", "/AccountSet/", "/%41ccountSet"]
)
def test_collections(paths_model, path):
    assert parse_resource_path(path, paths_model) == ResourcePath(paths_model.entity_sets["AccountSet"])


@pytest.mark.parametrize(
    "path",
    [
        f"/AccountSet({LITERAL})",
        f"//AccountSet({LITERAL})/",
        f"/AccountSet(guid%27{ID}%27)",
        f"/AccountSet(guid'%7B{str(ID).upper()}%7D')",
        f"/AccountSet(guid'{{{ID}}}')",
        f"/AccountSet(AccountId={LITERAL})",
        f"/AccountSet(%20AccountId%20=%20{LITERAL}%20)",
    ],
)
def test_one_entity_in_every_spelling_of_its_key(paths_model, path):
    assert parse_resource_path(path, paths_model) == ResourcePath(
        paths_model.entity_sets["AccountSet"], ACCOUNT
    )


def _parts(path):
    """What a path says, with sets by name."""
    steps = [(step.name, step.target and step.target.name, step.key, step.many) for step in path.navigation]
    flags = {flag for flag in ("value", "count", "links") if getattr(path, flag)}
    return path.entity_set.name, path.key, steps, path.property_path, flags


@pytest.mark.parametrize(
    ("tail", "steps", "property_path", "flags"),
    [
        ("/Name", [], ("Name",), set()),
        ("/Name/$value", [], ("Name",), {"value"}),
        ("/PrimaryContactId", [], ("PrimaryContactId",), set()),
        ("/PrimaryContactId/Id/%24value", [], ("PrimaryContactId", "Id"), {"value"}),
        ("/$value", [], (), {"value"}),
        ("/account_primary_contact", [("account_primary_contact", "ContactSet", None, False)], (), set()),
        (
            "/account_primary_contact/FullName",
            [("account_primary_contact", "ContactSet", None, False)],
            ("FullName",),
            set(),
        ),
        (
            "/contact_customer_accounts/$count",
            [("contact_customer_accounts", "ContactSet", None, True)],
            (),
            {"count"},
        ),
        (
            f"/contact_customer_accounts({LITERAL})/contact_parts(Code='x',Number=5L)/Code",
            [
                ("contact_customer_accounts", "ContactSet", CONTACT, True),
                ("contact_parts", "PartSet", PART, True),
            ],
            ("Code",),
            set(),
        ),
        ("/unbound", [("unbound", None, None, True)], (), set()),
        (
            f"/$links/contact_customer_accounts({LITERAL})",
            [("contact_customer_accounts", "ContactSet", CONTACT, True)],
            (),
            {"links"},
        ),
        (
            "/$links/contact_customer_accounts/$count",
            [("contact_customer_accounts", "ContactSet", None, True)],
            (),
            {"links", "count"},
        ),
    ],
)
def test_what_lies_below_an_entity(paths_model, tail, steps, property_path, flags):
    path = parse_resource_path(f"/AccountSet({LITERAL}){tail}", paths_model)
    assert _parts(path) == ("AccountSet", ACCOUNT, steps, property_path, flags)


def test_the_count_of_a_set(paths_model):
    assert _parts(parse_resource_path("/AccountSet/$count", paths_model)) == (
        "AccountSet",
        None,
        [],
        (),
        {"count"},
    )


def test_an_unknown_set_is_not_found_in_the_servers_words(paths_model):
    with pytest.raises(ODataError) as caught:
        parse_resource_path(f"/WidgetSet({LITERAL})", paths_model)
    assert caught.value.status == 404
    assert caught.value.message == "Resource not found for the segment 'WidgetSet'."


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/accountset", 404),
        (f"/AccountSet({LITERAL})/name", 404),
        (f"/AccountSet({LITERAL})/PrimaryContactId/Nothing", 404),
        (f"/AccountSet({LITERAL})/Name/Id", 404),
        ("/AccountSet(guid'1234')", 400),
        ("/AccountSet(", 400),
        (f"/AccountSet({LITERAL}", 400),
        (f"/AccountSet({LITERAL})x", 400),
        ("/AccountSet/Name", 400),
        ("/AccountSet/$count/$count", 400),
        ("/$metadata/AccountSet", 400),
        (f"/AccountSet({LITERAL})/$value/x", 400),
        (f"/AccountSet({LITERAL})/Name(1)", 400),
        (f"/AccountSet({LITERAL})/Name/$value/x", 400),
        (f"/AccountSet({LITERAL})/$links", 400),
        (f"/AccountSet({LITERAL})/$links/contact_customer_accounts/FullName", 400),
        (f"/AccountSet({LITERAL})/contact_customer_accounts/FullName", 400),
        (f"/AccountSet({LITERAL})/account_primary_contact({LITERAL})", 400),
        (f"/AccountSet({LITERAL})" + f"/contact_customer_accounts({LITERAL})" * 40, 400),
        ("/AccountSet(%zz)", 400),
        ("/AccountSet(%E9)", 400),
        ("/Account%00Set", 400),
    ],
)
def test_what_is_no_path_of_the_model_is_refused(paths_model, path, status):
    with pytest.raises(ODataError) as caught:
        parse_resource_path(path, paths_model)
    assert caught.value.status == status


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "%E9", "a%C3%28", "%00", "%ED%A0%80"])
def test_octets_that_are_no_text_are_refused(text):
    with pytest.raises(ODataError) as caught:
        decode_path(text)
    assert (caught.value.status, caught.value.token) == (400, text.replace("%00", "\x00"))


def test_a_plus_in_a_path_is_a_plus_and_octets_are_utf_8():
    assert decode_path("a+b%2Bc%20%C3%A9") == "a+b+c \u00e9"


@pytest.mark.parametrize(
    ("predicate", "key"),
    [
        ("Number=5L,Code='x'", PART),
        ("Code='x',Number=5", PART),
        (" Code = 'x' , Number = 5L ", PART),
        ("Number=-5L,Code='a,b=''c'')'", (("Number", -5), ("Code", "a,b='c')"))),
    ],
)
def test_compound_keys_come_in_the_order_of_the_type(paths_model, predicate, key):
    assert parse_key(predicate, paths_model.entity_sets["PartSet"].entity_type) == key


@pytest.mark.parametrize(
    ("predicate", "position"),
    [
        ("5L", None),
        ("5L,'x'", None),
        ("Number=5L", None),
        ("Number=5L,Number=5L", None),
        ("Number=5L,Code='x',Code='y'", None),
        ("Number=5L,Code='x',Weight=1.5", None),
        ("Number=5L,Code=x", 15),
        ("Number='5',Code='x'", 7),
        ("Number=5L,", 10),
        ("Number=5L Code='x'", 0),
        ("Number=5L,Code='x", 10),
        ("", 0),
    ],
)
def test_broken_predicates_are_refused_where_they_break(paths_model, predicate, position):
    with pytest.raises(ODataError) as caught:
        parse_key(predicate, paths_model.entity_sets["PartSet"].entity_type)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ACCOUNT, LITERAL),
        (PART, "Number=5,Code='x'"),
        ((("K", "O'Brien"),), "'O''Brien'"),
        ((("K", 2**40),), f"{2**40}L"),
        ((("K", True),), "true"),
        ((("K", Decimal("1.50")),), "1.50M"),
        ((("K", 1.5),), "1.5D"),
        ((("K", b"\xff"),), "X'FF'"),
        ((("K", datetime(2016, 8, 25)),), "datetime'2016-08-25T00:00:00'"),
        ((("K", datetime(2016, 8, 25, tzinfo=UTC)),), "datetimeoffset'2016-08-25T00:00:00Z'"),
        ((("K", timedelta(hours=1)),), "time'PT1H'"),
    ],
)
def test_keys_are_written_in_their_canonical_form(key, text):
    assert format_key(key) == text


def test_a_type_gives_numbers_their_suffix(paths_model):
    part = paths_model.entity_sets["PartSet"].entity_type
    assert format_key(PART, part) == "Number=5L,Code='x'"
    assert parse_key(format_key(PART, part), part) == PART
