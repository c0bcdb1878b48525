"""The ConfigMap that holds the runtime's configuration: an MCPProxy manifest."""

from mcpproxy.api import constants, manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def name(proxy: MCPProxy) -> str:
    """Return the name, which differs for every configuration."""
    return constants.config_map_name(proxy.metadata.name, manifest.runtime_manifest(proxy))


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the ConfigMap. It is immutable: a change would reach pods without a rollout."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(proxy, owner, name(proxy)),
        "immutable": True,
        "data": {constants.CONFIG_FILE: manifest.runtime_manifest(proxy)},
    }
