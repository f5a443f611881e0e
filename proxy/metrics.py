"""The counters of one app, in a registry of its own: many apps can live in one process.

Names and units follow Prometheus' conventions; `docs/events.md` explains each.
"""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

# From a mirror hit without a check to an upstream that takes its time; seconds.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Every metric of the proxy. Labels are names of ours or of entity sets, never a client's input."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests answered.", "operation", "decision", "status")
        self.request_seconds = self._histogram(
            "request_duration_seconds", "Arrival to last byte.", "operation"
        )
        self.mirror_hits = self._counter("mirror_hits", "Answers made from the mirror.", "operation")
        self.upstream_requests = self._counter("upstream_requests", "Requests sent.", "status")
        self.upstream_seconds = self._histogram("upstream_duration_seconds", "Sending to last byte.")
        self.upstream_bytes = self._counter(
            "upstream_received_bytes", "Of replies, as they crossed the wire."
        )
        self.upstream_failures = self._counter(
            "upstream_failures", "No usable answer from upstream.", "doing"
        )
        self.store_failures = self._counter("store_failures", "Postgres was needed and not there.", "doing")
        self.entities_stored = self._counter(
            "entities_stored", "States that entered the mirror.", "entity_set"
        )
        self.entities_changed = self._counter("entities_changed", "Of those, with new content.", "entity_set")
        self.conflicts = self._counter("conflicts", "Conflicts found.", "entity_set")
        self.lies = self._counter("lies", "Content changed under an unmoved stamp.", "entity_set")
        self.sets_forwarded = self._counter("sets_forwarded", "Sets taken off the mirror.", "entity_set")
        self.callers_refused = self._counter("callers_refused", "Logins that were wrong.", "scheme")
        self.intents_opened = self._counter("intents_opened", "Writes marked before sending.")
        self.intents_settled = self._counter("intents_settled", "Writes whose end is known.", "outcome")
        self.outcomes_unknown = self._counter("outcomes_unknown", "Writes sent and not answered.")
        self.entities_unreadable = self._counter(
            "entities_unreadable", "Entities that did not fit the metadata document.", "entity_set"
        )
        self.polls = self._counter("polls", "Times that a set's changes were looked for.", "entity_set")
        self.entities_swept = self._counter("entities_swept", "Deletes that sweeps found.", "entity_set")
        self.sweeps_stopped = self._counter(
            "sweeps_stopped", "Sweeps that wait for the operator.", "entity_set"
        )
        self.logins_failed = self._counter("logins_failed", "Logins to upstream that failed.")
        self.unexpected_errors = self._counter("unexpected_errors", "Errors that nobody expected.")
        self.authority = Gauge(
            "syncpoint_authority",
            "1 at the authority of a set that was ever moved.",
            ("entity_set", "authority"),
            registry=self.registry,
        )
        self.open_intents = Gauge(
            "syncpoint_open_intents",
            "Writes under way or unsettled, as the store last said.",
            registry=self.registry,
        )

    def tell_authority(self, entity_set: str, authority: str) -> None:
        """Of a set that was ever moved: 1 at its authority, 0 at the others."""
        for each in ("upstream", "moving", "mirror"):
            self.authority.labels(entity_set, each).set(each == authority)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"syncpoint_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(f"syncpoint_{name}", documentation, labels, buckets=_SECONDS, registry=self.registry)

    def render(self) -> bytes:
        """The body of `/metrics`, of type `content_type`."""
        return generate_latest(self.registry)
