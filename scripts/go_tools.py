"""Programs in Go that tests of the charts and of the bundle need: `python -m scripts.go_tools`.

They are built from modules of fixed versions, which takes two minutes. A helm on the PATH is used
as it is.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.machine import ROOT

HELM: Final = "helm.sh/helm/v3/cmd/helm@v3.22.0"
VALIDATOR: Final = ROOT / "scripts" / "bundle_validator"
"""A module that links the library of operator-sdk's command `bundle validate`."""
PLACE: Final = Path.home() / ".cache" / "mcpproxy-tools"
INSTALL: Final = "python -m scripts.go_tools"
"""Command that messages name."""


def helm() -> Path | None:
    """Return the path of helm, or None if it is neither on the PATH nor built."""
    if result := shutil.which("helm"):
        return Path(result)
    built = PLACE / "helm"
    return built if built.exists() else None


def validator() -> Path | None:
    """Return the path of the validator of bundles, or None if it is not built."""
    built = PLACE / "bundle-validator"
    return built if built.exists() else None


def install() -> None:
    """Build the missing programs.

    Raise subprocess.CalledProcessError.
    """
    PLACE.mkdir(parents=True, exist_ok=True)
    if helm() is None:
        _go("install", HELM, directory=Path("/"))
    # Go compares the sources with its cache and builds what has changed.
    _go("build", "-o", str(PLACE / "bundle-validator"), ".", directory=VALIDATOR)


def _go(*arguments: str, directory: Path) -> None:
    sys.stderr.write(f"go {' '.join(arguments)}\n")
    env = {**os.environ, "GOBIN": str(PLACE), "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    subprocess.run(["go", *arguments], env=env, cwd=directory, check=True, timeout=900)


if __name__ == "__main__":
    install()
