"""Names in the schema `mirror`: a property's own, unless Postgres or we cannot have it so.

A name over 63 bytes, one that Postgres or the mirror uses for itself, and one that is taken already is
cut and gets a hash of the whole path. Pure; what was decided once is kept in `syncpoint.names`, so that a
column keeps its name whatever joins later.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

MAX_BYTES = 63  # Postgres cuts longer identifiers without saying so

# Every Postgres table has these (Postgres documentation, 5.6 System Columns).
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})

# What statements over entities call parts of themselves (`statements`, `questions`, `expressions`; Postgres:
# `excluded`). A table of that name could not be told from it, schema or not.
_IN_STATEMENTS = re.compile(r"excluded|before|near|far|pairs|s[0-9]+(?:_one)?")

_HASH_BYTES = 4


def path_name(path: str) -> str:
    """The natural column name of a property path: `PrimaryContactId/Id` is `PrimaryContactId_Id`."""
    return path.replace("/", "_")


def free_name(path: str, taken: Collection[str]) -> str:
    """The name for a property path beside those taken."""
    name = path_name(path)
    if name and name not in taken and len(name.encode()) <= MAX_BYTES:
        return name
    attempt = 0
    while True:
        short = _shortened(name, f"{path} {attempt}" if attempt else path)
        if short not in taken:
            return short
        attempt += 1


def table_name(entity_set: str, taken: Collection[str]) -> str:
    """The name for the table of an entity set beside those taken."""
    reserved = (entity_set,) if _IN_STATEMENTS.fullmatch(entity_set) else ()
    return free_name(entity_set, {*taken, *reserved})


def index_name(table: str, purpose: str) -> str:
    """The name for an index. Tables and indexes share their names; that of a table has no slash in it."""
    return _shortened(table, f"{table}/{purpose}", separator="/")


def _shortened(name: str, hashed: str, separator: str = "_") -> str:
    suffix = separator + hashlib.blake2b(hashed.encode(), digest_size=_HASH_BYTES).hexdigest()
    # "ignore" drops the half of a character that a cut may leave.
    kept = name.encode()[: MAX_BYTES - len(suffix)].decode("utf-8", "ignore")
    return kept + suffix
