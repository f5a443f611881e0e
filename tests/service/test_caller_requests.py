"""Callers of the main listener, where the proxy has one identity upstream: what of theirs gets through."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from batching import MIXED, changeset, part, written
from calling import basic, bearer, logged, password_of, token_of, told
from world import Answer, World, world

from proxy.sandbox import Switches
from proxy.settings import SettingsError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL, READER, WRITER, MASKED, NONE = "all-token", "reader-token", "writer-token", "masked-token", "none-token"
CALLERS: dict[str, Any] = {
    "all": token_of(ALL, read=["*"], write=["*"]),
    "reader": token_of(READER, read=["AccountSet", "ContactSet"]),
    "writer": token_of(WRITER, read=["SystemUserSet"], write=["AccountSet", "ContactSet"]),
    "masked": token_of(
        MASKED, read=["*"], write=["ContactSet"], properties={"AccountSet": {"deny": ["Telephone1"]}}
    ),
    "none": token_of(NONE, metrics=True),
    "chief": token_of("chief-token", admin=True),
    "person": password_of("person", "pass word", read=["AccountSet"]),
}
JSON = {"Content_Type": "application/json"}
ATOM = {"Content_Type": "application/atom+xml"}
SOAP = "/XRMServices/2011/Organization.svc/web"
DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"
LINK = '{{"__metadata":{{"uri":"{root}/ContactSet({c})"}}}}'


def entry(*links: str) -> str:
    return (
        f'<entry xmlns="http://www.w3.org/2005/Atom" xmlns:m="{DATA}/metadata" xmlns:d="{DATA}">'
        f'{"".join(links)}<content type="application/xml"><m:properties><d:Name>x</d:Name></m:properties>'
        "</content></entry>"
    )


def link(name: str, href: str, inner: str = "") -> str:
    inline = f"<m:inline>{inner}</m:inline>" if inner else ""
    return f'<link rel="{DATA}/related/{name}" href="{href}">{inline}</link>'


PROPERTIES = '<entry><content type="application/xml"><m:properties>{}</m:properties></content></entry>'
CONTACT = PROPERTIES.format("<d:LastName>x</d:LastName>")
ADDRESS = PROPERTIES.format("<d:City>x</d:City>")
# What it is, whom it is let through for: r(eader), w(riter), m(asked).
READS = [
    ("/", "rwmn"),
    ("/$metadata", "rwmn"),
    ("/AccountSet({a})", "rw"),
    ("/accountset({a})", ""),
    ("/AccountSet({a})?$select=Name", "rw"),
    ("/AccountSet?$top=2", "rw"),
    ("/ContactSet?$top=2", "rwm"),
    ("/SystemUserSet?$top=2", "wm"),
    ("/TeamSet?$top=2", "m"),
    ("/AccountSet({a})?$expand=account_primary_contact", "rw"),
    ("/AccountSet({a})?$expand=user_accounts", "w"),
    ("/AccountSet({a})?$expand=team_accounts", ""),
    ("/AccountSet({a})?$expand=contact_customer_accounts/contact_owning_user", "w"),
    ("/ContactSet({c})?$expand=contact_customer_accounts", "rw"),
    ("/ContactSet({c})/contact_customer_accounts", "rw"),
    ("/ContactSet({c})/contact_owning_user", "wm"),
    ("/ContactSet({c})/$links/contact_customer_accounts", "rw"),
    ("/AccountSet({a})/Name", "rw"),
    ("/AccountSet({a})/Name/$value", "rw"),
    ("/AccountSet/$count", "rw"),
    ("/ContactSet/$count", "rwm"),
    ("/ContactSet?$filter=contact_customer_accounts/Telephone1%20ne%20null", "rw"),
    ("/ContactSet?$orderby=contact_owning_user/FullName", "wm"),
    ("/ContactSet?$filter=LastName%20eq", ""),
    ("/ContactSet?$top=1&$top=2", ""),
    ("/ContactSet?$nothing=1", ""),
    ("/WidgetSet", ""),
    ("/SomeFunction?x=1", ""),
    ("/../AccountSet", ""),
]
WRITES: list[tuple[str, str, str | None, dict[str, str], str]] = [
    ("POST", "/ContactSet", '{{"LastName":"x"}}', JSON, "wm"),
    ("POST", "/AccountSet", '{{"Name":"x"}}', JSON, "w"),
    ("POST", "/AccountSet", entry(), ATOM, "w"),
    ("MERGE", "/ContactSet({c})", '{{"LastName":"x"}}', JSON, "wm"),
    ("POST", "/ContactSet({c})", '{{"LastName":"x"}}', JSON | {"X_HTTP_Method": "MERGE"}, "wm"),
    ("POST", "/ContactSet({c})", '{{"LastName":"x"}}', JSON | {"X_Method_Override": "MERGE"}, ""),
    ("MERGE", "/ContactSet({c})", '{{"LastName":"x"}}', JSON | {"X_HTTP_Method": "DELETE"}, ""),
    ("GET", "/ContactSet({c})", None, {"X_HTTP_Method": "DELETE"}, ""),
    ("GET", "/ContactSet({c})", None, {"X_HTTP_Method_Override": "DELETE"}, ""),
    ("PUT", "/ContactSet({c})", '{{"LastName":"x"}}', JSON, "wm"),
    ("PUT", "/AccountSet({a})/Name", '{{"Name":"x"}}', JSON, "w"),
    ("DELETE", "/AccountSet({n})", None, {}, "w"),
    ("DELETE", "/TeamSet({t})", None, {}, ""),
    # Entities within another, and links to others
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x","contact_customer_accounts":[{{"LastName":"y"}}]}}',
        JSON,
        "w",
    ),
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x","Account_Tasks":{{"results":[{{"Subject":"y"}}]}}}}',
        JSON,
        "",
    ),
    ("POST", "/AccountSet", '{{"d":{{"Name":"x","Account_Tasks":[{{"Subject":"y"}}]}}}}', JSON, ""),
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x","contact_customer_accounts":[{{"LastName":"y","Contact_Tasks":[{{"Subject":"z"}}]}}]}}',
        JSON,
        "",
    ),
    ("POST", "/AccountSet", '{{"Name":"x","account_primary_contact":' + LINK + "}}", JSON, "w"),
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x","team_accounts":{{"__deferred":{{"uri":"{root}/TeamSet({t})"}}}}}}',
        JSON,
        "",
    ),
    (
        "MERGE",
        "/AccountSet({a})",
        '{{"Name":"x","team_accounts":{{"__deferred":{{"uri":"{root}/AccountSet({a})/team_accounts"}}}}}}',
        JSON,
        "w",
    ),
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x","Account_Tasks":[{{"Subject":"y"}}],"Account_Tasks":'
        '{{"__deferred":{{"uri":"{root}/AccountSet({a})/Account_Tasks"}}}}}}',
        JSON,
        "",
    ),
    ("POST", "/AccountSet", "{{not json", JSON, ""),
    ("POST", "/AccountSet", "[1]", JSON, ""),
    ("POST", "/AccountSet", "Name=x", {"Content_Type": "application/x-www-form-urlencoded"}, ""),
    (
        "POST",
        "/AccountSet",
        '{{"Name":"x"}}',
        JSON | {"Content_Encoding": "identity"},
        "",
    ),
    ("POST", "/AccountSet", entry(link("contact_customer_accounts", "x", CONTACT)), ATOM, "w"),
    (
        "POST",
        "/AccountSet",
        entry(link("contact_customer_accounts", "x", f"<feed>{CONTACT}{CONTACT}</feed>")),
        ATOM,
        "w",
    ),
    ("POST", "/AccountSet", entry(link("Account_CustomerAddress", "x", f"<feed>{ADDRESS}</feed>")), ATOM, ""),
    ("POST", "/AccountSet", entry(link("Account_CustomerAddress", "AccountSet({a})/x", ADDRESS)), ATOM, ""),
    (
        "POST",
        "/AccountSet",
        entry(
            link(
                "contact_customer_accounts",
                "x",
                CONTACT.replace("<entry>", "<entry>" + link("Contact_CustomerAddress", "x", ADDRESS)),
            )
        ),
        ATOM,
        "",
    ),
    ("POST", "/AccountSet", entry(link("team_accounts", "TeamSet({t})")), ATOM, ""),
    ("POST", "/AccountSet", entry(link("team_accounts", "AccountSet({a})/team_accounts")), ATOM, ""),
    ("MERGE", "/AccountSet({a})", entry(link("team_accounts", "AccountSet({a})/team_accounts")), ATOM, "w"),
    ("POST", "/AccountSet", "<feed>" + entry() + "</feed>", ATOM, ""),
    # Paths and links
    ("POST", "/AccountSet({a})/contact_customer_accounts", '{{"LastName":"x"}}', JSON, "w"),
    ("POST", "/AccountSet({a})/Account_Tasks", '{{"Subject":"x"}}', JSON, ""),
    ("POST", "/TeamSet({t})/team_accounts", '{{"Name":"x"}}', JSON, ""),
    (
        "PUT",
        "/AccountSet({a})/$links/account_primary_contact",
        '{{"uri":"{root}/ContactSet({c})"}}',
        JSON,
        "w",
    ),
    ("PUT", "/AccountSet({a})/$links/team_accounts", '{{"uri":"{root}/TeamSet({t})"}}', JSON, ""),
    ("DELETE", "/ContactSet({c})/$links/contact_owning_user", None, {}, ""),
    ("POST", "/SomeFunction", "", {}, ""),
    ("OPTIONS", "/AccountSet", None, {}, ""),
]
WHO = {"r": READER, "w": WRITER, "m": MASKED, "n": NONE}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(databases: Any, template: str) -> AsyncIterator[World]:
    with databases.database(template) as url:
        switches = Switches(language="v2", count="serve", batch="serve")
        async with world(url, switches=switches, rows=20, callers=CALLERS) as made:
            await made.fill("AccountSet", "ContactSet", **bearer(ALL))
            yield made


def named(place: World) -> dict[str, str]:
    organisation = place.sandbox.organisation
    keys = {
        "a": organisation.keys("AccountSet")[0],
        "n": organisation.keys("AccountSet")[-1],
        "c": organisation.keys("ContactSet")[0],
        "t": organisation.keys("TeamSet")[0],
    }
    return {letter: f"guid'{key}'" for letter, key in keys.items()} | {"root": place.direct_root}


async def ask(
    place: World, path: str, token: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    return await place.ask(path, method, body=body, **headers, **bearer(token))


def is_refused(answer: Answer) -> bool:
    """By the proxy, for want of a right."""
    if "Syncpoint.RightMissing" not in answer.text:
        return False
    assert answer.status == 403
    assert answer.headers["Proxy-Status"] == "syncpoint; error=http_request_denied"
    return True


async def clear(place: World) -> None:
    """Forget what reached upstream, and what was still on its way there."""
    await place.idle()
    place.clear()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "lets"), READS)
async def test_a_read_is_let_through_for_who_may_see_all_that_it_touches(
    place: World, path: str, lets: str, method: str
) -> None:
    path = path.format(**named(place))
    for letter, token in WHO.items():
        await clear(place)
        answer = await ask(place, path, token, method)
        if method == "HEAD":
            assert (answer.status == 403) is (letter not in lets), (letter, answer.status)
        else:
            assert is_refused(answer) is (letter not in lets), (letter, answer.text)
            alone = await ask(place, path, token, Cache_Control="only-if-cached")
            assert is_refused(alone) is (letter not in lets), (letter, alone.text)
        if letter not in lets:
            assert place.upstream_requests() == []
    assert not is_refused(await ask(place, path, ALL, method))


@pytest.mark.parametrize(("method", "path", "body", "headers", "lets"), WRITES)
async def test_a_write_is_let_through_for_who_may_write_all_that_it_touches(
    place: World, method: str, path: str, body: str | None, headers: dict[str, str], lets: str
) -> None:
    path = path.format(**named(place))
    sent = None if body is None else body.format(**named(place)).encode()
    for letter, token in WHO.items():
        await clear(place)
        answer = await ask(place, path, token, method, sent, **headers)
        assert is_refused(answer) is (letter not in lets), (letter, answer.text)
        if letter not in lets:
            assert place.upstream_requests() == []
        else:
            assert place.upstream_requests() != []
    assert not is_refused(await ask(place, path, "chief-token", method, sent, **headers))


async def test_a_batch_is_let_through_where_each_of_its_requests_is(place: World) -> None:
    names = named(place)
    read, hidden = "ContactSet({c})".format(**names), "AccountSet({a})".format(**names)
    writes = changeset(part("MERGE", read, {"LastName": "In a batch"}))
    deep = changeset(part("POST", "ContactSet", {"LastName": "x", "Contact_Tasks": [{"Subject": "y"}]}))
    chain = changeset(
        part("POST", "AccountSet", {"Name": "x"}, "1"), part("POST", "$1/Account_Tasks", {"Subject": "y"})
    )
    cases = [
        ([part("GET", read)], "rwm"),
        ([part("GET", read), part("GET", hidden)], "rw"),
        ([part("GET", place.direct_root + "/" + read)], "rwm"),
        ([part("GET", read), writes], "wm"),
        ([deep], ""),
        ([chain], ""),
        ([part("GET", "TeamSet"), part("GET", read)], "m"),
        ([part("GET", "SomeFunction")], ""),
    ]
    for parts, lets in cases:
        for letter, token in WHO.items():
            await clear(place)
            answer = await ask(place, "/$batch", token, "POST", written(*parts), Content_Type=MIXED)
            assert is_refused(answer) is (letter not in lets), (letter, parts, answer.text)
            assert answer.status == (202 if letter in lets else 403)
            assert (place.upstream_requests() == []) is (letter not in lets)
    nonsense = await ask(place, "/$batch", WRITER, "POST", b"no batch", Content_Type=MIXED)
    assert is_refused(nonsense)


async def test_what_names_no_set_is_for_who_may_do_everything(place: World) -> None:
    for method, path in (("POST", SOAP), ("GET", "/WebResources/logo.png"), ("GET", "/"), ("PROPFIND", "/")):
        for token, status in ((READER, 403), (WRITER, 403), (MASKED, 403), (NONE, 403), ("wrong", 401)):
            await clear(place)
            url = f"{place.proxy.url}{path}"
            answer = await place.send(url, method, bearer(token), b"<x/>" if method == "POST" else None)
            assert (answer.status, place.sandbox.journal) == (status, []), path
        answer = await place.send(f"{place.proxy.url}{path}", method, bearer(ALL))
        assert "Proxy-Status" not in answer.headers


async def test_what_callers_say_of_themselves_stops_here(place: World) -> None:
    for path in ("/AccountSet?$top=1", "/AccountSet({a})".format(**named(place)), "/AccountSet/$count"):
        place.clear()
        for headers in (bearer(ALL), basic("person", "pass word")):
            assert (await place.ask(path, Cache_Control="no-cache", **headers)).status == 200
        assert (await place.send(f"{place.proxy_root}{path}", "HEAD", bearer(ALL))).status in (200, 405, 501)
    await place.send(f"{place.proxy.url}{SOAP}", "POST", bearer(ALL), b"<x/>")
    await place.send(f"{place.proxy.url}/WebResources/x", "GET", bearer(ALL))
    assert len(place.sandbox.journal) >= 4
    assert [entry for entry in place.sandbox.journal if "Authorization" in entry.headers] == []


async def test_the_caller_is_recorded_and_named(place: World) -> None:
    path = "/AccountSet({a})".format(**named(place))
    with logged() as lines:
        answer = await ask(place, path, WRITER, "MERGE", b'{"Name":"By writer"}', **JSON)
        assert answer.status == 204
        history = await place.send(
            f"{place.proxy.services_url}/api/entities{path}/revisions", "GET", bearer("chief-token")
        )
        assert history.json()["revisions"][0]["user"] == "writer"
        assert (await ask(place, path, "nobody's")).status == 401
    assert [line["caller"] for line in told(lines, "request_served")] == ["writer", None]
    assert "writer-token" not in json.dumps([dict(line) for line in lines], default=str)


async def test_who_does_not_say_is_told_how_in_upstreams_format(place: World) -> None:
    for accept, shown in (("application/json", '"code":"Sync'), ("application/atom+xml", "<code>Sync")):
        answer = await place.ask("/AccountSet", Accept=accept)
        assert (answer.status, shown in answer.text) == (401, True)
        assert answer.headers.getall("WWW-Authenticate")[0] == 'Bearer realm="syncpoint"'
        assert place.upstream_requests() == [] or place.clear() is None


async def test_where_clients_log_in_upstream_as_themselves_nothing_is_asked_here(database_url: str) -> None:
    own = {"upstream.auth.mode": "caller", "defaults.secured": []}
    named = {name.replace(".", "__"): value for name, value in own.items()}
    async with world(database_url, rows=5, callers=CALLERS, **named) as place:
        place.clear()
        answer = await place.ask("/AccountSet?$top=1", Authorization="Bearer upstream's")
        assert answer.status == 200
        assert place.sandbox.journal[-1].headers["Authorization"] == "Bearer upstream's"
        assert (await place.mirror("/AccountSet")).status == 401


@pytest.mark.parametrize(
    ("mode", "address", "callers", "starts"),
    [
        ("basic", "0.0.0.0:0", {}, False),
        ("basic", "127.0.0.1:0", {}, True),
        ("basic", "0.0.0.0:0", CALLERS, True),
        ("service", "0.0.0.0:0", {}, True),
        ("caller", "0.0.0.0:0", {}, True),
    ],
)
async def test_a_login_of_the_proxys_own_is_not_lent_to_strangers(
    database_url: str, mode: str, address: str, callers: Any, starts: bool
) -> None:
    login = {"upstream__auth__user": "u", "upstream__auth__password": "p"} if mode == "basic" else {}
    started = False
    try:
        async with world(
            database_url, rows=3, listen=address, callers=callers, upstream__auth__mode=mode, **login
        ):
            started = True
    except SettingsError as error:
        assert re.match(r"listen: 0\.0\.0\.0:0 is more than the loopback", error.problems[0])
    assert started is starts
