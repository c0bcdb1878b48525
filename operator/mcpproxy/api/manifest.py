"""Parsing of MCPProxy manifests, such as the runtime's configuration file."""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from mcpproxy.api.constants import API_VERSION, KIND
from mcpproxy.api.field_messages import did_you_mean, problems_of, unknown_field
from mcpproxy.api.manifest_errors import ManifestError, Problem
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.yaml_documents import Document, read_documents
from mcpproxy.api.yaml_safe_json import json_text

MAX_PROBLEMS: Final = 100
"""Number of problems of one manifest that are described."""
_SERVERS = ("mcpServers", "servers", "context_servers", "mcp_servers", "mcp")
_TOP_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


def parse(manifest: Any) -> MCPProxy:
    """Return the model of a manifest that was parsed from JSON or YAML.

    Raise ManifestError with the path of every invalid field.
    """
    if not isinstance(manifest, dict):
        raise ManifestError("expected a mapping with apiVersion, kind, metadata and spec")
    unknown = sorted(str(key) for key in manifest if key not in _TOP_FIELDS)
    if unknown:
        raise ManifestError.of(
            [Problem(unknown_field(field, _TOP_FIELDS), field) for field in unknown]
        )
    try:
        return MCPProxy.model_validate(manifest, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = itertools.islice(problems_of(error, MCPProxy), MAX_PROBLEMS)
        raise ManifestError.of(list(problems)) from error


def parse_document(document: Document) -> MCPProxy:
    """Return the model of a document. Raise ManifestError with the line of every invalid field."""
    try:
        return parse(document.content)
    except ManifestError as error:
        raise error.with_lines(document.line_of) from error.__cause__


def load(text: str) -> MCPProxy:
    """Return the only MCPProxy in a YAML or JSON text. Documents of other kinds are ignored.

    Raise ManifestError if the text has no MCPProxy or several, or if it is invalid.
    """
    documents = read_documents(text)
    manifests = [document for document in documents if is_mcpproxy(document.content)]
    if not manifests:
        raise no_mcpproxy(documents).with_lines(line_of_first(documents))
    if len(manifests) > 1:
        raise ManifestError(
            f"expected one document of kind MCPProxy, found {len(manifests)}; keep one in this file"
        )
    return parse_document(manifests[0])


def load_json(text: str) -> MCPProxy:
    """Return the MCPProxy in a JSON text, such as one that `runtime_manifest` has returned.

    Anybody who may write the object that has the text can change it. Unlike YAML, JSON of any
    content is read in time that is proportional to its size, and no message is made for each of
    its errors. Raise ManifestError.
    """
    try:
        content = json.loads(text)
        return MCPProxy.model_validate(content, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError(f"{error.error_count()} fields are invalid") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"expected JSON: {error}") from None


def line_of_first(documents: Sequence[Document]) -> Callable[[str], int]:
    """Return a function for the lines of the fields of the first document."""
    return documents[0].line_of if documents else lambda field: 1


def no_mcpproxy(documents: Sequence[Document]) -> ManifestError:
    """Return the error for a file without an MCPProxy, which says what the file has instead."""
    expected = "expected a document of kind MCPProxy, found"
    if not documents:
        return ManifestError(f"{expected} an empty file")
    content = documents[0].content
    if not isinstance(content, dict):
        return ManifestError(f"{expected} no mapping; begin with apiVersion: {API_VERSION}")
    kind = content.get("kind")
    if isinstance(kind, str):
        return ManifestError(f"{expected} {kind}{did_you_mean(kind, [KIND])}", "kind")
    servers = [key for key in _SERVERS if key in content]
    if servers:
        return ManifestError(
            f"{expected} {servers[0]}; write the manifest with mcpproxy convert FILE"
        )
    return ManifestError(f"{expected} no kind; add kind: {KIND} and apiVersion: {API_VERSION}")


def is_mcpproxy(document: Any) -> bool:
    """True if the kind of a document is MCPProxy, valid or not."""
    return isinstance(document, dict) and document.get("kind") == KIND


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
    monitoring = spec.get("monitoring", {})
    if monitored := {key: monitoring[key] for key in ("profiling", "tracing") if key in monitoring}:
        fields["monitoring"] = monitored
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
