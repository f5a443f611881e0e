"""The console: `/console/` on the services listener. What the admin API tells and does, as pages.

Pages work without scripts. Names and values of upstream's are text, never markup: Jinja2 escapes all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
from aiohttp import web

from proxy.authentication import CALLER
from proxy.console import views
from proxy.console.door import LOGIN, SESSIONS, door, page
from proxy.console.guard import operator
from proxy.console.sessions import PATH, Sessions
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.uri import parse_resource_path
from proxy.reconcile.errors import LoginRequired
from proxy.reconcile.history import Casebook, Conflict, History, Revision
from proxy.reconcile.operator import CannotAct, Desk, NotFound
from proxy.reconcile.restricted import seen_by
from proxy.reconcile.sets import Sets

_BODY_LIMIT_BYTES = 64 * 1024
_MOST = 100


class Console:
    """Handlers over the drivers. `recent`: canonical lines of requests, oldest first."""

    def __init__(
        self,
        desk: Desk,
        history: History,
        casebook: Casebook,
        sets: Sets,
        sessions: Sessions,
        recent: Iterable[Mapping[str, Any]],
    ) -> None:
        self._desk = desk
        self._history = history
        self._casebook = casebook
        self._sets = sets
        self._sessions = sessions
        self._recent = recent
        self._style = (files("proxy.console") / "static" / "console.css").read_bytes()

    def app(self) -> web.Application:
        """The application to mount at `/console/`."""
        app = web.Application(middlewares=[door(self._sessions)], client_max_size=_BODY_LIMIT_BYTES)
        app[SESSIONS] = self._sessions
        aiohttp_jinja2.setup(
            app,
            loader=jinja2.PackageLoader("proxy.console"),
            filters={"value": _value, "quoted": lambda text: quote(text, safe="")},
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        app.router.add_get("/", self.overview)
        app.router.add_get("/console.css", self.style)
        app.router.add_get("/login", self.login)
        app.router.add_post("/login", self.log_in)
        app.router.add_post("/logout", self.log_out)
        app.router.add_get("/conflicts", self.conflicts)
        app.router.add_get("/conflicts/{id:\\d{1,18}}", self.conflict)
        app.router.add_post("/conflicts/{id:\\d{1,18}}/resolve", self.resolve)
        app.router.add_get("/sets/{set}", self.entity_set)
        app.router.add_post("/sets/{set}/resolve", self.resolve_all)
        app.router.add_post("/sets/{set}/serve", self.serve)
        app.router.add_get("/intents", self.intents)
        app.router.add_get("/shadow", self.shadow)
        app.router.add_get("/entity", self.entity)
        app.router.add_get("/diff", self.diff)
        app.router.add_post("/revert", self.revert)
        app.router.add_get("/requests", self.requests)
        app.router.add_get("/requests/{id}", self.request)
        return app

    async def style(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._style, content_type="text/css", charset="utf-8")

    # Coming and going

    async def login(self, request: web.Request) -> web.Response:
        return page(request, "login", wrong=False)

    async def log_in(self, request: web.Request) -> web.Response:
        response = web.Response(status=303, headers={"Location": PATH})
        try:
            self._sessions.begin(request, str((await request.post()).get("token", "")).strip(), response)
        except LoginRequired:
            return page(request, "login", status=401, wrong=True)
        return response

    async def log_out(self, request: web.Request) -> web.Response:
        response = web.Response(status=303, headers={"Location": LOGIN})
        self._sessions.end(request, response)
        return response

    # What there is to see

    async def overview(self, request: web.Request) -> web.Response:
        """The sets, and what waits for somebody."""
        sets = await self._overview()
        findings = await self._casebook.open_findings()
        return page(request, "overview", sets=sets, findings=findings)

    async def entity_set(self, request: web.Request) -> web.Response:
        name = self._desk.entity_set(request.match_info["set"]).name
        shown = [each for each in await self._overview() if each["name"] == name]
        if not shown:
            raise NotFound(f"Nothing is known of {name} yet.")
        conflicts = await self._casebook.conflicts(name, limit=_MOST)
        return page(request, "set", set=shown[0], conflicts=self._conflicts(conflicts, request))

    async def conflicts(self, request: web.Request) -> web.Response:
        found = await self._casebook.conflicts(after=_number(request, "after"), limit=_MOST)
        following = found[-1].id if len(found) == _MOST else None
        shown = self._conflicts(found, request)
        return page(request, "conflicts", conflicts=shown, following=following)

    async def conflict(self, request: web.Request) -> web.Response:
        shown = self._conflicts([await self._conflict(request)], request)[0]
        return page(request, "conflict", conflict=shown)

    async def intents(self, request: web.Request) -> web.Response:
        found = await self._casebook.intent_lines()
        return page(request, "intents", intents=[views.intent(each) for each in found])

    async def shadow(self, request: web.Request) -> web.Response:
        sets, origin = self._desk.model.entity_sets, _origin(request)
        found = await self._casebook.shadow_counts()
        shapes = [views.shadow(each, sets.get(each.entity_set), origin) for each in found]
        return page(request, "shadow", shapes=shapes)

    async def requests(self, request: web.Request) -> web.Response:
        lines = [*self._recent][::-1][:_MOST]
        return page(request, "requests", requests=lines)

    async def request(self, request: web.Request) -> web.Response:
        """Every request of that id: a client may use one again."""
        wanted = request.match_info["id"]
        lines = [line for line in self._recent if line["request_id"] == wanted]
        if not lines:
            raise NotFound("That request is not among the last ones that this process has answered.")
        return page(request, "request", requests=lines)

    async def entity(self, request: web.Request) -> web.Response:
        """`?name=AccountSet(guid'…')&before=ID`: the history of one entity."""
        entity_set, key = self._named(request.query.get("name", ""))
        before = _number(request, "before") or None
        found = await self._history.revisions(entity_set, key, before=before, limit=_MOST)
        following = found[-1].id if len(found) == _MOST else None
        revisions = [views.revision(self._seen(each, request)) for each in found]
        name = request.query["name"]
        return page(request, "entity", name=name, revisions=revisions, following=following)

    async def diff(self, request: web.Request) -> web.Response:
        """`?name=…&from=ID&to=ID`; without `from`, the revision alone."""
        name = request.query.get("name", "")
        entity_set, key = self._named(name)
        to = self._seen(await self._revision(entity_set, key, _number(request, "to")), request)
        earlier = _number(request, "from")
        before = None
        if earlier:
            before = self._seen(await self._revision(entity_set, key, earlier), request)
        if to.unseen or (before is not None and before.unseen):
            raise CannotAct("Of a state that was never seen only the request is known.")
        changes = views.changes(before.document if before else None, to.document, entity_set)
        earlier_shown = views.revision(before) if before else None
        return page(request, "diff", name=name, before=earlier_shown, to=views.revision(to), changes=changes)

    # What there is to do

    async def resolve(self, request: web.Request) -> web.Response:
        conflict = await self._conflict(request)
        written = await self._desk.resolve(conflict, await _winner(request), operator(request))
        return self._done(request, f"Conflict {conflict.id}", [views.written(written)])

    async def resolve_all(self, request: web.Request) -> web.Response:
        entity_set, winner = self._desk.entity_set(request.match_info["set"]), await _winner(request)
        results: list[dict[str, Any]] = []
        for conflict in await self._casebook.conflicts(entity_set.name, limit=_MOST):
            try:
                result = views.written(await self._desk.resolve(conflict, winner, operator(request)))
            except CannotAct as error:
                result = {"error": str(error), "changed": [], "status": None}
            results.append({"of": f"Conflict {conflict.id}, {conflict.key}", **result})
        return self._done(request, f"Conflicts of {entity_set.name}", results)

    async def serve(self, request: web.Request) -> web.Response:
        entity_set = self._desk.entity_set(request.match_info["set"])
        await self._desk.serve_again(entity_set, operator(request))
        return self._done(request, f"{entity_set.name} is served again", [])

    async def revert(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, revision = str(form.get("name", "")), str(form.get("revision", ""))
        entity_set, key = self._named(name)
        written = await self._desk.revert(entity_set, key, int(revision), operator(request))
        return self._done(request, f"Back to revision {revision} of {name}", [views.written(written)])

    def _done(self, request: web.Request, what: str, results: list[dict[str, Any]]) -> web.Response:
        failed = any(result["error"] for result in results)
        return page(request, "done", status=409 if failed else 200, what=what, results=results)

    # What requests name

    async def _overview(self) -> list[dict[str, Any]]:
        sets, followed = self._desk.model.entity_sets, await self._casebook.followings()
        return [
            {
                **views.entity_set(shown, self._sets.policy(sets[shown.name])),
                "authority": self._sets.authorities.answers(shown.name).value,
                "followed": followed.get(shown.name),
            }
            for shown in await self._casebook.sets_overview()
            if shown.name in sets
        ]

    def _conflicts(self, found: Iterable[Conflict], request: web.Request) -> list[dict[str, Any]]:
        sets = self._desk.model.entity_sets
        return [views.conflict(each, sets.get(each.entity_set), _origin(request)) for each in found]

    async def _conflict(self, request: web.Request) -> Conflict:
        found = await self._casebook.conflict(int(request.match_info["id"]))
        if found is None:
            raise NotFound(f"There is no conflict {request.match_info['id']}.")
        return found

    def _named(self, name: str) -> tuple[EntitySet, EntityKey]:
        path = parse_resource_path(f"/{quote(name)}", self._desk.model)
        if path.entity_set is None or path.key is None or path.navigation or path.property_path:
            raise NotFound("Name one entity, as in AccountSet(guid'…').")
        return path.entity_set, path.key

    async def _revision(self, entity_set: EntitySet, key: EntityKey, identity: int) -> Revision:
        found = await self._history.revision(identity)
        if found is None or not self._desk.is_of(found, entity_set, key):
            raise NotFound(f"There is no revision {identity} of this entity.")
        return found

    def _seen(self, revision: Revision, request: web.Request) -> Revision:
        rights = self._sets.shown_to(request[CALLER], [revision.entity_set])
        return seen_by(rights, revision, self._desk.model)


async def _winner(request: web.Request) -> str:
    winner = (await request.post()).get("winner")
    if winner not in ("upstream", "mirror"):
        raise ValueError("Say which side wins, upstream or mirror.")
    return str(winner)


def _number(request: web.Request, name: str) -> int:
    """0 where the query does not give one. Raises ValueError."""
    text = request.query.get(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"{name} must be a number")
    return int(text)


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _value(value: Any) -> str:
    """A JSON value as people read it; still text, which the page escapes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
