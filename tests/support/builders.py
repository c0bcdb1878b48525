"""MCPProxies for tests: small by default, each field settable by its name in the manifest."""

import random
from typing import Any

from mcpproxy.api import manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired import BuildOptions, OwnerRef

OPTIONS = BuildOptions(image="mcpproxy-runtime:1.2.3", version="1.2.3")
OWNER = OwnerRef(name="tools", uid="0e7c2a3c-5b1e-4f7e-9f0a-3f6f8d0c9b11")


def a_backend(name: str = "weather", **fields: Any) -> dict[str, Any]:
    """A backend by url, unless `fields` give another source."""
    sources = {"url", "service", "stdio"} & fields.keys()
    url = {} if sources else {"url": f"http://{name}.example.com/mcp"}
    return {"name": name, **url, **fields}


def a_manifest(name: str = "tools", namespace: str | None = "team", **spec: Any) -> dict[str, Any]:
    """An MCPProxy as it is written: one backend, unless `spec` says otherwise."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": metadata,
        "spec": {"backends": [a_backend()], **spec},
    }


def an_mcpproxy(name: str = "tools", namespace: str | None = "team", **spec: Any) -> MCPProxy:
    """The model of `a_manifest`."""
    return manifest.parse(a_manifest(name, namespace, **spec))


def shuffled(value: Any, by: random.Random) -> Any:
    """`value` with the order of mappings and of lists changed, except that of `args`."""
    if isinstance(value, dict):
        keys = list(value)
        by.shuffle(keys)
        return {key: value[key] if key == "args" else shuffled(value[key], by) for key in keys}
    if isinstance(value, list):
        mixed = [shuffled(item, by) for item in value]
        by.shuffle(mixed)
        return mixed
    return value
