"""What holds of every batch: nothing is lost on the way round, and garbage raises the protocol's error."""

from __future__ import annotations

import contextlib
import string

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_requests, read_responses, write_batch
from proxy.odata.errors import ODataError
from proxy.odata.origins import rewrite_origins

ROOT = "/XRMServices/2011/OrganizationData.svc"
ORIGIN = "https://crm.example.org"
MIXED = "multipart/mixed; boundary=b"

words = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
targets = st.one_of(printable, st.sampled_from([f"{ORIGIN}{ROOT}/X", f"{ROOT}/X", "$1/Y", "a b"])).filter(
    lambda text: not text.startswith("HTTP/") and "\x85" not in text and "\xa0" not in text
)
fields = st.dictionaries(words.map(lambda name: f"X-{name}"), printable, max_size=3).map(CIMultiDict)
hostile = st.lists(
    st.sampled_from(["--b", "--b--", "--b_0", "\r\n", "\n", " ", "x", "Content-Length: 1", ORIGIN + ROOT]),
    max_size=6,
).map(lambda pieces: "".join(pieces).encode())
bodies = st.one_of(st.binary(max_size=30), hostile).filter(
    lambda body: b"\n--b" not in b"\n" + body and (body.strip(b"\r\n") or not body)
)
ids = st.one_of(st.none(), words)
requests = st.builds(RequestPart, words, targets, fields, bodies, ids)
responses = st.builds(ResponsePart, st.integers(100, 599), words, fields, bodies, ids)


def batches(part: st.SearchStrategy) -> st.SearchStrategy:
    changesets = st.lists(part, max_size=3).map(lambda parts: ChangeSet(tuple(parts)))
    return st.lists(st.one_of(part, changesets), max_size=4)


@given(batches(requests))
def test_requests_go_round(parts: list) -> None:
    assert read_requests(write_batch(parts, "b"), MIXED) == parts


@given(batches(responses))
def test_responses_go_round(parts: list) -> None:
    assert read_responses(write_batch(parts, "b"), MIXED) == parts


@given(batches(requests))
def test_turning_origins_there_and_back_changes_nothing(parts: list) -> None:
    written = write_batch(parts, "b")
    there = rewrite_origins(written, MIXED, ROOT, "http://p")
    assert rewrite_origins(there, MIXED, ROOT, ORIGIN) == written


PIECES = [
    *(
        b"--b\r\n",
        b"--b--",
        b"--b--\r\n",
        b"--c\r\n",
        b"--c--\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\xff",
        b"\x00",
    ),
    *(b"Content-Type: application/http\r\n\r\n", b"Content-Type: multipart/mixed; boundary=c\r\n\r\n"),
    *(
        b"GET X HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: 3\r\n",
        b"Content-ID: 1\r\n",
        b"Host: h\r\n",
    ),
    *(b"Content-Type: application/json\r\n\r\n", b'{"uri":"https://crm.example.org', ROOT.encode(), b'"}'),
]
garbage = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join))
content_types = st.one_of(
    st.just(MIXED), st.text(max_size=40), st.text(max_size=20).map("multipart/mixed; boundary={}".format)
)


@given(garbage, content_types)
def test_garbage_raises_the_protocols_error_or_nothing(body: bytes, content_type: str) -> None:
    for read in (read_requests, read_responses):
        with contextlib.suppress(ODataError):
            read(body, content_type)
    rewrite_origins(body, content_type, ROOT, "http://p")
