"""What one reader takes for one request and another for a second one is for nobody with limited rights."""

from __future__ import annotations

import json

import pytest
from multidict import CIMultiDict

from proxy.odata.csdl import parse_metadata
from proxy.odata.operation import parse_operation
from proxy.odata.relationships import Relationships
from proxy.reconcile.errors import RightMissing
from proxy.reconcile.permission import Permission
from proxy.reconcile.ports import Request
from proxy.reconcile.rights import Rights
from proxy.sandbox.metadata import small_document

ROOT = "/X.svc"
MODEL = parse_metadata(small_document())
RIGHTS = Rights("narrow", write=frozenset({"AccountSet"}))
PERMISSION = Permission(RIGHTS, MODEL, Relationships(MODEL), ROOT)
ALLOWED = "GET AccountSet HTTP/1.1\r\n\r\n"
HIDDEN = "GET ContactSet HTTP/1.1\r\n\r\n"
HEAD = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"


def may_send(path: str, body: str = "", *fields: tuple[str, str], **headers: str) -> bool:
    named = CIMultiDict([(name.replace("_", "-"), value) for name, value in (*headers.items(), *fields)])
    request = Request("POST", f"{ROOT}{path}", named, body.encode())
    operation = parse_operation(request.method, request.target, named, ROOT, MODEL)
    try:
        PERMISSION.require(operation, request)
        PERMISSION.require_body(operation, request)
    except RightMissing:
        return False
    return True


def batch(boundary: str, *parts: str) -> str:
    return "".join(f"--{boundary}\r\n{HEAD}{each}\r\n" for each in parts) + f"--{boundary}--\r\n"


@pytest.mark.parametrize(
    "content_type",
    ["multipart/mixed; boundary=b", 'Multipart/Mixed;boundary="b"', "multipart/mixed;  boundary=b"],
)
def test_a_batch_of_what_may_be_read(content_type: str) -> None:
    assert may_send("/$batch", batch("b", ALLOWED), Content_Type=content_type)
    assert not may_send("/$batch", batch("b", ALLOWED, HIDDEN), Content_Type=content_type)


@pytest.mark.parametrize(
    ("boundary", "content_type"),
    [
        ('b"', 'multipart/mixed; a="x;boundary=b"; boundary=c'),
        ("b", "multipart/mixed; boundary=b; boundary=c"),
        ("b", "multipart/mixed; boundary=b; Boundary=c"),
    ],
)
def test_a_batch_with_two_boundaries(boundary: str, content_type: str) -> None:
    body = batch(boundary, ALLOWED) + batch("c", HIDDEN)
    assert not may_send("/$batch", body, Content_Type=content_type)


def test_a_changeset_with_two_boundaries() -> None:
    write = "MERGE AccountSet(guid'00000000-0000-0000-0000-000000000001') HTTP/1.1\r\n\r\n"
    other = "DELETE ContactSet(guid'00000000-0000-0000-0000-000000000001') HTTP/1.1\r\n\r\n"
    for inner, is_one in (("c", True), ("c; boundary=d", False), ("c\r\nContent-Type: x/y", False)):
        head = f"--b\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n"
        hidden = "" if is_one else batch("d", other)
        body = f"{head}{batch('c', write)}{hidden}\r\n--b--\r\n"
        assert may_send("/$batch", body, Content_Type="multipart/mixed; boundary=b") is is_one, inner


def test_a_batch_whose_lines_end_otherwise() -> None:
    lone = batch("b", HIDDEN).replace("\r\n", "\r")
    assert not may_send(
        "/$batch", batch("b", f"{ALLOWED}x\r{lone}"), Content_Type="multipart/mixed; boundary=b"
    )


def test_a_coded_batch() -> None:
    headers = {"Content_Type": "multipart/mixed; boundary=b", "Content_Encoding": "gzip"}
    assert not may_send("/$batch", batch("b", ALLOWED), **headers)


def test_a_part_that_says_twice_what_it_is() -> None:
    for twice in ("X-HTTP-Method: MERGE\r\nx-http-method: DELETE", "Content-Type: a/b\r\nContent-Type: c/d"):
        write = f"DELETE AccountSet(guid'00000000-0000-0000-0000-000000000001') HTTP/1.1\r\n{twice}\r\n\r\n"
        assert not may_send("/$batch", batch("b", write), Content_Type="multipart/mixed; boundary=b")


@pytest.mark.parametrize(
    ("charset", "may"),
    [
        ("", True),
        (";charset=utf-8", True),
        ('; odata=verbose; charset="UTF-8"', True),
        (";charset=utf-7", False),
        (";charset=utf-8;charset=utf-7", False),
        ("; charset = utf-7", False),
    ],
)
def test_a_body_in_another_charset(charset: str, may: bool) -> None:
    """As UTF-7 the same bytes are a deep insert."""
    deep = {"Name": "x", "contact_customer_accounts": [{"LastName": "y"}], "Fax": "z"}
    body = (
        '{"Name":"x+ACIALAAi-contact_customer_accounts+ACIAOgBbAHsAIg-LastName+ACIAOgAi-y+ACIAfQBdACwAIg-Fax'
        '+ACIAOgAi-z"}'
    )
    assert json.loads(body.encode().decode("utf-7")) == deep
    assert may_send("/AccountSet", body, Content_Type=f"application/json{charset}") is may


def test_a_body_that_may_be_either_of_two_entities() -> None:
    headers = {"Content_Type": "application/json"}
    assert may_send("/AccountSet", '{"d":{"Name":"x"}}', **headers)
    deep = '{"d":{"Name":"x"},"contact_customer_accounts":[{"LastName":"y"}]}'
    assert not may_send("/AccountSet", deep, **headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "MERGE, GET", "", "PROPFIND"])
def test_a_write_that_may_be_a_read(method: str) -> None:
    """Some servers take any method from the field: as a read, this one shows contacts."""
    assert not may_send("/AccountSet?$expand=contact_customer_accounts", X_HTTP_Method=method)
    assert not may_send("/AccountSet", X_HTTP_Method=method)


def test_a_write_that_says_two_methods() -> None:
    path = "/AccountSet(guid'00000000-0000-0000-0000-000000000001')"
    assert may_send(path, X_HTTP_Method="MERGE")
    assert not may_send(path, "", ("x-http-method", "GET"), X_HTTP_Method="MERGE")


@pytest.mark.parametrize(
    ("query", "may"),
    [
        ("$format=json", True),
        ("x=1&$select=Name", True),
        ("$expand=contact_customer_accounts", False),
        ("$filter=true", False),
    ],
)
def test_options_of_writes(query: str, may: bool) -> None:
    assert may_send(f"/AccountSet?{query}", '{"Name":"x"}', Content_Type="application/json") is may


OTHER = "/AccountSet(guid'00000000-0000-0000-0000-000000000001')"
WAY = "contact_customer_accounts"
JSON_LINK = f'{{"{WAY}":{{"__deferred":{{"uri":"{ROOT}{OTHER}/{WAY}"}}}}}}'
ATOM_LINK = (
    f'<entry xmlns="http://www.w3.org/2005/Atom"><link href="{OTHER[1:]}/{WAY}" '
    f'rel="http://schemas.microsoft.com/ado/2007/08/dataservices/related/{WAY}"/></entry>'
)


@pytest.mark.parametrize(
    ("body", "content_type"), [(JSON_LINK, "application/json"), (ATOM_LINK, "application/atom+xml")]
)
def test_what_is_created_has_no_urls_of_its_own(body: str, content_type: str) -> None:
    """The same link says nothing in an update, where it is what was read."""
    assert may_send(OTHER, body, Content_Type=content_type, X_HTTP_Method="MERGE")
    assert not may_send("/AccountSet", body, Content_Type=content_type)
