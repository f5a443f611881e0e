"""`syncpoint backfill` as an operator has it: killed, begun again, on a terminal and elsewhere."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from asyncio.subprocess import PIPE, Process

import pytest
from lifecycle import mirrored
from rich.console import Console
from storing import until
from world import World, world

from proxy.display import shown_loads
from proxy.reconcile.backfill import Load

ROWS = 500  # ten pages


@pytest.fixture
async def place(database_url):
    async with world(database_url, rows=ROWS) as made:
        made.clear()
        yield made


async def backfill(place: World, database_url: str, *arguments: str) -> Process:
    settings = {
        "DATABASE_URL": database_url,
        "UPSTREAM__SERVICE_ROOT": place.direct_root,
        "LOG__LEVEL": "error",
        "BACKGROUND__REQUESTS_PER_S": "10",
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "backfill", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **{f"SYNCPOINT_{name}": value for name, value in settings.items()}},
    )


def pages(place: World) -> list[str]:
    targets = (entry.target for entry in place.sandbox.journal)
    return [target for target in targets if "/AccountSet" in target and "$count" not in target]


async def test_a_killed_load_repeats_at_most_one_page(place: World, database_url: str) -> None:
    first = await backfill(place, database_url, "AccountSet")
    await until(lambda: len(pages(place)) >= 4)
    first.kill()
    await first.communicate()
    asked = pages(place)
    assert len(asked) < 10
    place.clear()
    second = await backfill(place, database_url, "AccountSet")
    output, errors = await second.communicate()
    assert second.returncode == 0, errors
    assert len(mirrored(database_url)) == ROWS
    assert len({*asked, *pages(place)}) == 10
    assert len(asked) + len(pages(place)) <= 11
    assert re.search(rb"^AccountSet: 500 rows, \d+/s, done$", output, re.MULTILINE)


async def test_wrong_names_and_no_names_are_told(place: World, database_url: str) -> None:
    for arguments, code, told in (
        (["NoSuchSet"], 3, b"NoSuchSet: no entity set of the metadata document"),
        ([], 2, b"name entity sets, or give --all"),
        (["--all", "AccountSet"], 2, b"name entity sets, or give --all"),
    ):
        process = await backfill(place, database_url, *arguments)
        _, errors = await process.communicate()
        assert (process.returncode, told in errors) == (code, True)


STEPS = [
    Load("AccountSet"),
    Load("AccountSet", "loading", 50, expected=100),
    Load("AccountSet", "loading", 100, expected=100),
    Load("AccountSet", "done", 100, expected=100),
    Load("TaskSet"),
    Load("TaskSet", "failed", reason="Upstream answered 403 Forbidden."),
]


def test_elsewhere_than_on_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    with shown_loads(Console(file=stream)) as show:
        for step in STEPS:
            show(step)
    lines = stream.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "AccountSet: 50 rows",
        "AccountSet: 100 rows",
        "TaskSet: 0 rows",
    ]
    assert lines[-1].endswith("failed: Upstream answered 403 Forbidden.")


def test_on_a_terminal_there_are_bars() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with shown_loads(console) as show:
        for step in STEPS:
            show(step)
    text = stream.getvalue()
    assert "100/100" in text
    assert "failed: Upstream answered 403" in text
