"""The metadata document: what is read from it, and what is refused."""

from pathlib import Path

import pytest

from proxy.odata.csdl import CSDL_NAMESPACES, parse_metadata
from proxy.odata.errors import ODataError

CDMS = Path(__file__).resolve().parents[4] / "shared" / "cdms" / "metadata.xml"
METADATA = "http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"

TYPES = """
<EntityType Name="Account">
  <Key><PropertyRef Name="AccountId" /></Key>
  <Property Name="AccountId" Type="Edm.Guid" Nullable="false" />
  <Property Name="Name" Type="Edm.String" />
  <Property Name="CreditLimit" Type="Self.Money" Nullable="false" />
  <NavigationProperty Name="contacts" Relationship="N.account_contacts" FromRole="one" ToRole="many" />
</EntityType>
<EntityType Name="Contact">
  <Key><PropertyRef Name="ContactId" /></Key>
  <Property Name="ContactId" Type="Edm.Guid" Nullable="false" />
  <NavigationProperty Name="account" Relationship="N.account_contacts" FromRole="many" ToRole="one" />
</EntityType>
<EntityType Name="Person" BaseType="N.Contact">
  <Property Name="Born" Type="Edm.DateTime" />
</EntityType>
<ComplexType Name="Money"><Property Name="Value" Type="Decimal" /></ComplexType>
<Association Name="account_contacts">
  <End Type="N.Account" Multiplicity="0..1" Role="one" />
  <End Type="Self.Contact" Multiplicity="*" Role="many" />
</Association>
"""
CONTAINER = f"""
<EntityContainer Name="Other"><EntitySet Name="Hidden" EntityType="N.Account" /></EntityContainer>
<EntityContainer Name="Context" xmlns:m="{METADATA}" m:IsDefaultEntityContainer="true">
  <EntitySet Name="AccountSet" EntityType="N.Account" />
  <EntitySet Name="ContactSet" EntityType="Self.Contact" />
  <EntitySet Name="PersonSet" EntityType="N.Person" />
  <AssociationSet Name="account_contacts" Association="N.account_contacts">
    <End EntitySet="AccountSet" Role="one" /><End EntitySet="ContactSet" />
  </AssociationSet>
  <FunctionImport Name="WhoAmI" />
</EntityContainer>
"""


def document(content=TYPES + CONTAINER, csdl=CSDL_NAMESPACES[1], head=""):
    return (
        f'{head}<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx">'
        f'<edmx:DataServices><Schema Namespace="N" Alias="Self" xmlns="{csdl}">{content}</Schema>'
        "</edmx:DataServices></edmx:Edmx>"
    ).encode()


@pytest.mark.parametrize("csdl", CSDL_NAMESPACES)
def test_names_types_and_order_are_read_in_every_csdl_version(csdl):
    model = parse_metadata(document(csdl=csdl))
    account = model.entity_sets["AccountSet"].entity_type
    assert list(account.properties) == ["AccountId", "Name", "CreditLimit"]
    assert account.key == ("AccountId",)
    assert account.qualified_name == "N.Account"
    assert [p.nullable for p in account.properties.values()] == [False, True, False]
    assert account.properties["CreditLimit"].type == "N.Money"
    assert model.complex_types["N.Money"].properties["Value"].type == "Edm.Decimal"
    assert model.container == "Context"
    assert model.function_imports == {"WhoAmI": ""}


def test_only_the_sets_of_the_default_container_are_addressed():
    assert list(parse_metadata(document()).entity_sets) == ["AccountSet", "ContactSet", "PersonSet"]


def test_navigation_leads_to_the_far_end_and_its_set():
    model = parse_metadata(document())
    accounts, contacts = model.entity_sets["AccountSet"], model.entity_sets["ContactSet"]
    outward = accounts.entity_type.navigation_properties["contacts"]
    back = contacts.entity_type.navigation_properties["account"]
    assert (outward.target, outward.multiplicity) == ("N.Contact", "*")
    assert (back.target, back.multiplicity) == ("N.Account", "0..1")
    assert model.navigation_target(accounts, "contacts") is contacts
    assert model.navigation_target(contacts, "account") is accounts
    assert model.navigation_target(model.entity_sets["PersonSet"], "account") is None


def test_a_derived_type_has_what_its_base_has_first():
    person = parse_metadata(document()).entity_types["N.Person"]
    assert person.key == ("ContactId",)
    assert list(person.properties) == ["ContactId", "Born"]
    assert list(person.navigation_properties) == ["account"]


def test_types_and_container_may_stand_in_different_schemas():
    schema = f'<Schema Namespace="C" xmlns="{CSDL_NAMESPACES[0]}">{CONTAINER}</Schema>'
    split = document(TYPES).replace(b"</edmx:DataServices>", schema.encode() + b"</edmx:DataServices>")
    assert "AccountSet" in parse_metadata(split).entity_sets


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (b"", "not valid XML"),
        (b"<html><body>Sign In</body></html>", "no Schema"),
        (document()[:-30], "not valid XML"),
        (document(head="<!DOCTYPE x [<!ENTITY e 'x'>]>"), "document type"),
        (document(TYPES.replace('ToRole="many"', 'ToRole="none"') + CONTAINER), "role none"),
        (document(CONTAINER), "N.Account"),
        (document(TYPES.replace('BaseType="N.Contact"', 'BaseType="N.Person"')), "own base"),
        (document(TYPES.replace('BaseType="N.Contact"', 'BaseType="N.Gone"')), "N.Gone"),
        (document(TYPES.replace('<PropertyRef Name="AccountId"', '<PropertyRef Name="Id"')), "names Id"),
        (document(TYPES.replace('<Property Name="Born"', "<Property")), "without Name"),
        (document(TYPES.replace('Multiplicity="*"', 'Multiplicity="2"')), "multiplicity '2'"),
        (
            document(TYPES + CONTAINER.replace('End EntitySet="ContactSet"', 'End EntitySet="X"')),
            "bound to X",
        ),
    ],
)
def test_what_cannot_be_relied_on_is_refused(broken, says):
    with pytest.raises(ODataError, match=says):
        parse_metadata(broken)


@pytest.fixture(scope="module")
def cdms():
    if not CDMS.exists():
        pytest.skip("the CDMS metadata document is not beside this checkout")
    return CDMS.read_bytes()


def test_the_whole_cdms_document_is_read(cdms):
    model = parse_metadata(cdms)
    types = [found.entity_type for found in model.entity_sets.values()]
    assert len(types) == 374
    assert len(model.entity_sets["AccountSet"].entity_type.properties) == 201
    assert sum("ModifiedOn" not in found.properties for found in types) == 49
    assert sum(found.key != (f"{found.name}Id",) for found in types) == 43
    assert sum(len(found.navigation_properties) for found in types) == len(model.navigation_targets)
