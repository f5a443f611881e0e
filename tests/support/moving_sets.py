"""Cutovers driven by tests, against a sandbox and a real Postgres."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lifecycle import a_set, model_of
from storing import query
from world import World

from proxy.reconcile import cutover as moving
from proxy.reconcile.cutover import Cutover, Plan
from proxy.reconcile.policy import PollRules
from proxy.reconcile.poller import Poller
from proxy.reconcile.readiness import Rules
from proxy.reconcile.verifier import Verifier

UNIT = ("AccountSet", "ContactSet", "CustomerAddressSet", "TaskSet")


def trust_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known for longer than a moment, so nobody has to wait until it is forgotten."""
    monkeypatch.setattr("proxy.reconcile.authority.TRUST_S", 0.01)
    monkeypatch.setattr(moving, "TRUST_S", 0.01)


def a_cutover(place: World, report: Callable[[str], None] = lambda _: None) -> Cutover:
    service = place.proxy.service
    poller = Poller(service, PollRules(30.0, 300.0, 86400.0))
    return Cutover(service, place.proxy.store, poller, model_of(place), report)


def a_plan(*names: str, left: tuple[str, ...] = (), wait_s: float = 30.0) -> Plan:
    return Plan(names or UNIT, frozenset(left), "", wait_s, Rules(), "a test")


def path_of(place: World, number: int = 0) -> str:
    return f"/AccountSet(guid'{place.a_key('AccountSet', number)}')"


def authorities(url: str) -> dict[str, str]:
    return dict(query(url, "SELECT entity_set, authority FROM syncpoint.authorities"))  # type: ignore[arg-type]


async def verify(place: World, *names: str) -> None:
    for name in names or UNIT:
        verifier = Verifier(place.proxy.service, place.proxy.store)
        await verifier.verify(a_set(place, name), model_of(place), repair=True)


def environment(place: World, database_url: str) -> dict[str, str]:
    return {
        "SYNCPOINT_DATABASE_URL": database_url,
        "SYNCPOINT_UPSTREAM__SERVICE_ROOT": place.direct_root,
        "SYNCPOINT_LOG__LEVEL": "error",
        "SYNCPOINT_BACKGROUND__REQUESTS_PER_S": "100000",
    }
