"""The ServiceAccount of the pods, which has no rights and no token."""

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.model import Manifest, Owner, metadata


def build(proxy: MCPProxy, owner: Owner) -> Manifest:
    """The ServiceAccount."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "automountServiceAccountToken": False,
    }
