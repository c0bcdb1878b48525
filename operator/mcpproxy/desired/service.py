"""The Service for clients."""

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the Service, without the admin port."""
    service = proxy.spec.service
    meta = metadata(proxy, owner, proxy.metadata.name)
    if service and service.annotations:
        meta["annotations"] = dict(sorted(service.annotations.items()))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": (service and service.type) or "ClusterIP",
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
