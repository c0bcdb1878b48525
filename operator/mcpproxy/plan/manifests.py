"""Parsing of the MCPProxies in a file that may contain other documents."""

from dataclasses import dataclass
from typing import Any

from mcpproxy.api.manifest import ManifestError, documents, is_mcpproxy, parse
from mcpproxy.api.v1alpha1 import MCPProxy


@dataclass(frozen=True, slots=True)
class ParsedInput:
    """The documents of a file."""

    proxies: list[MCPProxy]
    skipped: list[str]
    """The other documents, as `KIND NAME`."""


def read_manifests(text: str, namespace: str | None, *, may_have_none: bool = False) -> ParsedInput:
    """Return all MCPProxies of a text; `namespace` applies to those without one.

    Raise ManifestError with every invalid field of each MCPProxy, or if the text has no MCPProxy.
    """
    all_documents = documents(text)
    manifests = [
        _with_namespace(document, namespace) for document in all_documents if is_mcpproxy(document)
    ]
    if not manifests and not may_have_none:
        raise ManifestError("expected a document of kind MCPProxy, found none")
    proxies, errors = [], []
    for manifest in manifests:
        try:
            proxies.append(parse(manifest))
        except ManifestError as error:
            errors.append(
                str(error) if len(manifests) == 1 else f"MCPProxy {_name(manifest)}: {error}"
            )
    if errors:
        raise ManifestError("\n".join(errors))
    _check_names_are_unique(proxies)
    return ParsedInput(
        proxies, [_describe(document) for document in all_documents if not is_mcpproxy(document)]
    )


def _check_names_are_unique(proxies: list[MCPProxy]) -> None:
    seen = set()
    for proxy in proxies:
        key = proxy.metadata.namespace, proxy.metadata.name
        if key in seen:
            raise ManifestError(f"metadata.name: two MCPProxies have the name {key[1]}; rename one")
        seen.add(key)


def _with_namespace(manifest: dict[str, Any], namespace: str | None) -> dict[str, Any]:
    metadata = manifest.get("metadata")
    if namespace is None or not isinstance(metadata, dict) or metadata.get("namespace"):
        return manifest
    return {**manifest, "metadata": {**metadata, "namespace": namespace}}


def _name(manifest: dict[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "without a name"


def _describe(document: Any) -> str:
    if not isinstance(document, dict):
        return "a document that is not an object"
    return f"{document.get('kind', 'a document without a kind')} {_name(document)}"
