"""The library of operator-sdk accepts the OLM bundle."""

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import bundle, go_tools

pytestmark = pytest.mark.charts


def validate(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the validator; without it, tests fail."""
    program = go_tools.validator()
    if program is None:
        pytest.fail(f"the validator of bundles is missing; build it with: {go_tools.INSTALL}")
    command = [str(program), str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_bundle_is_valid_without_a_warning() -> None:
    done = validate(bundle.BUNDLE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("kind: MCPProxy\n", "kind: MCPProxies\n", "MCPProxies"),
        ("displayName: MCPProxy\n  description", "description", "displayName"),
        ("minKubeVersion: 1.29.0", "minKubeVersion: new", "minKubeVersion"),
    ],
)
def test_a_broken_bundle_is_not_valid(
    tmp_path: Path, before: str, after: str, finding: str
) -> None:
    broken = shutil.copytree(bundle.BUNDLE, tmp_path / "bundle")
    (file,) = (broken / "manifests").glob("*.clusterserviceversion.yaml")
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    done = validate(broken)
    assert finding.lower() in (done.stdout + done.stderr).lower()
