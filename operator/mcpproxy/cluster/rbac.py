"""Permissions of the operator, from which the manifests are generated."""

from typing import Final, NotRequired, TypedDict

from mcpproxy.api import constants


class PolicyRule(TypedDict):
    """Rule of a Role or ClusterRole."""

    apiGroups: list[str]
    resources: list[str]
    verbs: list[str]
    resourceNames: NotRequired[list[str]]


RULES: Final[tuple[PolicyRule, ...]] = (
    {
        "apiGroups": [constants.GROUP],
        "resources": [constants.PLURAL],
        "verbs": ["get", "list", "watch"],
    },
    {
        "apiGroups": [constants.GROUP],
        "resources": [f"{constants.PLURAL}/status"],
        "verbs": ["patch"],
    },
    {
        # Owner references that block the owner's deletion need this where
        # OwnerReferencesPermissionEnforcement is on (OpenShift).
        "apiGroups": [constants.GROUP],
        "resources": [f"{constants.PLURAL}/finalizers"],
        "verbs": ["update"],
    },
    {
        # Server-side apply of a new object needs create as well as patch.
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": [""],
        "resources": ["services", "serviceaccounts"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["ingresses", "networkpolicies"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["gateway.networking.k8s.io"],
        "resources": ["httproutes"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["monitoring.coreos.com"],
        "resources": ["podmonitors"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["autoscaling"],
        "resources": ["horizontalpodautoscalers"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["policy"],
        "resources": ["poddisruptionbudgets"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    # The owner of its ReplicaSet distinguishes a pod from others with the same labels.
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
)
"""Permissions in every namespace that is served."""

POD_PROXY: Final[PolicyRule] = {
    "apiGroups": [""],
    "resources": ["pods/proxy"],
    "verbs": ["get"],
}
"""Additional permissions if the operator reads pods through the API server."""

LEASE_RULES: Final[tuple[PolicyRule, ...]] = (
    # RBAC can't restrict create to a name.
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [constants.FIELD_MANAGER],
        "verbs": ["get", "update"],
    },
)
"""Permissions in the operator's own namespace for leader election."""
