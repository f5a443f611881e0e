"""The skip token of a page in the order of keys, as Dynamics 2011 writes it (field manual 4.2, from
Microsoft's own sample): `1,'accountid','%7BLAST%7D','%7BFIRST%7D'`.

The number of the page that was served; the key's logical name, which is its own in small letters; the keys of
the page's last and first entity, guids in capital letters. Pure.
"""

from __future__ import annotations

import re
from uuid import UUID

_GUID = r"\{([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}"
_TOKEN = re.compile(rf"([0-9]{{1,9}}),'([a-z0-9_]+)','{_GUID}','{_GUID}'")


def write_skiptoken(page: int, key_name: str, last: UUID, first: UUID) -> str:
    """As it stands in a link."""
    keys = (f"'%7B{str(key).upper()}%7D'" for key in (last, first))
    return ",".join((str(page), f"'{key_name.lower()}'", *keys))


def read_skiptoken(text: str, key_name: str) -> tuple[int, UUID] | None:
    """The number of the page served and the key of its last entity, of a decoded token; None for others."""
    match = _TOKEN.fullmatch(text)
    if match is None or match[2] != key_name.lower():
        return None
    return int(match[1]), UUID(match[3])
