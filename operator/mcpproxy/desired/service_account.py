"""The ServiceAccount of the pods, without permissions and without a token."""

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the ServiceAccount."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "automountServiceAccountToken": False,
    }
