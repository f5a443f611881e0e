"""SIGHUP: what of the configuration comes in force while connections live, and what is told to wait."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from storing import until

from proxy.app import serve
from proxy.events import Events
from proxy.sandbox import Sandbox
from proxy.settings import Settings, differences

TOKEN = "let-me-in-4711"
CALLER = f"[callers.eve]\nread = ['*']\ntoken_sha256 = '{hashlib.sha256(TOKEN.encode()).hexdigest()}'\n"
FORWARD = "[sets.AccountSet]\nmode = 'forward'\n"
Said = dict[str, list[str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Said]:
    """What each reload has told."""
    told: list[Said] = []

    def reloaded(events: Events, **fields: Any) -> None:
        told.append({name: list(values) for name, values in fields.items()})

    monkeypatch.setattr(Events, "proxy_reloaded", reloaded)
    return told


@dataclass
class Running:
    """A proxy whose configuration is a file."""

    session: aiohttp.ClientSession
    said: list[Said]
    config: Path
    start: str
    root: str
    services: str
    key: str

    async def reload(self, text: str) -> Said:
        """What a SIGHUP tells with so much more in the file."""
        count = len(self.said)
        self.config.write_text(self.start + text)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(self.said) > count)
        return self.said[-1]

    async def cache(self, token: str = "") -> str:
        """How an account is answered, read for the second time."""
        url = f"{self.root}/AccountSet(guid'{self.key}')"
        async with self.session.get(url, headers=shown(token)) as answer:
            assert answer.status == 200
            await answer.read()
        async with self.session.get(url, headers=shown(token)) as answer:
            return answer.headers["Cache-Status"]

    async def mirror(self, token: str = "") -> int:
        async with self.session.get(f"{self.services}/mirror/AccountSet", headers=shown(token)) as answer:
            return answer.status


def shown(token: str) -> dict[str, str]:
    fields = {"Accept": "application/json"}
    return fields | {"Authorization": f"Bearer {token}"} if token else fields


@asynccontextmanager
async def serving(database_url: str, tmp_path: Path, said: list[Said]) -> AsyncIterator[Running]:
    sandbox = Sandbox(rows=2)
    ready: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    config = tmp_path / "syncpoint.toml"
    async with sandbox.serve() as root:
        start = (
            f'listen = "127.0.0.1:0"\nservices_listen = "127.0.0.1:0"\ndatabase_url = "{database_url}"\n'
            f'[upstream]\nservice_root = "{root}"\n[sync]\naudit_share = 0.0\nsettle_s = 0.0\n'
        )
        config.write_text(start)

        def read() -> Settings:
            return Settings.load(config, environment={})

        running = asyncio.create_task(
            serve(read(), read=read, ready=lambda *urls: ready.set_result(urls)), name="proxy"
        )
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        url, services = ready.result()
        # One connection for all: a reload that dropped it would fail what is asked next.
        connector = aiohttp.TCPConnector(limit_per_host=1, keepalive_timeout=600)
        async with aiohttp.ClientSession(connector=connector) as session:
            key = str(sandbox.organisation.keys("AccountSet")[0])
            yield Running(session, said, config, start, url + urlsplit(root).path, services, key)
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def test_policies_and_callers_come_in_force_with_the_next_request(
    database_url: str, tmp_path: Path, said: list[Said]
) -> None:
    async with serving(database_url, tmp_path, said) as proxy:
        assert "forward-mode" not in await proxy.cache()
        told = await proxy.reload(FORWARD + CALLER)
        assert told == {"changed": ["sets.AccountSet", "callers.eve"], "need_restart": []}
        assert "forward-mode" in await proxy.cache(TOKEN)
        assert [await proxy.mirror(), await proxy.mirror("wrong"), await proxy.mirror(TOKEN)] == [
            401,
            401,
            200,
        ]
        assert await proxy.reload(CALLER.replace("eve", "mallory")) == {
            "changed": ["sets.AccountSet", "callers.eve", "callers.mallory"],
            "need_restart": [],
        }
        assert "forward-mode" not in await proxy.cache(TOKEN)
        assert await proxy.mirror(TOKEN) == 200
        assert await proxy.reload("") == {"changed": ["callers.mallory"], "need_restart": []}
        assert await proxy.mirror() == 200


async def test_a_stream_ends_with_what_let_its_reader_in(
    database_url: str, tmp_path: Path, said: list[Said]
) -> None:
    other = CALLER.replace(hashlib.sha256(TOKEN.encode()).hexdigest(), "0" * 64)
    async with serving(database_url, tmp_path, said) as proxy, aiohttp.ClientSession() as session:
        await proxy.reload(CALLER)
        headers = shown(TOKEN) | {"Accept": "text/event-stream"}
        async with session.get(f"{proxy.services}/changes?cursor=now", headers=headers) as stream:
            assert (await stream.content.readline()).startswith(b"id: ")
            await proxy.reload(CALLER + FORWARD)  # other callers there are not
            await proxy.reload(CALLER)
            await proxy.cache(TOKEN)
            async with asyncio.timeout(20):
                while not (line := await stream.content.readline()).startswith(b"data: "):
                    assert line
            told = await proxy.reload(other)
            assert told["changed"] == ["callers.eve"]
            await proxy.reload("")
            await proxy.session.request("DELETE", f"{proxy.root}/AccountSet(guid'{proxy.key}')")
            async with asyncio.timeout(30):
                assert b"data: " not in await stream.content.read()
        async with session.get(f"{proxy.services}/changes?cursor=now", headers=shown("")) as page:
            assert page.status == 200


async def test_what_cannot_change_is_told_again_and_again(
    database_url: str, tmp_path: Path, said: list[Said]
) -> None:
    text = (
        "[limits]\nmirror_page = 7\n[tls]\ncertificate = '/none.pem'\n[sets.AccountSet]\nmode = 'forward'\n"
    )
    async with serving(database_url, tmp_path, said) as proxy:
        waiting = ["tls.certificate", "limits.mirror_page"]
        assert await proxy.reload(text) == {"changed": ["sets.AccountSet"], "need_restart": waiting}
        assert await proxy.reload(text) == {"changed": [], "need_restart": waiting}
        assert "forward-mode" in await proxy.cache()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FORWARD.replace("forward", "forwart"), "sets.AccountSet.mode"),
        (FORWARD + CALLER.replace("*", "Accounts"), "there is no entity set 'Accounts'"),
        (FORWARD + "[upstream.tls]\nca_file = '/none.pem'\n", "upstream.tls.ca_file"),
        ("no TOML", "syncpoint.toml"),
    ],
)
async def test_what_cannot_be_used_changes_nothing(
    database_url: str, tmp_path: Path, said: list[Said], text: str, problem: str
) -> None:
    async with serving(database_url, tmp_path, said) as proxy:
        told = await proxy.reload(text)
        assert [problem in each for each in told["problems"]] == [True]
        assert "forward-mode" not in await proxy.cache()
        assert await proxy.mirror() == 200


async def test_the_level_of_the_log_follows(
    database_url: str, tmp_path: Path, said: list[Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = []
    monkeypatch.setattr("proxy.app.reloading.configure_logging", lambda *chosen: configured.append(chosen))
    async with serving(database_url, tmp_path, said) as proxy:
        assert await proxy.reload("[log]\nlevel = 'debug'\n") == {
            "changed": ["log.level"],
            "need_restart": [],
        }
        await proxy.reload("[log]\nlevel = 'debug'\n")
    assert configured == [("debug", "auto")]


def test_differences_are_named_and_never_shown() -> None:
    one = Settings.load(None, {"upstream.auth.password": "s3cret", "sets.A.mode": "forward"}, environment={})
    other = Settings.load(None, {"upstream.auth.password": "other", "sets.B.mode": "forward"}, environment={})
    assert [*differences(one, other)] == ["upstream.auth.password", "sets.A", "sets.B"]
    assert [*differences(one, one)] == []
