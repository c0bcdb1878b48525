"""The PodDisruptionBudget that limits evictions."""

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the budget; None unless the spec requests one."""
    budget = proxy.spec.disruption_budget
    if budget is None:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "spec": {
            **budget.to_manifest(),
            "selector": {"matchLabels": constants.selector_labels(proxy.metadata.name)},
            # A pod that is not ready must not block the drain of its node.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
