"""Three histories of the same writes, compared: what clients were told, upstream did, and the mirror says.

No acknowledged write may be lost, no refused one appear, and what nobody answered must end as it really went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storing import query
from world import World

MARK = "X-Attempt"


@dataclass(frozen=True)
class Attempt:
    """One write of a client. `status`: what it was answered, None where no answer came.

    `key`: of the entity written, None for a create; `text`: the value that tells it from all others.
    """

    number: int
    method: str
    key: str | None
    text: str
    status: int | None

    @property
    def request_id(self) -> str:
        return f"attempt-{self.number}"


@dataclass(frozen=True)
class Upstream:
    """What upstream did about an attempt."""

    times: int
    applied: bool


def upstream_history(place: World) -> dict[int, Upstream]:
    """By the number of the attempt; the journal must not have been cleared since."""
    found: dict[int, Upstream] = {}
    for entry in place.sandbox.journal:
        number = entry.headers.get(MARK)
        if number is None or entry.method == "GET":
            continue
        before = found.get(int(number), Upstream(0, False))
        found[int(number)] = Upstream(before.times + 1, before.applied or entry.applied)
    return found


def mirror_history(url: str) -> dict[str, tuple[str | None, list[tuple[Any, ...]]]]:
    """The outcome and the revisions (source, document, deleted) of each request that left an intent."""
    outcomes = dict(query(url, "SELECT request_id, outcome FROM syncpoint.intents"))
    revisions: dict[str, list[tuple[Any, ...]]] = {}
    for request, *rest in query(
        url, "SELECT request_id, source, document, deleted FROM syncpoint.revisions ORDER BY id"
    ):
        revisions.setdefault(request, []).append(tuple(rest))
    return {request: (outcome, revisions.get(request, [])) for request, outcome in outcomes.items()}


async def disagreements(attempts: Sequence[Attempt], place: World, url: str) -> list[str]:
    """Sentences about everything that does not fit; empty where the three histories agree."""
    upstream, mirror = upstream_history(place), mirror_history(url)
    found = []
    for attempt in attempts:
        done = upstream.get(attempt.number, Upstream(0, False))
        outcome, revisions = mirror.get(attempt.request_id, ("never sent", []))
        found += [f"{attempt}: {problem}" for problem in _problems(attempt, done, outcome, revisions)]
        if attempt.key is not None:
            found += await _differences(attempt, place)
    return found


def _problems(
    attempt: Attempt, done: Upstream, outcome: str | None, revisions: list[tuple[Any, ...]]
) -> list[str]:
    found = []
    if done.times > 1:
        found.append(f"sent {done.times} times")
    if done.times and outcome == "never sent":
        found.append("sent without an intent")
    if attempt.status is not None and attempt.status < 300 and not done.applied:
        found.append("acknowledged, but upstream did nothing")
    if done.times and outcome != ("applied" if done.applied else "refused"):
        found.append(f"upstream applied: {done.applied}, the mirror says {outcome}")
    if not done.times and outcome not in ("never sent", "refused"):
        found.append(f"never reached upstream, the mirror says {outcome}")
    written = [
        (document, deleted)
        for source, document, deleted in revisions
        if source == "client write" and (deleted or attempt.text in (document or ""))
    ]
    if done.applied and not written:
        found.append("applied, but not in the mirror's history")
    if not done.applied and written:
        found.append("not applied, but in the mirror's history")
    return found


async def _differences(attempt: Attempt, place: World) -> list[str]:
    """Where the mirror's own answer is not upstream's, the names of other entities left out (rule 10)."""
    path = f"/AccountSet(guid'{attempt.key}')"
    direct = await place.ask(path, direct=True)
    held = await place.ask(path, Cache_Control="only-if-cached")
    if direct.status == 404:
        return [] if held.status == 504 else [f"{attempt}: the mirror shows what upstream deleted"]
    if held.status != 200:
        return [f"{attempt}: the mirror answers {held.status} and not as upstream, {direct.status}"]
    ours, theirs = held.json()["d"], direct.json()["d"]
    if (ours["Name"], ours["ModifiedOn"]) != (theirs["Name"], theirs["ModifiedOn"]):
        return [f"{attempt}: the mirror shows {ours['Name']}, upstream {theirs['Name']}"]
    return []
