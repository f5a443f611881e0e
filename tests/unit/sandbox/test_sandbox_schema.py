"""What the sandbox works out of names: relationships, titles, targets of lookups."""

from __future__ import annotations

import pytest

from proxy.odata.csdl import parse_metadata
from proxy.sandbox.metadata import small_document
from proxy.sandbox.schema import Schema

SCHEMA = Schema(parse_metadata(small_document()))


@pytest.mark.parametrize(
    ("set_name", "navigation", "kind", "lookup", "target"),
    [
        ("AccountSet", "account_primary_contact", "lookup", "PrimaryContactId", "ContactSet"),
        ("ContactSet", "account_primary_contact", "referrers", "PrimaryContactId", "AccountSet"),
        ("AccountSet", "contact_customer_accounts", "referrers", "ParentCustomerId", "ContactSet"),
        ("ContactSet", "contact_customer_accounts", "lookup", "ParentCustomerId", "AccountSet"),
        ("AccountSet", "Referencingaccount_parent_account", "lookup", "ParentAccountId", "AccountSet"),
        ("AccountSet", "Referencedaccount_parent_account", "referrers", "ParentAccountId", "AccountSet"),
        ("AccountSet", "user_accounts", "lookup", "OwningUser", "SystemUserSet"),
        ("AccountSet", "business_unit_accounts", "lookup", "OwningBusinessUnit", "BusinessUnitSet"),
        ("AccountSet", "lk_accountbase_modifiedby", "lookup", "ModifiedBy", "SystemUserSet"),
        (
            "AccountSet",
            "optevia_optevia_sector_account_Sector",
            "lookup",
            "optevia_Sector",
            "optevia_sectorSet",
        ),
        ("TaskSet", "Contact_Tasks", "lookup", "RegardingObjectId", "ContactSet"),
        ("ContactSet", "Contact_CustomerAddress", "referrers", "ParentId", "CustomerAddressSet"),
        ("TeamSet", "teammembership_association", "links", "", "SystemUserSet"),
    ],
)
def test_a_relationship_finds_its_lookup(
    set_name: str, navigation: str, kind: str, lookup: str, target: str
) -> None:
    found = SCHEMA.relationships.of(SCHEMA.model.entity_sets[set_name], navigation)
    assert found is not None
    assert (found.kind, found.lookup, found.target.name) == (kind, lookup, target)


def test_only_many_to_many_relationships_of_the_small_document_have_no_lookup() -> None:
    links = {
        relationship.association
        for entity_set in SCHEMA.model.entity_sets.values()
        for relationship in SCHEMA.relationships.each(entity_set)
        if relationship.kind == "links"
    }
    assert links == {"teammembership_association", "systemuserroles_association"}


def test_the_two_ends_of_a_link_agree_which_is_the_first() -> None:
    roles = SCHEMA.relationships.of(SCHEMA.model.entity_sets["SystemUserSet"], "systemuserroles_association")
    users = SCHEMA.relationships.of(SCHEMA.model.entity_sets["RoleSet"], "systemuserroles_association")
    assert roles is not None
    assert users is not None
    assert roles.first is not users.first


@pytest.mark.parametrize(
    ("set_name", "title"),
    [
        ("AccountSet", "Name"),
        ("ContactSet", "FullName"),
        ("TaskSet", "Subject"),
        ("optevia_sectorSet", "optevia_name"),
        ("TeamMembershipSet", None),
        ("AuditSet", None),
    ],
)
def test_titles_are_primary_attributes(set_name: str, title: str | None) -> None:
    assert SCHEMA.title_property(set_name) == title


def test_a_customer_may_be_of_two_types_and_a_sector_of_one() -> None:
    contacts, accounts = SCHEMA.model.entity_sets["ContactSet"], SCHEMA.model.entity_sets["AccountSet"]
    assert set(SCHEMA.targets(contacts, "ParentCustomerId")) == {"account", "contact"}
    assert SCHEMA.is_polymorphic(contacts, "ParentCustomerId")
    assert SCHEMA.targets(accounts, "optevia_Sector") == ("optevia_sector",)
    assert not SCHEMA.is_polymorphic(accounts, "optevia_Sector")


def test_a_key_that_is_no_guid_is_not_served() -> None:
    document = small_document().replace(
        b'<Property Name="AuditId" Type="Edm.Guid"', b'<Property Name="AuditId" Type="Edm.Int32"'
    )
    with pytest.raises(ValueError, match="Audit"):
        Schema(parse_metadata(document))
