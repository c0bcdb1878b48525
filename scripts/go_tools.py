"""Programs in Go that tests of the charts and of the bundle need: `python -m scripts.go_tools`.

A program on the PATH is used as it is. Others are built from their modules, which takes two minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

MODULES: Final = {"helm": "helm.sh/helm/v3/cmd/helm@v3.22.0"}
"""Program → its package and version."""
PLACE: Final = Path.home() / ".cache" / "mcpproxy-tools"


def find(program: str) -> Path | None:
    """Return the path of a program, or None if it is neither on the PATH nor built."""
    built = PLACE / program
    if built.exists():
        return built
    return Path(path) if (path := shutil.which(program)) else None


def command(program: str) -> str:
    """Return the command that installs a program."""
    return f"python -m scripts.go_tools  # or: go install {MODULES[program]}"


def install() -> None:
    """Build the missing programs.

    Raise subprocess.CalledProcessError.
    """
    for program, module in MODULES.items():
        if find(program) is None:
            sys.stderr.write(f"building {module}\n")
            env = {**os.environ, "GOBIN": str(PLACE), "GOFLAGS": "-buildvcs=false"}
            subprocess.run(["go", "install", module], env=env, cwd="/", check=True, timeout=900)


if __name__ == "__main__":
    install()
