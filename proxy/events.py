"""Everything the proxy says about itself: a closed list of events, each a log line, some of them counted.

What the drivers observe is in `proxy.reconcile.observations`; what only the app knows (a request served,
the proxy started) has a method here. `docs/events.md` lists them for the operator.

No line holds property values, bodies, credentials, cookies or query text. Levels: info is normal life,
warning heals itself, error needs a person. One `request_served` for each request; the rest of normal life
is told at debug.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from proxy.metrics import Metrics
from proxy.reconcile import observations as seen
from proxy.upstream.calls import UpstreamCall

_RECENT = 500
Level = Literal["debug", "info", "warning", "error"]

OBSERVED: Mapping[type[seen.Observation], Level] = {
    seen.EntitiesStored: "debug",
    seen.ConflictFound: "warning",
    seen.ContentChangedUnderStamp: "warning",
    seen.SetForwarded: "error",
    seen.RevisionsDropped: "info",
    seen.OperatorActed: "info",
    seen.CallerRefused: "warning",
    seen.StoreFailed: "warning",
    seen.UpstreamFailed: "warning",
    seen.IntentOpened: "debug",
    seen.IntentSettled: "debug",
    seen.OutcomeUnknown: "error",
    seen.AtomProven: "debug",
    seen.MetadataLoaded: "info",
    seen.MetadataUnusable: "error",
    seen.LoggedIn: "info",
    seen.LoginFailed: "error",
    seen.MetadataChanged: "warning",
    seen.EntityUnreadable: "warning",
    seen.LeaseNotKept: "warning",
    seen.SetNotFollowed: "warning",
    seen.SetPolled: "debug",
    seen.UpstreamClockWentBack: "warning",
    seen.SetSwept: "info",
    seen.SweepStopped: "error",
    seen.AuthorityChanged: "info",
    seen.CutoverEnded: "info",
    seen.CutoverGivenUp: "warning",
    seen.TaskFailed: "error",
}


class Events:
    """The events of one app."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log: FilteringBoundLogger = structlog.get_logger()
        # The last canonical lines, for the console.
        self.recent: deque[Mapping[str, object]] = deque(maxlen=_RECENT)

    def observe(self, observation: seen.Observation) -> None:
        """Log and count what a driver saw: a `proxy.reconcile.observations.Observe`."""
        self._count(observation)
        fields = dict(_fields(observation))
        if isinstance(observation, seen.TaskFailed):
            fields |= _described(observation.error, self._log)
        self._log.log(_NUMBERS[OBSERVED[type(observation)]], event_name(type(observation)), **fields)

    def request_served(
        self,
        *,
        request_id: str,
        method: str,
        operation: str,
        entity_set: str | None,
        decision: str,
        status: int,
        elapsed_ms: float,
        upstream_calls: Sequence[UpstreamCall] = (),
        cache_status: str | None = None,
        caller: str | None = None,
    ) -> None:
        """The canonical line of one request of a client, written when its last byte has left.

        `operation`, `decision` and `caller` are names of ours, not text of the client's; `method` is the
        effective one.
        """
        hit = cache_status is not None and _HIT.search(cache_status) is not None
        self._metrics.requests.labels(operation, decision, status).inc()
        self._metrics.request_seconds.labels(operation).observe(elapsed_ms / 1000)
        if hit:
            self._metrics.mirror_hits.labels(operation).inc()
        for call in upstream_calls:
            if not call.shared:
                self._metrics.upstream_requests.labels(call.status or "none").inc()
                self._metrics.upstream_seconds.observe(call.elapsed_ms / 1000)
                self._metrics.upstream_bytes.inc(call.bytes)
        line: dict[str, object] = {
            "request_id": request_id,
            "method": method,
            "operation": operation,
            "entity_set": entity_set,
            "decision": decision,
            "status": status,
            "elapsed_ms": round(elapsed_ms, 3),
            "upstream_calls": [_call(call) for call in upstream_calls],
            "cache_status": cache_status,
            "caller": caller,
        }
        self.recent.append({"at": datetime.now(UTC), **line})
        self._log.info("request_served", **line)

    def proxy_started(self, *, version: str, url: str, services_url: str, service_root: str) -> None:
        """Both listeners answer."""
        self._log.info(
            "proxy_started", version=version, url=url, services_url=services_url, service_root=service_root
        )

    def proxy_reloaded(
        self, *, problems: Sequence[str] = (), changed: Sequence[str] = (), need_restart: Sequence[str] = ()
    ) -> None:
        """Told to, the proxy has read its configuration and certificates again.

        With problems it goes on with all that it had. Otherwise the settings `changed` are in force, and
        those that `need_restart` differ and are not. Names of settings only.
        """
        if problems:
            self._log.error("proxy_reloaded", problems=list(problems))
            return
        log = self._log.warning if need_restart else self._log.info
        log("proxy_reloaded", changed=list(changed), need_restart=list(need_restart))

    def proxy_stopping(self, *, requests_in_flight: int) -> None:
        """No new connection is accepted; what is under way is brought to its end."""
        self._log.info("proxy_stopping", requests_in_flight=requests_in_flight)

    def proxy_stopped(self) -> None:
        """Everything was closed."""
        self._log.info("proxy_stopped")

    def unexpected_error(self, error: BaseException, *, request_id: str = "") -> None:
        """A bug: the client got a 500 that upstream did not send, or would have."""
        self._metrics.unexpected_errors.inc()
        self._log.error("unexpected_error", request_id=request_id, **_described(error, self._log))

    def _count(self, observation: seen.Observation) -> None:
        metrics = self._metrics
        match observation:
            case seen.EntitiesStored(entity_set, stored, changed):
                metrics.entities_stored.labels(entity_set).inc(stored)
                metrics.entities_changed.labels(entity_set).inc(changed)
            case seen.ConflictFound(entity_set):
                metrics.conflicts.labels(entity_set).inc()
            case seen.ContentChangedUnderStamp(entity_set):
                metrics.lies.labels(entity_set).inc()
            case seen.SetForwarded(entity_set):
                metrics.sets_forwarded.labels(entity_set).inc()
            case seen.StoreFailed(doing):
                metrics.store_failures.labels(doing).inc()
            case seen.UpstreamFailed(doing):
                metrics.upstream_failures.labels(doing).inc()
            case seen.CallerRefused(_, scheme):
                metrics.callers_refused.labels(scheme).inc()
            case seen.IntentOpened():
                metrics.intents_opened.inc()
            case seen.IntentSettled(_, outcome):
                metrics.intents_settled.labels(outcome).inc()
            case seen.OutcomeUnknown():
                metrics.outcomes_unknown.inc()
            case seen.AuthorityChanged(entity_sets, authority):
                for entity_set in entity_sets:
                    metrics.tell_authority(entity_set, authority)
            case seen.TaskFailed():
                metrics.unexpected_errors.inc()
            case seen.LoginFailed():
                metrics.logins_failed.inc()
            case seen.EntityUnreadable(entity_set):
                metrics.entities_unreadable.labels(entity_set).inc()
            case seen.SetPolled(entity_set):
                metrics.polls.labels(entity_set).inc()
            case seen.SetSwept(entity_set, _, deleted):
                metrics.entities_swept.labels(entity_set).inc(deleted)
            case seen.SweepStopped(entity_set):
                metrics.sweeps_stopped.labels(entity_set).inc()
            case _:
                pass  # told, and of no use as a number


def event_name(observation: type[seen.Observation]) -> str:
    """`ConflictFound` is logged as `conflict_found`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", observation.__name__).lower()


def configure_logging(
    level: Level, format: Literal["auto", "json", "console"], stream: TextIO | None = None
) -> None:
    """Send our events, and what libraries log from warning up, to `stream` (standard error) in one form."""
    stream = stream or sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=stream.isatty())
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    logging.basicConfig(level=max(logging.WARNING, _NUMBERS[level]), handlers=[_LibraryHandler()], force=True)


class _LibraryHandler(logging.Handler):
    """What a library logs becomes an event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        error = record.exc_info[1] if record.exc_info else None
        described = _described(error, log) if error else {}
        log.log(
            record.levelno, "library_logged", library=record.name, message=record.getMessage(), **described
        )


_HIT = re.compile(r";\s*hit\s*(;|$)")
_NUMBERS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _call(call: UpstreamCall) -> dict[str, object]:
    shown: dict[str, object] = {name: getattr(call, name) for name in UpstreamCall.__slots__}
    shown["elapsed_ms"] = round(call.elapsed_ms, 3)
    return shown


def _fields(observation: seen.Observation) -> Iterator[tuple[str, object]]:
    for field in fields(observation):
        yield "entity_key" if field.name == "key" else field.name, getattr(observation, field.name)


def _described(error: BaseException, log: FilteringBoundLogger) -> dict[str, str]:
    """Type and place of an error and of its causes. An error's text can quote data: only at debug."""
    tell_all = log.is_enabled_for(logging.DEBUG)
    told = ""
    link: BaseException | None = error
    while link is not None:
        text = f": {link}" if tell_all else ""
        told = "".join(traceback.format_tb(link.__traceback__)) + f"{_type_name(link)}{text}\n" + told
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return {"error": _type_name(error), "traceback": told}


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
