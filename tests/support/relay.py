"""A TCP relay that tests can take down and bring back, always at the same port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from psycopg2.extensions import parse_dsn


class Relay:
    """Passes bytes on to one Postgres server. `url`: of the same database by way of the relay."""

    def __init__(self, database_url: str) -> None:
        self._server_is = parse_dsn(database_url)
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        known = self._server_is
        login = quote(known["user"]) + (f":{quote(known['password'])}" if "password" in known else "")
        return f"postgresql://{login}@127.0.0.1:{self._port}/{quote(known['dbname'])}?sslmode=disable"

    async def up(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Nobody gets a connection any more, and those there are break."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server_is.get("host", "127.0.0.1"), self._server_is.get("port", "5432")
        if host.startswith("/"):
            far = await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
        else:
            far = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, far[1]}
        await asyncio.gather(_pass(reader, far[1]), _pass(far[0], writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relayed(database_url: str) -> AsyncIterator[Relay]:
    relay = Relay(database_url)
    await relay.up()
    try:
        yield relay
    finally:
        await relay.down()
