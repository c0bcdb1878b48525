"""The npm packages of peers/: clients and servers of other makers, and the conformance suite."""

import shutil
import subprocess
from pathlib import Path

from scripts.machine import ROOT

PEERS = ROOT / "peers"
MODULES = PEERS / "node_modules"
NODE = MODULES / "node" / "bin" / "node"
"""A node of our own: the suite needs 22 or newer, whatever the machine has."""


def available() -> bool:
    """Whether there is an npm to install with."""
    return shutil.which("npm") is not None


def install() -> None:
    """Install what peers/package-lock.json says, unless that is done already.

    Raises subprocess.CalledProcessError.
    """
    lock, done = PEERS / "package-lock.json", MODULES / ".installed"
    if done.exists() and done.read_bytes() == lock.read_bytes():
        return
    _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
    # The package fetches its binary in a script of its own; no other package's script is run.
    _npm("rebuild", "node")
    done.write_bytes(lock.read_bytes())


def module(package: str, script: str) -> Path:
    """A file of an installed package."""
    return MODULES / package / script


def _npm(*arguments: str) -> None:
    command = ["npm", *arguments, "--loglevel=error"]
    subprocess.run(command, cwd=PEERS, check=True, stdout=subprocess.DEVNULL, timeout=300)
