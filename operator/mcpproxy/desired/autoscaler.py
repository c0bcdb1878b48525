"""The HorizontalPodAutoscaler that sets the number of pods."""

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the autoscaler; None unless the spec requests one.

    It measures only the container of the runtime, because an injected container may have no
    requests.
    """
    scaling = proxy.spec.autoscaling
    if scaling is None:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": proxy.metadata.name,
            },
            "minReplicas": scaling.min_replicas or defaults.MIN_REPLICAS,
            "maxReplicas": scaling.max_replicas,
            "metrics": [_metric(*target) for target in sorted(scaling.measured.items())],
            "behavior": {
                "scaleDown": {"stabilizationWindowSeconds": defaults.scale_down_seconds(scaling)}
            },
        },
    }


def _metric(resource: str, percent: int) -> Manifest:
    return {
        "type": "ContainerResource",
        "containerResource": {
            "name": resource,
            "container": constants.CONTAINER,
            "target": {"type": "Utilization", "averageUtilization": percent},
        },
    }
