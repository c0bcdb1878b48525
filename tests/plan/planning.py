"""`mcpproxy plan`, and manifests for it."""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support import notes
from tests.support.builders import a_manifest
from tests.support.commands import Ended, run_command

ROOT = Path(__file__).parents[2]
NOTES = {"command": sys.executable, "args": [notes.__file__]}
"""A server on standard streams."""


async def plan(*args: str | Path, stdin: str = "") -> Ended:
    """Run `mcpproxy plan`."""
    return await run_command("plan", *args, stdin=stdin)


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
