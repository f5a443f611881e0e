"""What is small on the wire and large in memory: refused before it is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from proxy.odata import atom, verbose_json, xml
from proxy.odata.batch import read_requests
from proxy.odata.csdl import CSDL_NAMESPACES, parse_metadata
from proxy.odata.edm import Model
from proxy.odata.errors import ODataError
from proxy.odata.soap import read_message

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
DECLARED = f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'
EVERY_XML = [atom.entry_heads, atom.parse_links_body, parse_metadata, xml.parse_xml]


def memory(work: Callable[[], object]) -> int:
    """The bytes that Python's objects took at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", EVERY_XML)
@pytest.mark.parametrize(
    "document",
    [
        f"{DECLARED}<x>&l11;</x>",
        f'{DECLARED}<x a="&l11;"/>',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/hostname">%p;]><x/>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x>&e;</x>',
        "<x>" * 300 + "</x>" * 300,
        f"<x>{'<a/>' * (xml.MAX_TAGS + 1)}</x>",
        f"<x>{'x' * 11_000_000}</x>",
    ],
    ids=["entity bomb", "in an attribute", "parameter entity", "external type", "deep", "tags", "long text"],
)
def test_xml_beyond_the_limits(read: Callable[[bytes], Any], document: str) -> None:
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(ODataError):
            read(document.encode(encoding))
        assert read_message(document.encode(encoding)) is None


def test_xml_within_the_limits() -> None:
    text = "<x>" + "<a/>" * 1000 + "<b>" * 200 + "y" * 9_000_000 + "</b>" * 200 + "</x>"
    assert len(xml.parse_xml(text.encode())) == 1001


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'"",', b"1,"])
def test_posted_json_of_too_many_values(unit: bytes, paths_model: Model) -> None:
    account = paths_model.entity_sets["AccountSet"].entity_type
    body = b'{"contact_customer_accounts":[' + unit * (16_000_000 // len(unit)) + b"1]}"

    def read() -> None:
        with pytest.raises(ODataError, match=str(verbose_json.MAX_VALUES)):
            verbose_json.parse_posted(body, account, paths_model)

    assert memory(read) < len(body)


def test_posted_json_that_nests(paths_model: Model) -> None:
    account = paths_model.entity_sets["AccountSet"].entity_type

    def posted(levels: int) -> object:
        nested = "[" * levels + "]" * levels
        return verbose_json.parse_posted(
            f'{{"contact_customer_accounts":{nested}}}'.encode(), account, paths_model
        )

    assert posted(verbose_json.MAX_DEPTH - 1)
    for levels in (verbose_json.MAX_DEPTH, 900, 100_000):
        with pytest.raises(ODataError):
            posted(levels)


def test_a_part_with_too_many_header_fields() -> None:
    body = b"--b\r\n" + b"a:\r\n" * 2_000_000 + b"\r\n--b--"

    def read() -> None:
        with pytest.raises(ODataError) as caught:
            read_requests(body, "multipart/mixed; boundary=b")
        assert caught.value.status == 413

    assert memory(read) < len(body) / 2


def test_batches_of_too_many_parts() -> None:
    one = b"Content-Type: application/http\r\n\r\nGET x HTTP/1.1\r\n\r\n"
    plain = b"--b\r\n" + one
    inner = b"--c\r\n" + one
    changeset = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" + inner * 600 + b"--c--\r\n"
    read_requests(plain * 1000 + b"--b--", "multipart/mixed; boundary=b")
    for body in (plain * 1001, changeset * 2):
        with pytest.raises(ODataError) as caught:
            read_requests(body + b"--b--", "multipart/mixed; boundary=b")
        assert caught.value.status == 413


def metadata(types: str) -> bytes:
    return f'<Schema Namespace="N" xmlns="{CSDL_NAMESPACES[2]}">{types}</Schema>'.encode()


def test_properties_that_base_types_multiply() -> None:
    declared = "".join(f'<Property Name="p{n}" Type="Edm.String"/>' for n in range(5000))
    derived = "".join(f'<EntityType Name="T{n}" BaseType="N.B"/>' for n in range(20_000))
    document = metadata(f'<EntityType Name="B">{declared}</EntityType>{derived}')

    def read() -> None:
        with pytest.raises(ODataError, match="properties"):
            parse_metadata(document)

    assert memory(read) < 200 * 1024 * 1024  # all of them: 5 GB


NAMED = [
    '<EntityType Name="{}"/>',
    '<ComplexType Name="{}"/>',
    '<Association Name="{}"/>',
    '<EntityType Name="T"><Property Name="{}" Type="Edm.String"/></EntityType>',
    '<ComplexType Name="T"><Property Name="{}" Type="Edm.String"/></ComplexType>',
    '<EntityType Name="T"/>'
    '<EntityContainer Name="C"><EntitySet Name="{}" EntityType="N.T"/></EntityContainer>',
    '<EntityContainer Name="C"><FunctionImport Name="{}"/></EntityContainer>',
    '<EntityType Name="T"/><Association Name="A"><End Type="N.T" Role="a"/></Association>'
    '<EntityType Name="U"><NavigationProperty Name="{}" Relationship="N.A" FromRole="b" ToRole="a"/>'
    "</EntityType>",
]
NO_NAMES = [
    "a/b",
    "a,b",
    "a b",
    "a.b",
    "(",
    "'",
    "&quot;; drop table x",
    "1a",
    "-",
    "%s",
    "a" * 481,
    "&#x202e;",
]


@pytest.mark.parametrize("where", NAMED)
@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_none(where: str, name: str) -> None:
    with pytest.raises(ODataError, match="no identifier"):
        parse_metadata(metadata(where.format(name)))


@pytest.mark.parametrize("where", NAMED)
@pytest.mark.parametrize("name", ["select", "Zoë", "名前", "_a", "ctid", "a" * 480])
def test_names_that_are_some(where: str, name: str) -> None:
    parse_metadata(metadata(where.format(name)))
