"""Commands of pages by task that need kubectl, but no cluster."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, run_blocks
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
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: approved-credentials}
stringData: {token: REPLACE_ME}
"""
EMPTY_APPROVAL = """\
  catalog:
    approved: {}
    onDrift: Withhold
"""


@pytest.fixture
def env() -> Mapping[str, str]:
    """An environment with kubectl and the programs of this tree."""
    if "KUBEBUILDER_ASSETS" not in os.environ:
        pytest.skip("set KUBEBUILDER_ASSETS to a directory with kubectl")
    places = [Path(sys.executable).parent, os.environ["KUBEBUILDER_ASSETS"], os.environ["PATH"]]
    return {**os.environ, "PATH": ":".join(map(str, places))}


@pytest.fixture
def proxy(tmp_path: Path) -> Path:
    """A file with a comment, a Secret and an MCPProxy that approves nothing yet."""
    result = tmp_path / "proxy.yaml"
    manifest = PROXY.format(python=sys.executable, server=notes.__file__)
    result.write_text(f"{SECRET}---\n# Kept.{manifest}{EMPTY_APPROVAL}")
    return result


def test_the_catalog_that_the_plan_prints_approves_the_components_when_it_is_pasted(
    env: Mapping[str, str], proxy: Path
) -> None:
    (plan,) = blocks("catalog.md", "differs: catalog")
    printed = subprocess.run(
        ["bash", "-c", plan.commands],
        cwd=proxy.parent,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert printed.returncode == 2, printed.stderr
    approval = printed.stdout.partition("to approve this catalog, write\n")[2]
    assert "notes_add_note:" in approval
    assert "onDrift: Withhold" in approval
    proxy.write_text(proxy.read_text().replace(EMPTY_APPROVAL, approval))
    (check,) = blocks("catalog.md", "run: catalog")
    assert [text.strip() for text in run_blocks([check], proxy.parent, env, 60)] == [
        (check.printed or "").strip()
    ]
    assert "# Kept." in proxy.read_text()


def test_the_empty_approval_of_the_page_is_the_one_that_the_test_pastes() -> None:
    text = (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8")
    assert f"  # ...\n{EMPTY_APPROVAL}" in text


@pytest.mark.parametrize("usable", [True, False])
def test_a_script_gets_digests_or_an_error_and_never_null(
    usable: bool, env: Mapping[str, str], proxy: Path
) -> None:
    if not usable:
        proxy.write_text(proxy.read_text().replace(notes.__file__, "gone.py"))
    (commands,) = blocks("catalog.md", "run: digests")
    done = subprocess.run(
        ["bash", "-c", commands.commands],
        cwd=proxy.parent,
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    digests = proxy.parent / "approved.json"
    assert (done.returncode == 0) is usable
    assert digests.exists() is usable
    if usable:
        assert "notes_add_note" in json.loads(digests.read_text())["tools"]


def test_the_commands_of_the_page_on_exposure_make_a_certificate(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    commands = blocks("expose.md", "run: certificate")
    assert len(commands) == 1
    run_blocks(commands, tmp_path, env, 100)
    assert "kubernetes.io/tls" in (tmp_path / "tls.yaml").read_text()


def test_the_commands_of_the_page_on_installation_make_every_link_of_the_monitoring_an_address(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    run_blocks(blocks("install.md", "run: monitoring"), tmp_path, env, 60)
    text = (tmp_path / "monitoring.yaml").read_text(encoding="utf-8")
    links = re.findall(r'(?:runbook_url: |"url": ")([^"\s]+)', text)
    assert len(links) > 10
    for link in links:
        address, _, page = link.partition("/docs/")
        assert address == "https://git.example.com/mcpproxy/blob/main"
        assert (ROOT / "docs" / page.partition("#")[0]).is_file()
