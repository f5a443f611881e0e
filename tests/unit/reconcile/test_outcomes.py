"""The rules of writing as decision tables."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.odata.edm import EntitySet, EntityType, Model, Property
from proxy.reconcile.outcomes import (
    Creations,
    decide_creation,
    decide_settlement,
    is_reflected,
    key_from,
    outcome_of,
    requested_changes,
    shows,
    touched_by,
)
from proxy.reconcile.policy import Effect
from proxy.reconcile.ports import Fetched, Outcome, Reply, Touched
from proxy.reconcile.stamp import Stamp

NOW = datetime(2016, 5, 1, tzinfo=UTC)
ID = uuid.UUID(int=7)
ADDRESS = EntityType(
    "CustomerAddress",
    "N",
    ("CustomerAddressId",),
    {"CustomerAddressId": Property("CustomerAddressId", "Edm.Guid")},
    {},
)
ACCOUNT = EntityType("Account", "N", ("AccountId",), {"AccountId": Property("AccountId", "Edm.Guid")}, {})
ADDRESSES, ACCOUNTS = EntitySet("CustomerAddressSet", ADDRESS), EntitySet("AccountSet", ACCOUNT)
MODEL = Model("C", {}, {}, {"CustomerAddressSet": ADDRESSES, "AccountSet": ACCOUNTS})


def reply(status: int, content_type: str = "application/json") -> Reply:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": content_type}))
    return Reply(status, "", headers, b"", NOW, NOW)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(201), Outcome.APPLIED),
        (reply(204, ""), Outcome.APPLIED),
        (reply(400), Outcome.REFUSED),
        (reply(412), Outcome.REFUSED),
        (reply(500), Outcome.REFUSED),
        (reply(302), Outcome.REFUSED),
        (reply(200, "text/html; charset=utf-8"), Outcome.REFUSED),
        (reply(502), None),
        (reply(503), None),
        (reply(504), None),
    ],
)
def test_outcome_of(answer: Reply, outcome: Outcome | None) -> None:
    assert outcome_of(answer) is outcome


def test_effects_name_entities_by_key_and_by_lookup() -> None:
    effects = [
        Effect("CustomerAddressSet", ("Address1_AddressId", "Address2_AddressId")),
        Effect("AccountSet", ("ParentId",)),
        Effect("NoSuchSet", ("ParentId",)),
    ]
    values = {
        "Address1_AddressId": ID,
        "Address2_AddressId": None,
        "ParentId": {"Id": ID, "LogicalName": "account", "Name": "x"},
    }
    assert touched_by(effects, values, MODEL) == [
        Touched(ADDRESSES, (("CustomerAddressId", ID),)),
        Touched(ACCOUNTS, (("AccountId", ID),)),
    ]


def test_a_lookup_of_another_type_touches_nothing() -> None:
    values = {"ParentId": {"Id": ID, "LogicalName": "contact", "Name": "x"}}
    assert touched_by([Effect("AccountSet", ("ParentId",))], values, MODEL) == []


@pytest.mark.parametrize(
    ("posted", "seen", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("", None, True),
        (None, None, True),
        ("a", None, False),
        ({"Id": ID, "LogicalName": "contact"}, {"Id": ID, "LogicalName": "contact", "Name": "N"}, True),
        ({"Id": ID, "LogicalName": "Contact", "Name": "old"}, {"Id": ID, "LogicalName": "contact"}, True),
        ({"__metadata": {"type": "T"}, "Value": 1}, {"Value": 1}, True),
        ({"Id": uuid.UUID(int=8), "Name": "N"}, {"Id": ID, "Name": "N"}, False),
        ({"Id": None, "LogicalName": None}, {"Id": None, "LogicalName": None, "Name": None}, True),
        ({"Value": 1}, {"Value": 2}, False),
        ({"Value": 1}, None, False),
    ],
)
def test_is_reflected(posted: object, seen: object, expected: bool) -> None:
    assert is_reflected(posted, seen) is expected


def test_requested_changes_leave_out_what_was_so_before() -> None:
    posted = {"Name": "new", "City": "old", "ModifiedOn": NOW}
    before = {"Name": "x", "City": "old"}
    assert requested_changes(posted, before, frozenset({"ModifiedOn"})) == {"Name": "new"}
    assert requested_changes(posted, None, frozenset({"ModifiedOn"})) == {"Name": "new", "City": "old"}


def test_shows_asks_only_for_what_the_entity_has() -> None:
    assert shows({"Name": "a", "deep_insert": [1]}, {"Name": "a"})
    assert not shows({"Name": "a"}, {"Name": "b"})


def test_a_zero_key_is_no_key() -> None:
    assert key_from({"AccountId": uuid.UUID(int=0)}, ("AccountId",)) is None
    assert key_from({}, ("AccountId",)) is None
    assert key_from({"AccountId": ID}, ("AccountId",)) == (("AccountId", ID),)


def state(digest: bytes, name: str) -> Fetched:
    return Fetched((("AccountId", ID),), "{}", {"Name": name}, Stamp(), digest, True, 1, NOW)


SOON, LATER = timedelta(seconds=10), timedelta(seconds=301)


@pytest.mark.parametrize(
    ("deletes", "seen", "age", "expected"),
    [
        pytest.param(False, state(b"2", "new"), SOON, Outcome.APPLIED, id="seen"),
        pytest.param(False, state(b"1", "old"), SOON, None, id="not seen yet"),
        pytest.param(False, state(b"1", "old"), LATER, Outcome.REFUSED, id="not seen, and never will be"),
        pytest.param(False, state(b"3", "other"), SOON, None, id="somebody else changed it"),
        pytest.param(False, state(b"3", "other"), LATER, Outcome.UNDETERMINED, id="nobody can tell"),
        pytest.param(False, None, LATER, Outcome.UNDETERMINED, id="deleted since"),
        pytest.param(True, None, SOON, Outcome.APPLIED, id="delete seen"),
        pytest.param(True, state(b"1", "old"), SOON, None, id="delete not seen yet"),
        pytest.param(True, state(b"1", "old"), LATER, Outcome.REFUSED, id="delete never seen"),
    ],
)
def test_decide_settlement(deletes, seen, age, expected) -> None:
    outcome = decide_settlement(
        deletes=deletes,
        before=b"1",
        changes={"Name": "new"},
        seen=seen,
        age=age,
        limit=timedelta(seconds=300),
    )
    assert outcome is expected


@pytest.mark.parametrize("changes", [{}, {"Name": "old"}, None])
def test_a_write_that_asked_for_nothing_new_is_never_guessed(changes: dict[str, str] | None) -> None:
    for age, expected in ((SOON, None), (LATER, Outcome.UNDETERMINED)):
        outcome = decide_settlement(
            deletes=False,
            before=b"1",
            changes=changes,
            seen=state(b"1", "old"),
            age=age,
            limit=timedelta(seconds=300),
        )
        assert outcome is expected


APPLIED, REFUSED, UNDETERMINED = Outcome.APPLIED, Outcome.REFUSED, Outcome.UNDETERMINED
MADE, OTHER, PART = state(b"1", "new"), state(b"2", "new"), state(b"3", "NEW")
POSTED = {"Name": "new", "Description": ""}


@pytest.mark.parametrize(
    ("posted", "found", "rivals", "is_complete", "soon", "late"),
    [
        pytest.param(POSTED, [MADE], [], True, APPLIED, APPLIED, id="made"),
        pytest.param(POSTED, [MADE, PART], [], True, APPLIED, APPLIED, id="made, beside another"),
        pytest.param(POSTED, [], [], True, None, REFUSED, id="not made"),
        pytest.param(POSTED, [], [], False, None, UNDETERMINED, id="not all was seen"),
        pytest.param(POSTED, [MADE], [], False, None, UNDETERMINED, id="there may be another"),
        pytest.param(POSTED, [MADE, OTHER], [], True, None, UNDETERMINED, id="several"),
        pytest.param(POSTED, [PART], [], True, None, UNDETERMINED, id="something like it"),
        pytest.param(POSTED, [MADE], [POSTED], True, None, UNDETERMINED, id="an equal rival"),
        pytest.param(POSTED, [MADE], [{}], True, None, UNDETERMINED, id="a rival that fits all"),
        pytest.param(POSTED, [MADE], [None], True, None, UNDETERMINED, id="a rival nobody can read"),
        pytest.param(POSTED, [MADE], [{"Name": "x"}], True, APPLIED, APPLIED, id="another rival"),
        pytest.param({}, [MADE], [], True, None, UNDETERMINED, id="nothing posted"),
        pytest.param({"Name": None}, [state(b"1", "")], [], True, None, UNDETERMINED, id="nulls posted"),
        pytest.param(None, [], [], False, None, UNDETERMINED, id="unreadable"),
    ],
)
def test_decide_creation(posted, found, rivals, is_complete, soon, late) -> None:
    creations = Creations(posted, found, rivals, is_complete, 1)
    for age, expected in ((SOON, soon), (LATER, late)):
        outcome, made = decide_creation(creations, age, timedelta(seconds=300))
        assert outcome is expected
        assert made is (MADE if expected is APPLIED else None)
