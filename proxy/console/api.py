"""The admin API: `/api/` on the services listener, JSON in and out. `docs/operations.md` lists it."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.authentication import CALLER
from proxy.console import views
from proxy.console.guard import only_ours, operator, problems
from proxy.odata.edm import EntityKey, EntitySet
from proxy.odata.uri import parse_resource_path
from proxy.reconcile.history import Casebook, Conflict, History, Revision
from proxy.reconcile.operator import CannotAct, Desk, NotFound
from proxy.reconcile.restricted import seen_by
from proxy.reconcile.sets import Sets

_MOST = 500
_BODY_LIMIT_BYTES = 64 * 1024


class Api:
    """Handlers over the drivers."""

    def __init__(self, desk: Desk, history: History, casebook: Casebook, sets: Sets) -> None:
        self._desk = desk
        self._history = history
        self._casebook = casebook
        self._sets = sets

    def app(self) -> web.Application:
        """The application to mount at `/api/`."""
        order = [problems, only_ours, self._operators]
        app = web.Application(middlewares=order, client_max_size=_BODY_LIMIT_BYTES)
        app.router.add_get("/entities/{entity}/revisions", self.revisions)
        app.router.add_get("/entities/{entity}/revisions/{id:\\d+}", self.revision)
        app.router.add_get("/entities/{entity}/diff", self.diff)
        app.router.add_post("/entities/{entity}/revert", self.revert)
        app.router.add_get("/intents", self.intents)
        app.router.add_get("/conflicts", self.conflicts)
        app.router.add_get("/conflicts/{id:\\d+}", self.conflict)
        app.router.add_post("/conflicts/{id:\\d+}/resolve", self.resolve)
        app.router.add_get("/authorities", self.authorities)
        app.router.add_get("/effects", self.effects)
        app.router.add_get("/shadow", self.shadow)
        app.router.add_get("/sweeps", self.sweeps)
        app.router.add_post("/sweeps/{id:\\d+}/answer", self.answer)
        app.router.add_get("/sets", self.sets)
        app.router.add_get("/sets/{set}", self.entity_set)
        app.router.add_post("/sets/{set}/conflicts/resolve", self.resolve_all)
        app.router.add_post("/sets/{set}/serve", self.serve)
        return app

    @web.middleware
    async def _operators(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Everything here is the operators', but the history, which belongs to who may read the entity."""
        if request.match_info.handler not in (self.revisions, self.revision, self.diff):
            request[CALLER].require_admin()
        return await handler(request)

    # History

    async def revisions(self, request: web.Request) -> web.Response:
        """`?before=ID&limit=N`: newest first, without documents."""
        entity_set, key = self._readable(request)
        before, limit = request.query.get("before"), _limit(request)
        found = await self._history.revisions(
            entity_set, key, before=None if before is None else int(before), limit=limit
        )
        following = found[-1].id if len(found) == limit else None
        shown = [views.revision(self._seen(each, request)) for each in found]
        return _json({"revisions": shown, "next_before": following})

    async def revision(self, request: web.Request) -> web.Response:
        _, found = await self._revision(request, request.match_info["id"])
        return _json(views.revision(found) | {"document": views.document(found.document, _origin(request))})

    async def diff(self, request: web.Request) -> web.Response:
        """`?from=ID&to=ID`."""
        entity_set, one = await self._revision(request, request.query.get("from", ""))
        _, other = await self._revision(request, request.query.get("to", ""))
        if one.unseen or other.unseen:
            raise CannotAct("Of a state that was never seen only the request is known.")
        return _json(
            {
                "from": views.revision(one),
                "to": views.revision(other),
                "differences": views.changes(one.document, other.document, entity_set),
            }
        )

    async def revert(self, request: web.Request) -> web.Response:
        """`{"revision": ID}`."""
        entity_set, key = self._entity(request)
        wanted = (await _body(request)).get("revision")
        if type(wanted) is not int:
            raise ValueError('Name the revision to go back to: {"revision": 7}.')
        return _written(await self._desk.revert(entity_set, key, wanted, operator(request)))

    # Writes without an end, and conflicts

    async def intents(self, request: web.Request) -> web.Response:
        found = await self._casebook.intent_lines(limit=_limit(request))
        return _json({"intents": [views.intent(shown) for shown in found]})

    async def conflicts(self, request: web.Request) -> web.Response:
        """`?set=NAME&after=ID&limit=N`: open ones, oldest first."""
        found = await self._casebook.conflicts(
            request.query.get("set"), after=int(request.query.get("after", 0)), limit=_limit(request)
        )
        return _json({"conflicts": [self._shown(conflict, request) for conflict in found]})

    async def conflict(self, request: web.Request) -> web.Response:
        return _json(self._shown(await self._conflict(request), request))

    async def resolve(self, request: web.Request) -> web.Response:
        """`{"winner": "upstream"|"mirror"}`."""
        winner = await _winner(request)
        conflict = await self._conflict(request)
        return _written(await self._desk.resolve(conflict, winner, operator(request)))

    async def resolve_all(self, request: web.Request) -> web.Response:
        """`{"winner": …}`: each open conflict of the set, one after another."""
        entity_set, winner, who = self._set(request), await _winner(request), operator(request)
        results: list[dict[str, Any]] = []
        for conflict in await self._casebook.conflicts(entity_set.name, limit=_MOST):
            try:
                result = views.written(await self._desk.resolve(conflict, winner, who))
            except CannotAct as error:
                result = {"error": str(error)}
            results.append({"conflict": conflict.id, "key": conflict.key, **result})
        return _json({"resolved": results})

    # Sets

    async def authorities(self, request: web.Request) -> web.Response:
        """Of every set that was ever moved."""
        await self._sets.authorities.read()
        return _json({"authorities": [views.holding(shown) for shown in self._sets.authorities.holdings()]})

    async def effects(self, request: web.Request) -> web.Response:
        """What changed within seconds of writes to other sets, each as the declaration that would say so."""
        found = await self._casebook.learned_effects()
        return _json({"effects": [views.learned_effect(shown) for shown in found]})

    async def shadow(self, request: web.Request) -> web.Response:
        """What shadow mode found, by entity set and query shape."""
        sets, origin = self._desk.model.entity_sets, _origin(request)
        found = await self._casebook.shadow_counts()
        return _json({"shapes": [views.shadow(shown, sets.get(shown.entity_set), origin) for shown in found]})

    async def sweeps(self, request: web.Request) -> web.Response:
        """What sweeps found and do not believe before an operator has."""
        return _json({"questions": [views.question(shown) for shown in await self._casebook.questions()]})

    async def answer(self, request: web.Request) -> web.Response:
        """`{"accepted": true|false}`."""
        accepted = (await _body(request)).get("accepted")
        if type(accepted) is not bool:
            raise ValueError(
                'Say whether the sweep is to be believed: {"accepted": true}, or done again: false.'
            )
        identity = int(request.match_info["id"])
        return _json(views.question(await self._desk.answer(identity, accepted, operator(request))))

    async def sets(self, request: web.Request) -> web.Response:
        return _json({"sets": await self._overview()})

    async def entity_set(self, request: web.Request) -> web.Response:
        name = self._set(request).name
        for shown in await self._overview():
            if shown["name"] == name:
                return _json(shown)
        raise NotFound(f"Nothing is known of {name} yet.")

    async def serve(self, request: web.Request) -> web.Response:
        await self._desk.serve_again(self._set(request), operator(request))
        return _json({})

    async def _overview(self) -> list[dict[str, Any]]:
        sets = self._desk.model.entity_sets
        return [
            views.entity_set(shown, self._sets.policy(sets[shown.name]))
            for shown in await self._casebook.sets_overview()
            if shown.name in sets
        ]

    # What requests name

    def _entity(self, request: web.Request) -> tuple[EntitySet, EntityKey]:
        """The entity in the raw path: a key may hold an encoded slash. Raises NotFound, ODataError."""
        path = parse_resource_path(f"/{request.rel_url.raw_parts[3]}", self._desk.model)
        if path.entity_set is None or path.key is None:
            raise NotFound("Name one entity, as in AccountSet(guid'…').")
        return path.entity_set, path.key

    def _readable(self, request: web.Request) -> tuple[EntitySet, EntityKey]:
        """Raises RightMissing too."""
        entity_set, key = self._entity(request)
        request[CALLER].require_read(entity_set.name)
        return entity_set, key

    def _set(self, request: web.Request) -> EntitySet:
        return self._desk.entity_set(request.match_info["set"])

    async def _revision(self, request: web.Request, identity: str) -> tuple[EntitySet, Revision]:
        entity_set, key = self._readable(request)
        found = await self._history.revision(int(identity))
        if found is None or not self._desk.is_of(found, entity_set, key):
            raise NotFound(f"There is no revision {identity} of this entity.")
        return entity_set, self._seen(found, request)

    def _seen(self, revision: Revision, request: web.Request) -> Revision:
        rights = self._sets.shown_to(request[CALLER], [revision.entity_set])
        return seen_by(rights, revision, self._desk.model)

    async def _conflict(self, request: web.Request) -> Conflict:
        identity = int(request.match_info["id"])
        found = await self._casebook.conflict(identity)
        if found is None:
            raise NotFound(f"There is no conflict {identity}.")
        return found

    def _shown(self, conflict: Conflict, request: web.Request) -> dict[str, Any]:
        entity_set = self._desk.model.entity_sets.get(conflict.entity_set)
        return views.conflict(conflict, entity_set, _origin(request))


async def _winner(request: web.Request) -> str:
    winner = (await _body(request)).get("winner")
    if winner not in ("upstream", "mirror"):
        raise ValueError('Say which side wins: {"winner": "upstream"} or {"winner": "mirror"}.')
    return str(winner)


async def _body(request: web.Request) -> dict[str, Any]:
    given = json.loads(await request.text() or "{}")
    if isinstance(given, dict):
        return given
    raise ValueError("The body must be a JSON object.")


def _limit(request: web.Request) -> int:
    limit = int(request.query.get("limit", 50))
    if not 0 < limit <= _MOST:
        raise ValueError(f"limit must be between 1 and {_MOST}")
    return limit


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _written(written: Any) -> web.Response:
    """A write that upstream refused is our caller's failure too."""
    return _json(views.written(written), status=200 if written.error is None else 409)


def _json(content: Any, status: int = 200) -> web.Response:
    return web.json_response(content, status=status, headers={"Cache-Control": "no-store"})
