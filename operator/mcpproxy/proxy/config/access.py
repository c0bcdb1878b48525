"""Access to a proxy that has no manifest: who may call it, and what they may use."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mcpproxy.api.manifest import config_hash, parse
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.yaml_documents import read_documents
from mcpproxy.proxy.config.proxy_config import ProxyConfig

ACCESS_FIELDS: Final = ("publicUrl", "authentication", "authorization", "audit")
"""Fields of a spec that a program or the command line can set."""


def with_access(configuration: ProxyConfig, fields: Mapping[str, Any]) -> ProxyConfig:
    """Return a configuration with these fields of its spec. Raise ManifestError."""
    manifest = configuration.proxy.to_manifest()
    manifest["spec"] = {**manifest["spec"], **fields}
    content = json.dumps(manifest, sort_keys=True)
    made = ProxyConfig(parse(manifest), config_hash(content), configuration.directory)
    return replace(made, sign_ins=configuration.sign_ins)


def read_access_file(path: Path) -> dict[str, Any]:
    """Return the fields in a YAML or JSON file. Raise ManifestError."""
    try:
        documents = read_documents(path.read_text(encoding="utf-8"))
        results = [document.content for document in documents]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"--access {path}: {reason}") from None
    except ManifestError as error:
        raise ManifestError(f"--access {path}: {error}") from None
    if len(results) != 1 or not isinstance(results[0], dict):
        raise ManifestError(f"--access {path}: expected one mapping of {_listed()}")
    unknown = [str(name) for name in results[0] if name not in ACCESS_FIELDS]
    if unknown:
        raise ManifestError(
            f"--access {path}: {', '.join(unknown)}: unknown field; the fields are {_listed()}, as"
            " in the spec of an MCPProxy"
        )
    return results[0]


def add_access(
    configuration: ProxyConfig, file: Path | None, public_url: str | None
) -> ProxyConfig:
    """Return a configuration with the fields of a file, and a URL that precedes the file's.

    Raise ManifestError.
    """
    fields = {} if file is None else read_access_file(file)
    if public_url is not None:
        fields["publicUrl"] = public_url
    if not fields:
        return configuration
    try:
        return with_access(configuration, fields)
    except ManifestError as error:
        option = "--public-url" if file is None else f"--access {file}"
        raise ManifestError(f"{option}: {error}") from None


def _listed() -> str:
    return ", ".join(ACCESS_FIELDS)
