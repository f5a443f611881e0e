"""Look the pinned distributions up in a database of vulnerabilities, where one can be reached.

pip-audit says "No known vulnerabilities found" also where it has found no word on any of them; here that is
said to be no audit, and counts for nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_OPTIONS = ("--no-deps", "--disable-pip", "--timeout", "5", "--progress-spinner", "off", "--format", "json")


def verdict(report: Mapping[str, Any] | None) -> tuple[int, str]:
    """Exit code and what to say of pip-audit's report; None: it made none."""
    found = report["dependencies"] if report else []
    audited = [each for each in found if "skip_reason" not in each]
    unknown = [each["name"] for each in found if "skip_reason" in each]
    if not audited:
        return (
            0,
            "AUDIT SKIPPED: no database of vulnerabilities can be reached; nothing was looked up.",
        )
    vulnerable = [
        f"{each['name']} {each['version']}: {', '.join(one['id'] for one in each['vulns'])}"
        for each in audited
        if each["vulns"]
    ]
    problems = [*vulnerable, *(f"{name}: the database does not know it" for name in unknown)]
    told = f"{len(audited)} distributions looked up, {len(vulnerable)} with known vulnerabilities."
    return (1 if problems else 0), "\n".join((*problems, told))


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(_CONSTRAINTS), *_OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
        sys.stderr.write(done.stderr)
    status, told = verdict(report)
    sys.stdout.write(f"{told}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
