"""Requests of every form that clients are known to send, direct and through the proxy: the same answers.

They are written to the socket as they stand here, because HTTP clients tidy up what is at stake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from corpus import ACCEPTS, BATCH, OTHER_ROOTS, READS, ROOT, SERVERS, UPDATED, Exchange, filled, rooted, send
from world import World, world


async def differences(place: World, exchanges: list[Exchange], rounds: int) -> tuple[list[str], int]:
    """Send each directly, then in rounds through the proxy; what differed, and the last round's hits."""
    upstream = place.direct_root.removesuffix(ROOT)
    direct = [rooted(place, await send(upstream, exchange)) for exchange in exchanges]
    found = []
    hits = 0
    for number in range(rounds):
        hits = 0
        for exchange, expected in zip(exchanges, direct, strict=True):
            seen = await send(place.proxy.url, exchange)
            got = (seen.status, seen.fields, UPDATED.sub(b"", seen.body), seen.length_fits)
            hits += seen.cache.startswith("syncpoint; hit")
            for expected_part, part in zip(expected, got, strict=True):
                if part != expected_part:
                    at = f"round {number + 1}, {exchange}, {seen.cache}"
                    found.append(f"{at}:\n    {str(part)[:300]}\n    {str(expected_part)[:300]}")
        await place.idle()
    return found, hits


@pytest.fixture(params=SERVERS)
async def place(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(database_url, switches=request.param) as made:
        yield made


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_reads_of_every_form(place: World, accept: str) -> None:
    targets = [f"{ROOT}{path}" for path in READS] + OTHER_ROOTS
    exchanges = [Exchange("GET", filled(place, target), (("Accept", accept),)) for target in targets]
    found, hits = await differences(place, exchanges, 3)
    assert not found, "\n".join(found)
    # The answers were not all upstream's own: the mirror stood in where it may.
    assert hits > 40


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/json, text/javascript, */*",
        "application/json;odata=verbose",
        "application/xml",
        "text/xml",
        "text/plain",
        "application/atomsvc+xml",
        "application/json;q=0.1, application/atom+xml",
        "nonsense",
    ],
)
async def test_formats_as_clients_ask_for_them(place: World, accept: str | None) -> None:
    paths = ("/", "/$metadata", "/AccountSet(guid'{k}')", "/AccountSet?$top=2", "/AccountSet(guid'{k}')/Name")
    headers = () if accept is None else (("Accept", accept),)
    exchanges = [Exchange("GET", filled(place, f"{ROOT}{path}"), headers) for path in paths]
    found, _ = await differences(place, exchanges, 3)
    assert not found, "\n".join(found)


async def test_what_is_no_read_of_odata(place: World) -> None:
    envelope = b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>'
    soap = (("Content-Type", "text/xml; charset=utf-8"), ("SOAPAction", '"urn:Execute"'))
    entity = filled(place, f"{ROOT}/AccountSet(guid'{{k}}')")
    json = ("Accept", "application/json")
    exchanges = [
        Exchange("POST", "/XRMServices/2011/Organization.svc/web", soap, envelope),
        Exchange("POST", "/XRMServices/2011/Organization.svc", soap, envelope),
        Exchange("GET", "/WebResources/new_/scripts/form.js", (("Accept", "*/*"),)),
        Exchange("GET", "/WebResources/new_/scripts/form.js?ver=1&x=%27+%2C%20"),
        Exchange("GET", "/"),
        Exchange("GET", "/gzip"),
        Exchange("GET", "/download/100000"),
        Exchange("HEAD", "/download/100000"),
        Exchange("OPTIONS", "/WebResources/x"),
        Exchange("OPTIONS", "*"),
        Exchange("HEAD", entity, (json,)),
        Exchange("HEAD", f"{ROOT}/AccountSet?$top=2", (json,)),
        Exchange("HEAD", f"{ROOT}/$metadata"),
        Exchange("OPTIONS", entity, (json,)),
        Exchange("OPTIONS", f"{ROOT}/", (json,)),
        Exchange("PATCH", entity, (json, ("Content-Type", "application/json")), b'{"Name":"x"}'),
        Exchange("PROPFIND", f"{ROOT}/AccountSet", (json,)),
        Exchange("GET", entity, (json, ("X-HTTP-Method", "MERGE"))),
        Exchange("GET", entity, (json, ("If-None-Match", "*"))),
        Exchange("GET", entity, (json, ("DataServiceVersion", "3.0"))),
        Exchange("GET", entity, (json, ("MaxDataServiceVersion", "1.0"))),
        Exchange("GET", entity, (json, ("Accept-Language", "de"), ("User-Agent", ""))),
        Exchange("POST", f"{ROOT}/AccountSet", (json, ("X-HTTP-Method", "NOTHING")), b"{}"),
        *(
            Exchange(
                "POST", f"{ROOT}/$batch", (("Content-Type", f"multipart/mixed; boundary={boundary}"),), body
            )
            for boundary, body in (
                ("b", b"--b--"),
                ("b", BATCH),
                ('"b"', BATCH.replace(b"\r\n", b"\n")),
                ("c", BATCH),
                ("b", BATCH.replace(b"--b--", b"")),
                ("b", BATCH.replace(b"AccountSet?$top=1", b"NothingSet")),
            )
        ),
        Exchange("POST", f"{ROOT}/NothingSet", (json, ("Content-Type", "application/json")), b"{}"),
        Exchange("DELETE", f"{ROOT}/AccountSet", (json,)),
        Exchange("PUT", f"{ROOT}/$metadata", (json,), b"x"),
    ]
    found, _ = await differences(place, exchanges, 2)
    assert not found, "\n".join(found)
