"""What a held entity says of where its lookups lead."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Literal

import pytest

from proxy.odata.edm import EntitySet, EntityType
from proxy.odata.relationships import Relationship
from proxy.reconcile.entities import names_target
from proxy.reconcile.ports import Stored
from proxy.reconcile.stamp import Stamp

SET = EntitySet("S", EntityType("T", "N", ("Id",), {}, {}))
NAMED = f'{{"Id":"{uuid.UUID(int=1)}","LogicalName":"account","Name":null}}'
Kind = Literal["lookup", "referrers", "links"]


def lookup(kind: Kind = "lookup", logical_name: str = "account") -> Relationship:
    ties = ((("Parent", "Id"), ("Id",)),)
    return Relationship("nav", SET, SET, False, kind, "a", "Parent", ties=ties, logical_name=logical_name)


@pytest.mark.parametrize(
    ("value", "relationship", "names"),
    [
        (NAMED, lookup(), True),
        (NAMED.replace("account", "contact"), lookup(), False),
        (NAMED.replace("account", "contact"), lookup(logical_name=""), True),
        (NAMED.replace('"account"', "null"), lookup(), True),
        ('{"Id":null,"LogicalName":null,"Name":null}', lookup(), False),
        ("null", lookup(), False),
        (NAMED, lookup("referrers"), False),
        (NAMED, lookup("links"), False),
        (
            "7",
            Relationship("n", SET, SET, False, "lookup", "a", "Parent", ties=((("Parent",), ("Id",)),)),
            True,
        ),
        (
            "null",
            Relationship("n", SET, SET, False, "lookup", "a", "Parent", ties=((("Parent",), ("Id",)),)),
            False,
        ),
    ],
)
def test_a_target_is_named_by_a_lookup_of_its_type(
    value: str, relationship: Relationship, names: bool
) -> None:
    document = f'{{"__metadata":{{"uri":"u"}},"Parent":{value}}}'
    row = Stored((("Id", 1),), document, Stamp(), b"", True, 1, datetime.now(UTC))
    assert names_target(row, relationship) is names
