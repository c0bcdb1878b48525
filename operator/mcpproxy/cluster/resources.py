"""Kinds of objects that the operator uses, with their paths in the API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Final, NamedTuple

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object

_SEGMENT: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?")
"""Names of objects, pods with their ports among them, as one segment of a path."""


class ProxyKey(NamedTuple):
    """Namespace and name of an MCPProxy."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """Kind of object and its path in the API."""

    group: str
    version: str
    name: str
    plural: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of one object or of a subresource.

        Raise ValueError for a namespace or name that would lead elsewhere.
        """
        for word in (namespace, name):
            if word and not _SEGMENT.fullmatch(word):
                raise ValueError(f"{word!r} cannot be the name of an object")
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"/namespaces/{namespace}" if namespace else ""
        parts = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}/{self.version}{place}/{self.plural}{parts}"


MCP_PROXY: Final = ResourceKind(
    constants.GROUP, constants.VERSION, constants.KIND, constants.PLURAL
)
DEPLOYMENT: Final = ResourceKind("apps", "v1", "Deployment", "deployments")
REPLICA_SET: Final = ResourceKind("apps", "v1", "ReplicaSet", "replicasets")
SERVICE: Final = ResourceKind("", "v1", "Service", "services")
SERVICE_ACCOUNT: Final = ResourceKind("", "v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP: Final = ResourceKind("", "v1", "ConfigMap", "configmaps")
NETWORK_POLICY: Final = ResourceKind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
POD_MONITOR: Final = ResourceKind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
AUTOSCALER: Final = ResourceKind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"
)
DISRUPTION_BUDGET: Final = ResourceKind(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"
)
HTTP_ROUTE: Final = ResourceKind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
INGRESS: Final = ResourceKind("networking.k8s.io", "v1", "Ingress", "ingresses")
SECRET: Final = ResourceKind("", "v1", "Secret", "secrets")
POD: Final = ResourceKind("", "v1", "Pod", "pods")
EVENT: Final = ResourceKind("", "v1", "Event", "events")
LEASE: Final = ResourceKind("coordination.k8s.io", "v1", "Lease", "leases")

ALWAYS: Final = (DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, CONFIG_MAP)
"""Kinds of children that every MCPProxy has."""
ON_DEMAND: Final = (
    NETWORK_POLICY,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    POD_MONITOR,
    HTTP_ROUTE,
    INGRESS,
)
"""Kinds of children that an MCPProxy has only if its spec requests them, under its own name."""

NOT_BUILT_IN: Final = (POD_MONITOR, HTTP_ROUTE)
"""Kinds that a cluster has only if another project is installed."""

_BY_NAME: Final = {
    kind.name: kind
    for kind in (MCP_PROXY, *ALWAYS, *ON_DEMAND, REPLICA_SET, SECRET, POD, EVENT, LEASE)
}

PLURALS: Final = frozenset(kind.plural for kind in _BY_NAME.values())
"""Every kind that the operator uses."""


def kind_of(manifest: Object) -> ResourceKind:
    """Return the kind of a manifest. Raise KeyError for one that the operator does not use."""
    return _BY_NAME[manifest["kind"]]


def owner_key(live: Mapping[str, Any]) -> ProxyKey | None:
    """Return the MCPProxy that an object is or belongs to, by its kind, owner or labels.

    Anybody who may create an object writes its owner and labels: they need not be valid names.
    """
    metadata = live["metadata"]
    namespace = intern(metadata["namespace"])
    if live.get("kind") == constants.KIND:
        return ProxyKey(namespace, intern(metadata["name"]))
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and _is_proxy(reference):
            return _key(namespace, reference.get("name"))
    return _key(namespace, (metadata.get("labels") or {}).get(constants.LABEL_INSTANCE))


def _is_proxy(reference: Mapping[str, Any]) -> bool:
    group, _, _ = str(reference.get("apiVersion")).partition("/")
    return (group, reference.get("kind")) == (constants.GROUP, constants.KIND)


def _key(namespace: str, name: Any) -> ProxyKey | None:
    """Return the key of an MCPProxy that can have children; None for other names."""
    if not isinstance(name, str) or not constants.is_dns_label(name):
        return None
    return ProxyKey(namespace, intern(name))
