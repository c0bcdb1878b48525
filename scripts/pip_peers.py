"""Python packages of other makers that can't be installed beside each other or the project.

Each file requirements/peers-NAME.txt has an environment of its own, peers/.venv-NAME.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.machine import ROOT
from scripts.npm import PEERS

ENVIRONMENTS: Final = ("mcp1", "mcp2")
"""By the major version of the Python SDK that is in them."""


def install() -> None:
    """Install what the requirements say, unless that is done already.

    Raises subprocess.CalledProcessError.
    """
    for name in ENVIRONMENTS:
        locked, done = ROOT / "requirements" / f"peers-{name}.txt", _home(name) / ".installed"
        if done.exists() and done.read_bytes() == locked.read_bytes():
            continue
        _run("venv", "--without-pip", "--clear", str(_home(name)))
        # The file is complete, so there is nothing to resolve: pip takes `mcp[cli]` for not locked.
        # Of what is installed, little is ever imported.
        options = ["--no-deps", "--no-compile", "--require-hashes", "--requirement", str(locked)]
        _run("pip", "--python", str(program(name, "python")), "install", "--quiet", *options)
        done.write_bytes(locked.read_bytes())


def program(name: str, script: str) -> Path:
    """A program of an installed package."""
    return _home(name) / "bin" / script


def _home(name: str) -> Path:
    return PEERS / f".venv-{name}"


def _run(*module: str) -> None:
    subprocess.run([sys.executable, "-m", *module], check=True, timeout=300)
