"""As in the container: another user than root, no capabilities, and not one file that can be written.

The same is arranged here by a mount namespace, without a container engine; where the system does not let us
(who is not root may not), the test is skipped. What the container files themselves say is checked beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from command import ANY_PORT, PROJECT, Command
from ruamel.yaml import YAML

from proxy.sandbox import Sandbox

NOBODY = 65534
# The interpreter may lie where only its own user gets to: then it is mounted anew, in a way that is open.
ARRANGE = """
if [ -n "$CLOSED" ]; then
    mount --bind "$PREFIX" "$STAGE"
    mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
    mkdir -p "$PREFIX"
    mount --move "$STAGE" "$PREFIX"
    mount -o remount,ro "$CLOSED"
    mount -o remount,bind,ro "$PREFIX"
fi
mount -o remount,bind,ro /
exec setpriv --reuid="$AS" --regid="$AS" --clear-groups \\
    --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def closed_folder(path: Path) -> str:
    """The first folder above `path` that others may not enter; empty where there is none."""
    above = (folder for folder in [*path.parents][::-1] if not folder.stat().st_mode & stat.S_IXOTH)
    return str(next(above, ""))


def user_of(database_url: str) -> int:
    """Who may use the server's socket; anybody over TCP."""
    folder = parse_qs(urlsplit(database_url).query).get("host", [""])[0]
    return Path(folder).stat().st_uid or NOBODY if folder.startswith("/") else NOBODY


def may_arrange() -> bool:
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    tried = ["unshare", "--mount", "sh", "-c", "mount -o remount,bind,ro /"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_arrange(), reason="a mount namespace of one's own needs root")
async def test_it_works_where_nothing_can_be_written(database_url: str, tmp_path: Path) -> None:
    prefix = Path(sys.base_prefix).resolve()
    (tmp_path / "stage").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AS": str(user_of(database_url)),
        "PREFIX": str(prefix),
        "CLOSED": closed_folder(prefix),
        "STAGE": str(tmp_path / "stage"),
        "SYNCPOINT_DATABASE_URL": database_url,
        "SYNCPOINT_LISTEN": ANY_PORT,
        "SYNCPOINT_SERVICES_LISTEN": ANY_PORT,
    }
    async with Sandbox().serve() as root:
        arguments = ["-m", "proxy", "serve", "--upstream", root]
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "--propagation", "private", "sh", "-euc", ARRANGE, "sh"),
            *(sys.executable, *arguments),
            cwd=PROJECT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        command = Command(process)
        try:
            url, services = (await command.says(r"answers at (\S+), its services at (\S+)")).groups()
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(rf"^Uid:\t{environment['AS']}\t", status, re.MULTILINE)
            assert re.search(r"^Cap(Eff|Bnd):\t0+$", status, re.MULTILINE)
            mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
            assert next(line for line in mounts if line.split()[4] == "/").split()[5].startswith("ro")
            await everything(url + urlsplit(root).path, services)
        finally:
            code, errors = await command.end()
    assert code == 0, errors
    assert "unexpected_error" not in errors


async def everything(url: str, services: str) -> None:
    """Reads, a write, what the mirror answers by itself, and the state of the process."""
    headers = {"Accept": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as client:
        async with client.get(f"{url}/AccountSet?$top=2") as page:
            entity = json.loads(await page.read())["d"]["results"][0]
        merge = {"X-HTTP-Method": "MERGE"}
        async with client.post(
            entity["__metadata"]["uri"], json={"Name": "Zaffre"}, headers=merge
        ) as written:
            assert written.status == 204
        for target in ("readyz", "metrics", "api/sets", "mirror/AccountSet?$filter=Name%20eq%20'Zaffre'"):
            async with client.get(f"{services}/{target}") as answer:
                text = await answer.text()
                assert answer.status == 200, text
        assert [shown["Name"] for shown in json.loads(text)["d"]["results"]] == ["Zaffre"]


def test_the_image_runs_as_somebody_who_owns_nothing() -> None:
    lines = (PROJECT / "docker" / "Dockerfile").read_text().splitlines()
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    # By number, so that an orchestrator can see that it is not root.
    assert users and re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])
    after = final[final.index(f"USER {users[-1]}") + 1 :]
    assert not [line for line in after if line.startswith(("RUN ", "COPY ", "ADD ", "USER "))]
    assert not [line for line in final if "--chown" in line]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((PROJECT / "docker" / "compose.yaml").read_text())
    return found["services"]


@pytest.mark.parametrize("name", ["proxy", "sandbox"])
def test_the_services_may_do_nothing_else(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "cap_add", "network_mode", "pid", "devices"} & service.keys()
    assert all(mounted.endswith(":ro") for mounted in service.get("volumes", []))


def test_nothing_is_open_to_other_machines(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
