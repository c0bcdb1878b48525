"""`stdio`: a program is started as the spec says."""

import sys
from pathlib import Path
from typing import Any

from mcp import Client

from tests.proxy.runtime import telling
from tests.proxy.runtime.serving import LIVE
from tests.support.authority import Mounted

pytestmark = LIVE
SCRIPT = Path(telling.__file__)


def _program(directory: Path) -> Path:
    """The server as a program of its own."""
    result = directory / "telling"
    result.write_text(f"#!{sys.executable}\n{SCRIPT.read_text('utf-8')}", encoding="utf-8")
    result.chmod(0o755)
    return result


async def _told(running: Any) -> Any:
    async with Client(running.url, mode="legacy") as client:
        return (await client.call_tool("p_how", {})).structured_content


async def test_a_stdio_server_runs_as_the_spec_defines(proxy: Any, tmp_path: Path) -> None:
    values = Mounted(tmp_path / "values")
    values.write("secret/credentials/token", "s3cret")
    values.write("configmap/settings/region", "north")
    work = tmp_path / "work"
    work.mkdir()
    stdio = {
        "command": str(_program(tmp_path)),
        "args": ["--verbose", "two words"],
        "env": [
            {"name": "PLAIN", "value": "as it is"},
            {
                "name": "SECRET",
                "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}},
            },
            {
                "name": "CONFIG",
                "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "region"}},
            },
        ],
        "cwd": str(work),
    }
    options = {"values": values.directory}
    running = await proxy({"name": "p", "stdio": stdio}, options=options)
    await running.until("p", "Healthy")
    assert await _told(running) == {
        "args": ["--verbose", "two words"],
        "cwd": str(work),
        "env": {"PLAIN": "as it is", "SECRET": "s3cret", "CONFIG": "north"},
    }


async def test_a_program_without_a_directory_starts_in_that_of_the_proxy(proxy: Any) -> None:
    running = await proxy(
        {"name": "p", "stdio": {"command": sys.executable, "args": [str(SCRIPT)]}}
    )
    await running.until("p", "Healthy")
    assert await _told(running) == {"args": [], "cwd": str(Path.cwd()), "env": {}}
