"""Commands of pages by task that need kubectl, but no cluster."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, run_blocks
from tests.support import notes

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]
PROXY = """
apiVersion: mcpproxy.dev/v1alpha1
kind: MCPProxy
metadata: {{name: approved}}
spec:
  backends:
    - name: notes
      stdio: {{command: {python}, args: [{server}]}}
"""


@pytest.fixture
def env() -> Mapping[str, str]:
    """An environment with kubectl and the programs of this tree."""
    if "KUBEBUILDER_ASSETS" not in os.environ:
        pytest.skip("set KUBEBUILDER_ASSETS to a directory with kubectl")
    places = [Path(sys.executable).parent, os.environ["KUBEBUILDER_ASSETS"], os.environ["PATH"]]
    return {**os.environ, "PATH": ":".join(map(str, places))}


def test_the_commands_of_the_catalog_page_approve_a_catalog(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    manifest = PROXY.format(python=sys.executable, server=notes.__file__)
    (tmp_path / "proxy.yaml").write_text(manifest)
    commands = blocks("catalog.md", "run: catalog")
    assert len(commands) == 2
    run_blocks(commands, tmp_path, env, 100)
    approved = (tmp_path / "approved.yaml").read_text()
    assert "onDrift: Withhold" in approved
    assert "notes_add_note:" in approved


def test_the_commands_of_the_page_on_exposure_make_a_certificate(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    commands = blocks("expose.md", "run: certificate")
    assert len(commands) == 1
    run_blocks(commands, tmp_path, env, 100)
    assert "kubernetes.io/tls" in (tmp_path / "tls.yaml").read_text()
