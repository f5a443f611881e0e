"""How two stamps compare: every row is a case of sync contract rules 2 and 3."""

from datetime import datetime

import pytest

from proxy.reconcile.stamp import Comparison, Stamp, compare

EARLY = datetime(2016, 5, 1, 10, 0, 0)
LATE = datetime(2016, 5, 1, 10, 0, 1)
MIDNIGHT = datetime(2016, 5, 1)

SAME, UP, DOWN = Comparison.SAME, Comparison.UPSTREAM_NEWER, Comparison.MIRROR_NEWER
DIFFERENT, SILENT = Comparison.DIFFERENT, Comparison.SILENT


@pytest.mark.parametrize(
    ("held", "seen", "expected"),
    [
        pytest.param(Stamp(EARLY), Stamp(EARLY), SAME, id="same second"),
        pytest.param(Stamp(EARLY), Stamp(LATE), UP, id="upstream newer"),
        pytest.param(Stamp(LATE), Stamp(EARLY), DOWN, id="mirror newer"),
        pytest.param(Stamp(EARLY, 7), Stamp(EARLY, 8), UP, id="same second, version moved"),
        pytest.param(Stamp(LATE, 7), Stamp(EARLY, 8), UP, id="version up outranks time down"),
        pytest.param(Stamp(EARLY, 8), Stamp(LATE, 7), DOWN, id="version down outranks time up"),
        pytest.param(Stamp(EARLY, 8), Stamp(EARLY, 8), SAME, id="both same"),
        pytest.param(Stamp(EARLY, 8), Stamp(LATE, 8), UP, id="same version, time up"),
        pytest.param(Stamp(None, 8), Stamp(None, 8), SAME, id="version alone"),
        pytest.param(Stamp(EARLY, None), Stamp(EARLY, 8), DIFFERENT, id="version appeared"),
        pytest.param(Stamp(EARLY, 8), Stamp(EARLY, None), DIFFERENT, id="version vanished"),
        pytest.param(Stamp(), Stamp(), SILENT, id="nothing filled"),
        pytest.param(Stamp(None), Stamp(EARLY), DIFFERENT, id="time appeared"),
        pytest.param(Stamp(EARLY), Stamp(None), DIFFERENT, id="time vanished"),
        pytest.param(Stamp(MIDNIGHT), Stamp(MIDNIGHT), SILENT, id="a midnight counts only days"),
        pytest.param(Stamp(MIDNIGHT, 3), Stamp(MIDNIGHT, 3), SAME, id="a midnight with a version"),
        pytest.param(Stamp(EARLY, None, "a"), Stamp(EARLY, None, "b"), DIFFERENT, id="etag moved"),
        pytest.param(Stamp(None, None, "a"), Stamp(None, None, "a"), SAME, id="etag alone"),
        pytest.param(Stamp(EARLY, None, "a"), Stamp(EARLY, None, None), DIFFERENT, id="etag vanished"),
    ],
)
def test_compare(held: Stamp, seen: Stamp, expected: Comparison) -> None:
    assert compare(held, seen) is expected
