from __future__ import annotations

import io
import json
import logging
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from proxy.events import OBSERVED, Events, configure_logging, event_name
from proxy.metrics import Metrics
from proxy.reconcile import observations as seen
from proxy.upstream.calls import UpstreamCall

SECRET = "Contoso-7431"
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, typing.Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"syncpoint_{name}", labels)


OBSERVATIONS = [
    (
        seen.OperatorActed("revert", "AccountSet", "guid'8f2c'", "someone", "127.0.0.1", "r1"),
        {"action": "revert", "user": "someone", "client": "127.0.0.1", "request_id": "r1"},
        [],
    ),
    (
        seen.CallerRefused("10.0.0.7", "basic", "wrong user or password"),
        {"client": "10.0.0.7", "scheme": "basic", "reason": "wrong user or password"},
        [("callers_refused_total", {"scheme": "basic"}, 1)],
    ),
    (seen.RevisionsDropped(("revisions_2020q1",)), {"partitions": ["revisions_2020q1"]}, []),
    (
        seen.EntitiesStored("AccountSet", 3, 2),
        {"stored": 3, "changed": 2},
        [
            ("entities_stored_total", {"entity_set": "AccountSet"}, 3),
            ("entities_changed_total", {"entity_set": "AccountSet"}, 2),
        ],
    ),
    (
        seen.ConflictFound("AccountSet", "guid'8f2c'", 7),
        {"entity_key": "guid'8f2c'", "conflict": 7},
        [("conflicts_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (
        seen.ContentChangedUnderStamp("AccountSet", "guid'8f2c'"),
        {"entity_key": "guid'8f2c'"},
        [("lies_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (
        seen.SetForwarded("AccountSet", "no stamp"),
        {"reason": "no stamp"},
        [("sets_forwarded_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (
        seen.StoreFailed("read", "connection refused"),
        {"doing": "read", "error": "connection refused"},
        [("store_failures_total", {"doing": "read"}, 1)],
    ),
    (
        seen.UpstreamFailed("check", "timeout"),
        {"doing": "check", "error": "timeout"},
        [("upstream_failures_total", {"doing": "check"}, 1)],
    ),
    (
        seen.IntentOpened(5, "MERGE", "AccountSet"),
        {"intent": 5, "method": "MERGE"},
        [("intents_opened_total", {}, 1)],
    ),
    (
        seen.IntentSettled(5, "applied", "AccountSet"),
        {"intent": 5, "outcome": "applied"},
        [("intents_settled_total", {"outcome": "applied"}, 1)],
    ),
    (seen.OutcomeUnknown(5, "AccountSet"), {"intent": 5}, [("outcomes_unknown_total", {}, 1)]),
    (seen.LoggedIn(), {}, []),
    (seen.LoginFailed("refused"), {"reason": "refused"}, [("logins_failed_total", {}, 1)]),
    (seen.AtomProven("AccountSet", "entry", "Name"), {"form": "entry", "title": "Name"}, []),
    (seen.MetadataLoaded("upstream", 374), {"source": "upstream", "entity_sets": 374}, []),
    (seen.MetadataUnusable("not XML"), {"error": "not XML"}, []),
    (seen.MetadataChanged(2, 1), {"added": 2, "removed": 1}, []),
    (
        seen.EntityUnreadable("AccountSet", "guid'8f2c'", "no key"),
        {"entity_key": "guid'8f2c'", "error": "no key"},
        [("entities_unreadable_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (seen.LeaseNotKept("poll"), {"lease": "poll"}, []),
    (seen.SetNotFollowed("AccountSet", "no stamp"), {"reason": "no stamp"}, []),
    (
        seen.SetPolled("AccountSet", 3, 2),
        {"seen": 3, "refreshed": 2},
        [("polls_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (seen.UpstreamClockWentBack("AccountSet", 60.0), {"seconds": 60.0}, []),
    (
        seen.SetSwept("AccountSet", 100, 2, 1),
        {"rows": 100, "deleted": 2, "refreshed": 1},
        [("entities_swept_total", {"entity_set": "AccountSet"}, 2)],
    ),
    (
        seen.SweepStopped("AccountSet", "empty", "nothing listed"),
        {"kind": "empty", "detail": "nothing listed"},
        [("sweeps_stopped_total", {"entity_set": "AccountSet"}, 1)],
    ),
    (
        seen.AuthorityChanged(("AccountSet", "TaskSet"), "mirror", "someone"),
        {"entity_sets": ["AccountSet", "TaskSet"], "authority": "mirror", "by": "someone"},
        [
            ("authority", {"entity_set": "TaskSet", "authority": "mirror"}, 1),
            ("authority", {"entity_set": "TaskSet", "authority": "upstream"}, 0),
        ],
    ),
    (seen.CutoverEnded(("AccountSet",), "mirror", "someone"), {"authority": "mirror", "by": "someone"}, []),
    (seen.CutoverGivenUp(("AccountSet",), "upstream"), {"authority": "upstream"}, []),
    (
        seen.TaskFailed("settle", ValueError(SECRET)),
        {"task": "settle", "error": "ValueError"},
        [("unexpected_errors_total", {}, 1)],
    ),
]


@pytest.mark.parametrize(("observation", "told", "counted"), OBSERVATIONS, ids=lambda v: type(v).__name__)
def test_an_observation_is_logged_once_and_counted(
    stream: io.StringIO,
    observation: seen.Observation,
    told: dict[str, object],
    counted: list[tuple[str, dict[str, str], float]],
) -> None:
    configure_logging("debug", "json", stream)
    metrics = Metrics()
    Events(metrics).observe(observation)

    [line] = lines(stream)
    assert line["event"] == event_name(type(observation))
    assert line["level"] == OBSERVED[type(observation)]
    assert told.items() <= line.items()
    for name, labels, value in counted:
        assert sample(metrics, name, **labels) == value


def test_the_table_of_samples_is_complete() -> None:
    union = set(typing.get_args(seen.Observation))
    assert {type(observation) for observation, _, _ in OBSERVATIONS} == union == set(OBSERVED)


ACCOUNTS = {"method": "GET", "path": "/Data.svc/AccountSet", "shared": False}


def serve_one(events: Events, **changed: typing.Any) -> None:
    arguments: dict[str, typing.Any] = {
        "request_id": "r1",
        "method": "GET",
        "operation": "ReadEntity",
        "entity_set": "AccountSet",
        "decision": "hit",
        "status": 200,
        "elapsed_ms": 12.34567,
        "upstream_calls": [
            UpstreamCall("GET", "/Data.svc/AccountSet", 200, None, 10.00004, 700),
            UpstreamCall("GET", "/Data.svc/AccountSet", None, "UpstreamTimeout", 1.0, 0),
            UpstreamCall("GET", "/Data.svc/TaskSet", 200, None, 5.0, 900, shared=True),
        ],
        "cache_status": "syncpoint; hit; detail=checked",
        "caller": "reports",
    }
    events.request_served(**arguments | changed)


def test_the_canonical_line_tells_of_the_request_and_its_upstream_calls(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    serve_one(Events(Metrics()))
    [line] = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("timestamp"))
    assert line == {
        "event": "request_served",
        "level": "info",
        "request_id": "r1",
        "method": "GET",
        "operation": "ReadEntity",
        "entity_set": "AccountSet",
        "decision": "hit",
        "status": 200,
        "elapsed_ms": 12.346,
        "upstream_calls": [
            {**ACCOUNTS, "status": 200, "error": None, "elapsed_ms": 10.0, "bytes": 700},
            {**ACCOUNTS, "status": None, "error": "UpstreamTimeout", "elapsed_ms": 1.0, "bytes": 0},
            {**ACCOUNTS, "path": "/Data.svc/TaskSet", "status": 200, "error": None, "elapsed_ms": 5.0}
            | {"bytes": 900, "shared": True},
        ],
        "cache_status": "syncpoint; hit; detail=checked",
        "caller": "reports",
    }


def test_a_served_request_is_counted_with_its_upstream_calls() -> None:
    metrics = Metrics()
    serve_one(Events(metrics))
    assert sample(metrics, "requests_total", operation="ReadEntity", decision="hit", status="200") == 1
    assert sample(metrics, "request_duration_seconds_sum", operation="ReadEntity") == pytest.approx(
        0.01234567
    )
    assert sample(metrics, "upstream_requests_total", status="200") == 1
    assert sample(metrics, "upstream_requests_total", status="none") == 1
    assert sample(metrics, "upstream_duration_seconds_count") == 2
    assert sample(metrics, "upstream_received_bytes_total") == 700


@pytest.mark.parametrize(
    ("cache_status", "hits"),
    [
        ("syncpoint; hit", 1),
        ("syncpoint;hit;detail=x", 1),
        ("syncpoint; fwd=miss; stored", None),
        ("syncpoint; fwd=stale; detail=hit-not", None),
        (None, None),
    ],
)
def test_only_a_hit_of_the_mirror_is_counted_as_one(cache_status: str | None, hits: float | None) -> None:
    metrics = Metrics()
    serve_one(Events(metrics), cache_status=cache_status)
    assert sample(metrics, "mirror_hits_total", operation="ReadEntity") == hits


def test_two_apps_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    serve_one(Events(first))
    assert b"syncpoint_requests_total{" in first.render()
    assert b"syncpoint_requests_total{" not in second.render()
    assert b"process_resident_memory_bytes" in second.render()


def fail() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"no {SECRET}") from error


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_an_error_is_told_by_type_and_place_and_only_at_debug_by_its_text(
    stream: io.StringIO, level: typing.Literal["info", "debug"], told: bool
) -> None:
    configure_logging(level, "json", stream)
    metrics = Metrics()
    try:
        fail()
    except ValueError as error:
        Events(metrics).unexpected_error(error, request_id="r1")

    [line] = lines(stream)
    assert (line["event"], line["level"], line["error"], line["request_id"]) == (
        "unexpected_error",
        "error",
        "ValueError",
        "r1",
    )
    assert line["traceback"].index("KeyError") < line["traceback"].index("in fail\n    raise ValueError")
    assert (SECRET in stream.getvalue()) is told
    assert sample(metrics, "unexpected_errors_total") == 1


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    configure_logging("warning", "json", stream)
    events = Events(Metrics())
    events.proxy_started(
        version="1", url="http://a", services_url="http://b", service_root="http://c/Data.svc"
    )
    events.proxy_stopping(requests_in_flight=1)
    events.proxy_stopped()
    events.observe(seen.OutcomeUnknown(5, "AccountSet"))
    assert [line["event"] for line in lines(stream)] == ["outcome_unknown"]


def test_the_proxys_life_is_told(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    events = Events(Metrics())
    events.proxy_started(
        version="1", url="http://a", services_url="http://b", service_root="http://c/Data.svc"
    )
    events.proxy_reloaded(changed=["sets.AccountSet"])
    events.proxy_reloaded(problems=["tls.certificate: no such file"])
    events.proxy_stopping(requests_in_flight=2)
    events.proxy_stopped()
    started, reloaded, not_reloaded, stopping, stopped = lines(stream)
    assert [line["level"] for line in (reloaded, not_reloaded)] == ["info", "error"]
    assert not_reloaded["problems"] == ["tls.certificate: no such file"]
    assert (started["event"], started["services_url"]) == ("proxy_started", "http://b")
    assert (stopping["event"], stopping["requests_in_flight"]) == ("proxy_stopping", 2)
    assert stopped["event"] == "proxy_stopped"


def test_a_librarys_warning_becomes_an_event(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    library = logging.getLogger("aiolibrary")
    library.info("not worth it")
    try:
        fail()
    except ValueError:
        library.warning("took %d s", 3, exc_info=True)
    [line] = lines(stream)
    assert (line["event"], line["library"], line["message"], line["error"], line["level"]) == (
        "library_logged",
        "aiolibrary",
        "took 3 s",
        "ValueError",
        "warning",
    )
    assert SECRET not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("format", "target", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("console", io.StringIO, False),
    ],
)
@pytest.mark.usefixtures("stream")
def test_the_form_follows_the_setting_and_the_terminal(
    format: typing.Literal["auto", "json", "console"], target: type[io.StringIO], is_json: bool
) -> None:
    written = target()
    configure_logging("info", format, written)
    Events(Metrics()).proxy_stopped()
    assert written.getvalue().startswith("{") is is_json
    assert "proxy_stopped" in written.getvalue()


def test_every_event_and_every_metric_is_documented_and_nothing_else() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    own = {name for name, value in vars(Events).items() if not name.startswith("_") and callable(value)}
    events = {event_name(observation) for observation in OBSERVED} | own - {"observe"} | {"library_logged"}
    families = {
        family.name for family in Metrics().registry.collect() if family.name.startswith("syncpoint_")
    }
    assert rows == events | families
