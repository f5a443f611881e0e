"""TLS on both listeners and to upstream; certificates that change while connections live."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from world import World, world

from proxy.app import serve
from proxy.sandbox import Sandbox
from proxy.settings import Settings, SettingsError
from proxy.tls import Tls


class Authority:
    """An authority, and files that it has issued."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str = "server") -> Path:
        """A certificate for 127.0.0.1 and its key in one file; one of that name is replaced."""
        path = self.folder / f"{name}.pem"
        self.ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def upstream(
    authority: Authority, *, wants_certificate: bool = False, version: ssl.TLSVersion | None = None
) -> AsyncIterator[tuple[Sandbox, str]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("upstream"))
    if version is not None:
        context.maximum_version = version
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.ca.configure_trust(context)
    sandbox = Sandbox(rows=1)
    async with sandbox.serve(tls=context) as root:
        yield sandbox, root


async def status_of(place: World) -> int:
    return (await place.ask("/AccountSet?$top=1")).status


async def test_both_listeners_speak_tls(database_url: str, authority: Authority) -> None:
    async with world(database_url, rows=1, tls__certificate=str(authority.issue())) as place:
        connector = aiohttp.TCPConnector(ssl=authority.client())
        async with aiohttp.ClientSession(connector=connector) as session:
            page = await session.get(f"{place.proxy_root}/AccountSet", headers={"Accept": "application/json"})
            assert f'"uri":"{place.proxy.url}/' in (await page.text()).replace("\\/", "/")
            assert (await session.get(f"{place.proxy.services_url}/healthz")).status == 200
            plain = place.proxy.url.replace("https://", "http://")
            with pytest.raises(aiohttp.ClientError):
                await session.get(plain)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await place.session.get(place.proxy.url)


async def test_old_versions_are_refused(database_url: str, authority: Authority) -> None:
    settings: dict[str, Any] = {"tls__certificate": str(authority.issue()), "tls__min_version": "1.3"}
    async with world(database_url, rows=1, **settings) as place:
        context = authority.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            await place.session.get(place.proxy.url, ssl=context)
        assert (await place.session.get(place.proxy.services_url + "/healthz", ssl=authority.client())).ok


@pytest.mark.parametrize("trusted", [True, False])
async def test_upstream_is_believed_if_its_authority_is_ours(
    database_url: str, authority: Authority, trusted: bool
) -> None:
    more = {"upstream__tls__ca_file": str(authority.file)} if trusted else {}
    async with upstream(authority) as served, world(database_url, served=served, **more) as place:
        assert await status_of(place) == (200 if trusted else 502)
        assert bool(served[0].journal) == trusted


@pytest.mark.parametrize("shown", [True, False])
async def test_a_certificate_of_the_proxys_own_is_shown_to_upstream(
    database_url: str, authority: Authority, shown: bool
) -> None:
    more = {"upstream__tls__ca_file": str(authority.file)}
    if shown:
        more["upstream__tls__certificate"] = str(authority.issue("client"))
    async with (
        upstream(authority, wants_certificate=True) as served,
        world(database_url, served=served, **more) as place,
    ):
        assert await status_of(place) == (200 if shown else 502)


@pytest.mark.parametrize(("least", "status"), [("1.2", 200), ("1.3", 502)])
async def test_upstream_must_speak_the_least_version(
    database_url: str, authority: Authority, least: str, status: int
) -> None:
    more = {"upstream__tls__ca_file": str(authority.file), "upstream__tls__min_version": least}
    async with (
        upstream(authority, version=ssl.TLSVersion.TLSv1_2) as served,
        world(database_url, served=served, **more) as place,
    ):
        assert await status_of(place) == status


async def connect(url: str, authority: Authority) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port, ssl=authority.client())


def serial_of(writer: asyncio.StreamWriter) -> str:
    return str(writer.get_extra_info("peercert")["serialNumber"])


async def head_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /WebResources/a.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


async def test_new_certificates_are_for_new_connections(database_url: str, authority: Authority) -> None:
    async with world(database_url, rows=1, tls__certificate=str(authority.issue())) as place:
        before = await connect(place.proxy.url, authority)
        authority.issue()
        place.proxy.reload()
        after = await connect(place.proxy.url, authority)
        assert serial_of(before[1]) != serial_of(after[1])
        (authority.folder / "server.pem").write_text("no certificate")
        place.proxy.reload()
        later = await connect(place.proxy.url, authority)
        assert serial_of(later[1]) == serial_of(after[1])
        for reader, writer in (before, after, later):
            assert (await head_of(reader, writer)).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_sighup_reloads_and_drops_nothing(database_url: str, authority: Authority) -> None:
    sandbox = Sandbox(rows=1)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with sandbox.serve() as root:
        overrides = {
            "listen": "127.0.0.1:0",
            "services_listen": "127.0.0.1:0",
            "database_url": database_url,
            "upstream.service_root": root,
            "tls.certificate": str(authority.issue()),
        }
        settings = Settings.load(None, overrides, environment={})
        running = asyncio.create_task(serve(settings, ready=lambda url, _: ready.set_result(url)))
        url = await ready
        before = await connect(url, authority)
        authority.issue()
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(30):
            while True:
                after = await connect(url, authority)
                after[1].close()
                if serial_of(after[1]) != serial_of(before[1]):
                    break
        assert (await head_of(*before)).startswith(b"HTTP/1.1 200 ")
        before[1].close()
        os.kill(os.getpid(), signal.SIGTERM)
        await running


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("tls.certificate", "tls.certificate: No such file or directory"),
        ("upstream.tls.certificate", "upstream.tls.certificate: No such file or directory"),
        ("upstream.tls.ca_file", "upstream.tls.ca_file: No such file or directory"),
    ],
)
def test_files_that_are_not_there_are_told_at_the_start(tmp_path: Path, key: str, problem: str) -> None:
    settings = Settings.load(None, {key: str(tmp_path / "missing.pem")}, environment={})
    with pytest.raises(SettingsError) as caught:
        Tls(settings)
    assert caught.value.problems == (problem,)


def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    settings = Settings.load(None, {"tls.certificate": str(one), "tls.key": str(two)}, environment={})
    with pytest.raises(SettingsError, match=r"tls\.certificate: "):
        Tls(settings)
