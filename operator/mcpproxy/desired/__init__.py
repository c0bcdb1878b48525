"""Pure: an MCPProxy becomes the manifests of its children.

`build` gives what is applied again and again. The Secret with the sealing key is created once
(`sealing_secret.build`) and never touched again.
"""

from typing import Final

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired import (
    autoscaler,
    config_map,
    deployment,
    disruption_budget,
    sealing_secret,
    service,
    service_account,
)
from mcpproxy.desired.model import ChildKind, Manifest, Options, Owner

__all__ = ["CHILD_KINDS", "ChildKind", "Manifest", "Options", "Owner", "build", "sealing_secret"]

CHILD_KINDS: Final = (
    ChildKind("v1", "ServiceAccount", "serviceaccounts"),
    ChildKind("v1", "ConfigMap", "configmaps"),
    ChildKind("v1", "Service", "services"),
    ChildKind("apps/v1", "Deployment", "deployments"),
    ChildKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ChildKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
)
"""Kinds of what `build` gives, in its order; what it no longer gives is pruned."""


def build(proxy: MCPProxy, options: Options, owner: Owner) -> tuple[Manifest, ...]:
    """The children of `proxy`, in the order to apply them: what the pods need comes first."""
    children = (
        service_account.build(proxy, owner),
        config_map.build(proxy, owner),
        service.build(proxy, owner),
        deployment.build(proxy, options, owner),
        autoscaler.build(proxy, owner),
        disruption_budget.build(proxy, owner),
    )
    return tuple(child for child in children if child is not None)
