"""Header fields on their way through."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.reconcile.ports import Reply
from proxy.upstream.headers import (
    accept_decodable,
    copy_headers,
    headers_from_wire,
    passed_headers,
    request_headers,
    rewrite_origins,
    to_client_origin,
)

Fields = list[tuple[str, str]]


def raw(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


def test_spelling_order_and_duplicates_stay() -> None:
    fields = [("x-B", "1"), ("ACCEPT", "a"), ("X-b", "2"), ("x-B", "3"), ("accept", "")]
    assert list(request_headers(raw(fields)).items()) == fields


def test_bytes_that_are_no_utf8_stay() -> None:
    value = headers_from_wire([(b"A", b"M\xfcller \xc3\xbc")])["A"]
    assert value.encode("utf-8", "surrogateescape") == b"M\xfcller \xc3\xbc"


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([("Host", "h"), ("expect", "100-continue"), ("A", "1")], ["A"]),
        ([("Connection", "keep-alive, X-Mine"), ("x-mine", "1"), ("X-Other", "1")], ["X-Other"]),
        ([("Connection", "close"), ("connection", "A ,b"), ("a", "1"), ("B", "1"), ("C", "1")], ["C"]),
        ([("Keep-Alive", "x"), ("TE", "trailers"), ("Upgrade", "h2c"), ("Trailer", "x")], []),
        ([("Transfer-Encoding", "chunked"), ("Proxy-Authorization", "x"), ("Proxy-Connection", "x")], []),
        ([("Content-Length", "5"), ("Authorization", "x"), ("Cookie", "x")], None),
        ([("Connection", ","), ("", "x")], []),
    ],
)
def test_a_request_carries_its_end_to_end_fields(fields: Fields, kept: list[str] | None) -> None:
    names = list(request_headers(raw(fields)))
    assert names == ([name for name, _ in fields] if kept is None else kept)


REPLY: Fields = [
    ("Content-Type", "text/plain"),
    ("Set-Cookie", "a=1"),
    ("set-cookie", "b=2"),
    ("Content-Encoding", "gzip"),
    ("content-length", "12"),
    ("Connection", "X-Hop"),
    ("X-Hop", "1"),
    ("Keep-Alive", "timeout=5"),
    ("Date", "now"),
]


def test_a_body_as_it_came_keeps_its_length_and_coding() -> None:
    kept = list(passed_headers(raw(REPLY)).items())
    assert kept == [*REPLY[:5], REPLY[8]]


def test_a_length_beside_chunks_counts_for_nothing() -> None:
    headers = raw([*REPLY, ("Transfer-Encoding", "chunked")])
    assert list(passed_headers(headers).items()) == [*REPLY[:4], REPLY[8]]


@pytest.mark.parametrize(("is_coded", "kept"), [(False, REPLY[:3]), (True, REPLY[:4])])
def test_a_body_in_hand_keeps_its_coding_where_it_could_not_be_decoded(is_coded: bool, kept: Fields) -> None:
    at = datetime(2016, 8, 25, tzinfo=UTC)
    reply = Reply(200, "OK", CIMultiDictProxy(CIMultiDict(REPLY)), b"", at, at, is_coded=is_coded)
    assert list(copy_headers(reply).items()) == [*kept, REPLY[8]]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], []),
        ([""], [""]),
        (["gzip,deflate"], ["gzip,deflate"]),
        (["GZIP;q=0.5,,x-gzip", "identity ; q=0"], ["GZIP;q=0.5,,x-gzip", "identity ; q=0"]),
        (["gzip, deflate, br, zstd"], ["gzip, deflate"]),
        (["br;q=1.0, gzip;q=0.8, *;q=0.1"], ["gzip;q=0.8"]),
        (["br", "deflate"], ["deflate"]),
        (["br"], ["identity"]),
        (["*"], ["identity"]),
    ],
)
def test_upstream_is_asked_for_no_coding_that_cannot_be_decoded(given: list[str], sent: list[str]) -> None:
    headers = CIMultiDict([("Accept-Encoding", value) for value in given])
    accept_decodable(headers)
    assert headers.getall("Accept-Encoding", []) == sent


@pytest.mark.parametrize(
    ("url", "upstream", "expected"),
    [
        ("https://crm.example.org/a?b#c", "https://crm.example.org", "http://p:8010/a?b#c"),
        ("https://CRM.Example.ORG/A", "https://crm.example.org", "http://p:8010/A"),
        ("HTTPS://crm.example.org:443/a", "https://crm.example.org", "http://p:8010/a"),
        ("https://crm.example.org", "https://crm.example.org:443", "http://p:8010"),
        ("https://crm.example.org?x", "https://crm.example.org", "http://p:8010?x"),
        ("http://crm:5555/a", "http://crm:5555", "http://p:8010/a"),
        ("http://[::1]:5555/a", "http://[::1]:5555", "http://p:8010/a"),
        ("https://crm.example.org:444/a", "https://crm.example.org", None),
        ("https://crm.example.org.evil/a", "https://crm.example.org", None),
        ("https://crm.example.org@evil/a", "https://crm.example.org", None),
        ("https://crm-example.org/a", "https://crm.example.org", None),
        ("http://crm.example.org/a", "https://crm.example.org", None),
        ("http://crm:55555/a", "http://crm:5555", None),
        ("/a?next=https://crm.example.org/", "https://crm.example.org", None),
        (" https://crm.example.org/", "https://crm.example.org", None),
        ("", "https://crm.example.org", None),
    ],
)
def test_only_upstreams_own_origin_is_replaced(url: str, upstream: str, expected: str | None) -> None:
    assert to_client_origin(url, upstream, "http://p:8010") == (url if expected is None else expected)


def test_a_replacement_is_taken_as_text() -> None:
    assert to_client_origin("http://a/x", "http://a", r"http://\1\g<0>") == r"http://\1\g<0>/x"


@pytest.mark.parametrize(
    ("cookie", "client", "expected"),
    [
        ("a=1; path=/; Domain=crm.example.org; HttpOnly", "http://p", "a=1; path=/; HttpOnly"),
        ("a=1; domain=.example.org", "http://p", "a=1"),
        ("a=1;DOMAIN = CRM.example.org ;Secure", "http://p", "a=1;Secure"),
        ('a=1; domain="example.org"', "http://p", "a=1"),
        ("a=1; domain=example.org", "http://sync.example.org:8010", None),
        ("a=1; domain=other.org", "http://p", None),
        ("a=1; domain=ple.org", "http://p", None),
        ("a=1; path=/", "http://p", None),
        ("domain=crm.example.org; path=/", "http://p", None),
        ("a=1; domain=", "http://p", None),
    ],
)
def test_a_cookie_for_upstreams_host_becomes_one_of_the_proxys(
    cookie: str, client: str, expected: str | None
) -> None:
    headers = CIMultiDict([("Set-Cookie", cookie)])
    rewrite_origins(headers, "https://crm.example.org", client)
    assert headers["Set-Cookie"] == (cookie if expected is None else expected)


def test_fields_stay_in_their_order_when_some_are_rewritten() -> None:
    fields = [
        ("X-A", "http://up/1"),
        ("location", "http://up/2"),
        ("Set-Cookie", "a=1; domain=up"),
        ("Content-Location", "http://up/3"),
        ("Set-Cookie", "b=2"),
        ("X-A", "4"),
    ]
    headers = CIMultiDict(fields)
    rewrite_origins(headers, "http://up", "http://p")
    assert list(headers.items()) == [
        ("X-A", "http://up/1"),
        ("location", "http://p/2"),
        ("Set-Cookie", "a=1"),
        ("Content-Location", "http://p/3"),
        ("Set-Cookie", "b=2"),
        ("X-A", "4"),
    ]
