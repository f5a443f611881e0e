"""Whose links a body shows: the service's at upstream, or the same service at the proxy (rule 12)."""

from __future__ import annotations

from functools import partial

from proxy.odata import atom, batch, verbose_json
from proxy.odata.errors import ODataError
from proxy.odata.media import media_type

_XML_TYPES = frozenset({"application/atom+xml", "application/atomsvc+xml", "application/xml", "text/xml"})


def rewrite_origins(body: bytes, content_type: str | None, root_path: str, origin: str) -> bytes:
    """Give the links of the service below `root_path` another origin, by the body's media type.

    Where the body cannot be read as what it is called, it comes back as it is.
    """
    kind = media_type(content_type)
    if kind == "multipart/mixed":
        within = partial(_rewrite_text, root_path=root_path, origin=origin)
        try:
            return batch.rewrite_origins(body, content_type, root_path, origin, within)
        except ODataError:
            return body
    return _rewrite_text(body, kind, root_path, origin)


def _rewrite_text(body: bytes, content_type: str | None, root_path: str, origin: str) -> bytes:
    kind = media_type(content_type)
    if kind == "application/json":
        rewrite = verbose_json.rewrite_origins
    elif kind in _XML_TYPES:
        rewrite = atom.rewrite_origins
    else:
        return body
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body
    rewritten = rewrite(text, root_path, origin)
    return body if rewritten == text else rewritten.encode()
