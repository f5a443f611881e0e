"""Bodies of requests that the proxy understands: whole, or nothing leaves. Over a raw socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from passing import Client
from raw_http import closed
from world import World, world

from proxy import uploads

BODY = b'{"Name":"Written"}'
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
LENGTH, CHUNKS = b"Content-Length: 1000\r\n\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


def path_of(place: World) -> str:
    return f"{urlsplit(place.proxy_root).path}/AccountSet(guid'{place.a_key('AccountSet')}')"


def merge(place: World, framing: bytes, accept: str = "application/json") -> bytes:
    head = f"MERGE {path_of(place)} HTTP/1.1\r\nHost: p\r\nAccept: {accept}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n" + framing


@asynccontextmanager
async def client_of(place: World) -> AsyncIterator[Client]:
    url = urlsplit(place.proxy.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        async with asyncio.timeout(60):
            yield Client(reader, writer)
    finally:
        await closed(writer)


async def assert_nothing_left(place: World) -> None:
    await place.idle()
    assert place.upstream_requests() == []
    assert await place.proxy.store.open_intents() == []


async def test_a_whole_body_in_chunks_is_written(place: World) -> None:
    async with client_of(place) as client:
        client.writer.write(merge(place, CHUNKS + b"0\r\n\r\n"))
        head, _ = await client.answer()
    assert head.startswith(b"HTTP/1.1 204 ")
    assert place.sandbox.journal[-2].body == BODY


@pytest.mark.parametrize("accept", ["application/json", "application/atom+xml"])
@pytest.mark.parametrize(
    "framing",
    [LENGTH, CHUNKS, b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["length", "chunks", "length and nothing", "chunks and none"],
)
async def test_a_client_that_does_not_go_on_is_told_so(
    place: World, framing: bytes, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CLIENT_PATIENCE_S", 0.2)
    async with client_of(place) as client:
        client.writer.write(merge(place, framing, accept))
        head, body = await client.answer()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in head
    assert b"\r\nProxy-Status: syncpoint; error=http_request_error\r\n" in head
    assert b"Syncpoint.BodyTimeout" in body
    assert body.startswith(b"{" if accept == "application/json" else b"<")
    await assert_nothing_left(place)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_chunk_that_is_none_ends_the_upload(
    place: World, leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asyncio.Event()
    read = uploads.Upload._next

    async def next_(upload: uploads.Upload) -> bytes:
        piece = await read(upload)
        seen.set()
        return piece

    monkeypatch.setattr(uploads.Upload, "_next", next_)
    if not leaves:
        monkeypatch.setattr(uploads, "CLIENT_PATIENCE_S", 0.2)
    async with client_of(place) as client:
        client.writer.write(merge(place, CHUNKS))
        await seen.wait()
        client.writer.write(b"zz\r\n")
        if not leaves:
            head, _ = await client.answer()
            assert head.startswith(b"HTTP/1.1 408 ")
    await assert_nothing_left(place)


@pytest.mark.parametrize("framing", [LENGTH, CHUNKS])
async def test_a_body_that_breaks_off_is_not_sent(
    place: World, framing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: asyncio.Queue[Exception | None] = asyncio.Queue()
    whole = uploads.Upload.whole

    async def whole_(upload: uploads.Upload) -> bytes:
        try:
            return await whole(upload)
        finally:
            errors.put_nowait(upload.error)

    monkeypatch.setattr(uploads.Upload, "whole", whole_)
    async with client_of(place) as client:
        client.writer.write(merge(place, framing))
        client.writer.write_eof()
        assert isinstance(await errors.get(), web.HTTPBadRequest)
    await assert_nothing_left(place)
