"""`mcpproxy plan --approve`: write the digests of the current catalog to the manifest's file.

Only the text of `spec.catalog` changes: other documents, comments and the order of fields stay.
"""

import json
import os
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mcpproxy.api.manifest import is_mcpproxy
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.yaml_documents import Document, read_documents

Approvals = Mapping[str, tuple[dict[str, Any], str]]
"""Name of an MCPProxy → the digests of its components, and the hash of its catalog."""
Edit = tuple[int, int, str]
"""Begin and end of a part of the text, and the text in its place."""


def write_approvals(path: Path, before: str, approvals: Approvals) -> None:
    """Write approvals to a file that still contains the text `before`. Raise ManifestError or
    OSError."""
    target = path.resolve()
    text = target.read_bytes().decode("utf-8")
    if text.replace("\r\n", "\n") != before.replace("\r\n", "\n"):
        raise ManifestError(f"{path} has changed since the plan began; run the command again")
    changed = approve(text, approvals).encode()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(changed)
        Path(name).chmod(target.stat().st_mode & 0o7777)
        Path(name).replace(target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def approve(text: str, approvals: Approvals) -> str:
    """Return the text of a file with approvals of its MCPProxies. Raise ManifestError."""
    documents = read_documents(text)
    edits: list[Edit] = []
    for document in documents:
        approval = approvals.get(_name(document))
        if approval is not None:
            edits += _edits(text, document.root, *approval)
    newline = "\r\n" if "\r\n" in text else "\n"
    changed = text
    for begin, end, part in sorted(edits, reverse=True):
        changed = changed[:begin] + part.replace("\n", newline) + changed[end:]
    expected = [_expected(document, approvals) for document in documents]
    if _contents(changed) != expected:
        raise ManifestError(
            "the file cannot be changed in place, for example because of anchors or tabs; paste"
            " `approved` of -o json"
        )
    return changed


def _contents(text: str) -> list[Any] | None:
    try:
        return [document.content for document in read_documents(text)]
    except ManifestError:
        return None


def _name(document: Document) -> str:
    """Return the name of an MCPProxy; empty for another document."""
    if not is_mcpproxy(document.content):
        return ""
    metadata = document.content.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _expected(document: Document, approvals: Approvals) -> Any:
    approval = approvals.get(_name(document))
    if approval is None:
        return document.content
    spec = document.content["spec"]
    catalog = dict(spec.get("catalog") or {})
    catalog["approved"] = approval[0]
    if "approvedHash" in catalog:
        catalog["approvedHash"] = approval[1]
    return {**document.content, "spec": {**spec, "catalog": catalog}}


def _edits(text: str, root: yaml.Node, digests: dict[str, Any], catalog_hash: str) -> list[Edit]:
    """Return the changes of the text of one MCPProxy."""
    key, spec = _field(root, "spec")
    below = _field(spec, "catalog")
    if below is None:
        return [_insertion(text, key, spec, {"catalog": {"approved": digests}})]
    key, catalog = below
    if not catalog.value:
        begin, end = catalog.start_mark.index, catalog.end_mark.index
        return [(begin, end, f" {json.dumps({'approved': digests})}")]
    edits: list[Edit] = []
    if (hashed := _field(catalog, "approvedHash")) is not None:
        begin, end = hashed[1].start_mark.index, hashed[1].end_mark.index
        edits.append((begin, end, json.dumps(catalog_hash)))
    approved = _field(catalog, "approved")
    if approved is None:
        return [*edits, _insertion(text, key, catalog, {"approved": digests})]
    return [*edits, _replacement(catalog, approved, digests)]


def _field(node: yaml.Node, name: str) -> Any:
    """Return the nodes of a field and of its value; None if it is missing."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((pair for pair in pairs if pair[0].value == name), None)


def _insertion(
    text: str, key: yaml.Node, mapping: yaml.MappingNode, content: dict[str, Any]
) -> Edit:
    """Add a field at the beginning of a mapping, which is the value of `key`."""
    if mapping.flow_style:
        begin = mapping.start_mark.index + 1
        return begin, begin, f"{json.dumps(content)[1:-1]}, "
    # Comments above the first field stay where they are.
    begin = text.index("\n", key.end_mark.index) + 1
    column: int = mapping.value[0][0].start_mark.column
    return begin, begin, f"{_block(content, column)}\n"


def _replacement(
    mapping: yaml.MappingNode, approved: tuple[yaml.Node, yaml.Node], digests: dict[str, Any]
) -> Edit:
    """Replace the field `approved` of a mapping."""
    key, value = approved
    if mapping.flow_style:
        return value.start_mark.index, value.end_mark.index, json.dumps(digests)
    column: int = key.start_mark.column
    part = _block({"approved": digests}, column).lstrip(" ")
    return key.start_mark.index, _end(value), part


def _block(content: dict[str, Any], column: int) -> str:
    # YAML escapes nonprintable characters.
    dumped = yaml.safe_dump(content, width=10_000).rstrip("\n")
    return textwrap.indent(dumped, " " * column)


def _end(node: yaml.Node) -> int:
    """Return the end of a node without the comments and empty lines that follow."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    index: int = node.end_mark.index
    return index
