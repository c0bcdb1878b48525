"""The wheel of a release works in an empty environment, with the locked requirements beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.release.__main__ import build
from tests.charts.helm import ROOT

pytestmark = [pytest.mark.charts, pytest.mark.timeout(300)]

CASES = {"runtime": ("run", "--help"), "controller": ("operator", "--help")}
"""Requirements → a command that imports all of them."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the current commit."""
    place = tmp_path_factory.mktemp("release")
    build("HEAD", place, with_images=False)
    return place


@pytest.mark.parametrize("place", CASES)
def test_a_wheel_and_its_requirements_install_into_an_empty_environment(
    release: Path, tmp_path: Path, place: str
) -> None:
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(home))
    pip = (sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q")
    run(*pip, "--require-hashes", "-r", str(release / f"requirements-{place}.txt"))
    (wheel,) = release.glob("*.whl")
    run(*pip, "--no-deps", str(wheel))
    mcpproxy = str(home / "bin" / "mcpproxy")
    # The wheel requires nothing that the file does not contain.
    run(sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "check")
    printed = run(mcpproxy, "crd")
    assert printed == (ROOT / "crds" / "mcpproxies.mcpproxy.dev.yaml").read_text(encoding="utf-8")
    assert "usage: mcpproxy" in run(mcpproxy, *CASES[place])


def run(*command: str) -> str:
    """Standard output of a program that does not see this tree."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, cwd="/", env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
