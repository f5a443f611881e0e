"""Upstream's endpoint for the sets that were cut over: who answers a request, and the answer.

A request is the mirror's where all the entity sets that it names are, and upstream's where none is. One that
names both is nobody's: each side knows only half of what it asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from proxy.odata import dialect
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError, UnsupportedConstruct
from proxy.odata.headers import effective_method
from proxy.odata.operation import Write, parse_operation
from proxy.odata.query_options import parse_query
from proxy.odata.uri import ResourcePath, decode_path, parse_resource_path, split_target
from proxy.reconcile.authority import Authorities, Authority, Epochs
from proxy.reconcile.batches import read_batch
from proxy.reconcile.errors import CommitUnknown, NotInMirror, OnlyUpstream, SyncError, WritesRefused
from proxy.reconcile.exchange import Ask, Relayed
from proxy.reconcile.local import LocalAnswer, LocalAsk, refusal
from proxy.reconcile.local_batch import LocalBatches
from proxy.reconcile.local_reader import LocalReader
from proxy.reconcile.local_store import CommitUncertain
from proxy.reconcile.local_writer import LocalWriter
from proxy.reconcile.observations import Observe, StoreFailed
from proxy.reconcile.outcomes import sets_written
from proxy.reconcile.ports import StoreUnavailable


class LocalService:
    """`server_headers`: what upstream's web server said in every answer. `now`: aware UTC."""

    def __init__(
        self,
        reader: LocalReader,
        writer: LocalWriter,
        batches: LocalBatches,
        authorities: Authorities,
        observe: Observe,
        now: Callable[[], datetime],
        *,
        root_path: str,
        server_headers: Mapping[str, str],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._batches = batches
        self._authorities = authorities
        self._observe = observe
        self._now = now
        self._root_path = root_path
        self._server_headers = server_headers

    async def takes(self, method: str, target: str, headers: Mapping[str, str], model: Model) -> bool:
        """Whether the mirror answers a request, which is at or below the service root then.

        Raises OnlyUpstream for one that names a set of the mirror's and is not answered here.
        """
        if not self._authorities.holdings():
            return False
        path, query = split_target(target)
        if not f"{path}/".lower().startswith(f"{self._root_path}/".lower()):
            return False
        named = sorted(_named(path[len(self._root_path) :], query, model))
        await self._authorities.follow(named)
        if not named:
            return self._takes_nameless(method, path[len(self._root_path) :], model)
        if not self.is_mirrors(named):
            return False
        if effective_method(method, headers) not in (*dialect.METHODS, "PATCH"):
            raise OnlyUpstream(f"{method} was only passed through, and {named[0]} is upstream's no more.")
        return True

    def is_mirrors(self, named: Iterable[str]) -> bool:
        """Whether the mirror is the authority of all these sets. Raises OnlyUpstream where it is of some."""
        answers = {name: self._authorities.answers(name) for name in named}
        ours = [name for name, authority in answers.items() if authority is Authority.MIRROR]
        if ours and len(ours) < len(answers):
            theirs = next(name for name in answers if name not in ours)
            raise OnlyUpstream(
                f"The request names {ours[0]}, which is the mirror's, and {theirs}, which is upstream's:"
                " ask for each by itself."
            )
        return bool(ours)

    def _takes_nameless(self, method: str, path: str, model: Model) -> bool:
        """The documents about the service are the mirror's as soon as any set is; what names no set that is
        known, when all are: upstream may have published it just now. Raises OnlyUpstream."""
        answers = [self._authorities.answers(name) for name in model.entity_sets]
        is_all_ours = bool(answers) and all(authority is Authority.MIRROR for authority in answers)
        try:
            special = parse_resource_path(path, model).special
        except ODataError:
            return is_all_ours
        if special == "function":
            first = next(segment for segment in path.split("/") if segment)
            name = decode_path(first).partition("(")[0]
            returned = model.function_imports[name]
            if returned and self.is_mirrors([returned]):
                raise OnlyUpstream(f"The function {name} is upstream's, and {returned} is not any more.")
            return False
        if special == "batch":
            return method != "POST" and is_all_ours  # of a real one, the parts say whose it is
        return Authority.MIRROR in answers

    async def answer(self, ask: Ask, model: Model) -> Relayed | None:
        """Answer a request that `takes` has taken; None where its sets are upstream's again meanwhile.

        Raises OnlyUpstream for what the mirror cannot know or do, NotInMirror and WritesRefused without a
        database, AuthorityMoving.
        """
        local = LocalAsk.of(ask, self._root_path)
        if local.method == "GET":
            return await self._answered(local, self._reader.read(local, model))
        return await self._written(
            ask, sorted(self._written_to(local, model)), lambda epochs: self.write(ask, model, epochs)
        )

    async def batch(self, ask: Ask, model: Model) -> Relayed | None:
        """Answer a batch whose requests name sets of the mirror's; None for one that names none.

        Raises OnlyUpstream for one that names both, and what `answer` does.
        """
        if not self._authorities.holdings():
            return None
        local = LocalAsk.of(ask, self._root_path)
        named = sorted(self._named_in_batch(local, model))
        await self._authorities.follow(named)
        if not (self.is_mirrors(named) if named else self._takes_nameless("GET", "/$batch", model)):
            return None
        return await self._written(ask, named, lambda epochs: self.write_batch(ask, model, epochs))

    async def write(self, ask: Ask, model: Model, epochs: Epochs) -> Relayed:
        """Carry out a write under these epochs. Raises AuthorityMoved, and what `answer` does."""
        local = LocalAsk.of(ask, self._root_path)
        return await self._answered(local, self._writer.write(local, model, epochs))

    async def write_batch(self, ask: Ask, model: Model, epochs: Epochs) -> Relayed:
        """Carry out a batch under these epochs. Raises as `write`."""
        local = LocalAsk.of(ask, self._root_path)
        return await self._answered(local, self._batches.answer(local, model, epochs))

    async def _written(
        self, ask: Ask, named: Sequence[str], write: Callable[[Epochs], Awaitable[Relayed | None]]
    ) -> Relayed | None:
        async def upstreams(_: Epochs) -> None:
            return None

        try:
            return await self._authorities.on_its_side(named, upstreams, write) if named else await write({})
        except StoreUnavailable as error:
            raise self._failed(error) from error

    def _failed(self, error: StoreUnavailable) -> SyncError:
        """What to raise where a write has failed."""
        self._observe(StoreFailed("write", str(error)))
        if isinstance(error, CommitUncertain):
            return CommitUnknown()
        return WritesRefused("The mirror's database is not available; nothing was written.")

    async def _answered(self, ask: LocalAsk, answering: Awaitable[LocalAnswer]) -> Relayed:
        try:
            answered = await answering
        except UnsupportedConstruct as error:
            raise OnlyUpstream(error.message) from error
        except ODataError as error:
            answered = refusal(error, ask.accept)
        except StoreUnavailable as error:
            if ask.method != "GET":
                raise self._failed(error) from error
            self._observe(StoreFailed("read", str(error)))
            raise NotInMirror("The mirror's database is not available.") from error
        return answered.relayed(self._server_headers, self._now())

    def _written_to(self, ask: LocalAsk, model: Model) -> set[str]:
        """Names of the sets that a write writes to. Raises OnlyUpstream where some are upstream's."""
        named = _named(ask.path, None, model)
        operation = parse_operation(ask.method, ask.target, ask.headers, self._root_path, model)
        if isinstance(operation, Write):
            content_type = ask.headers.get("Content-Type", "")
            named |= sets_written(operation, ask.body, content_type, model)
        self.is_mirrors(sorted(named))
        return named

    def _named_in_batch(self, ask: LocalAsk, model: Model) -> set[str]:
        try:
            batch = read_batch(ask.body, ask.headers.get("Content-Type"), ask.root_path, model)
        except ODataError:
            return set()
        named = set(batch.sets_written(model))
        for step in batch.steps:
            path, query = split_target(step.target)
            named |= _named(path[len(ask.root_path) :], query, model)
        return named


def _named(path: str, query: str | None, model: Model) -> set[str]:
    """Names of the known entity sets in a path below the service root and in what it expands."""
    try:
        resource = parse_resource_path(path, model)
    except ODataError:
        first = next((segment for segment in path.split("/") if segment), "")
        name = first.partition("(")[0].partition("%28")[0]
        return {name} & model.entity_sets.keys()
    if resource.entity_set is None:
        return set()
    return {each.name for each in _sets_in(resource, query, model)}


def _sets_in(resource: ResourcePath, query: str | None, model: Model) -> Iterator[EntitySet]:
    at = resource.entity_set
    assert at is not None  # whoever calls looked
    yield at
    for step in resource.navigation:
        if step.target is not None:
            yield (at := step.target)
    try:
        expand = parse_query(query).get("$expand") or ""
    except ODataError:
        return
    for path in expand.split(","):
        target: EntitySet | None = at
        for name in path.strip().split("/"):
            target = model.navigation_target(target, name) if target else None
            if target is not None:
                yield target
