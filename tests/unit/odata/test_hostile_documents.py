"""Documents made to hang, to fill memory, or to have files read: each is refused, or read at once.

Without its guard each of these would not end, or end in a crash.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.odata import atom, verbose_json
from proxy.odata.csdl import parse_metadata
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
BOMB = f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l11;</x>'
QUADRATIC = f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]><x>{"&a;" * 100_000}</x>'
XML = [
    pytest.param(BOMB, id="entities of entities"),
    pytest.param(QUADRATIC, id="one long entity"),
    pytest.param('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', id="external type"),
    pytest.param("<a>" * 100_000 + "</a>" * 100_000, id="deep"),
    pytest.param("<a>" * 100_000, id="never closed"),
    pytest.param("<x " + " ".join(f'a{n}="1"' for n in range(50_000)) + " a1='2'/>", id="attribute twice"),
]


@pytest.mark.parametrize("document", XML)
@pytest.mark.parametrize("read", [atom.entry_heads, parse_metadata])
def test_xml_that_is_no_honest_document(read: Callable[[bytes], Any], document: str) -> None:
    with pytest.raises(ODataError):
        read(document.encode())


@pytest.mark.parametrize("read", [atom.entry_heads, parse_metadata])
def test_no_file_is_read_for_xml(read: Callable[[bytes], Any], tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("Zaffre")
    document = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]><x>&e;</x>'
    with pytest.raises(ODataError) as caught:
        read(document.encode())
    assert "Zaffre" not in str(caught.value)


DEEP = [
    "[" * 200_000,
    '{"a":' * 200_000,
    "[" * 200_000 + "]" * 200_000,
    '{"d":' + "[" * 100_000 + "]" * 100_000 + "}",
]


@pytest.mark.parametrize("text", DEEP, ids=["arrays", "objects", "closed", "payload"])
def test_json_too_deep_to_be_read(text: str, paths_model: Model) -> None:
    with pytest.raises(ODataError):
        verbose_json.slice_reply(text)
    entity_type = next(iter(paths_model.entity_types.values()))
    with pytest.raises(ODataError):
        verbose_json.parse_posted(text.encode(), entity_type, paths_model)


NESTED = "[" * 12 + ",".join(['"x"'] * 2000) + "]" * 12
WIDE = ",".join(f'"p{n}":{{"__metadata":{{"type":"T"}},"Value":["\\\\","{n}"]}}' for n in range(5000))


@pytest.mark.parametrize(
    "document",
    [
        f'{{"__metadata":{{"uri":"x"}},"A":{NESTED},"B":1}}',
        f'{{"__metadata":{{"uri":"x"}},{WIDE},"A":1,"B":{NESTED}',
        '{"__metadata":{"uri":"x"},"A":"' + "\\\\" * 50_000,
        '{"__metadata":{"uri":"x"}' + ' , "C" : [ ] ' * 20_000 + "}",
    ],
    ids=["nested", "wide", "escapes", "blanks"],
)
def test_members_of_hostile_entities_are_found_or_not_at_once(document: str) -> None:
    verbose_json.select_members(document, ["A", "B", "Missing"])
    for names in (["A"], ["Missing"]):
        try:
            verbose_json.fill_members(document, document, names)
        except ODataError:
            continue


def test_json_with_a_number_of_a_million_digits(paths_model: Model) -> None:
    entity_type = next(iter(paths_model.entity_types.values()))
    with pytest.raises(ODataError):
        verbose_json.parse_posted(b'{"A":' + b"9" * 1_000_000 + b"}", entity_type, paths_model)
    with pytest.raises(ODataError):
        verbose_json.slice_reply('{"d":{"__metadata":{"uri":"x"},"A":' + "9" * 1_000_000 + "}}")


def test_origins_in_hostile_text_are_rewritten_at_once() -> None:
    text = json.dumps({"d": {"__metadata": {"uri": "http://h/x" + "/" * 100_000}}, "e": "http:" * 50_000})
    assert "Zaffre" not in verbose_json.rewrite_origins(text, "/X/Data.svc", "http://p")
    assert atom.rewrite_origins("<a " + 'xml:base="http://' * 20_000, "/X/Data.svc", "http://p")
