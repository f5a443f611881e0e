"""How a load is doing, for whoever started it: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from proxy.reconcile.backfill import Load
from proxy.reconcile.readiness import Finding, is_ready
from proxy.reconcile.verifier import Verified

_LINE_EVERY_S = 10.0


@contextmanager
def shown_loads(console: Console) -> Iterator[Callable[[Load], None]]:
    """Show what is reported until the block is left."""
    if console.is_terminal:
        with _Bars(console) as bars:
            yield bars.show
    else:
        yield _Lines(console).show


class _Rates:
    """Rows a second of each set, since it was first seen loading."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def of(self, load: Load) -> float:
        began = self._began.setdefault(load.entity_set, time.monotonic())
        return (load.rows - load.resumed) / max(time.monotonic() - began, 0.001)


class _Bars:
    def __init__(self, console: Console) -> None:
        self._rates = _Rates()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, load: Load) -> None:
        if load.state == "waiting":
            self._tasks[load.entity_set] = self._progress.add_task(
                load.entity_set, start=False, total=None, rate="", note=""
            )
            return
        task = self._tasks[load.entity_set]
        self._progress.start_task(task)
        is_over = load.state in ("done", "already")
        self._progress.update(
            task,
            completed=load.rows,
            total=load.rows if is_over else load.expected,
            rate="" if load.state == "already" else f"{self._rates.of(load):.0f}/s",
            note=_note(load),
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = _Rates()
        self._told: dict[str, float] = {}

    def show(self, load: Load) -> None:
        now = time.monotonic()
        is_due = now - self._told.get(load.entity_set, -_LINE_EVERY_S) >= _LINE_EVERY_S
        if load.state == "waiting" or (load.state == "loading" and not is_due):
            return
        self._told[load.entity_set] = now
        rate = self._rates.of(load)
        line = f"{load.entity_set}: {load.rows} rows"
        if load.state != "already":
            line += f", {rate:.0f}/s"
        if load.state == "loading" and load.expected and rate:
            line += f", {max(0, load.expected - load.rows) / rate:.0f} s left"
        self._console.print(f"{line}{_note(load) and ', '}{_note(load)}", highlight=False, soft_wrap=True)


def _note(load: Load) -> str:
    if load.state == "already":
        return "loaded before"
    if load.state == "failed":
        return f"failed: {load.reason}"
    return load.state if load.state == "done" else ""


def show_findings(console: Console, found: Sequence[Finding], *, as_json: bool) -> None:
    """What is for and against a cutover: JSON, a table on a terminal, plain lines elsewhere."""
    rows = [(one.weight.value, one.entity_set or "unit", one.topic, one.text) for one in found]
    if as_json:
        names = ("weight", "about", "topic", "text")
        shown = {"ready": is_ready(found), "findings": [dict(zip(names, row, strict=True)) for row in rows]}
        console.print_json(json.dumps(shown))
        return
    if not console.is_terminal:
        for row in rows:
            console.file.write("\t".join(row) + "\n")
        return
    table = Table(box=None, show_header=False)
    styles = {"blocks": "red", "look": "yellow", "fine": "green"}
    for weight, *rest in rows:
        table.add_row(Text(weight, styles[weight]), *map(Text, rest))
    console.print(table)


def verified_lines(found: Verified) -> Iterator[str]:
    """What a comparison with upstream found of one set."""
    counts = f"upstream {found.upstream}, mirror {found.mirror}, contents compared {found.contents}"
    under_way = f", under way {found.under_way}" if found.under_way else ""
    verdict = found.error or ("drift" if found.drift else "the same")
    yield f"{found.entity_set}: {verdict}; {counts}{under_way}"
    for kind, count in found.drift.items():
        yield f"  {kind.value}: {count}, as {', '.join(found.examples[kind])}"
    if found.repaired:
        yield f"  repaired: {found.repaired}"
