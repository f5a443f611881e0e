"""Whole bodies as they cross the wire: read, and written again to the byte.

The files under `exchanges` are the exchanges of the field manual's section 13, on one line as the server
sends them, with the properties that `metadata.xml` beside them declares.
"""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from proxy.odata import atom, verbose_json
from proxy.odata.csdl import parse_metadata

EXCHANGES = Path(__file__).parent / "exchanges"
MODEL = parse_metadata((EXCHANGES / "metadata.xml").read_bytes())
ACCOUNTS = MODEL.entity_sets["AccountSet"]
CONTACTS = MODEL.entity_sets["ContactSet"]
SECTORS = MODEL.entity_sets["optevia_sectorSet"]
ROOT = "https://crm.example.org/xrmservices/2011/OrganizationData.svc"
ROOT_PATH = "/XRMServices/2011/OrganizationData.svc"
RENDERED = "2016-08-25T16:05:07Z"
LISTED = ("AccountId", "Name", "PrimaryContactId", "CreditLimit", "OwnershipCode", "ModifiedOn")
ACCOUNT_ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
NOBODY = {"Id": None, "LogicalName": None, "Name": None}


def body(name):
    return (EXCHANGES / name).read_bytes().decode()


def values(raw, entity_set):
    return verbose_json.parse_entity(raw, entity_set.entity_type, MODEL)


def test_a_json_list_is_read():
    text = body("list.json")
    sliced = verbose_json.slice_reply(text)
    first, second = (values(raw, ACCOUNTS) for raw in sliced.values)
    assert first == {
        "AccountId": ACCOUNT_ID,
        "Name": "Café Adam Ltd",
        "PrimaryContactId": {
            "Id": UUID("a1d0be2e-1161-e611-80c5-00155d010a01"),
            "LogicalName": "contact",
            "Name": "Ada Byron",
        },
        "CreditLimit": {"Value": Decimal("1000.0000")},
        "OwnershipCode": {"Value": 1},
        "ModifiedOn": datetime(2016, 8, 25, 16),
    }
    assert second["PrimaryContactId"] == NOBODY
    assert text[slice(*sliced.next_span)].endswith("00155D010A01%7D'\"")


def test_a_json_list_is_written():
    text = body("list.json")
    sliced = verbose_json.slice_reply(text)
    entities = [
        verbose_json.write_entity(values(raw, ACCOUNTS), ACCOUNTS, MODEL, ROOT, select=LISTED)
        for raw in sliced.values
    ]
    next_link = text[slice(*sliced.next_span)][1:-1]
    assert verbose_json.write_d(verbose_json.write_collection(entities, next_link)) == text


def test_a_whole_entity_is_read_and_written_in_both_formats():
    text = body("entity.json")
    sliced = verbose_json.slice_reply(text)
    read = values(sliced.values[0], ACCOUNTS)
    assert read["ModifiedOn"] == datetime(1906, 12, 9)
    assert read["Address1_Latitude"] == 51.5007
    assert verbose_json.write_d(verbose_json.write_entity(read, ACCOUNTS, MODEL, ROOT)) == text
    document = text[slice(*sliced.spans[0])]
    entry = atom.entry_from_document(document, ACCOUNTS, MODEL, title="Name", updated=RENDERED)
    assert entry == body("entry.xml")
    assert atom.parse_entry_body(entry.encode(), ACCOUNTS.entity_type, MODEL) == read


def test_a_feed_is_written_and_read():
    text = body("feed.xml")
    feed = atom.feed_from_documents(
        [body("sector.json")],
        SECTORS,
        MODEL,
        title="optevia_name",
        updated=RENDERED,
        select=["optevia_sectorId", "optevia_name", "optevia_ParentSector", "ModifiedOn"],
        next_link=atom.next_link(text),
    )
    assert feed == text
    sector = "optevia_sectorSet(guid'a5380000-5f95-e211-a939-00155d010a01')"
    assert atom.entry_heads(text.encode()) == [atom.EntryHead(f"{ROOT}/{sector}", "Aerospace")]
    assert atom.origin_of(text) == "https://crm.example.org"


def test_a_create_is_read():
    posted = verbose_json.parse_posted(body("posted_contact.json").encode(), CONTACTS.entity_type, MODEL)
    assert posted == {
        "FirstName": "Grace",
        "LastName": "Hopper",
        "ParentCustomerId": {"Id": ACCOUNT_ID, "LogicalName": "account"},
        "GenderCode": {"Value": 2},
        "BirthDate": datetime(1906, 12, 9),
    }


def test_an_update_that_clears_is_read():
    posted = verbose_json.parse_posted(body("posted_clearing.json").encode(), CONTACTS.entity_type, MODEL)
    assert posted == {
        "JobTitle": "Rear admiral",
        "ParentCustomerId": NOBODY,
        "GenderCode": {"Value": None},
    }


def test_an_atom_create_is_read():
    posted = atom.parse_entry_body(body("posted_account.xml").encode(), ACCOUNTS.entity_type, MODEL)
    assert posted == {
        "AccountId": UUID(int=0),
        "Name": "Fourth Coffee",
        "NumberOfEmployees": None,
        "CreatedOn": None,
        "CreditLimit": {"Value": Decimal("12.50")},
        "OwnerId": NOBODY,
    }


CONTACT_URIS = [
    f"{ROOT}/ContactSet(guid'8f2c6a50-0d61-e611-80c5-00155d010a01')",
    f"{ROOT}/ContactSet(guid'3c77e1aa-0e61-e611-80c5-00155d010b77')",
]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("link.json", verbose_json.write_links(CONTACT_URIS[:1], many=False)),
        ("links.json", verbose_json.write_links(CONTACT_URIS, many=True)),
        ("link.xml", atom.write_links(CONTACT_URIS[:1], many=False)),
        ("links.xml", atom.write_links(CONTACT_URIS, many=True)),
        ("unknown_set.json", verbose_json.write_error("", "Resource not found for the segment 'WidgetSet'.")),
        (
            "missing.json",
            verbose_json.write_error(
                "-2147220969", "contact With Id = 5d1f0c33-1261-e611-80c5-00155d010a01 Does Not Exist"
            ),
        ),
        ("syntax_error.xml", atom.write_error("", "Syntax error at position 9.")),
        ("service.json", verbose_json.write_service_document(["AccountSet", "ContactSet"])),
        ("service.xml", atom.write_service_document(ROOT, ["AccountSet", "ContactSet"])),
    ],
)
def test_links_errors_and_service_documents_are_written(name, written):
    assert written == body(name)


def test_a_posted_atom_link_is_read():
    assert atom.parse_links_body(body("link.xml").encode()) == CONTACT_URIS[0]


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("list.json", 3),
        ("entity.json", 3),
        ("posted_link.json", 1),
        ("link.json", 1),
        ("links.json", 2),
        ("missing.json", 0),
        ("service.json", 0),
        ("entry.xml", 2),
        ("feed.xml", 4),
        ("link.xml", 1),
        ("links.xml", 2),
        ("service.xml", 1),
        ("syntax_error.xml", 0),
        ("posted_account.xml", 0),
    ],
)
def test_every_link_gets_the_proxys_origin(name, links):
    text, format_ = body(name), verbose_json if name.endswith(".json") else atom
    rewritten = format_.rewrite_origins(text, ROOT_PATH, "http://127.0.0.1:8010")
    assert rewritten.count("http://127.0.0.1:8010/") == links
    assert rewritten.replace("http://127.0.0.1:8010", "https://crm.example.org") == text
    assert "crm.example.org" not in rewritten
