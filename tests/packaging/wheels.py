"""The wheel of this tree in an empty environment, without a network.

The packages that it depends on are those of the tests; tests/packaging/test_requirements.py holds
that the lock files name them all.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def without_tree() -> dict[str, str]:
    """Return an environment in which Python finds neither this tree nor another environment."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Return the output of a program. Raise CalledProcessError."""
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=without_tree(),
        check=True,
        capture_output=True,
        text=True,
        timeout=150,
    ).stdout


def build_wheel(directory: Path) -> Path:
    """Build the wheel of this tree."""
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", directory, ROOT)
    (wheel,) = directory.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Install a wheel into a new environment; return its folder of programs."""
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"
