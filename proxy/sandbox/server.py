"""The HTTP side: one handler in front of the service, with journal, faults, and IIS' own header fields."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from email.utils import format_datetime

import aiohttp
from aiohttp import web

from proxy.odata import csdl
from proxy.odata.headers import effective_method
from proxy.odata.uri import split_target
from proxy.sandbox import web as pages
from proxy.sandbox.clock import Clock
from proxy.sandbox.data import Generator
from proxy.sandbox.faults import Fault, Faults
from proxy.sandbox.journal import Entry, Journal
from proxy.sandbox.logins import Logins
from proxy.sandbox.messages import Answer, Incoming
from proxy.sandbox.metadata import small_document
from proxy.sandbox.organisation import Organisation
from proxy.sandbox.query import Queries
from proxy.sandbox.render import Renderer
from proxy.sandbox.rights import Rights
from proxy.sandbox.schema import Schema
from proxy.sandbox.seen import SeenTables
from proxy.sandbox.service import Service
from proxy.sandbox.switches import Switches
from proxy.sandbox.tables import Tables

ROOT_PATH = "/XRMServices/2011/OrganizationData.svc"
_BODY_LIMIT = 64 * 1024 * 1024
_KEPT_OF_OTHER_BODIES = 1 << 20
_PIECE = 1 << 16


class Sandbox:
    """A Dynamics CRM 2011 organisation in one process.

    `metadata`: the document to serve, None for a small one of the sandbox's own. `rows`: so many in each
    set, None for the demo organisation. The same seed gives the same records. Nothing is kept on disk.
    """

    def __init__(
        self,
        metadata: bytes | None = None,
        rows: int | None = None,
        seed: int = 1,
        switches: Switches = Switches(),  # noqa: B008 - frozen
        root_path: str = ROOT_PATH,
        clock: Clock | None = None,
    ) -> None:
        """ODataError for bytes that are no metadata document, ValueError for keys that are no guids."""
        document = metadata if metadata is not None else small_document()
        self.switches = switches
        self.clock = clock if clock is not None else Clock()
        self.journal = Journal()
        self.faults = Faults()
        self.root_path = root_path.rstrip("/")
        self._schema = Schema(csdl.parse_metadata(document))
        generator = Generator(self._schema, rows, seed)
        tables = Tables(self._schema, generator, switches)
        self.organisation = Organisation(self._schema, tables, self.clock, switches, seed)
        self.logins = Logins(switches)
        self._document = document
        self._seed = seed
        self._service = self._service_on(self.organisation)
        self._seen: dict[str, tuple[int, Rights | None, Service]] = {}

    def _service_on(self, organisation: Organisation) -> Service:
        queries = Queries(organisation.tables, self.switches)
        renderer = Renderer(self._schema, organisation.tables, queries, self.clock, self.switches)
        return Service(self._document, organisation, queries, renderer, self.switches, self.root_path)

    def _reader_for(self, user: str) -> Service:
        """What answers a user's reads: where rights say so, of the organisation as the user sees it."""
        rights = self.switches.rights.get(user.lower())
        if rights is None:
            return self._service
        tables = self.organisation.tables
        generation, known, service = self._seen.get(user, (-1, None, self._service))
        if (generation, known) != (tables.generation, rights):
            seen = SeenTables(tables, rights)
            service = self._service_on(
                Organisation(self._schema, seen, self.clock, self.switches, self._seed)
            )
            self._seen[user] = (tables.generation, rights, service)
        return service

    def title_property(self, set_name: str) -> str | None:
        """The property that Atom titles show; None where titles are empty."""
        return self._schema.title_property(set_name)

    def fill(self) -> None:
        """Make all records now, rather than each set's when it is first read."""
        for set_name in self._schema.model.entity_sets:
            self.organisation.keys(set_name)

    @contextlib.asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Serve until the block is left; gives the service root's URL. Port 0 takes a free one."""
        # A bare server: no router stands between the raw target and the handler.
        server = web.Server(
            self._handle,
            access_log=None,
            max_line_size=1 << 16,
            max_field_size=1 << 16,
            auto_decompress=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=tls)
            await site.start()
            bound_host, bound_port = runner.addresses[0][:2]
            if self.switches.auth == "adfs-forms":
                await web.TCPSite(runner, host, 0).start()
                self.logins.forms.sts_origin = "http://{}:{}".format(*runner.addresses[1][:2])
            scheme = "http" if tls is None else "https"
            yield f"{scheme}://{bound_host}:{bound_port}{self.root_path}"
        finally:
            await runner.cleanup()

    # One request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        target = request.raw_path
        is_odata = self._service.covers(target)
        try:
            body, length = await _body(request, _BODY_LIMIT if is_odata else _KEPT_OF_OTHER_BODIES)
        except (aiohttp.ClientPayloadError, ConnectionError):
            # Cut while it was sent: as IIS would, it never reaches the service.
            return _close(request)
        entry = self.journal.arrive(request.method, target, request.headers, body)
        faults = self.faults.take(effective_method(request.method, request.headers), target)
        if self.switches.latency_ms:
            await asyncio.sleep(self.switches.latency_ms / 1000)
        for fault in faults:
            await _wait(fault)
        deed = next((fault for fault in faults if fault.kind not in ("delay", "hold")), None)
        if deed is not None and deed.kind == "reset_before":
            return _close(request)
        reply: web.StreamResponse | None = self._instead(deed) if deed is not None else None
        if reply is None:
            if length > len(body) and is_odata:
                reply = web.Response(status=413)
            else:
                user = self.logins.check(request, body)
                entry.user = "" if isinstance(user, web.Response) else user
                if isinstance(user, web.Response):
                    reply = user
                elif is_odata:
                    reply = await self._odata(request, body, entry, deed)
                else:
                    reply = self._beside(request, body, length)
        return await self._send(request, reply, entry, deed)

    def _instead(self, fault: Fault) -> web.Response | None:
        """The answer of a fault that replaces the service's own; None where the service is to answer."""
        if fault.kind == "status":
            body = fault.body.encode() if isinstance(fault.body, str) else fault.body
            headers = {"Content-Type": "text/html", **fault.headers}
            return web.Response(status=fault.status, body=body or None, headers=headers)
        if fault.kind == "html":
            return web.Response(body=pages.LOGIN_PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
        return None

    async def _odata(
        self, request: web.BaseRequest, body: bytes, entry: Entry, deed: Fault | None
    ) -> web.Response:
        origin = f"{request.scheme}://{request.headers.get('Host', request.host)}"
        incoming = Incoming(request.method, request.raw_path, request.headers, body, origin)
        stands_still = deed is not None and deed.kind == "stamp_not_moved"
        answer = self._service.answer(
            incoming, stamps_stand_still=stands_still, reader=lambda: self._reader_for(entry.user)
        )
        entry.applied, entry.parts = answer.applied, answer.parts
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        return _response(answer, garbled=deed is not None and deed.kind == "garbled")

    def _beside(self, request: web.BaseRequest, body: bytes, length: int) -> web.StreamResponse:
        """Everything that is not OData."""
        path = split_target(request.raw_path)[0]
        if request.method == "POST" and pages.is_soap(path):
            return pages.soap_reply(request.headers.get("SOAPAction", ""), body, length)
        if path == "/echo":
            headers = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
            ]
            return pages.echo_reply(request.method, request.raw_path, headers, body)
        if path == "/gzip":
            return pages.gzip_reply()
        size = pages.download_size(path)
        if size is not None:
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            response.content_length = size
            return response
        if request.method == "OPTIONS":
            return web.Response(headers={"Allow": "OPTIONS, TRACE, GET, HEAD, POST"})
        return pages.web_resource(path)

    async def _send(
        self, request: web.BaseRequest, reply: web.StreamResponse, entry: Entry, deed: Fault | None
    ) -> web.StreamResponse:
        self._add_headers(reply)
        kind = deed.kind if deed is not None else None
        if kind == "applied_no_answer":
            return _close(request)
        if kind == "cut" and isinstance(reply, web.Response):
            if not isinstance(reply.body, bytes) or not reply.body:
                return _close(request)
            entry.status = reply.status
            return await _cut(request, reply, reply.body)
        entry.status = reply.status
        if isinstance(reply, web.Response):
            return reply
        await reply.prepare(request)
        if request.method != "HEAD":
            async for piece in pages.download(reply.content_length or 0):
                await reply.write(piece)
        await reply.write_eof()
        return reply

    def _add_headers(self, reply: web.StreamResponse) -> None:
        """What IIS and ASP.NET add to every answer (5.1)."""
        headers = reply.headers
        headers.setdefault("Cache-Control", "no-cache")
        headers["Server"] = "Microsoft-IIS/7.5"
        headers["X-AspNet-Version"] = "4.0.30319"
        headers["X-Powered-By"] = "ASP.NET"
        headers["Date"] = format_datetime(self.clock.now(), usegmt=True)
        if self.switches.set_cookie is not None:
            headers.add("Set-Cookie", self.switches.set_cookie)


async def _body(request: web.BaseRequest, limit: int) -> tuple[bytes, int]:
    """The first `limit` bytes of the body, and its whole length."""
    if not request.body_exists:
        return b"", 0
    kept = bytearray()
    length = 0
    async for piece in request.content.iter_chunked(_PIECE):
        length += len(piece)
        kept += piece[: max(0, limit - len(kept))]
    return bytes(kept), length


async def _wait(fault: Fault) -> None:
    if fault.kind == "delay":
        await asyncio.sleep(fault.delay_s)
    elif fault.kind == "hold" and fault.event is not None:
        fault.reached.set()
        await fault.event.wait()


def _response(answer: Answer, *, garbled: bool) -> web.Response:
    headers = {"DataServiceVersion": answer.version, **answer.headers}
    body = answer.body
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    if garbled:
        # Serialisation that failed midway: the status was sent long before (8.1).
        whole = body or b'{"d":{"results":[]}}'
        headers.setdefault("Content-Type", "application/json;charset=utf-8")
        return web.Response(status=200, body=whole[: len(whole) * 2 // 3], headers=headers)
    return web.Response(status=answer.status, body=body or None, headers=headers)


def _close(request: web.BaseRequest) -> web.Response:
    """Drop the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _cut(request: web.BaseRequest, reply: web.Response, whole: bytes) -> web.StreamResponse:
    """Send the headers and half of the body, then drop the connection."""
    partial = web.StreamResponse(status=reply.status, headers=reply.headers)
    partial.content_length = len(whole)
    await partial.prepare(request)
    await partial.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()
    return partial
