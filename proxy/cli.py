"""The `syncpoint` command: reads arguments, chooses exit codes, decides nothing else.

Results go to standard output, logs and problems to standard error. Exit codes: 0 done, 1 failed, 2 usage,
3 configuration, 4 store unreachable, 5 upstream unreachable. What a command needs is imported when it
runs: `--help` does not wait for the whole program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import proxy
from proxy.settings import Address, Settings, SettingsError

FAILED, CONFIGURATION, STORE_UNREACHABLE, UPSTREAM_UNREACHABLE = 1, 3, 4, 5


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
    with _exit_codes():
        settings = Settings.load(
            config,
            {
                "upstream.service_root": upstream,
                "listen": listen,
                "services_listen": services_listen,
                "database_url": "" if data_dir is not None else database_url,
                "data_dir": data_dir,
            },
        )
        if dump_config:
            click.echo(settings.to_toml(), nl=False)
            return
        if not settings.upstream.service_root:
            raise SettingsError(["upstream.service_root: not set; give --upstream or name it in a file"])
        _run_proxy(settings)


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


def _run_proxy(settings: Settings) -> None:
    import uvloop

    from proxy.app import serve
    from proxy.events import configure_logging

    def announce(url: str, services_url: str) -> None:
        click.echo(f"Syncpoint answers at {url}, its services at {services_url}")

    configure_logging(settings.log.level, settings.log.format)
    uvloop.run(serve(settings, ready=announce))


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
