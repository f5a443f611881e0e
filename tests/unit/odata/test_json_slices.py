"""Slices of verbose JSON: exact places in exact text."""

import json

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.verbose_json import (
    fill_members,
    members,
    null_members,
    put_members,
    select_members,
    slice_reply,
    value_at,
)

ONE = '{"__metadata":{"uri":"https://h/S(1)","type":"N.S"},"A":"x","B":null}'
TWO = '{ "A" : 1 , "__metadata" : { "uri" : "https://h/S(2)" } }'
NEXT = '"https:\\/\\/h\\/S?$skiptoken=1"'


@pytest.mark.parametrize(
    ("text", "kind", "entities", "next_link"),
    [
        (f'{{"d":{ONE}}}', "entity", [ONE], None),
        (f'\ufeff {{ "d" : {TWO} }}\r\n', "entity", [TWO], None),
        (f'{{"d":{{"results":[{ONE},{TWO}]}}}}', "collection", [ONE, TWO], None),
        (f'{{"d":{{"results":[{ONE}],"__next":{NEXT}}}}}', "collection", [ONE], NEXT),
        (
            f'{{"d":{{"__count":"9","__next":{NEXT},"results":[ {ONE}\n,{TWO} ]}}}}',
            "collection",
            [ONE, TWO],
            NEXT,
        ),
        ('{"d":{"results":[]}}', "collection", [], None),
        (f'{{"d":[{ONE},{TWO}]}}', "collection", [ONE, TWO], None),
        ('{"d":[]}', "collection", [], None),
        (f'{{"d":"old","d":{ONE}}}', "entity", [ONE], None),
        (f'{{"d":{{"results":[{TWO}],"results":[{ONE}]}}}}', "collection", [ONE], None),
        ('{"d":{"results":[{"uri":"https://h/S(1)"}]}}', "other", [], None),
        (f'{{"d":{{"results":[{ONE},null]}}}}', "other", [], None),
        ('{"d":{"uri":"https://h/S(1)"}}', "other", [], None),
        ('{"d":{"Name":"x"}}', "other", [], None),
        ('{"d":{"__metadata":{"type":"N.Money"},"Value":"1"}}', "other", [], None),
        ('{"d":{"EntitySets":["ASet"]}}', "other", [], None),
        ('{"d":null}', "other", [], None),
        ('{"error":{"code":"","message":{"lang":"en-US","value":"x"}}}', "other", [], None),
        (ONE, "other", [], None),
        ("[]", "other", [], None),
        ('"{}"', "other", [], None),
    ],
)
def test_spans_are_those_of_the_entities(text, kind, entities, next_link):
    sliced = slice_reply(text)
    assert sliced.kind == kind
    assert [text[start:end] for start, end in sliced.spans] == entities
    assert list(sliced.values) == [json.loads(entity) for entity in entities]
    assert (sliced.next_span and text[slice(*sliced.next_span)]) == next_link


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "<html><title>Sign In</title></html>",
        f'{{"d":{{"results":[{ONE}',
        f'{{"d":{{"results":[{ONE}]',
        f'{{"d":{ONE[:-1]}',
        f'{{"d":{ONE}}}<?xml version="1.0"?><error/>',
        f'{{"d":{ONE}}}{{}}',
        f'{{"d":{{"results":[{ONE},]}}}}',
        f'{{"d":{{"results":[{ONE} {ONE}]}}}}',
        f'{{"d":{ONE},}}',
        '{"d" {}}',
        "{d:1}",
        '{"d":{"__metadata":{"uri":"u"},"A":NaN}}',
        '{"d":{"__metadata":{"uri":"u"},"A":"raw \x01 control"}}',
        '{"d":' + "[" * 200_000,
        '{"d":' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_whole_json_is_refused(text):
    with pytest.raises(ODataError):
        slice_reply(text)


def test_a_page_cut_anywhere_is_refused():
    page = f'{{"d":{{"results":[{ONE},{TWO}],"__next":{NEXT}}}}}'
    for end in range(len(page)):
        with pytest.raises(ODataError):
            slice_reply(page[:end])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        " { } ",
        ONE,
        TWO,
        r'{"a\"b":"c\\\"d","\u00e9\n":[1,{"x":"]}"}],"n":{"":{"__metadata":{}}},"t":true}',
        '{"deep":' + "[" * 7 + "]" * 7 + "}",
    ],
)
def test_members_are_where_they_stand(text):
    found = members(text)
    parsed = json.loads(text)
    assert [member.name for member in found] == list(parsed)
    for member in found:
        assert json.loads("{" + text[member.start : member.end] + "}") == {member.name: parsed[member.name]}
        assert json.loads(text[member.value_start : member.end]) == parsed[member.name]


def test_members_of_one_name_are_all_there():
    assert [m.name for m in members('{"a":1,"a":2}')] == ["a", "a"]


@pytest.mark.parametrize("text", ["", "[]", "null", '"{}"', '{"a":1', '{"a"}'])
def test_members_of_no_object_are_refused(text):
    with pytest.raises(ODataError):
        members(text)


ENTITY = (
    '{"__metadata":{"uri":"https://h/S(1)"},"Owner":{"__metadata":{"type":"N.R"},"Name":"inner"},'
    '"Note":"\\",\\"Name\\":\\"fake\\"",'
    '"Name":"caf\\u00e9 \\/ {","Zip":null,"nav":{"__deferred":{"uri":"u"}}}'
)


@pytest.mark.parametrize(
    ("document", "names", "selected"),
    [
        (ENTITY, ["Name"], '{"__metadata":{"uri":"https://h/S(1)"},"Name":"caf\\u00e9 \\/ {"}'),
        (
            ENTITY,
            ["Zip", "Name", "Zip"],
            '{"__metadata":{"uri":"https://h/S(1)"},"Zip":null,"Name":"caf\\u00e9 \\/ {"}',
        ),
        (ENTITY, ["nav"], '{"__metadata":{"uri":"https://h/S(1)"},"nav":{"__deferred":{"uri":"u"}}}'),
        (ENTITY, [], '{"__metadata":{"uri":"https://h/S(1)"}}'),
        (ENTITY, ["Gone"], None),
        (ENTITY, ["name"], None),
        (ENTITY, ["fake"], None),
        (ENTITY, ["Na.e"], None),
        ('{"A":1}', ["A"], None),
        (
            '{\n "__metadata": {"uri": "u"},\n "A": {"B": {}},\n "C": 1\n}',
            ["C", "A"],
            '{\n "__metadata": {"uri": "u"},\n "C": 1,\n "A": {"B": {}}\n}',
        ),
        (
            '{"__metadata":{"uri":"\x01/S(1)"},"A":{"B":{"C":{}}}}',
            ["A"],
            '{"__metadata":{"uri":"\x01/S(1)"},"A":{"B":{"C":{}}}}',
        ),
        ('{"__metadata":{},"\\u00e9":1}', ["\u00e9"], '{"__metadata":{},"\\u00e9":1}'),
    ],
)
def test_select_copies_the_named_members_in_the_asked_order(document, names, selected):
    assert select_members(document, names) == selected


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({}, ENTITY),
        ({"nav": "null"}, ENTITY.replace('{"__deferred":{"uri":"u"}}', "null")),
        (
            {"nav": '{"results":[]}', "Zip": '"\\u00e9"'},
            ENTITY.replace('{"__deferred":{"uri":"u"}}', '{"results":[]}').replace(
                '"Zip":null', '"Zip":"\\u00e9"'
            ),
        ),
        ({"Name": "1"}, ENTITY.replace('"caf\\u00e9 \\/ {"', "1")),
        ({"New": "[]", "Zip": "0"}, ENTITY.replace('"Zip":null', '"Zip":0')[:-1] + ',"New":[]}'),
    ],
)
def test_put_replaces_values_and_no_other_byte(values, changed):
    assert put_members(ENTITY, values) == changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("Name",), '"caf\\u00e9 \\/ {"'),
        (("Zip",), "null"),
        (("Owner", "Name"), '"inner"'),
        (("Owner", "__metadata", "type"), '"N.R"'),
        (("Owner", "Gone"), None),
        (("Zip", "Gone"), None),
        (("Gone",), None),
        ((), ENTITY),
    ],
)
def test_a_value_is_found_by_its_path(path, value):
    assert value_at(ENTITY, path) == value


MONEY = '{"__metadata":{"type":"T"},"Value":"1"}'
SPACED = f'{{ "__metadata":{{"uri":"x","a":[1]}} , "A" : "b}}\\"," ,"M":{MONEY},"Z":null}}'


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"A"}, SPACED.replace('"b}\\","', "null")),
        ({"M", "Z", "Unknown"}, SPACED.replace(MONEY, "null")),
        (set(), SPACED),
    ],
)
def test_members_give_way_to_null_and_come_back(names: set[str], text: str) -> None:
    assert null_members(SPACED, names) == text
    assert fill_members(text, SPACED, names) == SPACED


def test_only_named_members_are_filled_and_only_where_the_other_shows_them() -> None:
    assert (
        fill_members('{"A":null,"B":null,"C":1}', '{"B":2,"C":3,"A":4}', ["A", "X"])
        == '{"A":4,"B":null,"C":1}'
    )
    assert fill_members('{"A":null}', "{}", ["A"]) == '{"A":null}'
