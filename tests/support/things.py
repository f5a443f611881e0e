"""A world for the language: a property of every type, lookups, and a many-to-many relationship."""

from __future__ import annotations

from proxy.odata.csdl import parse_metadata
from proxy.odata.relationships import Relationships

_PROPERTIES = """
Name String, Text String, Tiny Byte, Signed SByte, Small Int16, Whole Int32, Big Int64, Amount Decimal,
Real Double, Short Single, Flag Boolean, Moment DateTime, Instant DateTimeOffset, Span Time, Bytes Binary,
Other Guid"""


def _property(declaration: str) -> str:
    name, kind = declaration.split()
    return f'<Property Name="{name}" Type="{kind if "." in kind else f"Edm.{kind}"}"/>'


def _document() -> bytes:
    properties = "".join(map(_property, _PROPERTIES.split(",")))
    return f"""<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"><edmx:DataServices>
<Schema Namespace="T" xmlns="http://schemas.microsoft.com/ado/2007/05/edm">
<EntityType Name="Thing"><Key><PropertyRef Name="ThingId"/></Key>
  <Property Name="ThingId" Type="Edm.Guid" Nullable="false"/>{properties}
  <Property Name="Price" Type="T.Money"/><Property Name="Kind" Type="T.OptionSetValue"/>
  <Property Name="ParentThingId" Type="T.EntityReference"/><Property Name="InBox" Type="T.EntityReference"/>
  <NavigationProperty Name="parent" Relationship="T.thing_parentthing" FromRole="Child" ToRole="Parent"/>
  <NavigationProperty Name="children" Relationship="T.thing_parentthing" FromRole="Parent" ToRole="Child"/>
  <NavigationProperty Name="box" Relationship="T.box_thing_inbox" FromRole="Thing" ToRole="Box"/>
  <NavigationProperty Name="lids" Relationship="T.thinglid" FromRole="Thing" ToRole="Box"/>
  <NavigationProperty Name="loose" Relationship="T.loose" FromRole="Thing" ToRole="Box"/>
</EntityType>
<EntityType Name="Box"><Key><PropertyRef Name="BoxId"/></Key>
  <Property Name="BoxId" Type="Edm.Guid" Nullable="false"/><Property Name="Name" Type="Edm.String"/>
  <Property Name="Size" Type="Edm.Int32"/><Property Name="WithinBoxId" Type="T.EntityReference"/>
  <NavigationProperty Name="within" Relationship="T.box_withinbox" FromRole="Inner" ToRole="Outer"/>
  <NavigationProperty Name="things" Relationship="T.box_thing_inbox" FromRole="Box" ToRole="Thing"/>
  <NavigationProperty Name="covered" Relationship="T.thinglid" FromRole="Box" ToRole="Thing"/>
</EntityType>
<EntityType Name="ThingLid"><Key><PropertyRef Name="ThingLidId"/></Key>
  <Property Name="ThingLidId" Type="Edm.Guid" Nullable="false"/><Property Name="ThingId" Type="Edm.Guid"/>
  <Property Name="BoxId" Type="Edm.Guid"/></EntityType>
<ComplexType Name="Money"><Property Name="Value" Type="Edm.Decimal"/></ComplexType>
<ComplexType Name="OptionSetValue"><Property Name="Value" Type="Edm.Int32"/></ComplexType>
<ComplexType Name="EntityReference"><Property Name="Id" Type="Edm.Guid"/>
  <Property Name="LogicalName" Type="Edm.String"/><Property Name="Name" Type="Edm.String"/></ComplexType>
<Association Name="thing_parentthing"><End Role="Parent" Type="T.Thing" Multiplicity="0..1"/>
  <End Role="Child" Type="T.Thing" Multiplicity="*"/></Association>
<Association Name="box_thing_inbox"><End Role="Box" Type="T.Box" Multiplicity="0..1"/>
  <End Role="Thing" Type="T.Thing" Multiplicity="*"/></Association>
<Association Name="box_withinbox"><End Role="Outer" Type="T.Box" Multiplicity="0..1"/>
  <End Role="Inner" Type="T.Box" Multiplicity="*"/></Association>
<Association Name="thinglid"><End Role="Thing" Type="T.Thing" Multiplicity="*"/>
  <End Role="Box" Type="T.Box" Multiplicity="*"/></Association>
<Association Name="loose"><End Role="Thing" Type="T.Thing" Multiplicity="*"/>
  <End Role="Box" Type="T.Box" Multiplicity="0..1"/></Association>
<EntityContainer Name="C"><EntitySet Name="ThingSet" EntityType="T.Thing"/>
  <EntitySet Name="BoxSet" EntityType="T.Box"/><EntitySet Name="ThingLidSet" EntityType="T.ThingLid"/>
</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>""".encode()


DOCUMENT = _document()
MODEL = parse_metadata(DOCUMENT)
RELATIONSHIPS = Relationships(MODEL)
THINGS = MODEL.entity_sets["ThingSet"]
BOXES = MODEL.entity_sets["BoxSet"]
LIDS = MODEL.entity_sets["ThingLidSet"]
