"""Python packages of other vendors that conflict with each other or with the project.

Each file requirements/peers-NAME.txt has a separate environment, peers/.venv-NAME.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.machine import ROOT
from scripts.npm import PEERS

ENVIRONMENTS: Final = ("mcp1", "mcp2")
"""Environments, named for the major version of the Python SDK in them."""


def install() -> None:
    """Install the locked requirements, unless they are already installed.

    Raise subprocess.CalledProcessError.
    """
    for name in ENVIRONMENTS:
        locked, done = ROOT / "requirements" / f"peers-{name}.txt", _home(name) / ".installed"
        if done.exists() and done.read_bytes() == locked.read_bytes():
            continue
        _run("venv", "--without-pip", "--clear", str(_home(name)))
        # The file is complete, so nothing needs to be resolved: pip considers `mcp[cli]` not
        # locked. Few of the installed modules are ever imported, so none is compiled.
        options = ["--no-deps", "--no-compile", "--require-hashes", "--requirement", str(locked)]
        _run("pip", "--python", str(program(name, "python")), "install", "--quiet", *options)
        done.write_bytes(locked.read_bytes())


def program(name: str, script: str) -> Path:
    """Return the path of a program of an installed package."""
    return _home(name) / "bin" / script


def _home(name: str) -> Path:
    return PEERS / f".venv-{name}"


def _run(*module: str) -> None:
    subprocess.run([sys.executable, "-m", *module], check=True, timeout=300)
