"""The `syncpoint` command as a user has it: arguments, output, signals, exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
import signal
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from command import ANY_PORT, TIMEOUT_S, get, run, running

import proxy

NOBODY = "http://127.0.0.1:9/Org/XRMServices/2011/OrganizationData.svc"


async def test_it_tells_its_version_and_its_commands() -> None:
    assert await run("--version") == (0, f"syncpoint, version {proxy.__version__}\n", "")
    _, output, _ = await run("--help")
    assert all(re.search(rf"^  {name} ", output, re.MULTILINE) for name in ("serve", "sandbox", "demo"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["serve", "--listen", "8010"], "must be HOST:PORT"),
        (["serve", "--data-dir", "x", "--database-url", "postgresql:///x"], "exclude each other"),
        (["serve", "--no-such-option"], "--no-such-option"),
        (["sandbox", "--rows", "-1"], "--rows"),
        (["sandbox", "--metadata", "no-such-file.xml"], "no-such-file.xml"),
    ],
)
async def test_wrong_usage_is_told_with_code_2(arguments: list[str], problem: str) -> None:
    code, output, errors = await run(*arguments)
    assert (code, output) == (2, "")
    assert problem in errors


async def test_problems_of_configuration_are_all_told_with_code_3(tmp_path: Path) -> None:
    path = tmp_path / "syncpoint.toml"
    path.write_text('[log]\nlevl = "info"\n')
    code, output, errors = await run("serve", "--config", str(path), SYNCPOINT_SYNC__LIE_LIMIT="0")
    assert (code, output) == (3, "")
    unknown, too_low = errors.splitlines()
    assert unknown == "syncpoint: log.levl: unknown key; did you mean log.level?"
    assert re.fullmatch("syncpoint: sync.lie_limit: .+ 1, not '0' .from SYNCPOINT_SYNC__LIE_LIMIT.", too_low)


async def test_a_wrong_model_is_told_with_code_3_before_anything_answers(
    tmp_path: Path, database_url: str
) -> None:
    path = tmp_path / "syncpoint.toml"
    path.write_text(
        '[models.A.properties]\nid = { kind = "string" }\nb = { kind = "foreign key", model = "C" }\n'
    )
    addresses = ("--listen", ANY_PORT, "--services-listen", ANY_PORT, "--database-url", database_url)
    code, output, errors = await run("serve", "--config", str(path), "--upstream", NOBODY, *addresses)
    assert (code, output) == (3, "")
    assert [line for line in errors.splitlines() if line.startswith("syncpoint: ")] == [
        "syncpoint: models.A.properties.id: 'id' is the name of the key already",
        "syncpoint: models.A.properties.b: there is no model 'C'",
    ]


async def test_without_an_upstream_there_is_nothing_to_serve() -> None:
    code, _, errors = await run("serve")
    assert code == 3
    assert "upstream.service_root" in errors
    assert "--upstream" in errors


async def test_the_settings_in_force_are_shown_without_secrets() -> None:
    code, output, errors = await run(
        *("serve", "--dump-config", "--upstream", NOBODY, "--listen", "[::1]:0"),
        SYNCPOINT_DATABASE_URL="postgresql://me:topsecret@db/x",
    )
    assert (code, errors) == (0, "")
    shown = tomllib.loads(output)
    assert shown["upstream"]["service_root"] == NOBODY
    assert shown["listen"] == "[::1]:0"
    assert shown["database_url"] == "postgresql://me:***@db/x"


async def test_a_token_is_shown_once_with_what_the_configuration_keeps_of_it() -> None:
    seen = set()
    for name, header in (("reports", "reports"), ("a.b", '"a.b"')):
        code, output, errors = await run("token", name)
        assert (code, errors) == (0, "")
        found = re.search(r"^  (\S{43})$", output, re.MULTILINE)
        assert found is not None
        seen.add(found[1])
        (caller,) = tomllib.loads(output[output.index("[callers") :])["callers"].values()
        assert caller == {"token_sha256": [hashlib.sha256(found[1].encode()).hexdigest()]}
        assert f"[callers.{header}]" in output
    assert len(seen) == 2


async def test_a_data_dir_stands_in_for_the_database_url_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "syncpoint.toml"
    path.write_text('database_url = "postgresql://db/x"\n')
    _, output, _ = await run("serve", "--dump-config", "--config", str(path), "--data-dir", "here")
    shown = tomllib.loads(output)
    assert (shown["database_url"], shown["data_dir"]) == ("", "here")


async def test_an_unreachable_database_is_told_with_code_4() -> None:
    arguments = ("--upstream", NOBODY, "--listen", ANY_PORT, "--services-listen", ANY_PORT)
    code, output, errors = await run("serve", *arguments, "--database-url", "postgresql://127.0.0.1:9/x")
    assert (code, output) == (4, "")
    assert re.fullmatch(r"syncpoint: Postgres: .*refused.*\n", errors)


async def test_a_database_url_that_is_none_is_told_without_its_password() -> None:
    url = "postgresql://me:top%secret@db/x"
    code, output, errors = await run("serve", "--upstream", NOBODY, "--database-url", url)
    assert (code, output) == (3, "")
    assert re.fullmatch("syncpoint: database_url: is not valid; .*\n", errors)
    assert "secret" not in errors


async def test_a_folder_that_cannot_hold_a_database_is_told_with_code_4() -> None:
    arguments = ("--upstream", NOBODY, "--listen", ANY_PORT, "--services-listen", ANY_PORT)
    code, _, errors = await run("serve", *arguments, "--data-dir", "/dev/null/x")
    assert code == 4
    assert re.fullmatch(r"syncpoint: Postgres: .*/dev/null/x.*\n", errors)


async def test_an_address_in_use_is_told_with_code_1(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("--upstream", NOBODY, "--listen", address, "--services-listen", ANY_PORT)
        code, _, errors = await run("serve", *arguments, SYNCPOINT_DATABASE_URL=database_url)
    assert code == 1
    assert "address already in use" in errors.splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_answers_until_it_is_told_to_stop(database_url: str, signal_number: int) -> None:
    arguments = ("--upstream", NOBODY, "--listen", ANY_PORT, "--services-listen", ANY_PORT)
    async with running("serve", *arguments, SYNCPOINT_DATABASE_URL=database_url) as command:
        said = await command.says(r"answers at (\S+), its services at (\S+)")
        status, body = await get(f"{said[2]}/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        status, _ = await get(f"{said[1]}{urlsplit(NOBODY).path}/AccountSet")
        assert status == 502
        code, errors = await command.end(signal_number)
    assert code == 0
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert events[0] != events[-1]
    assert {"proxy_started", "request_served"} < set(events)
    assert events[-1] == "proxy_stopped"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_the_sandbox_answers_until_it_is_told_to_stop(signal_number: int) -> None:
    async with running("sandbox", "--listen", ANY_PORT, "--rows", "3") as command:
        root = (await command.says(r"(http://\S+)"))[1]
        status, body = await get(f"{root}/AccountSet", Accept="application/json")
        assert status == 200
        assert len(json.loads(body)["d"]["results"]) == 3
        code, errors = await command.end(signal_number)
    assert (code, errors) == (0, "")


async def test_the_sandbox_ends_with_whoever_holds_its_standard_input() -> None:
    arguments = ("--listen", ANY_PORT, "--until-stdin-closes")
    async with running("sandbox", *arguments, stdin=asyncio.subprocess.PIPE) as command:
        await command.says(r"(http://\S+)")
        assert command.process.stdin is not None
        command.process.stdin.close()
        assert await asyncio.wait_for(command.process.wait(), TIMEOUT_S) == 0


async def test_what_is_no_metadata_document_is_told_with_code_1(tmp_path: Path) -> None:
    path = tmp_path / "metadata.xml"
    path.write_text("<html/>")
    code, output, errors = await run("sandbox", "--listen", ANY_PORT, "--metadata", str(path))
    assert (code, output) == (1, "")
    assert errors.startswith(f"syncpoint: {path}: ")
    assert "Traceback" not in errors


async def test_the_sandbox_takes_a_metadata_document_and_a_latency(tmp_path: Path) -> None:
    async with running("sandbox", "--listen", ANY_PORT, "--rows", "1") as command:
        root = (await command.says(r"(http://\S+)"))[1]
        _, document = await get(f"{root}/$metadata")
    path = tmp_path / "metadata.xml"
    path.write_bytes(document.replace(b'"AccountSet"', b'"FirmSet"'))
    arguments = ("--listen", ANY_PORT, "--rows", "2", "--metadata", str(path), "--latency", "300")
    async with running("sandbox", *arguments) as command:
        root = (await command.says(r"(http://\S+)"))[1]
        started = asyncio.get_running_loop().time()
        status, body = await get(f"{root}/FirmSet", Accept="application/json")
        took = asyncio.get_running_loop().time() - started
    assert status == 200
    assert len(json.loads(body)["d"]["results"]) == 2
    assert took >= 0.3


@pytest.fixture
def short_temp() -> Iterator[Path]:
    """A folder for temporary files that others can reach: started by root, Postgres is another user."""
    with tempfile.TemporaryDirectory(prefix="syncpoint-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
async def test_the_demonstration_answers_the_line_it_prints_and_leaves_nothing_behind(
    short_temp: Path,
) -> None:
    environment = {
        "SYNCPOINT_LISTEN": ANY_PORT,
        "SYNCPOINT_SERVICES_LISTEN": ANY_PORT,
        "TMPDIR": str(short_temp),
    }
    async with running("demo", "--config", "config/sandbox.toml", **environment) as command:
        services = (await command.says(r"its services +(\S+)/healthz"))[1]
        line = (await command.says(r"^  curl (.*)"))[1]
        [_, _, header, url] = shlex.split(line)
        name, value = header.split(": ")

        status, body = await get(url, **{name: value})
        assert status == 200
        first, _ = json.loads(body)["d"]["results"]
        assert urlsplit(first["__metadata"]["uri"]).netloc == urlsplit(url).netloc
        assert (await get(f"{services}/readyz"))[0] == 200

        started = psutil.Process(command.process.pid).children(recursive=True)
        assert len(started) >= 2
        code, errors = await command.end(signal.SIGINT)
    assert code == 0, errors
    assert [process for process in started if process.is_running()] == []
    assert list(short_temp.iterdir()) == []
