"""`kubectl mcpproxy report`: a support bundle without the values of secrets.

Secrets are never read. Objects and logs pass through `redaction`.
"""

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.terminal.kubectl.cluster import Kubectl, KubectlFailed
from mcpproxy.terminal.kubectl.redaction import Redactor
from mcpproxy.terminal.version_command import collect_versions

RESOURCE: Final = f"{constants.PLURAL}.{constants.GROUP}"
CHILDREN: Final = (
    "deployments",
    "replicasets",
    "services",
    "configmaps",
    "serviceaccounts",
    "horizontalpodautoscalers",
    "poddisruptionbudgets",
    "networkpolicies",
)
OPERATOR: Final = f"{constants.LABEL_NAME}=mcpproxy-operator"
LOG_LINES: Final = 5000
LOG_BYTES: Final = 4 * 1024 * 1024
MAX_PODS: Final = 20
"""Number of pods whose logs are collected, of the proxy and of the operator each."""
README: Final = """Support bundle of an MCPProxy, made by kubectl mcpproxy report.

Secrets were not read. Values of headers, environment variables and options of programs, users and
parameters in URLs, annotations of other tools, and known forms of credentials in logs are replaced
by [redacted]. Logs may contain other confidential text: read them before you share this file.
"""


class ReportBuilder:
    """Collection of the files of one bundle."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._redactor = Redactor()
        self._objects: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._failures: list[str] = []

    def collect(self, name: str | None) -> dict[str, str]:
        """Return the redacted text of each file of the bundle. Raise KubectlFailed.

        Without a name, the bundle has every MCPProxy of the namespace.
        """
        words = (RESOURCE, name) if name else (RESOURCE,)
        self._take("mcpproxies.json", self._kubectl.items(*words))
        selector = f"{constants.LABEL_NAME}={constants.APP_NAME}"
        selector += f",{constants.LABEL_INSTANCE}={name}" if name else ""
        for kind in CHILDREN:
            self._read(f"children/{kind}.json", self._kubectl, kind, "-l", selector)
        self._pods("pods", self._kubectl, selector)
        self._read("events.json", self._kubectl, "events")
        self._operator()
        self._texts["versions.json"] = json.dumps(collect_versions(), indent=2)
        self._output("kubectl-version.json", self._kubectl, "version", "-o", "json")
        return dict(self._files())

    def _operator(self) -> None:
        everywhere = Kubectl(None, self._kubectl.context, self._kubectl.timeout)
        try:
            deployments = everywhere.items("deployments", "-A", "-l", OPERATOR)
        except KubectlFailed as error:
            self._failures.append(f"operator: {error}")
            return
        self._take("operator/deployments.json", deployments)
        spaces = {
            str((deployment.get("metadata") or {}).get("namespace")) for deployment in deployments
        }
        for namespace in sorted(spaces):
            there = Kubectl(namespace, self._kubectl.context, self._kubectl.timeout)
            self._pods("operator", there, OPERATOR)

    def _pods(self, folder: str, kubectl: Kubectl, selector: str) -> None:
        pods = self._read(f"{folder}/pods.json", kubectl, "pods", "-l", selector)
        for pod in pods[:MAX_PODS]:
            name = str((pod.get("metadata") or {}).get("name"))
            options = ("--all-containers", f"--tail={LOG_LINES}", f"--limit-bytes={LOG_BYTES}")
            self._output(f"{folder}/{name}.log", kubectl, "logs", name, *options)
            self._output(f"{folder}/{name}.previous.log", kubectl, "logs", name, "-p", *options)
        if len(pods) > MAX_PODS:
            self._failures.append(f"{folder}: logs of {len(pods) - MAX_PODS} pods are left out")

    def _read(self, file: str, kubectl: Kubectl, *words: str) -> list[dict[str, Any]]:
        try:
            items = kubectl.items(*words)
        except KubectlFailed as error:
            self._failures.append(f"{file}: {error}")
            return []
        self._take(file, items)
        return items

    def _take(self, file: str, items: list[dict[str, Any]]) -> None:
        if items:
            self._objects[file] = [self._redactor.take_object(item) for item in items]

    def _output(self, file: str, kubectl: Kubectl, *words: str) -> None:
        try:
            text = kubectl.run(*words, whole=False)
        except KubectlFailed as error:
            if not file.endswith(".previous.log"):
                self._failures.append(f"{file}: {error}")
            return
        if text:
            self._texts[file] = text

    def _files(self) -> Iterator[tuple[str, str]]:
        """Yield all files, after the secret values of all objects are known."""
        yield "README.txt", README
        for file, content in self._objects.items():
            yield file, self._redactor.clean_text(json.dumps(content, indent=2) + "\n")
        for file, text in self._texts.items():
            yield file, self._redactor.clean_text(text)
        if self._failures:
            yield "failures.txt", self._redactor.clean_text("\n".join(self._failures) + "\n")


def write_bundle(path: Path, files: dict[str, str]) -> None:
    """Write a tar.gz that only its owner can read, and that must not exist. Raise ManifestError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; choose another file", "-o") from error
    folder = path.name.removesuffix(".tar.gz")
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as bundle:
        for name, text in sorted(files.items()):
            data = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{folder}/{re.sub(r'[^A-Za-z0-9._/-]', '_', name)}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            bundle.addfile(entry, io.BytesIO(data))


def default_path(name: str | None) -> Path:
    """Return the name of a bundle with the time of its creation."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path(f"mcpproxy-report-{name or 'all'}-{stamp}.tar.gz")
