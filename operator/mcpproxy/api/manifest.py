"""Reading an MCPProxy manifest: the runtime's configuration file is one, too."""

import hashlib
from collections.abc import Hashable
from typing import Any

import yaml
from pydantic import ValidationError

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.yaml_safe_json import json_text

_TOP_FIELDS = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_UNKNOWN_FIELD = "unknown field, remove it or correct its spelling"


class ManifestError(ValueError):
    """The manifest can't be used; the text names the field and the remedy."""


class _Loader(yaml.SafeLoader):
    """Reads YAML as kubectl does: a date stays text, a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if not key.tag.endswith(":merge")
        ]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice in one mapping", node.start_mark
                )
        return super().construct_mapping(node, deep)


# An unquoted 2025-11-25 is a revision of MCP, not a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def format_validation_error(error: ValidationError) -> str:
    """Every finding as `path: message`, joined with `; `."""
    findings = []
    for found in error.errors(include_url=False, include_input=False):
        path = ""
        for part in found["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = _UNKNOWN_FIELD
        findings.append(f"{path}: {message}" if path else message)
    return "; ".join(findings)


def parse(manifest: Any) -> MCPProxy:
    """The model of a manifest that was read as JSON or YAML.

    Raises ManifestError with the path of every wrong field.
    """
    if not isinstance(manifest, dict):
        raise ManifestError("a manifest is a mapping with apiVersion, kind, metadata and spec")
    unknown = sorted(str(key) for key in manifest if key not in _TOP_FIELDS)
    if unknown:
        raise ManifestError("; ".join(f"{field}: {_UNKNOWN_FIELD}" for field in unknown))
    try:
        return MCPProxy.model_validate(manifest, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError(format_validation_error(error)) from error


def load(text: str) -> MCPProxy:
    """The one MCPProxy of a YAML (or JSON) text; other kinds in it are passed over.

    Raises ManifestError when there is none, more than one, or it is wrong.
    """
    found = [d for d in documents(text) if is_mcpproxy(d)]
    if len(found) != 1:
        raise ManifestError(f"expected one document of kind MCPProxy, found {len(found)}")
    return parse(found[0])


def documents(text: str) -> list[Any]:
    """All documents of a YAML (or JSON) text that are not empty. Raises ManifestError."""
    try:
        return [d for d in yaml.load_all(text, _Loader) if d is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}") from error


def is_mcpproxy(document: Any) -> bool:
    """Whether a document says that it is an MCPProxy, right or wrong."""
    return isinstance(document, dict) and document.get("kind") == "MCPProxy"


COMPONENT_FIELDS = ("tools", "prompts", "resources", "resourceTemplates")
RUNTIME_FIELDS = (
    "backends",
    "cache",
    "catalog",
    "extensions",
    "session",
    "names",
    "health",
    "allowedHosts",
    "allowedOrigins",
    "principalFrom",
)


def runtime_manifest(proxy: MCPProxy) -> str:
    """The manifest that the pods mount: what the runtime reads, and nothing else.

    The order of keys, and of lists whose order means nothing, never shows: the same meaning,
    the same bytes.
    """
    spec = proxy.spec.to_manifest()
    kept = {field: spec[field] for field in RUNTIME_FIELDS if field in spec}
    if "tracing" in spec.get("monitoring", {}):
        kept["monitoring"] = {"tracing": spec["monitoring"]["tracing"]}
    kept["backends"] = _by_name([_ordered(backend) for backend in kept["backends"]])
    # The hash is compared with by the operator alone: approving by it restarts no pod.
    kept.get("catalog", {}).pop("approvedHash", None)
    if "approved" not in kept.get("catalog", {}):
        kept.pop("catalog", None)
    if "deny" in kept.get("extensions", {}):
        kept["extensions"] = {"deny": sorted(kept["extensions"]["deny"])}
    for field in ("allowedHosts", "allowedOrigins"):
        if field in kept:
            kept[field] = sorted(set(kept[field]))
    content = {
        "apiVersion": proxy.api_version,
        "kind": proxy.kind,
        "metadata": proxy.metadata.to_manifest(),
        "spec": kept,
    }
    return json_text(content, indent=2, sort_keys=True) + "\n"


def _ordered(backend: dict[str, Any]) -> dict[str, Any]:
    found = dict(backend)
    if "headers" in found:
        found["headers"] = _by_name(found["headers"])
    if "forwardHeaders" in found:
        found["forwardHeaders"] = sorted(name.lower() for name in found["forwardHeaders"])
    if "env" in found.get("stdio", {}):
        found["stdio"] = {**found["stdio"], "env": _by_name(found["stdio"]["env"])}
    for kind in COMPONENT_FIELDS:
        if kind in found:
            found[kind] = _ordered_components(found[kind])
    return found


def _ordered_components(components: dict[str, Any]) -> dict[str, Any]:
    found = dict(components)
    for field in ("include", "exclude"):
        if field in found:
            found[field] = sorted(set(found[field]))
    if "overrides" in found:
        found["overrides"] = _by_name(found["overrides"])
    return found


def _by_name(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["name"]))


def config_hash(content: str) -> str:
    """Which configuration this is: SHA-256 of its bytes, hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()
