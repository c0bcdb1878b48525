"""The PodDisruptionBudget that limits evictions."""

from mcpproxy.api import names
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.model import Manifest, Owner, metadata


def build(proxy: MCPProxy, owner: Owner) -> Manifest | None:
    """The budget; None unless the spec asks for one."""
    given = proxy.spec.disruption_budget
    if given is None:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "spec": {
            **given.to_manifest(),
            "selector": {"matchLabels": names.selector_labels(proxy.metadata.name)},
            # A pod that serves nobody must not keep its node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
