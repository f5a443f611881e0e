"""Where navigation properties lead: by referential constraint, by lookup, by an intersect set."""

from __future__ import annotations

import pytest

from proxy.odata.csdl import parse_metadata
from proxy.odata.relationships import Relationship, Relationships
from proxy.sandbox.metadata import small_document

SHOP = b"""<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx">
<edmx:DataServices><Schema Namespace="Shop" xmlns="http://schemas.microsoft.com/ado/2008/09/edm">
<EntityType Name="Order"><Key><PropertyRef Name="Year"/><PropertyRef Name="Number"/></Key>
  <Property Name="Year" Type="Edm.Int32"/><Property Name="Number" Type="Edm.Int32"/>
  <NavigationProperty Name="Lines"
    Relationship="Shop.OrderLines" FromRole="Order" ToRole="Line"/></EntityType>
<EntityType Name="Line"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int32"/>
  <Property Name="OrderYear" Type="Edm.Int32"/><Property Name="OrderNumber" Type="Edm.Int32"/>
  <NavigationProperty Name="Order"
    Relationship="Shop.OrderLines" FromRole="Line" ToRole="Order"/></EntityType>
<Association Name="OrderLines"><End Role="Order" Type="Shop.Order" Multiplicity="1"/>
  <End Role="Line" Type="Shop.Line" Multiplicity="*"/>
  <ReferentialConstraint><Principal Role="Order">%s</Principal>
    <Dependent Role="Line"><PropertyRef Name="OrderYear"/><PropertyRef Name="OrderNumber"/></Dependent>
  </ReferentialConstraint></Association>
<EntityContainer Name="C"><EntitySet Name="Orders" EntityType="Shop.Order"/>
  <EntitySet Name="Lines" EntityType="Shop.Line"/>
  <AssociationSet Name="OrderLines" Association="Shop.OrderLines"><End Role="Order" EntitySet="Orders"/>
    <End Role="Line" EntitySet="Lines"/></AssociationSet></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>"""
REFERENCES = b'<PropertyRef Name="Year"/><PropertyRef Name="Number"/>'


def led(document: bytes, set_name: str, navigation: str) -> Relationship | None:
    model = parse_metadata(document)
    return Relationships(model).of(model.entity_sets[set_name], navigation)


@pytest.mark.parametrize(
    ("set_name", "navigation", "kind", "ties"),
    [
        ("Lines", "Order", "lookup", ((("OrderYear",), ("Year",)), (("OrderNumber",), ("Number",)))),
        ("Orders", "Lines", "referrers", ((("Year",), ("OrderYear",)), (("Number",), ("OrderNumber",)))),
    ],
)
def test_a_constraint_says_what_is_equal(set_name: str, navigation: str, kind: str, ties: object) -> None:
    found = led(SHOP % REFERENCES, set_name, navigation)
    assert found is not None
    assert (found.kind, found.ties, found.many) == (kind, ties, navigation == "Lines")


@pytest.mark.parametrize(
    "references", [b"", b'<PropertyRef Name="Year"/>', REFERENCES.replace(b"Year", b"Y")]
)
def test_a_constraint_that_pairs_nothing_ties_nothing(references: bytes) -> None:
    found = led(SHOP % references, "Lines", "Order")
    assert found is not None
    assert (found.kind, found.intersect) == ("links", None)


@pytest.mark.parametrize(
    ("set_name", "navigation", "ties", "logical_name"),
    [
        (
            "AccountSet",
            "account_primary_contact",
            ((("PrimaryContactId", "Id"), ("ContactId",)),),
            "contact",
        ),
        (
            "AccountSet",
            "contact_customer_accounts",
            ((("AccountId",), ("ParentCustomerId", "Id")),),
            "account",
        ),
    ],
)
def test_a_lookup_ties_by_id_and_names_the_type(
    set_name: str, navigation: str, ties: object, logical_name: str
) -> None:
    found = led(small_document(), set_name, navigation)
    assert found is not None
    assert (found.ties, found.logical_name) == (ties, logical_name)


@pytest.mark.parametrize(
    ("set_name", "navigation", "expected"),
    [
        ("TeamSet", "teammembership_association", ("TeamMembershipSet", "TeamId", "SystemUserId")),
        ("SystemUserSet", "teammembership_association", ("TeamMembershipSet", "SystemUserId", "TeamId")),
        ("SystemUserSet", "systemuserroles_association", None),
    ],
)
def test_links_are_shown_by_an_intersect_set(
    set_name: str, navigation: str, expected: tuple[str, str, str] | None
) -> None:
    found = led(small_document(), set_name, navigation)
    assert found is not None
    shown = found.intersect
    assert (shown and (shown.entity_set.name, shown.first, shown.second)) == expected


def test_what_is_not_declared_leads_nowhere() -> None:
    assert led(small_document(), "AccountSet", "Name") is None
