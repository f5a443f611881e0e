"""Text made to be read again from each of its places: whatever reads a request or a reply takes linear time.

The texts are so long that a quadratic reading of them takes from many minutes to days, and a linear one no
second; the deadline lies in between.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from deadline import ends_within

from proxy.odata import atom, batch, headers, media, multipart, uri, verbose_json
from proxy.odata.edm import EntityType, Model
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.primitives import PRIMITIVES, parse_literal
from proxy.odata.projection import parse_projection
from proxy.odata.query_options import parse_query, restore_select, with_select
from proxy.odata.reading import parse_read
from proxy.odata.soap import PATH, read_message

pytestmark = pytest.mark.slow

LENGTH = 400_000


def long(unit: str, before: str = "", after: str = "") -> str:
    return before + unit * (LENGTH // len(unit)) + after


EXPRESSIONS = [
    long("a"),
    long("1"),
    long(" ", "a", "!"),
    long("''", "'"),
    long("a'"),
    long("'' "),
    long("a/"),
    long("a.", after="'"),
    long("1.", after="x"),
    long("-"),
    long("("),
    long("not "),
    long("a eq 1 and "),
    long("a,"),
    long("1e"),
    long("datetime'"),
    long("é"),
]
PATHS = [*EXPRESSIONS, long("/"), long("a(", after=")"), long("a="), long("a=1,"), long("%27"), long("%")]
QUERIES = [*PATHS, long("&"), long("$a&"), long("$select=a&"), long("+"), long("a=&")]
JSON = [
    long('"'),
    long("\\"),
    long("\\", '"'),
    long('\\"', '"'),
    long("[", '{"d":'),
    long('{"d":'),
    long(" ", '{"d":'),
    long('"a":1,', '{"d":{'),
    long('{"__metadata":{'),
    long('"__metadata":{'),
    long('"__metadata":{"a":1,'),
    long('"__next":'),
    long('"uri":"http://'),
    long('"id":"', '"__metadata":{'),
    long('{"uri":"x"},', '{"d":['),
    long('{"uri":"x"},', '{"d":{"results":[', "]x}}"),
    long("0", '{"d":'),
]
XML = [
    long("<"),
    long("<a "),
    long("<!--"),
    long("<![CDATA["),
    long("<?"),
    long("-", "<!--"),
    long("]", "<![CDATA["),
    long('a="b" ', "<feed "),
    long("<content "),
    long(' xml:base="http://', "<feed"),
    long(' xml:base="http://'),
    long("<updated>"),
    long("<m:properties>", "<entry>"),
    long("<id>", "<feed>"),
    long(" ", "<id>"),
    long('<link rel="next" href="'),
    long(" ", '<link rel="next" href="x"'),
    long("<?x?>"),
]
FIELDS = [
    long("a"),
    long(","),
    long('"'),
    long('a="', after="\\"),
    long("\\", 'a="'),
    long(" ", "a", "!"),
    long(" ", "a ="),
    long(";q="),
    long(';boundary="'),
    long("\\a", ';boundary="'),
    long("; ", after="boundary"),
    long("application/json;"),
    long("application/json,"),
    long("1", "", "."),
]
PARTS = [
    long("--b\r\n"),
    long("--b"),
    long("a: b\r\n", "--b\r\n"),
    long(" b\r\n", "--b\r\na: b\r\n"),
    long("\r\n", "--b\r\n"),
    long("\r", "--b\r\n"),
    long(" ", "--b"),
    long("--b \t"),
    long("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", "--b\r\n"),
    long("--b\r\nContent-Type: application/http\r\n\r\nGET x\r\n\r\n", after="--b--"),
    long(" ", "--b\r\nContent-Type: application/http\r\n\r\nGET ", "HTTP/1.1\r\n\r\n\r\n--b--"),
]


def _every_primitive(text: str) -> None:
    for primitive in PRIMITIVES.values():
        for read in (primitive.from_literal, primitive.from_json, primitive.from_atom):
            with suppress(ODataError):
                read(text)
    parse_literal(text)


def _of_media(text: str) -> None:
    media.response_format(text)
    headers.protocol_version(text)
    with suppress(ODataError):
        multipart.parse_parts(b"--b--", f"multipart/mixed;{text}")
    media.negotiated_format(text)


def _of_atom(text: str) -> None:
    atom.mask_updated(text)
    atom.origin_of(text)
    atom.next_link(text)
    atom.rewrite_origins(text, "/X/Data.svc", "http://p")
    atom.rewrite_origins(f"<feed>{text}", "/X/Data.svc", "http://p")
    read_message(text.encode())
    atom.entry_heads(text.encode())


def _of_json(text: str) -> None:
    verbose_json.rewrite_origins(text, "/X/Data.svc", "http://p")
    verbose_json.slice_reply(text)


def _of_batches(text: str) -> None:
    for read in (batch.read_requests, batch.read_responses):
        with suppress(ODataError):
            read(text.encode(), "multipart/mixed; boundary=b")
    batch.rewrite_origins(
        text.encode(), "multipart/mixed; boundary=b", "/X/Data.svc", "http://p", lambda body, _: body
    )


def _of_selects(text: str) -> None:
    with_select(text, ["a"])
    restore_select(f"/x?{text}", text, ["a"])
    options = parse_query(text)
    _ = options.names, options.duplicates, options.select, options.expand, options.skip


@pytest.fixture(scope="module")
def account(paths_model: Model) -> EntityType:
    return paths_model.entity_sets["AccountSet"].entity_type


def _id(text: object) -> str:
    return repr(text[:24]) + "…" + repr(text[-9:]) if isinstance(text, str) else str(text)


def read(reader: Callable[[str], Any], text: str) -> None:
    with ends_within(), suppress(ODataError):
        reader(text)


@pytest.mark.parametrize("text", EXPRESSIONS, ids=_id)
def test_expressions(text: str) -> None:
    for reader in (parse_filter, parse_orderby, _every_primitive):
        read(reader, text)


@pytest.mark.parametrize("text", PATHS, ids=_id)
def test_paths_and_keys(text: str, paths_model: Model, account: EntityType) -> None:
    read(lambda path: parse_read(path, None, paths_model), text)
    read(lambda key: parse_read(f"AccountSet({key})", None, paths_model), text)
    read(lambda key: uri.parse_key(key, account), text)
    read(PATH.search, f"/XRMServices/2011/Organization.svc{text}")


@pytest.mark.parametrize("text", QUERIES, ids=_id)
def test_queries(text: str, paths_model: Model, account: EntityType) -> None:
    read(lambda query: parse_read("AccountSet", query, paths_model), text)
    read(_of_selects, text)
    read(lambda option: parse_projection(option, None, account, paths_model), text)
    read(lambda option: parse_projection(None, option, account, paths_model), text)


@pytest.mark.parametrize("text", JSON, ids=_id)
def test_json(text: str) -> None:
    read(_of_json, text)


@pytest.mark.parametrize("text", XML, ids=_id)
def test_xml(text: str) -> None:
    read(_of_atom, text)


@pytest.mark.parametrize("text", FIELDS, ids=_id)
def test_header_fields(text: str) -> None:
    read(lambda field: headers.parse_cache_control([field]), text)
    read(_of_media, text)


@pytest.mark.parametrize("text", PARTS, ids=_id)
def test_batches(text: str) -> None:
    read(_of_batches, text)
