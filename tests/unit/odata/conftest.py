"""A small model of what paths lead through: a compound key, a complex type, navigation to one and many."""

import pytest

from proxy.odata.edm import ComplexType, EntitySet, EntityType, Model, NavigationProperty, Property

NAMESPACE = "Microsoft.Crm.Sdk.Data.Services"


def _properties(**types):
    return {name: Property(name, type_name) for name, type_name in types.items()}


def _navigation(name, target, multiplicity):
    return NavigationProperty(name, f"R.{name}", "from", "to", f"{NAMESPACE}.{target}", multiplicity)


@pytest.fixture(scope="session")
def paths_model():
    reference = ComplexType("EntityReference", NAMESPACE, _properties(Id="Edm.Guid", Name="Edm.String"))
    account = EntityType(
        "Account",
        NAMESPACE,
        ("AccountId",),
        _properties(AccountId="Edm.Guid", Name="Edm.String", PrimaryContactId=f"{NAMESPACE}.EntityReference"),
        {
            "contact_customer_accounts": _navigation("contact_customer_accounts", "Contact", "*"),
            "account_primary_contact": _navigation("account_primary_contact", "Contact", "0..1"),
            "unbound": _navigation("unbound", "Contact", "*"),
        },
    )
    contact = EntityType(
        "Contact",
        NAMESPACE,
        ("ContactId",),
        _properties(ContactId="Edm.Guid", FullName="Edm.String"),
        {"contact_parts": _navigation("contact_parts", "Part", "*")},
    )
    part = EntityType(
        "Part",
        NAMESPACE,
        ("Number", "Code"),
        _properties(Number="Edm.Int64", Code="Edm.String", Weight="Edm.Double"),
        {},
    )
    types = {kind.qualified_name: kind for kind in (account, contact, part)}
    sets = {f"{kind.name}Set": EntitySet(f"{kind.name}Set", kind) for kind in types.values()}
    return Model(
        "Context",
        types,
        {reference.qualified_name: reference},
        sets,
        {
            ("AccountSet", "contact_customer_accounts"): "ContactSet",
            ("AccountSet", "account_primary_contact"): "ContactSet",
            ("ContactSet", "contact_parts"): "PartSet",
        },
        frozenset({"WhoAmI"}),
    )
