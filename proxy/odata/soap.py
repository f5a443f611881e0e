"""What a SOAP message to Dynamics' organisation service names; nothing else of it is understood.

The messages that change records ("Execute" carries most of them as a request with parameters) name them by
logical name and id: in an EntityReference or an Entity, and in a few plain parameters.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from lxml import etree

from proxy.odata.errors import ODataError
from proxy.odata.xml import parse_xml

PATH = re.compile(r"/XRMServices/2011/Organization\.svc(?:/web)?/?(?:\?.*)?$", re.IGNORECASE | re.DOTALL)
CHANGING = frozenset(
    {
        "Create",
        "Update",
        "Delete",
        "SetState",
        "SetStateDynamicEntity",
        "Assign",
        "Associate",
        "AssociateEntities",
        "Disassociate",
        "DisassociateEntities",
        "Merge",
    }
)
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


@dataclass(frozen=True, slots=True)
class Message:
    """`name`: as in CHANGING. `entities`: logical name and id of each record named, each once.

    `made`: logical names of the records that it makes and gives no id.
    """

    name: str
    entities: tuple[tuple[str, uuid.UUID], ...]
    made: tuple[str, ...] = ()


def read_message(body: bytes) -> Message | None:
    """The message in a SOAP envelope; None for one that changes no record, and for what is no envelope."""
    try:
        envelope = parse_xml(body)
    except ODataError:
        return None
    content = next((child for child in envelope if _local(child) == "Body"), None)
    if content is None or not len(content):
        return None
    name = _local(content[0])
    if name == "Execute":
        request = next(iter(content[0]), None)
        if request is None:
            return None
        asked = _text(request, "RequestName") or request.get(_TYPE, "").rpartition(":")[2]
        name = asked.removesuffix("Request")
    if name not in CHANGING:
        return None
    made = _made(content[0]) if name == "Create" else []
    return Message(name, tuple(dict.fromkeys(_named(content[0]))), tuple(dict.fromkeys(made)))


def _named(content: Any) -> list[tuple[str, uuid.UUID]]:
    found: list[tuple[str, uuid.UUID]] = []
    for element in content.iter():
        if not isinstance(element.tag, str):
            continue
        for name, key in (("LogicalName", "Id"), ("entityName", "id"), ("entityName", "entityId")):
            logical, identity = _text(element, name), _guid(_text(element, key))
            if logical and identity:
                found.append((logical, identity))
    # Merge names the loser by its id alone: it is of the winner's type.
    for pair in content.iter():
        if isinstance(pair.tag, str) and _text(pair, "key") == "SubordinateId" and found:
            identity = _guid(_text(pair, "value"))
            if identity:
                found.append((found[0][0], identity))
    return found


def _made(content: Any) -> list[str]:
    elements = [element for element in content.iter() if isinstance(element.tag, str)]
    names = [_text(element, "LogicalName") for element in elements if not _guid(_text(element, "Id"))]
    return [name for name in names if name]


def _local(element: Any) -> str:
    return str(etree.QName(element).localname) if isinstance(element.tag, str) else ""


def _text(element: Any, name: str) -> str:
    """The text of the child of that name; empty without one."""
    return next((child.text or "" for child in element if _local(child) == name), "").strip()


def _guid(text: str) -> uuid.UUID | None:
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if found.int else None
