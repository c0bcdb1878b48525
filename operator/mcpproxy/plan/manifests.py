"""The MCPProxies of a file that may hold other things, too."""

from dataclasses import dataclass
from typing import Any

from mcpproxy.api.manifest import ManifestError, documents, is_mcpproxy, parse
from mcpproxy.api.v1alpha1 import MCPProxy


@dataclass(frozen=True, slots=True)
class ParsedInput:
    """What stands in a file."""

    proxies: list[MCPProxy]
    skipped: list[str]
    """The other documents, as `KIND NAME`."""


def read_manifests(text: str, namespace: str | None, *, may_have_none: bool = False) -> ParsedInput:
    """All MCPProxies of a text; `namespace` is that of those which name none.

    Raises ManifestError that names every wrong field of each of them, or that there is none.
    """
    found = documents(text)
    ours = [_placed(document, namespace) for document in found if is_mcpproxy(document)]
    if not ours and not may_have_none:
        raise ManifestError("expected a document of kind MCPProxy, found none")
    proxies, errors = [], []
    for manifest in ours:
        try:
            proxies.append(parse(manifest))
        except ManifestError as error:
            errors.append(str(error) if len(ours) == 1 else f"MCPProxy {_name(manifest)}: {error}")
    if errors:
        raise ManifestError("\n".join(errors))
    _refuse_twins(proxies)
    return ParsedInput(proxies, [_described(d) for d in found if not is_mcpproxy(d)])


def _refuse_twins(proxies: list[MCPProxy]) -> None:
    seen = set()
    for proxy in proxies:
        key = proxy.metadata.namespace, proxy.metadata.name
        if key in seen:
            raise ManifestError(f"metadata.name: two MCPProxies are called {key[1]}; rename one")
        seen.add(key)


def _placed(manifest: dict[str, Any], namespace: str | None) -> dict[str, Any]:
    metadata = manifest.get("metadata")
    if namespace is None or not isinstance(metadata, dict) or metadata.get("namespace"):
        return manifest
    return {**manifest, "metadata": {**metadata, "namespace": namespace}}


def _name(manifest: dict[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "without a name"


def _described(document: Any) -> str:
    if not isinstance(document, dict):
        return "a document that is no object"
    return f"{document.get('kind', 'a document without a kind')} {_name(document)}"
