"""What SOAP messages name."""

from __future__ import annotations

import uuid

import pytest

from proxy.odata.soap import PATH, Message, read_message

ONE, TWO, THREE = (uuid.UUID(int=number) for number in (1, 2, 3))
CONTRACTS = "http://schemas.microsoft.com/xrm/2011/Contracts"


def envelope(content: str) -> bytes:
    return (
        f'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header/>'
        f"<s:Body>{content}</s:Body></s:Envelope>"
    ).encode()


def reference(identity: uuid.UUID, name: str = "account") -> str:
    return (
        f'<a:Id xmlns:a="{CONTRACTS}">{identity}</a:Id>'
        f'<a:LogicalName xmlns:a="{CONTRACTS}">{name}</a:LogicalName><a:Name xmlns:a="{CONTRACTS}"/>'
    )


def execute(name: str, *parameters: tuple[str, str]) -> bytes:
    pairs = "".join(
        f"<b:KeyValuePairOfstringanyType><b:key>{key}</b:key><b:value>{value}</b:value>"
        "</b:KeyValuePairOfstringanyType>"
        for key, value in parameters
    )
    return envelope(
        f'<Execute xmlns="{CONTRACTS}/Services" xmlns:b="urn:b"><request '
        f'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="g:{name}Request" xmlns:g="urn:g">'
        f"<Parameters>{pairs}</Parameters></request></Execute>"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            envelope(f'<Update xmlns="urn:x"><entity>{reference(ONE)}</entity></Update>'),
            Message("Update", (("account", ONE),)),
        ),
        (
            envelope(f"<Create><entity>{reference(uuid.UUID(int=0))}</entity></Create>"),
            Message("Create", (), ("account",)),
        ),
        (
            envelope(f"<Delete><entityName>contact</entityName><id>{TWO}</id></Delete>"),
            Message("Delete", (("contact", TWO),)),
        ),
        (
            envelope(
                f"<Associate><entityName>account</entityName><entityId>{ONE}</entityId><relationship/>"
                f"<relatedEntities><r>{reference(TWO, 'contact')}</r></relatedEntities></Associate>"
            ),
            Message("Associate", (("account", ONE), ("contact", TWO))),
        ),
        (
            execute("SetState", ("EntityMoniker", reference(ONE)), ("State", "<Value>1</Value>")),
            Message("SetState", (("account", ONE),)),
        ),
        (
            execute("Assign", ("Assignee", reference(TWO, "systemuser")), ("Target", reference(ONE))),
            Message("Assign", (("systemuser", TWO), ("account", ONE))),
        ),
        (
            execute("Merge", ("Target", reference(ONE)), ("SubordinateId", str(THREE))),
            Message("Merge", (("account", ONE), ("account", THREE))),
        ),
        (execute("Update", ("Target", reference(ONE))), Message("Update", (("account", ONE),))),
        (execute("RetrieveMultiple", ("Query", reference(ONE))), None),
        (envelope(f"<Retrieve><id>{ONE}</id></Retrieve>"), None),
        (envelope("<Execute/>"), None),
        (envelope(""), None),
        (b"<s/>", None),
        (b"", None),
        (b"<unclosed", None),
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x>&e;</x>', None),
        (
            envelope("<Delete><entityName>contact</entityName><id>no guid</id></Delete>"),
            Message("Delete", ()),
        ),
    ],
)
def test_messages(body: bytes, message: Message | None) -> None:
    assert read_message(body) == message


@pytest.mark.parametrize(
    ("target", "is_one"),
    [
        ("/Org/XRMServices/2011/Organization.svc/web", True),
        ("/org/xrmservices/2011/organization.svc", True),
        ("/Org/XRMServices/2011/Organization.svc/web?SDKClientVersion=5", True),
        ("/Org/XRMServices/2011/OrganizationData.svc/AccountSet", False),
        ("/Org/XRMServices/2011/Organization.svc/other", False),
    ],
)
def test_paths(target: str, is_one: bool) -> None:
    assert bool(PATH.search(target)) is is_one
