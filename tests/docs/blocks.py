"""The commands of a page and what it says they print."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"<!-- (?P<kind>[a-z: -]+) -->\n```sh\n(?P<commands>.*?)```\n"
    r"(?:\n```text\n(?P<printed>.*?)```\n)?",
    re.DOTALL,
)
_CUT = "---8<---"


@dataclass(frozen=True)
class Block:
    """Commands, and what is said of their output; None where nothing is."""

    kind: str
    commands: str
    printed: str | None


def run_blocks(
    value: list[Block], directory: Path, env: Mapping[str, str], seconds: float
) -> list[str]:
    """Run blocks in one shell, with all that they start; return what each has printed."""
    with subprocess.Popen(
        ["bash", "-c", script(value)],
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, errors = shell.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGTERM)
            raise
    assert shell.returncode == 0, errors
    return outputs(printed)


def blocks(page: str, *kinds: str) -> list[Block]:
    """Return the blocks of a page that have one of the kinds, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    results = [
        Block(match["kind"], match["commands"], match["printed"]) for match in _BLOCK.finditer(text)
    ]
    return [block for block in results if block.kind in kinds]


def script(value: list[Block]) -> str:
    """One program of all the commands; `outputs` tells what each block has printed."""
    parts = [f"{block.commands}\necho; echo '{_CUT}'\n" for block in value]
    return "set -euo pipefail\n" + "".join(parts)


def outputs(printed: str) -> list[str]:
    """Return the output of each block of a `script`."""
    return printed.split(_CUT)[:-1]


def shape(text: str) -> list[list[str]]:
    """The words of each line; of times only that they are there."""
    lines = [re.sub(r"\b(\d+[dhms])+\b", "TIME", line) for line in text.splitlines()]
    return [line.split() for line in lines if line.strip()]
