"""The commands of docs/install.md at an API server; e2e/test_install.py runs them with nodes."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.apiserver.server import ApiServer
from tests.charts.helm import ROOT, Helm, kubectl
from tests.docs.blocks import blocks, script

pytestmark = [pytest.mark.charts, pytest.mark.timeout(180)]


def run(kinds: tuple[str, ...], helm: Helm, server: ApiServer, directory: Path) -> str:
    """Run the blocks of these kinds, in this order, with helm and kubectl on the PATH."""
    programs = directory / "programs"
    programs.mkdir()
    (programs / "helm").symlink_to(helm.program)
    (programs / "kubectl").symlink_to(kubectl())
    env = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
    env |= {f"HELM_{name}_HOME": str(directory) for name in ("CACHE", "CONFIG", "DATA")}
    env |= {"KUBECONFIG": str(server.kubeconfig), "PATH": f"{programs}:{env['PATH']}"}
    argument = [block for kind in kinds for block in blocks("install.md", kind)]
    assert len(argument) == len(kinds)
    done = subprocess.run(
        ["bash", "-c", script(argument)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installation_by_kubectl_passes_to_helm_and_back(
    helm: Helm, server: ApiServer, tmp_path: Path
) -> None:
    printed = run(("run: kubectl", "run: take-over", "run: give-back"), helm, server, tmp_path)
    assert "deployment.apps/mcpproxy-operator serverside-applied" in printed
    assert printed.count("STATUS: deployed") == 2
    assert printed.count("deleted") >= 2


def test_an_installation_by_helm_into_an_empty_cluster(
    helm: Helm, server: ApiServer, tmp_path: Path
) -> None:
    printed = run(("run: helm",), helm, server, tmp_path)
    assert printed.count("STATUS: deployed") == 2
    result = server.kubectl("-n", "mcpproxy-system", "get", "deployment/mcpproxy-operator")
    assert result.returncode == 0


def test_the_readme_installs_as_the_page_does() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    _, _, section = readme.partition("## Install\n")
    commands = [
        line
        for line in section.partition("\n## ")[0].splitlines()
        if line.startswith(("kubectl ", "helm "))
    ]
    assert len(commands) == 7
    assert [line for line in commands if f"\n{line}\n" not in page] == []
