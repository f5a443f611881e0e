"""What a user may see of the organisation."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rights:
    """`hidden_rows`: (entity set, key). `hidden_properties`: (entity set, property), shown as null."""

    hidden_rows: frozenset[tuple[str, uuid.UUID]] = frozenset()
    hidden_properties: frozenset[tuple[str, str]] = frozenset()
