"""The npm packages of peers/: clients and servers of other vendors, and the conformance suite."""

import shutil
import subprocess
from pathlib import Path

from scripts.machine import ROOT

PEERS = ROOT / "peers"
MODULES = PEERS / "node_modules"
NODE = MODULES / "node" / "bin" / "node"
"""A separate Node.js: the suite requires version 22 or newer, which the machine may lack."""


def available() -> bool:
    """True if npm is installed."""
    return shutil.which("npm") is not None


def install() -> None:
    """Install the packages of peers/package-lock.json, unless they are already installed.

    Raise subprocess.CalledProcessError.
    """
    lock, done = PEERS / "package-lock.json", MODULES / ".installed"
    if done.exists() and done.read_bytes() == lock.read_bytes():
        return
    _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
    # The package downloads its binary in an install script; scripts of other packages do not run.
    _npm("rebuild", "node")
    done.write_bytes(lock.read_bytes())


def module(package: str, script: str) -> Path:
    """Return the path of a file of an installed package."""
    return MODULES / package / script


def _npm(*arguments: str) -> None:
    command = ["npm", *arguments, "--loglevel=error"]
    subprocess.run(command, cwd=PEERS, check=True, stdout=subprocess.DEVNULL, timeout=300)
