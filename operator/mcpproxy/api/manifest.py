"""Parsing of MCPProxy manifests, such as the runtime's configuration file."""

import hashlib
from collections.abc import Hashable
from typing import Any

import yaml
from pydantic import ValidationError

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.yaml_safe_json import json_text

_TOP_FIELDS = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_UNKNOWN_FIELD = "unknown field; remove it or correct its spelling"


class ManifestError(ValueError):
    """The manifest is invalid. The message names the field and the remedy."""


class _Loader(yaml.SafeLoader):
    """YAML loader that behaves like kubectl: dates stay text, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if not key.tag.endswith(":merge")
        ]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"duplicate key {key!r} in a mapping; remove one of the two",
                    node.start_mark,
                )
        return super().construct_mapping(node, deep)


# An unquoted 2025-11-25 is an MCP revision, not a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def format_validation_error(error: ValidationError) -> str:
    """Return all errors as `path: message`, joined with `; `."""
    messages = []
    for item in error.errors(include_url=False, include_input=False):
        path = ""
        for part in item["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _UNKNOWN_FIELD
        messages.append(f"{path}: {message}" if path else message)
    return "; ".join(messages)


def parse(manifest: Any) -> MCPProxy:
    """Return the model of a manifest that was parsed from JSON or YAML.

    Raise ManifestError with the path of every invalid field.
    """
    if not isinstance(manifest, dict):
        raise ManifestError("expected a mapping with apiVersion, kind, metadata and spec")
    unknown = sorted(str(key) for key in manifest if key not in _TOP_FIELDS)
    if unknown:
        raise ManifestError("; ".join(f"{field}: {_UNKNOWN_FIELD}" for field in unknown))
    try:
        return MCPProxy.model_validate(manifest, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError(format_validation_error(error)) from error


def load(text: str) -> MCPProxy:
    """Return the only MCPProxy in a YAML or JSON text. Documents of other kinds are ignored.

    Raise ManifestError if the text has no MCPProxy or several, or if it is invalid.
    """
    manifests = [document for document in documents(text) if is_mcpproxy(document)]
    if len(manifests) != 1:
        raise ManifestError(f"expected one document of kind MCPProxy, found {len(manifests)}")
    return parse(manifests[0])


def documents(text: str) -> list[Any]:
    """Return all non-empty documents of a YAML or JSON text. Raise ManifestError."""
    try:
        return [item for item in yaml.load_all(text, _Loader) if item is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"invalid YAML: {error}") from error


def is_mcpproxy(document: Any) -> bool:
    """True if the kind of a document is MCPProxy, valid or not."""
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
    "publicUrl",
    "authentication",
    "authorization",
    "principalFrom",
    "limits",
    "audit",
)


def runtime_manifest(proxy: MCPProxy) -> str:
    """Return the manifest that the pods mount. It has only the fields that the runtime reads.

    Keys are sorted, and so are lists whose order has no meaning, so that manifests with the same
    meaning have the same bytes.
    """
    spec = proxy.spec.to_manifest()
    fields = {field: spec[field] for field in RUNTIME_FIELDS if field in spec}
    if "tracing" in spec.get("monitoring", {}):
        fields["monitoring"] = {"tracing": spec["monitoring"]["tracing"]}
    fields["backends"] = _by_name([_normalized(backend) for backend in fields["backends"]])
    # Only the operator compares the hash, so that approving by hash restarts no pod.
    fields.get("catalog", {}).pop("approvedHash", None)
    if "approved" not in fields.get("catalog", {}):
        fields.pop("catalog", None)
    if "deny" in fields.get("extensions", {}):
        fields["extensions"] = {"deny": sorted(fields["extensions"]["deny"])}
    for field in ("allowedHosts", "allowedOrigins"):
        if field in fields:
            fields[field] = sorted(set(fields[field]))
    for field in ("authorization", "limits"):
        # The order of rules, and of all lists in them, has no meaning.
        if field in fields:
            fields[field] = _sorted_lists(fields[field])
    if "redact" in fields.get("audit", {}):
        fields["audit"] = {**fields["audit"], "redact": sorted(fields["audit"]["redact"])}
    if "authentication" in fields:
        fields["authentication"] = _normalized_authentication(fields["authentication"])
    content = {
        "apiVersion": proxy.api_version,
        "kind": proxy.kind,
        "metadata": proxy.metadata.to_manifest(),
        "spec": fields,
    }
    return json_text(content, indent=2, sort_keys=True) + "\n"


def _normalized(backend: dict[str, Any]) -> dict[str, Any]:
    normalized = dict(backend)
    if "headers" in normalized:
        normalized["headers"] = _by_name(normalized["headers"])
    if "auth" in normalized:
        normalized["auth"] = _sorted_lists(normalized["auth"])
    if "forwardHeaders" in normalized:
        normalized["forwardHeaders"] = sorted(name.lower() for name in normalized["forwardHeaders"])
    if "env" in normalized.get("stdio", {}):
        normalized["stdio"] = {**normalized["stdio"], "env": _by_name(normalized["stdio"]["env"])}
    for kind in COMPONENT_FIELDS:
        if kind in normalized:
            normalized[kind] = _normalized_components(normalized[kind])
    return normalized


def _sorted_lists(value: Any) -> Any:
    """Return a JSON value with all lists in it sorted."""
    if isinstance(value, dict):
        return {key: _sorted_lists(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(_sorted_lists, value), key=lambda inner: json_text(inner, sort_keys=True))
    return value


def _normalized_authentication(authentication: dict[str, Any]) -> dict[str, Any]:
    normalized = dict(authentication)
    if "jwt" in normalized:
        issuers = [
            {**issuer, "audiences": sorted(set(issuer["audiences"]))}
            if "audiences" in issuer
            else issuer
            for issuer in normalized["jwt"]
        ]
        normalized["jwt"] = sorted(issuers, key=lambda issuer: str(issuer["issuer"]))
    if "apiKeys" in normalized:
        normalized["apiKeys"] = _by_name(normalized["apiKeys"])
    metadata = normalized.get("resourceMetadata", {})
    if "scopesSupported" in metadata:
        scopes = sorted(metadata["scopesSupported"])
        normalized["resourceMetadata"] = {**metadata, "scopesSupported": scopes}
    return normalized


def _normalized_components(components: dict[str, Any]) -> dict[str, Any]:
    normalized = dict(components)
    for field in ("include", "exclude"):
        if field in normalized:
            normalized[field] = sorted(set(normalized[field]))
    if "overrides" in normalized:
        normalized["overrides"] = _by_name(normalized["overrides"])
    return normalized


def _by_name(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["name"]))


def config_hash(content: str) -> str:
    """Return the SHA-256 that identifies a configuration, in hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()
