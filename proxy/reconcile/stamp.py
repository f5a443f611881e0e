"""The stamp of an entity, and how two of them compare (sync contract, rules 2 and 3)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, time


@dataclass(frozen=True, slots=True)
class Stamp:
    """What upstream says about an entity's last change, without its content.

    `modified_on`: naive UTC. `version_number`: rises with every write where upstream fills it.
    `etag`: from `__metadata`, for upstreams that give one.
    """

    modified_on: datetime | None = None
    version_number: int | None = None
    etag: str | None = None

    @property
    def says_a_time(self) -> bool:
        """False for no ModifiedOn, and for a midnight: some servers only count days."""
        return self.modified_on is not None and self.modified_on.time() != time(0)

    @property
    def is_exact(self) -> bool:
        """True where the stamp moves with every write, however fast they follow each other."""
        return self.version_number is not None or self.etag is not None


class Comparison(enum.Enum):
    """What upstream's stamp says against the one the mirror holds."""

    SAME = "same"
    UPSTREAM_NEWER = "upstream newer"
    MIRROR_NEWER = "mirror newer"
    DIFFERENT = "different"  # moved, but nothing says which way
    SILENT = "silent"  # no member that both sides fill


def compare(held: Stamp, seen: Stamp) -> Comparison:
    """Compare the mirror's stamp with the one upstream shows.

    Members are compared where both sides have them; VersionNumber outranks ModifiedOn, because it
    counts writes while ModifiedOn counts whole seconds and can be set back.
    """
    if held.version_number is not None and seen.version_number is not None:
        if seen.version_number != held.version_number:
            newer = seen.version_number > held.version_number
            return Comparison.UPSTREAM_NEWER if newer else Comparison.MIRROR_NEWER
    elif (held.version_number is None) != (seen.version_number is None):
        return Comparison.DIFFERENT
    if (held.etag is None) != (seen.etag is None) or held.etag != seen.etag:
        return Comparison.DIFFERENT
    if held.modified_on is None or seen.modified_on is None:
        if held.modified_on is not seen.modified_on:
            return Comparison.DIFFERENT
        return Comparison.SAME if held.is_exact else Comparison.SILENT
    if seen.modified_on == held.modified_on:
        return Comparison.SAME if held.is_exact or held.says_a_time else Comparison.SILENT
    newer = seen.modified_on > held.modified_on
    return Comparison.UPSTREAM_NEWER if newer else Comparison.MIRROR_NEWER
