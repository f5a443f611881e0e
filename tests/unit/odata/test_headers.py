import time

import pytest
from multidict import CIMultiDict

from proxy.odata.headers import effective_method, logs_in_connection, parse_cache_control


@pytest.mark.parametrize(
    ("method", "tunnelled", "meant"),
    [
        ("POST", "MERGE", "MERGE"),
        ("POST", "PUT", "PUT"),
        ("POST", "DELETE", "DELETE"),
        ("POST", " merge ", "MERGE"),
        ("POST", "GET", "POST"),
        ("POST", "", "POST"),
        ("POST", None, "POST"),
        ("GET", "MERGE", "GET"),
        ("PUT", "DELETE", "PUT"),
    ],
)
def test_only_a_post_carries_another_method(method, tunnelled, meant):
    headers = CIMultiDict({} if tunnelled is None else {"x-http-method": tunnelled})
    assert effective_method(method, headers) == meant


@pytest.mark.parametrize(
    ("values", "directives"),
    [
        ([], {}),
        (["no-cache"], {"no-cache": None}),
        (["No-Cache, max-age=60"], {"no-cache": None, "max-age": "60"}),
        (["max-age=60", "max-stale"], {"max-age": "60", "max-stale": None}),
        (['max-stale="5"'], {"max-stale": "5"}),
        (['private="a, \\"b", no-store'], {"private": 'a, "b', "no-store": None}),
        (["max-age=60, max-age=5"], {"max-age": "60"}),
        ([" only-if-cached ,, "], {"only-if-cached": None}),
        (["max-age="], {"max-age": ""}),
        (["what is this, no-store"], {"no-store": None}),
        (['=5, "x", max-age=1'], {"max-age": "1"}),
    ],
)
def test_cache_directives(values, directives):
    assert parse_cache_control(values) == directives


@pytest.mark.parametrize(
    "hostile",
    ["a" + " " * 1_000_000 + "b", "a=" * 500_000, 'a="' * 300_000, '"\\' * 500_000],
    ids=["blanks", "values", "quotes", "escapes"],
)
def test_directives_are_read_in_linear_time(hostile):
    started = time.perf_counter()
    assert isinstance(parse_cache_control([hostile]), dict)
    # Squared it takes many minutes, linear less than a second.
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("NTLM TlRM", True),
        ("negotiate YII", True),
        ("\tNtlm\tTlRM", True),
        ("Basic eA==, NTLM TlRM", True),
        ("Kerberos YII", True),
        ("Basic NTLMAAAA", False),
        ("Bearer negotiate.x", False),
        ("", False),
    ],
)
def test_a_login_of_the_connection_is_known_wherever_it_stands(value: str, is_one: bool) -> None:
    assert logs_in_connection(CIMultiDict([("Authorization", "Basic x"), ("authorization", value)])) is is_one
