"""Batches as clients and servers really write them, and what is refused."""

from __future__ import annotations

import time

import pytest

from proxy.odata import batch, multipart
from proxy.odata.batch import ChangeSet, RequestPart, flat, read_requests, read_responses
from proxy.odata.errors import ODataError
from proxy.odata.origins import rewrite_origins

ROOT = "/XRMServices/2011/OrganizationData.svc"
PROXY, UPSTREAM = "http://proxy.example:8010", "https://crm.example.org"
MIXED = "multipart/mixed; boundary=b"


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


# As WCF Data Services' client writes: absolute URLs, Content-ID with the request's own headers.
DOTNET = f"""--batch_0f1e
Content-Type: application/http
Content-Transfer-Encoding: binary

GET {PROXY}{ROOT}/AccountSet?$top=1 HTTP/1.1


--batch_0f1e
Content-Type: multipart/mixed; boundary=changeset_77aa

--changeset_77aa
Content-Type: application/http
Content-Transfer-Encoding: binary

POST {PROXY}{ROOT}/AccountSet HTTP/1.1
Content-ID: 1
Content-Type: application/atom+xml
Content-Length: 8

<entry/>
--changeset_77aa
Content-Type: application/http
Content-Transfer-Encoding: binary

POST $1/contact_customer_accounts HTTP/1.1
Content-ID: 2
Content-Type: application/json;odata=verbose

{{"LastName":"Ä"}}
--changeset_77aa--
--batch_0f1e--
"""
# As datajs (and JayData on it) writes: a line break before the first delimiter, rooted or relative URLs.
DATAJS = f"""
--batch_c5b3-6a1d-90f1
Content-Type: application/http
Content-Transfer-Encoding: binary

GET {ROOT}/AccountSet?$top=1 HTTP/1.1
Accept: application/json


--batch_c5b3-6a1d-90f1
Content-Type: multipart/mixed; boundary=changeset_1e9a-2

--changeset_1e9a-2
Content-Type: application/http
Content-Transfer-Encoding: binary

MERGE AccountSet(guid'00000000-0000-0000-0000-000000000001') HTTP/1.1
Content-Type: application/json

{{"Name":"x"}}
--changeset_1e9a-2--

--batch_c5b3-6a1d-90f1--
"""
# As pyodata writes: no blank behind a colon, no line break at the end.
PYODATA = """
--batch_1_2_3
Content-Type: application/http
Content-Transfer-Encoding:binary

GET AccountSet?%24top=1 HTTP/1.1
Accept: application/json


--batch_1_2_3
Content-Type: multipart/mixed;boundary=changeset_4_5_6


--changeset_4_5_6
Content-Type: application/http
Content-Transfer-Encoding:binary

DELETE AccountSet(guid'00000000-0000-0000-0000-000000000001') HTTP/1.1


--changeset_4_5_6--
--batch_1_2_3--"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "boundary", "shown"),
    [
        (
            DOTNET,
            "batch_0f1e",
            [
                ("GET", f"{PROXY}{ROOT}/AccountSet?$top=1", None, b""),
                [
                    ("POST", f"{PROXY}{ROOT}/AccountSet", "1", b"<entry/>"),
                    ("POST", "$1/contact_customer_accounts", "2", '{"LastName":"Ä"}'.encode()),
                ],
            ],
        ),
        (
            DATAJS,
            "batch_c5b3-6a1d-90f1",
            [
                ("GET", f"{ROOT}/AccountSet?$top=1", None, b""),
                [
                    (
                        "MERGE",
                        "AccountSet(guid'00000000-0000-0000-0000-000000000001')",
                        None,
                        b'{"Name":"x"}',
                    )
                ],
            ],
        ),
        (
            PYODATA,
            "batch_1_2_3",
            [
                ("GET", "AccountSet?%24top=1", None, b""),
                [("DELETE", "AccountSet(guid'00000000-0000-0000-0000-000000000001')", None, b"")],
            ],
        ),
    ],
    ids=["dotnet", "datajs", "pyodata"],
)
def test_requests_of_real_clients(text: str, boundary: str, shown: object, ending: str) -> None:
    parts = read_requests(text.replace("\n", ending).encode(), f"multipart/mixed; boundary={boundary}")

    def told(part: RequestPart) -> tuple[str, str, str | None, bytes]:
        return part.method, part.target, part.content_id, part.body

    assert [
        [told(inner) for inner in part.parts] if isinstance(part, ChangeSet) else told(part) for part in parts
    ] == shown


def one(head: str = "", request: str = "GET X HTTP/1.1\n\n", boundary: str = "b") -> bytes:
    return crlf(f"--{boundary}\nContent-Type: application/http\n{head}\n{request}\n--{boundary}--\n")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/mixed; boundary=b", "b"),
        ('multipart/mixed; boundary="b"', "b"),
        ('Multipart/Mixed ; charset=utf-8;BOUNDARY = "b" ; x=y', "b"),
        ("multipart/mixed;boundary=batch(36522ad7-fc75-4b56-8c71-56071383e77b)", None),
        ("multipart/mixed; boundary=----=_Part_0_123.456", None),
        ('multipart/mixed; boundary="a b:c/d?e=f,g+h\'i"', "a b:c/d?e=f,g+h'i"),
        (r'multipart/mixed; boundary="a\"b"', 'a"b'),
        ("multipart/mixed; boundary=.*", ".*"),
    ],
)
def test_boundaries(content_type: str, boundary: str | None) -> None:
    boundary = boundary or content_type.partition("boundary=")[2]
    (part,) = read_requests(one(boundary=boundary), content_type)
    assert isinstance(part, RequestPart)
    assert part.target == "X"


def test_a_boundary_that_begins_another_is_not_taken_for_it() -> None:
    text = "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: application/http\n\n"
    text += "PUT X HTTP/1.1\n\n--b-\n--bb--\n--b--"
    (changeset,) = read_requests(crlf(text), MIXED)
    assert isinstance(changeset, ChangeSet)
    assert changeset.parts[0].body == b"--b-"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"preamble\r\n" + one() + b"epilogue\r\n--b\r\n", 1),
        (one().rstrip(b"\r\n"), 1),
        (one().replace(b"--b\r\n", b"--b \t\r\n"), 1),
        (b"--b--", 0),
        (
            one("content-transfer-encoding: BINARY\ncontent-id:\n 7\n").replace(
                b"Content-Type", b"CONTENT-TYPE"
            ),
            1,
        ),
        (one(request="\nGET X HTTP/1.1"), 1),
        (one(request="GET X"), 1),
        (one(request="GET  X  HTTP/1.0 "), 1),
        (one(request="GET X HTTP/1.1\nContent-Length: 0\n\n\n\n"), 1),
    ],
)
def test_what_is_tolerated(body: bytes, expected: int) -> None:
    parts = list(flat(read_requests(body, MIXED)))
    assert [(part.method, part.target, part.body) for part in parts] == [("GET", "X", b"")] * expected


def test_a_content_id_may_stand_on_either_side_and_may_be_folded() -> None:
    for body in (one("content-id:\n 7\n"), one(request="GET X HTTP/1.1\nCONTENT-ID:7\n")):
        (part,) = flat(read_requests(body, MIXED))
        assert part.content_id == "7"


def test_blanks_in_a_target_are_the_clients() -> None:
    (part,) = flat(read_requests(one(request="GET AccountSet?$filter=Name eq 'x' HTTP/1.1\n"), MIXED))
    assert part.target == "AccountSet?$filter=Name eq 'x'"


def test_a_length_bounds_a_body_that_ends_in_line_breaks() -> None:
    (part,) = flat(read_requests(one(request="PUT X HTTP/1.1\nContent-Length: 3\n\na\n\n\n"), MIXED))
    assert part.body == b"a\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (one(), None, 400),
        (one(), "application/json", 400),
        (one(), "multipart/mixed", 400),
        (one(), "multipart/mixed; boundary=", 400),
        (one(), "multipart/mixed; boundary=" + "b" * 71, 400),
        (one(), 'multipart/mixed; boundary="b\x01"', 400),
        (one(), "multipart/mixed; boundary=c", 400),
        (b"", MIXED, 400),
        (one().replace(b"--b--", b""), MIXED, 400),
        (one("Content-Transfer-Encoding: base64\n"), MIXED, 400),
        (one("no colon\n"), MIXED, 400),
        (one("Bad Name: x\n"), MIXED, 400),
        (one().replace(b"application/http", b"text/plain"), MIXED, 400),
        (one(request="GET\n"), MIXED, 400),
        (one(request="GET HTTP/1.1\n"), MIXED, 400),
        (one(request="<x> X HTTP/1.1\n"), MIXED, 400),
        (one(request=""), MIXED, 400),
        (one(request="PUT X HTTP/1.1\nContent-Length: 1\n\nab\n"), MIXED, 400),
        (one(request="PUT X HTTP/1.1\nContent-Length: 9\n\nab\n"), MIXED, 400),
        (one(request="PUT X HTTP/1.1\nContent-Length: ###\n\nab\n"), MIXED, 400),
        (one(request="PUT X HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n\n"), MIXED, 400),
        (one(request="GET " + "x" * 70_000), MIXED, 400),
        (crlf("--b\nContent-Type: application/http\n\nGET X HTTP/1.1\n") * 1001 + b"\r\n--b--", MIXED, 413),
    ],
)
def test_what_is_refused(body: bytes, content_type: str | None, status: int) -> None:
    with pytest.raises(ODataError) as caught:
        read_requests(body, content_type)
    assert caught.value.status == status


def nested(*boundaries: str) -> bytes:
    body = one(boundary=boundaries[-1])
    for outer, inner in zip(boundaries[-2::-1], boundaries[:0:-1], strict=True):
        head = f"--{outer}\nContent-Type: multipart/mixed; boundary={inner}\n\n"
        body = crlf(head) + body + crlf(f"\n--{outer}--\n")
    return body


def test_changesets_do_not_nest() -> None:
    assert isinstance(read_requests(nested("b", "c"), MIXED)[0], ChangeSet)
    with pytest.raises(ODataError):
        read_requests(nested("b", "c", "d"), MIXED)


def test_limits_count_the_parts_of_all_changesets(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = crlf("--c\nContent-Type: application/http\n\nGET X\n") * 3 + crlf("\n--c--\n")
    outer = crlf("--b\nContent-Type: multipart/mixed; boundary=c\n\n") + inner
    body = outer * 2 + b"--b--"
    monkeypatch.setattr(multipart, "MAX_PARTS", 6)
    assert len(list(flat(read_requests(body, MIXED)))) == 6
    monkeypatch.setattr(multipart, "MAX_PARTS", 5)
    with pytest.raises(ODataError) as caught:
        read_requests(body, MIXED)
    assert caught.value.status == 413
    monkeypatch.setattr(multipart, "MAX_BYTES", len(body) - 1)
    with pytest.raises(ODataError, match="bytes"):
        read_requests(body, MIXED)


@pytest.mark.parametrize("status_line", ["HTTP/1.1 204 No Content", "HTTP/1.1 204", "HTTP/1.0 204 "])
def test_responses(status_line: str) -> None:
    (part,) = flat(read_responses(one(request=f"{status_line}\nLocation: x\n"), MIXED))
    assert (part.status, part.headers["location"], part.body) == (204, "x", b"")


@pytest.mark.parametrize("line", ["GET X HTTP/1.1", "HTTP/1.1 2", "HTTP/1.1 abc OK", ""])
def test_a_response_begins_with_a_status(line: str) -> None:
    with pytest.raises(ODataError):
        read_responses(one(request=line + "\n"), MIXED)


# Origins


def test_requests_are_turned_to_upstream_and_back_without_loss() -> None:
    entry = f'<entry xml:base="{PROXY}{ROOT}/"/>'
    length = f"Length: {len(entry)}\r"
    body = crlf(DOTNET.replace("<entry/>", entry)).replace(b"Length: 8\r", length.encode())
    content_type = "multipart/mixed; boundary=batch_0f1e"
    there = rewrite_origins(body, content_type, ROOT, UPSTREAM)
    longer = f"Length: {len(entry) + len(UPSTREAM) - len(PROXY)}\r"
    expected = body.replace(PROXY.encode(), UPSTREAM.encode()).replace(length.encode(), longer.encode())
    assert there == expected != body
    assert rewrite_origins(there, content_type, ROOT, PROXY) == body


def test_replies_are_turned_in_headers_and_bodies_and_nowhere_else() -> None:
    uri = UPSTREAM + ROOT.lower() + "/AccountSet(1)"
    reply = one(
        request=f"HTTP/1.1 201 Created\nLocation: {uri}\nX: {uri}\n"
        "Content-Type: application/json;charset=utf-8\n\n"
        f'{{"d":{{"__metadata":{{"uri":"{uri}"}},"Web":"{uri}"}}}}'
    )
    turned = uri.replace(UPSTREAM, PROXY).encode()
    expected = reply.replace(b"Location: " + uri.encode(), b"Location: " + turned)
    expected = expected.replace(b'"uri":"' + uri.encode(), b'"uri":"' + turned)
    assert rewrite_origins(reply, MIXED, ROOT, PROXY) == expected


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (f"{PROXY}{ROOT}/X", "proxy.example:8010", "crm.example.org"),
        (f"{ROOT}/X", "proxy.example:8010", "crm.example.org"),
        ("X?u=http://other/", "proxy.example:8010", "crm.example.org"),
        ("http://other/x", "other", "other"),
        (f"http://other{ROOT}2/X", "other", "other"),
    ],
)
def test_the_host_beside_a_target_goes_with_it(target: str, host: str, expected: str) -> None:
    body = one(request=f"GET {target} HTTP/1.1\nHost: {host}\n")
    (part,) = flat(read_requests(rewrite_origins(body, MIXED, ROOT, UPSTREAM), MIXED))
    assert part.headers["Host"] == expected
    assert part.target == target.replace(PROXY, UPSTREAM)


def test_lengths_around_are_kept_right() -> None:
    request = crlf(f"GET {PROXY}{ROOT}/X HTTP/1.1\n\n")
    part = crlf(f"--c\nContent-Type: application/http\nContent-Length: {len(request)}\n\n") + request
    inner = part + crlf("\n--c--")
    head = f"--b\nContent-Type: multipart/mixed; boundary=c\nContent-Length: {len(inner)}\n\n"
    body = crlf(head) + inner + crlf("\n--b--")
    turned = rewrite_origins(body, MIXED, ROOT, UPSTREAM)
    assert turned != body
    found = turned.partition(b"--c\r\n")
    assert f"Content-Length: {len(inner) + len(turned) - len(body)}\r\n".encode() in found[0]
    growth = len(UPSTREAM) - len(PROXY)
    assert f"Content-Length: {len(request) + growth}\r\n".encode() in found[2]


@pytest.mark.parametrize(
    "body",
    [one(), one().replace(b"--b--", b"cut"), one("Content-Encoding: gzip\n"), b"\xff", DATAJS.encode()],
)
def test_what_holds_no_origin_or_is_no_batch_is_left_as_it_is(body: bytes) -> None:
    assert rewrite_origins(body, MIXED, ROOT, UPSTREAM) == body


def test_a_part_that_holds_the_boundary_is_not_written() -> None:
    with pytest.raises(ValueError, match="boundary"):
        batch.write_batch([RequestPart("PUT", "X", {}, b"a\n--b")], "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "piece",
    [b"\n--b", b"--b ", b"\r\n", b"--b\r\n\r\n", b"A: b\r\n ", b"--b\r\nContent-Type: application/http\r\n"],
)
def test_time_is_linear(piece: bytes) -> None:
    def spent(times: int) -> float:
        body = b"--b\r\n" + piece * times
        started = time.process_time()
        with pytest.raises(ODataError):
            read_requests(body, MIXED)
        return time.process_time() - started

    spent(1000)
    assert spent(200_000) < 5.0
