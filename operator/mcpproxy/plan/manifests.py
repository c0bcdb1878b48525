"""Parsing of the MCPProxies in a file that may contain other documents."""

from dataclasses import dataclass, replace
from typing import Any

from mcpproxy.api.manifest import is_mcpproxy, line_of_first, no_mcpproxy, parse_document
from mcpproxy.api.manifest_errors import ManifestError, Problem
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.yaml_documents import Document, read_documents


@dataclass(frozen=True, slots=True)
class ParsedInput:
    """The documents of a file."""

    proxies: list[MCPProxy]
    skipped: list[str]
    """The other documents, as `KIND NAME`."""
    text: str = ""
    """The text of the file."""


def read_manifests(text: str, namespace: str | None, *, may_have_none: bool = False) -> ParsedInput:
    """Return all MCPProxies of a text; `namespace` applies to those without one.

    Raise ManifestError with every invalid field of each MCPProxy, or if the text has no MCPProxy.
    """
    all_documents = read_documents(text)
    manifests = [
        _with_namespace(document, namespace)
        for document in all_documents
        if is_mcpproxy(document.content)
    ]
    if not manifests and not may_have_none:
        raise no_mcpproxy(all_documents).with_lines(line_of_first(all_documents))
    proxies: list[MCPProxy] = []
    problems: list[Problem] = []
    for manifest in manifests:
        try:
            proxies.append(parse_document(manifest))
        except ManifestError as error:
            prefix = "" if len(manifests) == 1 else f"MCPProxy {_name(manifest.content)}: "
            problems += (
                replace(problem, field=f"{prefix}{problem.field}") for problem in error.problems
            )
    if problems:
        raise ManifestError.of(problems)
    _check_names_are_unique(proxies)
    return ParsedInput(
        proxies,
        [
            _describe(document.content)
            for document in all_documents
            if not is_mcpproxy(document.content)
        ],
        text,
    )


def _check_names_are_unique(proxies: list[MCPProxy]) -> None:
    seen = set()
    for proxy in proxies:
        key = proxy.metadata.namespace, proxy.metadata.name
        if key in seen:
            raise ManifestError(
                f"two MCPProxies have the name {key[1]}; rename one", "metadata.name"
            )
        seen.add(key)


def _with_namespace(document: Document, namespace: str | None) -> Document:
    manifest = document.content
    metadata = manifest.get("metadata")
    if namespace is None or not isinstance(metadata, dict) or metadata.get("namespace"):
        return document
    content = {**manifest, "metadata": {**metadata, "namespace": namespace}}
    return replace(document, content=content)


def _name(manifest: dict[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "without a name"


def _describe(document: Any) -> str:
    if not isinstance(document, dict):
        return "a document that is not an object"
    return f"{document.get('kind', 'a document without a kind')} {_name(document)}"
