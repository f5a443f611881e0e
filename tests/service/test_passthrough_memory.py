"""Long bodies pass through at flat memory, at the pace of whoever is slower."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from passing import OK, passing
from raw_http import RawUpstream, says

MB = 1 << 20
GROWTH_LIMIT = 64 * MB
BLOCK = bytes(range(256)) * 1024
SIZES = [pytest.param(128, id="128 MB"), pytest.param(1024, id="1 GB", marks=pytest.mark.slow)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident() -> int:
    """Bytes of memory that this process holds now: proxy, upstream and client together."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Growth:
    """The most that memory has grown since the beginning."""

    def __init__(self) -> None:
        self.start = resident()
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, resident() - self.start)


async def write_until_stalled(writer: asyncio.StreamWriter, blocks: int) -> int:
    """Blocks written before the other side took no more for a while."""
    for written in range(1, blocks + 1):
        writer.write(BLOCK)
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            return written
    return blocks


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_a_download_at_flat_memory(megabytes: int, chunked: bool) -> None:
    blocks = megabytes * MB // len(BLOCK)
    size = blocks * len(BLOCK)
    stalled: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        if chunked:
            writer.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (blocks * len(BLOCK))
            )
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (blocks * len(BLOCK)))
        written = await write_until_stalled(writer, blocks)
        stalled.set_result(written)
        await writer.drain()
        for _ in range(blocks - written):
            writer.write(BLOCK)
            await writer.drain()
        if chunked:
            writer.write(b"\r\n0\r\n\r\n")

    async with passing(answer) as place, place.client() as client:
        growth = Growth()
        client.writer.write(b"GET /a HTTP/1.1\r\nHost: p\r\n\r\n")
        await client.head()
        assert await stalled < blocks
        growth.look()
        received = 0
        while received < size:
            part = int(await client.reader.readuntil(b"\r\n"), 16) if chunked else len(BLOCK)
            body = await client.reader.readexactly(part)
            assert body[0] == received % 256
            received += part
            assert body[-1] == (received - 1) % 256
            if chunked:
                await client.reader.readexactly(2)
            growth.look()
    assert growth.most < GROWTH_LIMIT


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_an_upload_at_flat_memory(megabytes: int, chunked: bool) -> None:
    blocks = megabytes * MB // len(BLOCK)
    size = blocks * len(BLOCK)
    received = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        await upstream.go_on.wait()
        left = size
        while left:
            if chunked:
                part = int(await reader.readuntil(b"\r\n"), 16)
                await reader.readexactly(part + 2)
            else:
                part = len(await reader.read(left))
            left -= part
            received += part
            growth.look()
        if chunked:
            assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.write(OK)
        await writer.drain()

    upstream = RawUpstream(says(OK))
    upstream.serve = take  # type: ignore[method-assign]
    async with passing(upstream) as place, place.client() as client:
        growth = Growth()
        head = b"POST /a HTTP/1.1\r\nHost: p\r\n"
        if chunked:
            client.writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
        else:
            client.writer.write(head + b"Content-Length: %d\r\n\r\n" % size)
        written = await write_until_stalled(client.writer, blocks)
        assert written < blocks
        growth.look()
        upstream.go_on.set()
        for _ in range(blocks - written):
            await client.writer.drain()
            client.writer.write(BLOCK)
        if chunked:
            client.writer.write(b"\r\n0\r\n\r\n")
        head, _ = await client.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert received == size
    assert growth.most < GROWTH_LIMIT
