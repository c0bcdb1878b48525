"""Argo CD in a kind cluster, with a git server that the stories push to."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from e2e.world import eventually
from scripts import machine
from scripts.cluster import Cluster

SHARED = machine.ROOT.parent / "shared" / "argocd"
NAMESPACE = "argocd"
ROOT_APP = "mcpproxy"
WAVES = {"crds": -2, "operator": -1, "proxies": 0, "clientside": 1}
"""The applications, and the waves in which their parent syncs them."""
CLIENT_SIDE = "clientside"
"""The application that Argo CD applies as it does by default, on its own side."""
FINALIZER = "resources-finalizer.argocd.argoproj.io"
HEALTH_OF_APPLICATIONS = """\
hs = {status = "Progressing", message = ""}
if obj.status ~= nil and obj.status.health ~= nil then
  hs.status = obj.status.health.status
  hs.message = obj.status.health.message or ""
end
return hs
"""
"""From Argo CD's manual: without it a wave does not wait for the applications in it."""


@dataclass
class ArgoCD:
    """An installed Argo CD and the folder that the stories push."""

    cluster: Cluster
    folder: Path
    proxies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """MCPProxies in git, by name."""
    client_side: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Applications that are applied in Argo CD's default way."""

    def set_up(self) -> None:
        """Install our health check, and fill git."""
        settings = yaml.safe_load((machine.ROOT / "manifests/argocd/argocd-cm.yaml").read_text())
        key = "resource.customizations.health.argoproj.io_Application"
        settings["data"][key] = HEALTH_OF_APPLICATIONS
        patch = ("patch", "configmap", "argocd-cm", "--type=merge", "-p", json.dumps(settings))
        self.kubectl(*patch)
        install = (machine.ROOT / "manifests" / "install.yaml").read_text()
        parts: dict[str, list[Any]] = {"crds": [], "operator": []}
        for document in yaml.safe_load_all(install):
            crd = document["kind"] == "CustomResourceDefinition"
            parts["crds" if crd else "operator"].append(document)
        for name, objects in parts.items():
            self._write(name, objects)
        self._write("apps", [_application(name, wave) for name, wave in WAVES.items()])

    def push(self) -> str:
        """Push what git should hold; the commit."""
        for name, proxies in (("proxies", self.proxies), (CLIENT_SIDE, self.client_side)):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self._write(name, proxies.values())
        env = {**self.cluster.env, "KUBECONFIG": str(self.cluster.kubeconfig)}
        return machine.run([str(SHARED / "push"), str(self.folder)], env).strip().splitlines()[-1]

    def install(self) -> None:
        """Create the application whose parts are the others."""
        root = _application(ROOT_APP, None, path="apps")
        self.kubectl("apply", "-f", "-", stdin=json.dumps(root))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl in Argo CD's namespace."""
        return self.cluster.kubectl("-n", NAMESPACE, *arguments, stdin=stdin, timeout=600)

    def application(self, name: str) -> dict[str, Any]:
        """The status of an application; empty while it has none."""
        text = self.kubectl("get", "application", name, "-o", "json", "--ignore-not-found")
        status: dict[str, Any] = json.loads(text).get("status", {}) if text else {}
        return status

    def state(self, name: str) -> str:
        """Such as `Synced Healthy`."""
        return _state(self.application(name))

    def states(self) -> set[str]:
        """In which states any of the applications is."""
        items = json.loads(self.kubectl("get", "applications", "-o", "json"))["items"]
        return {_state(item.get("status", {})) for item in items}

    def wait(self, state: str, *names: str, seconds: float = 90) -> None:
        """Wait until applications are in a state."""
        for name in names:
            eventually(f"{name} is {state}", partial(self._is, name, state), seconds)

    def refresh(self, *names: str) -> None:
        """Have applications compared anew with git and with all that is there."""
        annotate = ("annotate", "--overwrite", "application", *names)
        self.kubectl(*annotate, "argocd.argoproj.io/refresh=hard")

    def _is(self, name: str, state: str) -> bool:
        return self.state(name) == state

    def wait_synced(self, name: str, commit: str, health: str, seconds: float = 90) -> None:
        """Wait until an application has synced a commit and is in a state of health."""

        def reached() -> bool:
            revision: str | None = self.application(name).get("sync", {}).get("revision")
            return revision == commit and self.state(name) == f"Synced {health}"

        eventually(f"{name} is {health} at {commit}", reached, seconds)

    def stop_healing(self, *names: str) -> None:
        """Let applications be as they are from now on."""
        patch = json.dumps({"spec": {"syncPolicy": {"automated": None}}})
        for name in names:
            self.kubectl("patch", "application", name, "--type=merge", "-p", patch)

    def cascade(self, name: str) -> None:
        """Let what an application brought go with it when it is deleted."""
        patch = json.dumps({"metadata": {"finalizers": [FINALIZER]}})
        self.kubectl("patch", "application", name, "--type=merge", "-p", patch)

    def delete(self, *names: str) -> None:
        """Delete applications with all that they brought; fails if that takes over a minute."""
        self.kubectl("delete", "application", *names, "--timeout=60s")

    def _write(self, name: str, objects: Iterable[dict[str, Any]]) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump_all(list(objects), sort_keys=False)
        (folder / "all.yaml").write_text(text, encoding="utf-8")


def _state(status: dict[str, Any]) -> str:
    parts = (status.get("sync", {}).get("status"), status.get("health", {}).get("status"))
    return " ".join(part or "?" for part in parts)


def _application(name: str, wave: int | None, path: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    if wave is not None:
        metadata["annotations"] = {"argocd.argoproj.io/sync-wave": str(wave)}
        metadata["finalizers"] = [FINALIZER]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": metadata,
        "spec": {
            "project": "default",
            "source": {
                "repoURL": "http://git.argocd.svc/apps.git",
                "targetRevision": "main",
                "path": path or name,
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "agents"},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True, "allowEmpty": True},
                "syncOptions": ["CreateNamespace=true"]
                + ([] if name == CLIENT_SIDE else ["ServerSideApply=true"]),
            },
        },
    }
