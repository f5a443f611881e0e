"""Atom that others wrote: what clients post, and what is learned from upstream's entries."""

from uuid import UUID

import pytest

from proxy.odata import atom
from proxy.odata.errors import ODataError

DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"
NAMESPACES = f'xmlns:d="{DATA}" xmlns:m="{DATA}/metadata" xmlns="http://www.w3.org/2005/Atom"'
ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")


def entry(properties, links="", head=""):
    return (
        f"{head}<entry {NAMESPACES}>{links}<content type='application/xml'>"
        f"<m:properties>{properties}</m:properties></content></entry>"
    ).encode()


@pytest.fixture
def read(paths_model):
    account = paths_model.entity_sets["AccountSet"].entity_type
    return lambda body: atom.parse_entry_body(body, account, paths_model)


@pytest.mark.parametrize(
    ("properties", "posted"),
    [
        ("", {}),
        ("<d:Name>Caf\u00e9 &amp; Co</d:Name>", {"Name": "Caf\u00e9 & Co"}),
        ("<d:Name xml:space='preserve'>  </d:Name>", {"Name": "  "}),
        ("<d:Name />", {"Name": ""}),
        ("<d:Name m:null='true' />", {"Name": None}),
        ("<d:Name>a<!-- b -->c<![CDATA[<d>]]></d:Name>", {"Name": "ac<d>"}),
        (f"<d:AccountId m:type='Edm.Guid'> {ID} </d:AccountId>", {"AccountId": ID}),
        ("<d:PrimaryContactId m:null='true' />", {"PrimaryContactId": {"Id": None, "Name": None}}),
        (
            f"<d:PrimaryContactId><d:Id>{ID}</d:Id><d:LogicalName>x</d:LogicalName></d:PrimaryContactId>",
            {"PrimaryContactId": {"Id": ID}},
        ),
    ],
)
def test_what_clients_post_is_understood(read, properties, posted):
    assert read(entry(properties)) == posted


def test_properties_of_a_nested_entity_are_not_the_entrys_own(read):
    inner = entry("<d:FullName>Ada</d:FullName>").decode()
    link = f"<link rel='{DATA}/related/account_primary_contact'><m:inline>{inner}</m:inline></link>"
    assert read(entry("<d:Name>x</d:Name>", link)) == {"Name": "x"}


def test_a_media_link_entry_has_its_properties_beside_its_content(read):
    body = f"<entry {NAMESPACES}><content src='x'/><m:properties><d:Name>x</d:Name></m:properties></entry>"
    assert read(body.encode()) == {"Name": "x"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html><body /></html>",
        entry("<d:Nme>x</d:Nme>"),
        entry("<d:AccountId>1234</d:AccountId>"),
        entry("")[:-1],
        entry("<d:Name>&x;</d:Name>", head="<!DOCTYPE entry [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"),
        entry("", head="<!DOCTYPE entry>"),
        entry("<d:Name>&#xB;</d:Name>"),
    ],
)
def test_bodies_that_are_no_entry_are_refused(read, body):
    with pytest.raises(ODataError):
        read(body)


@pytest.mark.parametrize(
    ("body", "url"),
    [
        (f"<uri xmlns='{DATA}'>https://h/S(1)</uri>", "https://h/S(1)"),
        (f"<uri xmlns='{DATA}/metadata'>\n https://h/S(1)\n</uri>", "https://h/S(1)"),
    ],
)
def test_a_posted_link_is_read(body, url):
    assert atom.parse_links_body(body.encode()) == url


@pytest.mark.parametrize("body", ["<uri>x</uri>", f"<uri xmlns='{DATA}'> </uri>", "", "{}"])
def test_a_body_that_is_no_link_is_refused(body):
    with pytest.raises(ODataError):
        atom.parse_links_body(body.encode())


def test_moments_of_rendering_are_masked_and_nothing_else():
    first = "<feed><updated>2016</updated><entry><updated>2017</updated><d:updated>2018</d:updated>"
    assert atom.mask_updated(first) == atom.mask_updated(first.replace("2017", "2027"))
    assert atom.mask_updated(first) != atom.mask_updated(first.replace("2018", "2028"))


def test_heads_of_entries():
    one = f"<entry {NAMESPACES}><id>a</id><title type='text' /></entry>"
    two = f"<feed {NAMESPACES}><id>f</id>{one}<entry><id>b</id><title>T</title></entry></feed>"
    assert atom.entry_heads(one.encode()) == [atom.EntryHead("a", "")]
    assert atom.entry_heads(two.encode()) == [atom.EntryHead("a", ""), atom.EntryHead("b", "T")]


def test_the_next_link_is_unescaped():
    head = f"<feed {NAMESPACES}>"
    assert atom.next_link(f'{head}<link rel="next" href="https://h/S?a=1&amp;b=&lt;&quot;" /></feed>') == (
        'https://h/S?a=1&b=<"'
    )
    assert atom.next_link(f"{head}</feed>") is None
    assert atom.origin_of("<feed>") == ""
