"""Reading an MCPProxy manifest: the runtime's configuration file is one, too."""

import hashlib
import json
from typing import Any

import yaml
from pydantic import ValidationError

from mcpproxy.api.v1alpha1 import MCPProxy


class ManifestError(ValueError):
    """The manifest can't be used; the text names the field and the remedy."""


def explain(error: ValidationError) -> str:
    """Every finding as `path: message`, joined with `; `."""
    findings = []
    for found in error.errors(include_url=False, include_input=False):
        path = ""
        for part in found["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = "unknown field; remove it or correct its spelling"
        findings.append(f"{path}: {message}" if path else message)
    return "; ".join(findings)


def parse(manifest: Any) -> MCPProxy:
    """The model of a manifest that was read as JSON or YAML.

    Raises ManifestError with the path of every wrong field.
    """
    if not isinstance(manifest, dict):
        raise ManifestError("a manifest is a mapping with apiVersion, kind, metadata and spec")
    try:
        return MCPProxy.model_validate(manifest)
    except ValidationError as error:
        raise ManifestError(explain(error)) from error


def load(text: str) -> MCPProxy:
    """The one MCPProxy of a YAML (or JSON) text; other kinds in it are passed over.

    Raises ManifestError when there is none, more than one, or it is wrong.
    """
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}") from error
    found = [d for d in documents if isinstance(d, dict) and d.get("kind") == "MCPProxy"]
    if len(found) != 1:
        raise ManifestError(f"expected one document of kind MCPProxy, found {len(found)}")
    return parse(found[0])


RUNTIME_FIELDS = ("backends", "cache", "session", "health", "allowedHosts", "allowedOrigins")


def runtime_manifest(proxy: MCPProxy) -> str:
    """The manifest that the pods mount: what the runtime reads, and nothing else.

    The order of backends and of keys in the source never shows: the same meaning, the same bytes.
    """
    spec = proxy.spec.to_manifest()
    kept = {field: spec[field] for field in RUNTIME_FIELDS if field in spec}
    kept["backends"] = sorted(kept["backends"], key=lambda backend: backend["name"])
    content = {
        "apiVersion": proxy.api_version,
        "kind": proxy.kind,
        "metadata": proxy.metadata.to_manifest(),
        "spec": kept,
    }
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def config_hash(content: str) -> str:
    """Which configuration this is: SHA-256 of its bytes, hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()
