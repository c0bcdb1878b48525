"""Pure: an MCPProxy becomes the manifests of its children.

`build` gives what is applied again and again. The Secret with the sealing key is created once
(`sealing_secret.build`) and never touched again.
"""

from typing import Final

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired import config_map, deployment, sealing_secret, service, service_account
from mcpproxy.desired.model import ChildKind, Manifest, Options, Owner

__all__ = ["CHILD_KINDS", "ChildKind", "Manifest", "Options", "Owner", "build", "sealing_secret"]

CHILD_KINDS: Final = (
    ChildKind("v1", "ServiceAccount", "serviceaccounts"),
    ChildKind("v1", "ConfigMap", "configmaps"),
    ChildKind("v1", "Service", "services"),
    ChildKind("apps/v1", "Deployment", "deployments"),
)
"""Kinds of what `build` gives; children of these kinds that it no longer gives are pruned."""


def build(proxy: MCPProxy, options: Options, owner: Owner) -> tuple[Manifest, ...]:
    """The children of `proxy`, in the order to apply them: what the pods need comes first."""
    return (
        service_account.build(proxy, owner),
        config_map.build(proxy, owner),
        service.build(proxy, owner),
        deployment.build(proxy, options, owner),
    )
