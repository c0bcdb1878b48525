"""The Service for clients, and the one by which pods find each other."""

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


def build_for_instances(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the headless Service with the addresses of all pods; None unless they count calls
    together or share watches."""
    if not defaults.pods_find_each_other(proxy.spec):
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(proxy, owner, constants.instances_service_name(proxy.metadata.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            # Pods that start find each other before clients reach them.
            "publishNotReadyAddresses": True,
            "selector": constants.selector_labels(proxy.metadata.name),
            "ports": [
                {
                    "name": "http",
                    "port": constants.PORT_HTTP,
                    "protocol": "TCP",
                    "targetPort": "http",
                }
            ],
        },
    }
