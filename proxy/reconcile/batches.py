"""Pure rules of batches: what each request in one means, and what a reply says of each (rules 4 to 6)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata.batch import ChangeSet, RequestPart, ResponsePart, read_requests, read_responses
from proxy.odata.edm import EntityKey, EntitySet, EntityType, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import CreateEntity, DeleteEntity, Operation, Write, parse_operation
from proxy.odata.uri import entity_path, split_target
from proxy.reconcile.outcomes import outcome_of, read_posted, sets_written
from proxy.reconcile.ports import Outcome, Reply, Touched

METHOD = "Batch"  # of an intent, whose body is the batch itself
_NOT_MADE_YET = uuid.UUID(int=0)
NOTHING_MADE: Mapping[str, str] = MappingProxyType({})

Parts = Sequence[RequestPart | ChangeSet[RequestPart]]


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a batch. `target`: the raw path and query that it would have had alone.

    `refers`: it is addressed as what an earlier request makes (`$<Content-ID>`), so that the first key in
    `operation` is none.
    """

    operation: Operation
    target: str
    part: RequestPart
    refers: bool = False

    @property
    def written(self) -> Touched | None:
        """The entity that this request writes, where it names one."""
        operation = self.operation
        if self.refers or isinstance(operation, CreateEntity) or not isinstance(operation, Write):
            return None
        return Touched(operation.entity_set, operation.key)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was read: `steps` are the requests in `parts`, in their order."""

    parts: Parts
    steps: Sequence[Step]

    @property
    def writes(self) -> list[tuple[Write, Step]]:
        return [(step.operation, step) for step in self.steps if isinstance(step.operation, Write)]

    def sets_written(self, model: Model) -> frozenset[str]:
        """Names of the entity sets that it writes to."""
        return frozenset().union(
            *(
                sets_written(operation, step.part.body, step.part.headers.get("Content-Type", ""), model)
                for operation, step in self.writes
            )
        )


def read_batch(body: bytes, content_type: str | None, root: str, model: Model) -> Batch:
    """Read a request's body. `root`: the path of the service root, as the batch's own URL spells it.

    Raises ODataError for what is no batch; a request in it that is not understood is Forwarded.
    """
    parts = read_requests(body, content_type)
    steps: list[Step] = []
    for part in parts:
        made: dict[str, str] = {}
        for request in part.parts if isinstance(part, ChangeSet) else (part,):
            steps.append(_step(request, root, model, made))
    return Batch(parts, steps)


def _step(part: RequestPart, root: str, model: Model, made: dict[str, str]) -> Step:
    """`made`: paths below the root by Content-ID, as far as the changeset has come."""
    target, refers = rooted(part.target, root, made)
    operation = parse_operation(part.method, target, part.headers, root, model)
    if part.content_id is not None:
        if not isinstance(operation, CreateEntity):
            made[part.content_id] = split_target(target)[0][len(root) :]
        elif (key := _no_key(operation.entity_set.entity_type)) is not None:
            made[part.content_id] = f"/{entity_path(operation.entity_set, key)}"
    return Step(operation, target, part, refers)


def _no_key(entity_type: EntityType) -> EntityKey | None:
    """What stands for a key that upstream makes; None where that is no single guid."""
    types = [entity_type.properties[name].type for name in entity_type.key]
    return ((entity_type.key[0], _NOT_MADE_YET),) if types == ["Edm.Guid"] else None


def rooted(target: str, root: str, made: Mapping[str, str] = NOTHING_MADE) -> tuple[str, bool]:
    """The raw target from an absolute, a rooted or a relative URL, and whether it refers to what is made."""
    if "://" in split_target(target)[0]:
        target = "/" + target.partition("://")[2].partition("/")[2]
        below = target[len(root) + 1 :] if target[: len(root) + 1].lower() == f"{root}/".lower() else ""
    elif target.startswith("/"):
        below = ""
    else:
        below = target
        target = f"{root}/{target}"
    first, slash, rest = below.partition("/")
    if not first.startswith("$") or first[1:] not in made:
        return target, False
    path = made[first[1:]]
    return f"{root}{path}{slash}{rest}", str(_NOT_MADE_YET) in path


@dataclass(frozen=True, slots=True)
class Intended:
    """What the writes of one intent ask of one entity; `key` is None for one to be made.

    `posted`: by property, later writes over earlier; None where that cannot be told.
    """

    entity_set: EntitySet
    key: EntityKey | None
    deletes: bool
    posted: Mapping[str, Any] | None


def intended_by(writes: Iterable[tuple[Write, Step]], model: Model) -> list[Intended]:
    """What each entity that the writes name, or make, should come to."""
    made: list[Intended] = []
    named: dict[tuple[str, EntityKey], Intended] = {}
    for operation, step in writes:
        content_type = step.part.headers.get("Content-Type", "")
        posted = read_posted(operation, step.part.body, content_type, model)
        target = step.written
        if isinstance(operation, CreateEntity):
            made.append(Intended(operation.entity_set, None, False, posted))
        elif target is not None:
            at = (target.entity_set.name, target.key)
            earlier = named.get(at)
            if earlier is not None and not earlier.deletes:
                posted = None if posted is None or earlier.posted is None else {**earlier.posted, **posted}
            deletes = isinstance(operation, DeleteEntity)
            named[at] = Intended(target.entity_set, target.key, deletes, posted)
    return [*named.values(), *made]


def replies_to(batch: Batch, reply: Reply) -> list[Reply | None]:
    """What upstream says of each request, in the form of an answer to it alone.

    None where it says nothing certain: the reply is broken, is not a batch's, or lacks this part; or a
    changeset shows errors beside successes, which may have been undone.
    """
    if outcome_of(reply) is Outcome.REFUSED and reply.status != 500:
        return [reply] * len(batch.steps)
    try:
        if reply.status >= 300:
            raise ODataError("Upstream failed somewhere in the batch.")
        said: list[ResponsePart | ChangeSet[ResponsePart]] = read_responses(
            reply.body, reply.headers.get("Content-Type")
        )
    except ODataError:
        return [None] * len(batch.steps)
    if len(said) > len(batch.parts):
        return [None] * len(batch.steps)
    found: list[ResponsePart | None] = []
    for index, part in enumerate(batch.parts):
        wanted = part.parts if isinstance(part, ChangeSet) else (part,)
        found += _paired(wanted, said[index]) if index < len(said) else [None] * len(wanted)
    return [None if part is None else _alone(part, reply) for part in found]


def _paired(
    wanted: Sequence[RequestPart], said: ResponsePart | ChangeSet[ResponsePart]
) -> list[ResponsePart | None]:
    """The responses to the requests of a changeset, or to one that stands alone.

    A failed changeset is answered by its one error, by the standard in place of the changeset's response,
    by some servers within it. Responses may come in another order, then with their Content-IDs.
    """
    given = said.parts if isinstance(said, ChangeSet) else (said,)
    if len(given) == 1 and given[0].status >= 400:
        return [given[0]] * len(wanted)
    if len(given) != len(wanted):
        return [None] * len(wanted)
    by_id = {part.content_id: part for part in given}
    if len(by_id) == len(given) and {part.content_id for part in wanted} == by_id.keys():
        given = tuple(by_id[part.content_id] for part in wanted)
    if any(part.status >= 400 for part in given):
        return [part if part.status >= 400 else None for part in given]
    return list(given)


def _alone(part: ResponsePart, reply: Reply) -> Reply:
    return Reply(
        part.status,
        part.reason,
        CIMultiDictProxy(CIMultiDict(part.headers)),
        part.body,
        reply.sent_at,
        reply.received_at,
        reply.upstream_sent_at,
    )
