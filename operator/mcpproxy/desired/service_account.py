"""The ServiceAccount of the pods, which has no rights and no token."""

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """The ServiceAccount."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "automountServiceAccountToken": False,
    }
