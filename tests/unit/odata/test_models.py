from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

import pytest

from proxy.odata.csdl import parse_metadata
from proxy.odata.csdl_writer import write_metadata
from proxy.odata.models import (
    NAMESPACE,
    MappingError,
    ModelDefinition,
    PropertyDefinition,
    check,
    derive,
)
from proxy.odata.relationships import Relationships

ID = uuid.UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
SOURCE = parse_metadata(
    b"""<Edmx Version="1.0" xmlns="http://schemas.microsoft.com/ado/2007/06/edmx"><DataServices>
<Schema Namespace="X" xmlns="http://schemas.microsoft.com/ado/2008/09/edm">
<ComplexType Name="EntityReference"><Property Name="Id" Type="Edm.Guid" />
 <Property Name="LogicalName" Type="Edm.String" /><Property Name="Name" Type="Edm.String" /></ComplexType>
<ComplexType Name="OptionSetValue"><Property Name="Value" Type="Edm.Int32" /></ComplexType>
<ComplexType Name="Money"><Property Name="Value" Type="Edm.Decimal" /></ComplexType>
<EntityType Name="Account"><Key><PropertyRef Name="AccountId" /></Key>
 <Property Name="AccountId" Type="Edm.Guid" Nullable="false" /><Property Name="Name" Type="Edm.String" />
 <Property Name="Industry" Type="X.OptionSetValue" /><Property Name="Uk" Type="Edm.Boolean" />
 <Property Name="Size" Type="Edm.Int64" /><Property Name="CreatedOn" Type="Edm.DateTime" />
 <Property Name="Revenue" Type="X.Money" /><Property Name="Sector" Type="X.EntityReference" />
 <Property Name="Parent" Type="X.EntityReference" /></EntityType>
<EntityType Name="Pair"><Key><PropertyRef Name="A" /><PropertyRef Name="B" /></Key>
 <Property Name="A" Type="Edm.Guid" /><Property Name="B" Type="Edm.Guid" /></EntityType>
<EntityType Name="Code"><Key><PropertyRef Name="CodeId" /></Key><Property Name="CodeId" Type="Edm.Int64" />
 <Property Name="Account" Type="Edm.Guid" /></EntityType>
<EntityContainer Name="C"><EntitySet Name="AccountSet" EntityType="X.Account" />
 <EntitySet Name="PairSet" EntityType="X.Pair" /><EntitySet Name="CodeSet" EntityType="X.Code" />
</EntityContainer></Schema></DataServices></Edmx>"""
)


def definition(set_name: str = "", key: str = "id", **properties: tuple[Any, ...]) -> ModelDefinition:
    return ModelDefinition(
        set_name, key, {name: PropertyDefinition(*given) for name, given in properties.items()}
    )


ORGANISATION = definition(
    "AccountSet",
    name=("string", "Name"),
    industry=("integer", "Industry"),
    uk=("boolean", "Uk"),
    size=("integer", "Size"),
    created=("datetime", "CreatedOn"),
    sector=("reference", "Sector"),
    parent=("foreign key", "Parent", "Organisation"),
    note=("string",),
)
MODELS = {
    "Organisation": ORGANISATION,
    "Code": definition("CodeSet", "number", account=("foreign key", "Account", "Organisation")),
    "Tag": definition(code=("foreign key", "", "Code"), made=("datetime",), count=("integer",)),
}
MAPPED = derive(MODELS, SOURCE)
RAW = {
    "AccountId": str(ID),
    "Name": None,
    "Industry": {"Value": 7},
    "Uk": True,
    "Size": "12345678901",
    "CreatedOn": "/Date(1000)/",
    "Sector": {"Id": str(ID), "LogicalName": "optevia_sector", "Name": "Any"},
    "Parent": {"Id": str(ID), "LogicalName": "account", "Name": "Any"},
}


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"A": definition("NoSet")}, "models.A.set: upstream has no entity set 'NoSet'"),
        (
            {"A": definition("PairSet")},
            "models.A.set: the key of PairSet is not one Guid, string or integer",
        ),
        (
            {"A": definition("AccountSet", b=("string", "Nome"))},
            "models.A.properties.b: AccountSet has no property 'Nome'",
        ),
        (
            {"A": definition("AccountSet", b=("integer", "Name"))},
            "models.A.properties.b: AccountSet's 'Name' is "
            "of type Edm.String, which is not for the kind 'integer'",
        ),
        (
            {"A": definition("AccountSet", b=("integer", "Revenue"))},
            "models.A.properties.b: AccountSet's 'Revenue' is "
            "of type Edm.Decimal, which is not for the kind 'integer'",
        ),
        (
            {"A": definition("AccountSet", b=("string", "Sector"))},
            "models.A.properties.b: AccountSet's 'Sector' is "
            "of type X.EntityReference, which is not for the kind 'string'",
        ),
        (
            {"A": definition("AccountSet", b=("reference", "AccountId"))},
            "models.A.properties.b: AccountSet's 'AccountId' is "
            "the key, which is not for the kind 'reference'",
        ),
        (
            {"A": definition("AccountSet", b=("foreign key", "Parent", "C")), "C": MODELS["Code"]}
            | {"Organisation": ORGANISATION},
            "models.A.properties.b: AccountSet's 'Parent' is "
            "of type Edm.Guid, which is not for the kind 'foreign key'",
        ),
        (
            {"A": definition(b=("foreign key", "", "Nobody"))},
            "models.A.properties.b: there is no model 'Nobody'",
        ),
        (
            {"A": definition(b=("string", "", "A"))},
            "models.A.properties.b: only a foreign key leads to a model",
        ),
        (
            {"A": definition(b=("string", "Name"))},
            "models.A.properties.b: 'Name' is a property of no set, since models.A.set is not given",
        ),
        (
            {"A": definition("AccountSet", b=("string", "Name"), c=("string", "Name"))},
            "models.A.properties.c: 'Name' is mapped already, as 'b'",
        ),
        ({"A": definition(id=("string",))}, "models.A.properties.id: 'id' is the name of the key already"),
        (
            {"A": definition("AccountSet", b_id=("string",), b=("foreign key", "Parent", "A"))},
            "models.A.properties.b: 'b_id' is the name of the property 'b_id', which only the mirror keeps"
            " already",
        ),
        (
            {"A-B": definition()},
            "models.A-B: the name must be a letter and at most 62 letters, digits and underscores",
        ),
        ({"A": definition(key="1")}, "models.A.key: '1' is no name of a property"),
        (
            {"A": definition(**{"b c": ("string",)})},
            "models.A.properties.b c: the name must be a letter and at most 59 letters,"
            " digits and underscores",
        ),
    ],
)
def test_what_is_wrong_with_a_mapping_is_told(models: dict[str, ModelDefinition], problem: str) -> None:
    with pytest.raises(MappingError) as caught:
        derive(models, SOURCE)
    assert caught.value.problems == (problem,)


def test_all_problems_are_told_at_once() -> None:
    models = {
        "A": definition("NoSet", b=("foreign key", "X", "Nobody")),
        "B": definition("AccountSet", c=("string", "Uk"), d=("boolean", "Ok")),
    }
    with pytest.raises(MappingError) as caught:
        derive(models, SOURCE)
    assert len(caught.value.problems) == 4


def test_names_are_judged_without_a_metadata_document() -> None:
    check(MODELS)
    with pytest.raises(MappingError, match="no model 'Nobody'"):
        check({"A": definition("AccountSet", b=("foreign key", "Parent", "Nobody"))})


def test_the_document_of_models_says_what_they_are() -> None:
    read = parse_metadata(write_metadata(MAPPED.model, NAMESPACE))
    assert read == MAPPED.model
    types = {
        name: each.type for name, each in read.entity_sets["Organisation"].entity_type.properties.items()
    }
    assert types == {
        "id": "Edm.Guid",
        "name": "Edm.String",
        "industry": "Edm.Int32",
        "uk": "Edm.Boolean",
        "size": "Edm.Int64",
        "created": "Edm.DateTime",
        "sector": "Edm.Guid",
        "parent_id": "Edm.Guid",
        "note": "Edm.String",
    }
    found = Relationships(read).of(read.entity_sets["Tag"], "code")
    assert found is not None
    assert (found.kind, found.target.name, found.ties) == ("lookup", "Code", ((("code_id",), ("number",)),))


def test_values_have_the_seeds_meanings() -> None:
    assert MAPPED.sets["Organisation"].values(RAW, {"note:Edm.String": "n", "note:Edm.Int32": 4}) == {
        "id": ID,
        "name": "",
        "industry": 7,
        "uk": True,
        "size": 12345678901,
        "created": datetime(1970, 1, 1, 0, 0, 1),
        "sector": ID,
        "parent_id": ID,
        "note": "n",
    }


@pytest.mark.parametrize(
    "parent", [None, {"Id": None, "LogicalName": None}, {"Id": str(ID), "LogicalName": "contact"}]
)
def test_a_foreign_key_is_null_where_the_lookup_names_another_type(parent: Any) -> None:
    assert MAPPED.sets["Organisation"].values({**RAW, "Parent": parent}, {})["parent_id"] is None


def test_what_is_posted_is_said_in_the_sets_own_words() -> None:
    of = MAPPED.sets["Organisation"]
    posted = {"id": ID, "name": "", "industry": 3, "size": 5, "parent_id": ID, "sector": None, "note": "n"}
    body = json.loads(of.source_body(posted, SOURCE, new=True))
    nothing = {"Id": None, "LogicalName": None, "Name": None}
    assert {**body, "Sector": {name: body["Sector"][name] for name in nothing}} == {
        "AccountId": str(ID),
        "Name": None,
        "Industry": {"Value": 3},
        "Size": "5",
        "Sector": nothing,
        "Parent": {"Id": str(ID), "LogicalName": "account"},
    }
    assert "AccountId" not in of.source_body(posted, SOURCE, new=False)
    assert of.own_values(posted) == {"note:Edm.String": ("Edm.String", "n")}
    assert of.source_body({"note": "n"}, SOURCE, new=False) == ""
