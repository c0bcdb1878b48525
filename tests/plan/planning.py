"""`mcpproxy plan` as a process, and manifests for it."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.builders import a_manifest

COMMAND = str(Path(sys.executable).with_name("mcpproxy"))
ROOT = Path(__file__).parents[2]
NOTES = {"command": sys.executable, "args": [str(ROOT / "samples" / "servers" / "notes.py")]}
"""A real server on standard streams."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process has said."""

    code: int | None
    out: str
    err: str

    @property
    def plans(self) -> list[dict[str, Any]]:
        """The proxies of `-o json`."""
        found: list[dict[str, Any]] = json.loads(self.out)["proxies"]
        return found

    @property
    def plan(self) -> dict[str, Any]:
        """The only one of them."""
        (found,) = self.plans
        return found


async def ran(*command: str | Path, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 55)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


async def plan(*args: str | Path, stdin: str = "") -> Ended:
    """Run `mcpproxy plan`."""
    return await ran(COMMAND, "plan", *args, stdin=stdin)


def written(path: Path, *manifests: dict[str, Any]) -> Path:
    """A file of these manifests."""
    path.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    return path


def proxy(path: Path, *backends: dict[str, Any], name: str = "tools", **spec: Any) -> Path:
    """A file of one MCPProxy in front of these backends."""
    return written(path, a_manifest(name, None, backends=list(backends), **spec))


def names(plan: dict[str, Any], member: str = "tools") -> list[str]:
    """The names of one of a plan's lists."""
    return [entry["name"] for entry in plan[member]]
