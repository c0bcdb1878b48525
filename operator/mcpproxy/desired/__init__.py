"""Manifests of the children of an MCPProxy. Pure.

`build` returns the manifests that are applied repeatedly. The Secret with the sealing key is
created once (`sealing_secret.build`) and never changed.
"""

from collections.abc import Mapping
from typing import Final

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired import (
    autoscaler,
    config_map,
    deployment,
    disruption_budget,
    network_policy,
    pod_monitor,
    sealing_secret,
    service,
    service_account,
)
from mcpproxy.desired.exposure import http_route, ingress
from mcpproxy.desired.types import (
    BuildOptions,
    ChildKind,
    Manifest,
    OwnerRef,
    ServiceName,
    ServiceTarget,
    TokenKeys,
)

__all__ = [
    "CHILD_KINDS",
    "BuildOptions",
    "ChildKind",
    "Manifest",
    "OwnerRef",
    "ServiceName",
    "ServiceTarget",
    "TokenKeys",
    "build",
    "network_policy",
    "sealing_secret",
]

_NO_SERVICES: Final[Mapping[ServiceName, ServiceTarget]] = {}

CHILD_KINDS: Final = (
    ChildKind("v1", "ServiceAccount", "serviceaccounts"),
    ChildKind("v1", "ConfigMap", "configmaps"),
    ChildKind("v1", "Service", "services"),
    ChildKind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ChildKind("apps/v1", "Deployment", "deployments"),
    ChildKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ChildKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ChildKind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    ChildKind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    ChildKind("networking.k8s.io/v1", "Ingress", "ingresses"),
)
"""Kinds that `build` returns, in its order; a child that it no longer returns is pruned."""


def build(
    proxy: MCPProxy,
    options: BuildOptions,
    owner: OwnerRef,
    services: Mapping[ServiceName, ServiceTarget] = _NO_SERVICES,
    token_keys: TokenKeys | None = None,
) -> tuple[Manifest, ...]:
    """Return the children of `proxy` in the order to apply them: the dependencies of pods first.

    `services` has the Services of `network_policy.referenced_services` that could be read.
    `token_keys` are those of ServiceAccount tokens; None if they are unknown or not needed.
    """
    children = (
        service_account.build(proxy, owner),
        config_map.build(proxy, owner),
        config_map.build_token_keys(proxy, owner, token_keys),
        service.build(proxy, owner),
        service.build_for_instances(proxy, owner),
        network_policy.build(proxy, options, owner, services),
        deployment.build(proxy, options, owner),
        autoscaler.build(proxy, owner),
        disruption_budget.build(proxy, owner),
        pod_monitor.build(proxy, owner),
        http_route.build(proxy, owner),
        ingress.build(proxy, owner),
    )
    return tuple(child for child in children if child is not None)
