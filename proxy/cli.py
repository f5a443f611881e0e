"""The `syncpoint` command: reads arguments, chooses exit codes, decides nothing else.

Results go to standard output, logs and problems to standard error. Exit codes: 0 done, 1 failed, 2 usage,
3 configuration, 4 store unreachable, 5 upstream unreachable. What a command needs is imported when it
runs: `--help` does not wait for the whole program.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

import proxy
from proxy.setting_types import Address
from proxy.settings import Settings, SettingsError

FAILED, CONFIGURATION, STORE_UNREACHABLE, UPSTREAM_UNREACHABLE = 1, 3, 4, 5


T = TypeVar("T")


class _AddressType(click.ParamType[Address]):
    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        try:
            return Address.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


ADDRESS = _AddressType()
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CONFIG = click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings, as TOML.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(proxy.__version__)
def main() -> None:
    """A transparent HTTP sync proxy for OData, and a sandbox to try it on."""
    # A page of wide entities is some ten thousand objects, and a metadata document hundreds of thousands that
    # stay: looking for cycles among them as often as Python does by default takes a quarter of the time.
    gc.set_threshold(50_000, 20, 100)


@main.command()
@CONFIG
@click.option("--upstream", metavar="SERVICE_ROOT", help="The OData service that is mirrored.")
@click.option("--listen", type=ADDRESS, help="Where upstream's clients are pointed.")
@click.option("--services-listen", type=ADDRESS, help="Where health and metrics are.")
@click.option("--database-url", metavar="URL", help="A Postgres to keep the mirror in.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="A folder for the embedded Postgres.")
@click.option("--dump-config", is_flag=True, help="Print the settings in force, and end.")
def serve(
    config: Path | None,
    upstream: str | None,
    listen: Address | None,
    services_listen: Address | None,
    database_url: str | None,
    data_dir: Path | None,
    dump_config: bool,
) -> None:
    """Run the proxy until SIGTERM or SIGINT."""
    if database_url is not None and data_dir is not None:
        raise click.UsageError("--database-url and --data-dir exclude each other")

    def read() -> Settings:
        overrides = {
            "upstream.service_root": upstream,
            "listen": listen,
            "services_listen": services_listen,
            "database_url": "" if data_dir is not None else database_url,
            "data_dir": data_dir,
        }
        return Settings.load(config, overrides)

    with _exit_codes():
        settings = read()
        if dump_config:
            click.echo(settings.to_toml(), nl=False)
            return
        _require_upstream(settings)
        _run_proxy(settings, read)


@main.command()
@click.option("--listen", type=ADDRESS, default="127.0.0.1:8012", show_default=True)
@click.option("--metadata", type=FILE, metavar="FILE", help="Another organisation's metadata document.")
@click.option("--rows", type=click.IntRange(min=0), help="Rows in each entity set.")
@click.option(
    "--latency", type=click.IntRange(min=0), default=0, metavar="MS", help="Wait before each answer."
)
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
def sandbox(
    listen: Address, metadata: Path | None, rows: int | None, latency: int, until_stdin_closes: bool
) -> None:
    """Run a Dynamics 2011 organisation with made-up data, the same on every start."""
    import uvloop

    from proxy.odata.errors import ODataError
    from proxy.sandbox import run_sandbox

    with _exit_codes():
        document = metadata.read_bytes() if metadata else None
        serving = run_sandbox(*listen, document, rows, latency, until_stdin_closes=until_stdin_closes)
        try:
            uvloop.run(serving)
        except (ODataError, ValueError) as error:
            _end(FAILED, f"{metadata}: {error}")


@main.command()
@CONFIG
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option("--all", "every", is_flag=True, help="Every entity set whose mode is not forward.")
@click.option("--again", is_flag=True, help="Also sets that were loaded before.")
def backfill(config: Path | None, sets: tuple[str, ...], every: bool, again: bool) -> None:
    """Load whole entity sets into the mirror; begun again, it goes on where it was."""
    if every == bool(sets):
        raise click.UsageError("name entity sets, or give --all")
    import uvloop
    from rich.console import Console

    from proxy.app import backfill
    from proxy.display import shown_loads
    from proxy.events import configure_logging

    with _exit_codes():
        settings = Settings.load(config)
        _require_upstream(settings)
        configure_logging(settings.log.level, settings.log.format)
        with shown_loads(Console()) as show:
            is_done = uvloop.run(backfill(settings, sets, show, again=again))
    sys.exit(0 if is_done else FAILED)


@main.group(invoke_without_command=True)
@CONFIG
@click.pass_context
def conflicts(context: click.Context, config: Path | None) -> None:
    """Entities of which the mirror holds a newer state than upstream shows."""
    context.obj = config
    if context.invoked_subcommand is None:
        context.invoke(list_conflicts)


@conflicts.command("list")
@click.option("--set", "entity_set", metavar="SET", help="Of this entity set only.")
@click.pass_obj
def list_conflicts(config: Path | None, entity_set: str | None = None) -> None:
    """List open conflicts, oldest first: number, entity, both times of modification, when it was found."""
    from proxy.operating import list_conflicts

    with _exit_codes():
        for found in _run(lambda settings: list_conflicts(settings, entity_set), config):
            click.echo(
                f"{found.id}\t{found.entity_set}({found.key})\tmirror {found.held.modified_on}"
                f"\tupstream {found.seen.modified_on}\tfound {found.found_at:%Y-%m-%d %H:%M:%S}"
            )


@conflicts.command()
@click.argument("numbers", nargs=-1, type=int, metavar="[NUMBER]...")
@click.option("--set", "entity_set", metavar="SET", help="All open conflicts of this entity set.")
@click.option("--winner", type=click.Choice(["upstream", "mirror"]), required=True, help="Whose state holds.")
@click.pass_obj
def resolve(config: Path | None, numbers: tuple[int, ...], entity_set: str | None, winner: str) -> None:
    """End conflicts: take in upstream's state, or send the mirror's as an ordinary MERGE."""
    if bool(numbers) == bool(entity_set):
        raise click.UsageError("name conflicts by their numbers, or give --set")
    from proxy.operating import resolve
    from proxy.reconcile.operator import Written

    def report(number: int, result: Written | str) -> None:
        problem = result if isinstance(result, str) else result.error
        sent = "" if isinstance(result, str) else ", ".join(result.changed)
        click.echo(f"{number}\t{problem or 'resolved'}\t{sent}".rstrip())

    with _exit_codes():
        is_done = _run(lambda settings: resolve(settings, numbers, entity_set, winner, report), config)
    sys.exit(0 if is_done else FAILED)


@main.group(invoke_without_command=True)
@CONFIG
@click.pass_context
def sweeps(context: click.Context, config: Path | None) -> None:
    """List what sweeps for deletes found and do not believe before you have: number, set, what, when."""
    context.obj = config
    if context.invoked_subcommand is None:
        from proxy.operating import list_sweeps

        with _exit_codes():
            for found in _run(list_sweeps, config):
                found_at = f"{found.found_at:%Y-%m-%d %H:%M:%S}"
                click.echo(f"{found.id}\t{found.entity_set}\t{found.kind}: {found.detail}\t{found_at}")


@sweeps.command()
@click.argument("numbers", nargs=-1, type=int, required=True, metavar="NUMBER...")
@click.pass_obj
def believe(config: Path | None, numbers: tuple[int, ...]) -> None:
    """It is so: ask for each missing entity by its own URL, and bury what upstream says is gone."""
    _answer_sweeps(config, numbers, True)


@sweeps.command()
@click.argument("numbers", nargs=-1, type=int, required=True, metavar="NUMBER...")
@click.pass_obj
def again(config: Path | None, numbers: tuple[int, ...]) -> None:
    """It was wrong: sweep once more."""
    _answer_sweeps(config, numbers, False)


def _answer_sweeps(config: Path | None, numbers: tuple[int, ...], accepted: bool) -> None:
    from proxy.operating import answer_sweeps

    def report(number: int, result: str) -> None:
        click.echo(f"{number}\t{result}")

    with _exit_codes():
        is_done = _run(lambda settings: answer_sweeps(settings, numbers, accepted, report), config)
    sys.exit(0 if is_done else FAILED)


@main.command()
@CONFIG
def intents(config: Path | None) -> None:
    """List writes that are under way, or whose outcome could not be determined."""
    from proxy.operating import list_intents

    with _exit_codes():
        for found in _run(list_intents, config):
            outcome = "open" if found.closed_at is None else "undetermined"
            entity = f"{found.entity_set}({found.key or ''})"
            opened = f"{found.opened_at:%Y-%m-%d %H:%M:%S}"
            click.echo(f"{found.id}\t{outcome}\t{found.method}\t{entity}\t{opened}\t{found.request_id}")


@main.command()
@CONFIG
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option("--sample", type=click.IntRange(min=0), metavar="N", help="Compare N contents, not all.")
@click.option("--repair", is_flag=True, help="Take in what upstream shows where the mirror differs.")
def verify(config: Path | None, sets: tuple[str, ...], sample: int | None, repair: bool) -> None:
    """Compare the mirror with upstream: counts, keys, stamps and contents. 1 where it drifts."""
    from proxy.display import verified_lines
    from proxy.operating import verify
    from proxy.reconcile.verifier import Verified

    def report(found: Verified) -> None:
        for line in verified_lines(found):
            click.echo(line)

    with _exit_codes():
        is_sound = _run(lambda settings: verify(settings, sets, report, sample=sample, repair=repair), config)
    sys.exit(0 if is_sound else FAILED)


@main.command()
@click.argument("name")
@click.option("--basic", metavar="USER", help="Ask for a password of this user instead, for Basic.")
def token(name: str, basic: str | None) -> None:
    """Make a token for a caller: it is shown once, and its hash is what the configuration keeps."""
    from proxy.passwords import PasswordHash, new_token, token_hash

    if basic is None:
        made = new_token()
        click.echo(f"The token, which is not shown again:\n\n  {made}\n")
        shown = f'token_sha256 = ["{token_hash(made)}"]'
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        shown = f'basic = {{ user = {json.dumps(basic)}, scrypt = "{PasswordHash.of(password)}" }}'
    quoted = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
    click.echo(f"For the configuration, beside the caller's rights:\n\n  [callers.{quoted}]\n  {shown}")


@main.command()
@CONFIG
@click.argument("sets", nargs=-1, required=True, metavar="SET...")
@click.option("--check", is_flag=True, help="Only say what is for and against it. 1 where it is not ready.")
@click.option("--json", "as_json", is_flag=True, help="With --check: as JSON.")
@click.option("--back", is_flag=True, help="Send what was written meanwhile to Dynamics, and go back to it.")
@click.option("--leave", multiple=True, metavar="SET", help="Leave this set behind, though it belongs along.")
def cutover(
    config: Path | None,
    sets: tuple[str, ...],
    check: bool,
    as_json: bool,
    back: bool,
    leave: tuple[str, ...],
) -> None:
    """Make the mirror the authority of entity sets, so that Dynamics is not asked any more."""
    from rich.console import Console

    from proxy import operating
    from proxy.display import show_findings
    from proxy.reconcile.cutover import CannotMove
    from proxy.reconcile.readiness import is_ready

    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    if back and (check or leave):
        raise click.UsageError("--back goes with neither --check nor --leave")
    with _exit_codes():
        if check:
            found = _run(lambda settings: operating.check(settings, sets, leave), config)
            show_findings(Console(), found, as_json=as_json)
            sys.exit(0 if is_ready(found) else FAILED)
        try:
            if back:
                refused = _run(lambda settings: operating.give_back(settings, sets, click.echo), config)
                for one in refused:
                    entity = f"{one.entity_set}({one.key})"
                    click.echo(f"refused\t{one.id}\t{one.operation}\t{entity}\t{one.status}\t{one.message}")
                sys.exit(FAILED if refused else 0)
            _run(lambda settings: operating.cut_over(settings, sets, leave, click.echo), config)
        except CannotMove as error:
            _end(FAILED, *str(error).splitlines())


@main.command()
@CONFIG
def demo(config: Path | None) -> None:
    """Run a sandbox, an embedded Postgres and the proxy between them, all new, until interrupted."""
    from proxy.demo import run_demo

    with _exit_codes():
        run_demo(config)


@main.group()
def config() -> None:
    """Look at settings without running anything."""


@config.command()
@CONFIG
def check(config: Path | None) -> None:
    """Tell what is wrong with the settings, and what may surprise. Exit code 3 where something is wrong."""
    from proxy.check import problems, warnings

    with _exit_codes():
        settings = Settings.load(config)
        for warning in warnings(settings):
            click.echo(f"warning: {warning}")
        if found := tuple(problems(settings)):
            raise SettingsError(found)
        click.echo("The settings can be used.")


def _run(work: Callable[[Settings], Coroutine[Any, Any, T]], config: Path | None) -> T:
    """What `work` makes of the settings."""
    import uvloop

    from proxy.events import configure_logging

    settings = Settings.load(config)
    _require_upstream(settings)
    configure_logging(settings.log.level, settings.log.format)
    return uvloop.run(work(settings))


def _require_upstream(settings: Settings) -> None:
    if not settings.upstream.service_root:
        raise SettingsError(["upstream.service_root: not set; give --upstream or name it in a file"])


def _run_proxy(settings: Settings, read: Callable[[], Settings]) -> None:
    import uvloop

    from proxy.app import serve
    from proxy.events import configure_logging

    def announce(url: str, services_url: str) -> None:
        click.echo(f"Syncpoint answers at {url}, its services at {services_url}")

    configure_logging(settings.log.level, settings.log.format)
    uvloop.run(serve(settings, read=read, ready=announce))


@contextmanager
def _exit_codes() -> Iterator[None]:
    """What is expected to fail ends the command with a sentence and a code; anything else is a traceback."""
    from proxy.reconcile.ports import StoreUnavailable, UpstreamFailure

    try:
        yield
    except SettingsError as error:
        _end(CONFIGURATION, *error.problems)
    except StoreUnavailable as error:
        _end(STORE_UNREACHABLE, f"Postgres: {error}")
    except UpstreamFailure as error:
        _end(UPSTREAM_UNREACHABLE, f"upstream: {error}")
    except OSError as error:
        _end(FAILED, str(error))


def _end(code: int, *problems: str) -> None:
    for problem in problems:
        click.echo(f"syncpoint: {' '.join(problem.split())}", err=True)
    sys.exit(code)
