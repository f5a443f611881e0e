"""The one way from bytes that others wrote to XML elements.

Entities, document types and anything outside of the document are refused or left alone: no format of the
protocol has use for them. What bounds the work: libxml2's own limits (256 levels, 10 MB for a text), which it
keeps as long as `huge_tree` is off, and the number of tags, since an element takes forty times its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

from proxy.odata.errors import ODataError

MAX_TAGS = 2_000_000

_OPTIONS: Mapping[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def parse_xml(document: bytes) -> Any:
    """The root element.

    Raises ODataError for what is no XML, has a document type declaration, or more than MAX_TAGS tags.
    """
    if document.count(b"<") > MAX_TAGS:
        raise ODataError(f"An XML document may have {MAX_TAGS} tags.", status=413)
    try:
        root: Any = etree.fromstring(document, etree.XMLParser(**_OPTIONS))
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ODataError(f"The document is not valid XML: {error}") from error
    if root.getroottree().docinfo.doctype:
        raise ODataError("A document type declaration is not accepted.")
    return root
