"""Atom as the server writes it: titles, links, nulls, nesting, escapes."""

import json
from xml.etree import ElementTree

import pytest

from proxy.odata import atom
from proxy.odata.edm import Property
from proxy.odata.errors import ODataError

ROOT = "https://h/s.svc"
KEY = "guid'8f2c6a50-0d61-e611-80c5-00155d010a01'"
URI = f"{ROOT}/AccountSet({KEY})"
DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"
UPDATED = "2016-08-25T16:05:07Z"
NAMESPACES = (
    f'xml:base="{ROOT}/" xmlns:d="{DATA}" xmlns:m="{DATA}/metadata" xmlns="http://www.w3.org/2005/Atom"'
)


def entity(uri=URI, **members):
    return {"__metadata": {"uri": uri, "type": "N.Account"}, **members}


@pytest.fixture
def write(paths_model):
    def written(raw, title="", **options):
        return atom.entry_from_document(
            json.dumps(raw),
            paths_model.entity_sets["AccountSet"],
            paths_model,
            title=title,
            updated=UPDATED,
            **options,
        )

    return written


@pytest.mark.parametrize(
    ("title", "raw", "shown"),
    [
        ("Name", entity(Name="A & <B>"), '<title type="text">A &amp; &lt;B&gt;</title>'),
        ("Name", entity(Name=None), '<title type="text"></title>'),
        ("Name", entity(), '<title type="text"></title>'),
        ("", entity(Name="x"), '<title type="text"></title>'),
    ],
)
def test_the_title_shows_the_primary_attribute(write, title, raw, shown):
    assert f"</id>{shown}<updated>" in write(raw, title)


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("Edm.String", "a", "<d:P>a</d:P>"),
        ("Edm.String", "", "<d:P></d:P>"),
        ("Edm.String", None, '<d:P m:null="true" />'),
        ("Edm.String", " a", '<d:P xml:space="preserve"> a</d:P>'),
        ("Edm.String", 'a "b"\t\nc\r', '<d:P>a "b"\t\nc&#xD;</d:P>'),
        ("Edm.String", "\x0b\x00\ufffe\ud800", "<d:P>&#xB;&#x0;&#xFFFE;&#xD800;</d:P>"),
        ("Edm.String", "é😀]]>", "<d:P>é😀]]&gt;</d:P>"),
        ("Edm.Int32", None, '<d:P m:type="Edm.Int32" m:null="true" />'),
        ("Edm.Int64", "5", '<d:P m:type="Edm.Int64">5</d:P>'),
        ("Edm.Boolean", True, '<d:P m:type="Edm.Boolean">true</d:P>'),
        ("Edm.Decimal", "1.50", '<d:P m:type="Edm.Decimal">1.50</d:P>'),
        (
            "Edm.DateTime",
            "/Date(1472140800123)/",
            '<d:P m:type="Edm.DateTime">2016-08-25T16:00:00.123Z</d:P>',
        ),
        (
            "Microsoft.Crm.Sdk.Data.Services.EntityReference",
            None,
            '<d:P m:type="Microsoft.Crm.Sdk.Data.Services.EntityReference">'
            '<d:Id m:type="Edm.Guid" m:null="true" /><d:Name m:null="true" /></d:P>',
        ),
    ],
)
def test_values(paths_model, name, value, written):
    assert atom.write_value("P", value, Property("P", name), paths_model) == written


def test_links_are_relative_and_escaped(write):
    text = write(entity(f"{ROOT}/AccountSet('a&\"b')"))
    assert "<id>https://h/s.svc/AccountSet('a&amp;\"b')</id>" in text
    assert "href=\"AccountSet('a&amp;&quot;b')/unbound\" />" in text
    ElementTree.fromstring(text)


def test_selected_properties_stand_alone_in_their_order(write):
    text = write(entity(Name="x", AccountId=KEY[5:-1]), select=["Name", "AccountId", "Name"])
    assert "related" not in text
    assert text.index("<d:Name>") < text.index("<d:AccountId ")
    assert text.count("<d:Name>") == 1
    assert "PrimaryContactId" not in text


def test_expanded_entities_stand_inside_their_links(write):
    contact = entity(f"{ROOT}/ContactSet({KEY})", FullName="Ada")
    one = write(entity(account_primary_contact=contact), select=["account_primary_contact"])
    assert 'title="account_primary_contact"' in one
    assert f'/account_primary_contact"><m:inline><entry><id>{ROOT}/ContactSet({KEY})</id>' in one
    none = write(entity(account_primary_contact=None))
    assert '/account_primary_contact"><m:inline /></link>' in none
    many = write(entity(contact_customer_accounts={"results": [contact], "__next": f"{ROOT}/next"}))
    assert (
        '/contact_customer_accounts"><m:inline><feed><title type="text">contact_customer_accounts</title>'
        f"<id>{URI}/contact_customer_accounts</id><updated>{UPDATED}</updated>"
        '<link rel="self" title="contact_customer_accounts"'
        f' href="AccountSet({KEY})/contact_customer_accounts" /><entry>'
    ) in many
    assert f'</entry><link rel="next" href="{ROOT}/next" /></feed></m:inline></link>' in many
    assert not any("<m:inline><entry xml:base" in text for text in (one, many))
    for text in (one, none, many):
        ElementTree.fromstring(text)


def test_an_empty_feed_has_an_author_and_needs_to_be_told_its_root(paths_model):
    accounts = paths_model.entity_sets["AccountSet"]
    with pytest.raises(ODataError):
        atom.feed_from_documents([], accounts, paths_model, title="", updated=UPDATED)
    assert atom.feed_from_documents(
        [], accounts, paths_model, title="", updated=UPDATED, root=ROOT, count=0
    ) == (
        f'<?xml version="1.0" encoding="utf-8" standalone="yes"?><feed {NAMESPACES}>'
        f'<title type="text">AccountSet</title><id>{ROOT}/AccountSet</id><updated>{UPDATED}</updated>'
        '<author><name /></author><link rel="self" title="AccountSet" href="AccountSet" />'
        "<m:count>0</m:count></feed>"
    )


@pytest.mark.parametrize(
    "document", ["", "[]", "{}", '{"__metadata":{}}', json.dumps(entity("https://h/s.svc/Other(1)"))]
)
def test_what_is_no_entity_of_the_set_is_refused(paths_model, document):
    with pytest.raises(ODataError):
        atom.entry_from_document(
            document, paths_model.entity_sets["AccountSet"], paths_model, title="", updated=UPDATED
        )


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("Edm.String", "a<"),
        ("Edm.String", None),
        ("Edm.Int32", 5),
        ("Microsoft.Crm.Sdk.Data.Services.EntityReference", {"Id": None, "Name": "PrimaryContact"}),
    ],
)
def test_a_property_document_names_its_namespaces(paths_model, type_name, value):
    text = atom.write_property("Primary", value, Property("Primary", type_name), paths_model)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{{{DATA}}}Primary"
    if isinstance(value, dict):
        assert root.findtext(f"{{{DATA}}}Name") == "PrimaryContact"
    else:
        assert root.text == (None if value is None else str(value))
        assert (root.get(f"{{{DATA}/metadata}}null") == "true") is (value is None)


def test_links_may_be_counted_and_go_on():
    text = atom.write_links(["u", "v"], many=True, next_link="n?a&b", count=7)
    assert text.endswith(
        f'<links xmlns="{DATA}"><m:count xmlns:m="{DATA}/metadata">7</m:count><uri>u</uri><uri>v</uri>'
        "<next>n?a&amp;b</next></links>"
    )


def test_an_expanded_entity_of_all_its_properties_has_no_links(write):
    """`$select=nav/*` leaves the links of what it expands out."""
    contact = {
        "__metadata": {"uri": f"{ROOT}/ContactSet({KEY})", "type": "N.Contact"},
        "ContactId": "8f2c6a50-0d61-e611-80c5-00155d010a01",
        "FullName": "Ada",
    }
    starred = write(entity(account_primary_contact=contact))
    assert "related/contact_parts" not in starred
    deferred = {"__deferred": {"uri": f"{ROOT}/ContactSet({KEY})/contact_parts"}}
    assert "related/contact_parts" in write(
        entity(account_primary_contact=contact | {"contact_parts": deferred})
    )
