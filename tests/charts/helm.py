"""Helm, and the plain manifests that its output is compared with."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.yaml_files import parse_documents

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
MANIFESTS = ROOT / "manifests"
NAMESPACE = "mcpproxy-system"
KUBERNETES = "1.35.0"
"""Version for which charts are rendered: a helm built by go assumes one of years ago."""

Object = dict[str, Any]
Objects = dict[tuple[str, str, str], Object]
"""(kind, namespace, name) → object."""


@dataclass(frozen=True)
class Helm:
    """The program, with a configuration that is its own."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm; with `check`, its exit code must be 0."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
        env |= {f"HELM_{name}_HOME": str(self.home) for name in ("CACHE", "CONFIG", "DATA")}
        env["KUBECONFIG"] = str(self.kubeconfig or self.home / "none")
        done = subprocess.run(
            [str(self.program), *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def template(self, chart: Path, values: Object | None = None) -> Objects:
        """The objects of a chart, by the name that its documentation gives the release."""
        arguments = ("template", "release", str(chart), "-n", NAMESPACE)
        file = self.home / "values.json"
        file.write_text(json.dumps(values or {}))
        done = self.run(*arguments, "--kube-version", KUBERNETES, "-f", str(file))
        return by_name(parse_documents(done.stdout))


def by_name(objects: Iterable[Object | None]) -> Objects:
    """The objects by kind, namespace and name."""
    result: Objects = {}
    for item in objects:
        if item is None:
            continue
        metadata = item["metadata"]
        key = item["kind"], metadata.get("namespace", ""), metadata["name"]
        assert key not in result, key
        result[key] = item
    return result


def manifest(file: str) -> Objects:
    """The objects of a file in manifests/."""
    return by_name(parse_documents((MANIFESTS / file).read_text(encoding="utf-8")))


def kubectl() -> str:
    """The path of kubectl."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    result = str(Path(assets) / "kubectl") if assets else shutil.which("kubectl")
    assert result, "kubectl is missing: install it, or set KUBEBUILDER_ASSETS"
    return result


def kustomized(folder: str) -> Objects:
    """The objects that kustomize builds from a folder of manifests/."""
    command = [kubectl(), "kustomize", str(MANIFESTS / folder)]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return by_name(parse_documents(built))
