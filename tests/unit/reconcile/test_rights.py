from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.odata.edm import ComplexType, EntitySet, EntityType, Model, Property
from proxy.reconcile.changes import Cursor, Event
from proxy.reconcile.errors import RightMissing
from proxy.reconcile.history import Revision
from proxy.reconcile.ports import Provenance, Source, Stored
from proxy.reconcile.restricted import event_for, seen_by
from proxy.reconcile.rights import ANYBODY, NOBODY, Rights, Shown
from proxy.reconcile.stamp import Stamp

MONEY = ComplexType("Money", "X", {"Value": Property("Value", "Edm.Decimal")})
KINDS = ("Edm.String", "Edm.String", "X.Money")
TYPE = EntityType(
    "Account",
    "X",
    ("Id",),
    {
        each: Property(each, "X.Money" if each == "Revenue" else "Edm.String")
        for each in ("Id", "Name", "Revenue")
    },
    {},
)
SET = EntitySet("AccountSet", TYPE)
MODEL = Model("C", {"X.Account": TYPE}, {"X.Money": MONEY}, {"AccountSet": SET})
DOCUMENT = (
    '{"__metadata":{"uri":"\x01/A(\'1\')","etag":"W/\\"\'secret\'\\"","type":"X.Account"},"Id":"1",'
    '"Name":"secret","Revenue":{"__metadata":{"type":"X.Money"},"Value":"7"},'
    '"nav":{"__deferred":{"uri":"\x01/A(\'1\')/nav"}}}'
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NARROW = Rights("n", frozenset({"AccountSet"}), properties={"AccountSet": Shown(frozenset(), but=False)})


def revision(**changed: Any) -> Revision:
    made = Revision(
        1,
        "AccountSet",
        "'1'",
        NOW,
        NOW,
        Provenance(Source.POLL),
        None,
        ("Name", "Revenue", "Id"),
        DOCUMENT,
        False,
        False,
        False,
        None,
    )
    return replace(made, **changed)


@pytest.mark.parametrize(
    ("rights", "reads", "writes"),
    [
        (NOBODY, "", ""),
        (ANYBODY, "AB", "AB"),
        (Rights(read=frozenset("A")), "A", ""),
        (Rights(write=frozenset("A")), "A", "A"),
        (Rights(read=frozenset("*"), write=frozenset("B")), "AB", "B"),
        (Rights(write=frozenset("*")), "AB", "AB"),
        (Rights(admin=True), "AB", "AB"),
        (Rights(metrics=True), "", ""),
    ],
)
def test_rights_by_set(rights: Rights, reads: str, writes: str) -> None:
    for name in "AB":
        assert rights.may_read(name) is (name in reads)
        assert rights.may_write(name) is (name in writes)
    named = rights.readable
    assert (reads == "AB") is (named is None)
    assert rights.is_whole is (reads == writes == "AB")


def test_only_whole_rights_are_whole() -> None:
    everything = Rights(read=frozenset("*"), write=frozenset("*"))
    assert everything.is_whole
    assert everything.sees_all
    limited = replace(everything, properties={"AccountSet": Shown(frozenset({"Name"}), but=True)})
    assert not limited.is_whole
    assert not limited.sees_all


@pytest.mark.parametrize(
    ("shown", "hidden"),
    [
        (Shown(frozenset({"Name"}), but=True), ("Name",)),
        (Shown(frozenset({"Name", "Id"}), but=True), ("Name",)),  # a key is always shown
        (Shown(frozenset({"Name"})), ("Revenue",)),
        (Shown(frozenset()), ("Name", "Revenue")),
    ],
)
def test_what_is_hidden_is_null_and_everything_else_has_its_bytes(
    shown: Shown, hidden: tuple[str, ...]
) -> None:
    rights = Rights("n", frozenset("*"), properties={"AccountSet": shown})
    assert rights.hidden(SET) == hidden
    masked = rights.masked(DOCUMENT, SET, MODEL)
    expected = json.loads(DOCUMENT, strict=False)
    del expected["__metadata"]["etag"]
    if "Name" in hidden:
        expected["Name"] = None
    if "Revenue" in hidden:
        expected["Revenue"]["Value"] = None
    assert json.loads(masked, strict=False) == expected
    assert list(json.loads(masked, strict=False)) == list(expected)
    assert "\x01/A('1')/nav" in masked


def test_a_document_of_a_set_without_limits_is_untouched() -> None:
    other = EntitySet("OtherSet", TYPE)
    assert NARROW.masked(DOCUMENT, other, MODEL) is DOCUMENT


def test_a_revision_shows_what_the_entity_shows() -> None:
    shown = seen_by(NARROW, revision(), MODEL)
    assert shown.changed == ("Id",)
    assert shown.document == NARROW.masked(DOCUMENT, SET, MODEL)
    assert "secret" not in shown.document
    assert seen_by(ANYBODY, revision(), MODEL) == revision()
    gone = revision(document=None, deleted=True)
    assert seen_by(NARROW, gone, MODEL).document is None


@pytest.mark.parametrize(
    ("given", "model"),
    [
        (revision(unseen=True, document="<entry>secret</entry>"), MODEL),
        (revision(), None),
        (revision(), Model("C", {}, {}, {})),
    ],
)
def test_what_cannot_be_masked_is_left_out(given: Revision, model: Model | None) -> None:
    shown = seen_by(NARROW, given, model)
    assert shown.document is None
    assert "Name" not in (shown.changed or ())
    held = Stored((("Id", "1"),), DOCUMENT, Stamp(), b"", True, 1, NOW)
    event = Event("entity", Cursor("d", "s"), entity_set="AccountSet", key="'1'", held=held)
    if model is not MODEL:
        assert event_for(NARROW, event, model).held is None
    else:
        assert "secret" not in str(event_for(NARROW, event, model).held)


def test_each_missing_right_has_its_own_words() -> None:
    told = []
    for require in (
        lambda: NARROW.require_read("B"),
        lambda: NARROW.require_write("AccountSet"),
        lambda: NARROW.require_property(SET, "Name"),
        NARROW.require_admin,
        NARROW.require_metrics,
    ):
        with pytest.raises(RightMissing) as caught:
            require()
        told.append(str(caught.value).removeprefix("The caller 'n' has no right to "))
    assert told == [
        "read B.",
        "write AccountSet.",
        "see AccountSet's 'Name'.",
        "use the admin API and the console (admin).",
        "read the metrics (metrics).",
    ]
