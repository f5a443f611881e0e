"""Shared checks: who is answered by whose exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from multidict import CIMultiDict
from raw_http import (
    OK,
    PART,
    RawUpstream,
    ask,
    client_has_settled,
    running,
    waits,
)

from proxy.reconcile.ports import (
    UpstreamCut,
)
from proxy.upstream.calls import UpstreamCall, upstream_calls
from proxy.upstream.client import UpstreamClient


@asynccontextmanager
async def one_busy_connection() -> AsyncIterator[tuple[RawUpstream, UpstreamClient, asyncio.Task[object]]]:
    """The only connection waits for an answer, so that what is sent now has to wait."""
    async with running(waits, connections=1) as (upstream, client):
        busy = asyncio.create_task(client.send(ask(target="/busy")))
        await upstream.arrived.wait()
        upstream.arrived.clear()
        yield upstream, client, busy
        await busy


def paths(upstream: RawUpstream) -> list[str]:
    return [request.split()[1].decode() for request in upstream.requests]


async def test_equal_checks_that_wait_share_one_exchange() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(5)]
        await client_has_settled()
        upstream.go_on.set()
        replies = [await check for check in checks]
    assert paths(upstream) == ["/busy", "/x"]
    assert all(reply is replies[0] for reply in replies)


async def test_a_session_that_upstream_opens_is_one_clients() -> None:
    opens = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Other: y\r\nContent-Length: 0\r\n\r\n"
    )

    async def opening(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        await upstream.go_on.wait()
        writer.write(opens)

    async with running(opening, connections=1) as (upstream, client):
        busy = asyncio.create_task(client.send(ask(target="/busy")))
        await upstream.arrived.wait()
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(3)]
        await client_has_settled()
        upstream.go_on.set()
        replies = [await check for check in checks]
        await busy
    assert [reply.headers.getall("Set-Cookie", []) for reply in replies] == [["a=1", "b=2"], [], []]
    assert all(reply.headers["X-Other"] == "y" for reply in replies)


async def test_a_check_whose_bytes_have_left_takes_no_joiners() -> None:
    async with running(waits) as (upstream, client):
        first = asyncio.create_task(client.send(ask(), joinable=True))
        await upstream.arrived.wait()
        second = asyncio.create_task(client.send(ask(), joinable=True))
        await client_has_settled()
        upstream.go_on.set()
        assert await first is not await second
    assert paths(upstream) == ["/x", "/x"]


OTHERS = {
    "another target": ask(target="/x?"),
    "another method": ask("OPTIONS"),
    "another credential": ask(headers=CIMultiDict({"Authorization": "Basic b"})),
    "another cookie": ask(headers=CIMultiDict({"Cookie": "b"})),
    "a header more": ask(headers=CIMultiDict([("Authorization", "Basic a"), ("X", "")])),
    "a body": ask(headers=CIMultiDict({"Authorization": "Basic a"}), body=b"b"),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_only_equal_checks_share(other: str) -> None:
    async with one_busy_connection() as (upstream, client, _):
        mine = ask(headers=CIMultiDict({"Authorization": "Basic a"}))
        requests = (mine, OTHERS[other], mine)
        checks = [asyncio.create_task(client.send(request, joinable=True)) for request in requests]
        await client_has_settled()
        upstream.go_on.set()
        for check in checks:
            await check
    assert len(upstream.requests) == 3  # the busy one, mine once, the other


async def test_what_is_not_joinable_shares_nothing() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=flag)) for flag in (True, False)]
        await client_has_settled()
        upstream.go_on.set()
        for check in checks:
            await check
    assert paths(upstream) == ["/busy", "/x", "/x"]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_that_is_cancelled_leaves_the_exchange_to_the_others(leaver: int) -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(2)]
        await client_has_settled()
        checks[leaver].cancel()
        with pytest.raises(asyncio.CancelledError):
            await checks[leaver]
        upstream.go_on.set()
        assert (await checks[1 - leaver]).body == b"ok"
    assert paths(upstream) == ["/busy", "/x"]


async def test_the_last_one_that_leaves_ends_the_exchange() -> None:
    async with one_busy_connection() as (upstream, client, _):
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(2)]
        await client_has_settled()
        for check in checks:
            check.cancel()
        await asyncio.wait(checks)
        upstream.go_on.set()
        assert (await client.send(ask(target="/after"), joinable=True)).body == b"ok"
    assert paths(upstream) == ["/busy", "/after"]


async def test_a_failure_reaches_everybody_and_the_next_check_is_new() -> None:
    answers = [PART, OK]

    async def answer(upstream: RawUpstream, writer: asyncio.StreamWriter) -> None:
        await upstream.go_on.wait()
        writer.write(answers.pop(0) if upstream.requests[-1].startswith(b"GET /x") else OK)
        if not answers[1:]:
            writer.close()

    async with running(answer, connections=1) as (upstream, client):
        busy = asyncio.create_task(client.send(ask(target="/busy")))
        await upstream.arrived.wait()
        checks = [asyncio.create_task(client.send(ask(), joinable=True)) for _ in range(3)]
        await client_has_settled()
        upstream.go_on.set()
        outcomes = await asyncio.gather(busy, *checks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[1:]] == [UpstreamCut] * 3
        assert (await client.send(ask(), joinable=True)).body == b"ok"
    assert paths(upstream) == ["/busy", "/x", "/x"]


def brief(calls: list[UpstreamCall]) -> list[tuple[object, ...]]:
    return [(c.method, c.path, c.status, c.error, c.bytes, c.shared) for c in calls]


async def test_a_shared_check_is_recorded_where_it_was_asked() -> None:
    async def one(calls: list[UpstreamCall]) -> None:
        upstream_calls.set(calls)
        await client.send(ask(), joinable=True)

    async with one_busy_connection() as (upstream, client, _):
        lists: list[list[UpstreamCall]] = [[], []]
        tasks = [asyncio.create_task(one(calls)) for calls in lists]
        await client_has_settled()
        upstream.go_on.set()
        await asyncio.gather(*tasks)
    assert [brief(calls) for calls in lists] == [
        [("GET", "/x", 200, None, 2, False)],
        [("GET", "/x", 200, None, 2, True)],
    ]
