"""The Service for clients."""

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the Service, without the admin port."""
    given = proxy.spec.service
    found = metadata(proxy, owner, proxy.metadata.name)
    if given and given.annotations:
        found["annotations"] = dict(sorted(given.annotations.items()))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": found,
        "spec": {
            "type": (given and given.type) or "ClusterIP",
            "selector": constants.selector_labels(proxy.metadata.name),
            "ports": [
                {
                    "name": "http",
                    "port": defaults.service_port(proxy.spec),
                    "protocol": "TCP",
                    "targetPort": "http",
                    "appProtocol": "http",
                }
            ],
        },
    }
