"""What a person decides: to undo a change, which side of a conflict holds, that a set may be served again.

Whatever changes an entity is an ordinary write of a client (rules 5 and 6): read before, marked by an
intent, sent once, read back, recorded as a revision. Nothing here changes the mirror by itself, but for
taking in what upstream shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multidict import CIMultiDict

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.operation import MergeEntity
from proxy.odata.uri import entity_path, parse_key
from proxy.odata.verbose_json import members, restore_origins
from proxy.reconcile.exchange import Ask, Relayed
from proxy.reconcile.history import Casebook, Conflict, History, Question, Revision
from proxy.reconcile.observations import Observe, OperatorActed
from proxy.reconcile.policy import Mode
from proxy.reconcile.ports import Caller, Directives, Provenance, Reply, Request, Source
from proxy.reconcile.service import Service
from proxy.reconcile.writer import Writer

# Upstream makes these itself whatever a client sends (field manual, 6.4 and 6.7).
_SERVER_MADE = frozenset(
    {"CreatedBy", "CreatedOn", "ModifiedBy", "ModifiedOn", "OverwriteTime", "VersionNumber"}
)


class CannotAct(Exception):
    """The operator asked for something that cannot be done, or not now; the text says why."""


class NotFound(CannotAct):
    """What the operator named is not known."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who decides: for the record, not for rights. `id`: of the request."""

    name: str | None
    client: str | None
    id: str


@dataclass(frozen=True, slots=True)
class Written:
    """Upstream's answer to a write of ours. `changed`: the properties sent; none where nothing differed."""

    changed: tuple[str, ...]
    status: int | None = None
    error: str | None = None


class Desk:
    """Carries out what operators decide."""

    def __init__(
        self,
        service: Service,
        writer: Writer,
        history: History,
        casebook: Casebook,
        model: Callable[[], Model | None],
        observe: Observe,
    ) -> None:
        self._service = service
        self._writer = writer
        self._history = history
        self._casebook = casebook
        self._model = model
        self._observe = observe

    @property
    def model(self) -> Model:
        """Raises CannotAct while the metadata document is not known."""
        model = self._model()
        if model is None:
            raise CannotAct("The metadata document is not known yet.")
        return model

    def entity_set(self, name: str) -> EntitySet:
        """Raises NotFound for a name that the metadata document does not know."""
        found = self.model.entity_sets.get(name)
        if found is None:
            raise NotFound(f"There is no entity set '{name}'.")
        return found

    def is_of(self, revision: Revision, entity_set: EntitySet, key: EntityKey) -> bool:
        """True where it is a revision of that entity."""
        return (
            revision.entity_set == entity_set.name and parse_key(revision.key, entity_set.entity_type) == key
        )

    async def revert(self, entity_set: EntitySet, key: EntityKey, revision_id: int, who: Operator) -> Written:
        """MERGE the properties in which the state that holds differs from a revision.

        Raises CannotAct, StoreUnavailable, UpstreamFailure, and what a write raises.
        """
        revision = await self._history.revision(revision_id)
        if revision is None or not self.is_of(revision, entity_set, key):
            raise NotFound(f"There is no revision {revision_id} of this entity.")
        if revision.document is None or revision.unseen:
            raise CannotAct("That revision holds no whole state to go back to.")
        self._observe(OperatorActed("revert", entity_set.name, revision.key, who.name, who.client, who.id))
        return await self._make(entity_set, key, revision.document, who)

    async def resolve(self, conflict: Conflict, winner: str, who: Operator) -> Written:
        """End a conflict. `winner`: "upstream", whose state is taken in, or "mirror", whose is sent.

        Raises CannotAct, StoreUnavailable, UpstreamFailure, and what a write raises.
        """
        if conflict.settled_at is not None:
            raise CannotAct(f"Conflict {conflict.id} is settled already.")
        entity_set = self.entity_set(conflict.entity_set)
        key = parse_key(conflict.key, entity_set.entity_type)
        self._observe(
            OperatorActed(f"{winner} wins", entity_set.name, conflict.key, who.name, who.client, who.id)
        )
        if winner == "upstream":
            await self._take_in(entity_set, key, who)
            return Written(())
        held = (await self._service.store.get(entity_set, [key])).get(key)
        if held is None or held.document is None:
            raise CannotAct("The mirror holds no state of this entity any more.")
        written = await self._make(entity_set, key, held.document, who)
        if not written.changed:
            await self._take_in(entity_set, key, who)
        return written

    async def serve_again(self, entity_set: EntitySet, who: Operator) -> None:
        """Let a set that was taken off the mirror be served from it. Raises CannotAct, StoreUnavailable.

        Refused while conflicts are open, since the next one found would take it off again.
        """
        count = await self._service.store.conflict_count(entity_set)
        if count:
            raise CannotAct(f"{count} conflicts of {entity_set.name} are open: resolve them first.")
        await self._service.sets.learn(entity_set, forward_reason=None, lies=0)
        self._observe(OperatorActed("serve again", entity_set.name, "", who.name, who.client, who.id))

    async def answer(self, identity: int, accepted: bool, who: Operator) -> Question:
        """Say what holds of what a sweep found: true, that each missing entity be asked for by its URL and
        believed; false, that the sweep was wrong and is to be done again.

        Raises NotFound, StoreUnavailable.
        """
        question = await self._casebook.answer(identity, accepted=accepted)
        if question is None:
            raise NotFound(f"No sweep waits for an answer to {identity}.")
        action = "believe sweep" if accepted else "sweep again"
        self._observe(OperatorActed(action, question.entity_set, "", who.name, who.client, who.id))
        return question

    # How

    async def _take_in(self, entity_set: EntitySet, key: EntityKey, who: Operator) -> None:
        """Store what upstream shows, whatever the mirror held."""
        look = await self._service.look(entity_set, key, self.model)
        provenance = Provenance(Source.SETTLEMENT, who.id, who.name, who.client)
        if look.fetched is not None:
            await self._service.store.put(entity_set, [look.fetched], provenance)
        elif self._service.is_gone(look):
            await self._service.store.bury(entity_set, key, look.number, provenance)
        else:
            raise CannotAct(f"Upstream answered {look.reply.status} and does not show the entity.")

    async def _make(self, entity_set: EntitySet, key: EntityKey, document: str, who: Operator) -> Written:
        """Send what it takes to make the entity what `document` says, to whoever is its authority."""
        current = await self._current(entity_set, key)
        wanted, shown = _texts(document, entity_set), _texts(current, entity_set)
        rules = self._service.rules
        leave_out = {
            *_SERVER_MADE,
            *self._service.sets.secured(entity_set),
            *entity_set.entity_type.key,
            rules.modified_property,
            rules.version_property,
        }
        changes = {
            name: text
            for name, text in wanted.items()
            if name not in leave_out and name in shown and not _says_the_same(text, shown[name])
        }
        if not changes:
            return Written(())
        body = "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in changes.items()) + "}"
        answer = await self._writer.write(
            MergeEntity(entity_set, key), self._ask(entity_set, key, body, who), self.model
        )
        assert isinstance(answer, Relayed), "a write is answered as upstream does"
        return Written(tuple(changes), answer.reply.status, refusal_of(answer.reply))

    async def _current(self, entity_set: EntitySet, key: EntityKey) -> str:
        """The entity's document as its authority has it. Raises CannotAct where it has none."""
        if self._service.sets.policy(entity_set).mode is Mode.MIRROR:
            held = (await self._service.store.get(entity_set, [key])).get(key)
            if held is None or held.document is None:
                raise CannotAct("The mirror, which decides here, has no such entity.")
            return held.document
        look = await self._service.look(entity_set, key, self.model)
        if look.fetched is None or look.fetched.document is None:
            raise CannotAct(f"Upstream answered {look.reply.status} and does not show the entity.")
        return look.fetched.document

    def _ask(self, entity_set: EntitySet, key: EntityKey, body: str, who: Operator) -> Ask:
        headers = CIMultiDict(
            {**self._service.headers, "Accept": "application/json", "Content-Type": "application/json"}
        )
        target = f"{self._service.root_path}/{entity_path(entity_set, key)}"
        request = Request("MERGE", target, headers, restore_origins(body, "http://localhost").encode())
        return Ask(request, "", "json", Caller(None, who.name, who.client), Directives(), who.id)


def _texts(document: str, entity_set: EntitySet) -> Mapping[str, str]:
    """The JSON texts of an entity's properties, by name."""
    declared = entity_set.entity_type.properties
    return {
        member.name: document[member.value_start : member.end]
        for member in members(document)
        if member.name in declared
    }


def _says_the_same(text: str, other: str) -> bool:
    """True for equal values, and for lookups that differ only in the name shown, which nobody can set."""
    if text == other:
        return True
    one, two = json.loads(text), json.loads(other)
    if not isinstance(one, dict) or not isinstance(two, dict) or "LogicalName" not in one:
        return bool(one == two)
    return all(one.get(name) == two.get(name) for name in ("Id", "LogicalName"))


def differences(
    before: str | None, after: str | None, entity_set: EntitySet
) -> dict[str, tuple[object, object]]:
    """The properties in which two documents differ, each with its JSON value on both sides; None: absent.

    Raises ODataError where one of them is no JSON object.
    """
    one, other = (_texts(text, entity_set) if text else {} for text in (before, after))
    return {
        name: tuple(json.loads(texts[name]) if name in texts else None for texts in (one, other))  # type: ignore[misc]
        for name in dict.fromkeys((*one, *other))
        if one.get(name) != other.get(name)
    }


def refusal_of(reply: Reply) -> str | None:
    """Upstream's own words where it refused."""
    if 200 <= reply.status < 300:
        return None
    try:
        message = json.loads(reply.body)["error"]["message"]
        return str(message["value"] if isinstance(message, dict) else message)
    except (ValueError, KeyError, TypeError):
        return f"{reply.status} {reply.reason}"
