"""The kinds of objects that the operator touches, and where the API serves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mcpproxy.api import names

Object = dict[str, Any]
"""One object as the API server gives it: JSON, read into dictionaries."""
Objects = list[Object]


class ProxyKey(NamedTuple):
    """Which MCPProxy."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and its place in the API."""

    group: str
    version: str
    name: str
    plural: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Path of the collection, of one object or of one of its subresources."""
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"/namespaces/{namespace}" if namespace else ""
        parts = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}/{self.version}{place}/{self.plural}{parts}"


MCP_PROXY: Final = Kind(names.GROUP, names.VERSION, names.KIND, names.PLURAL)
DEPLOYMENT: Final = Kind("apps", "v1", "Deployment", "deployments")
REPLICA_SET: Final = Kind("apps", "v1", "ReplicaSet", "replicasets")
SERVICE: Final = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT: Final = Kind("", "v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP: Final = Kind("", "v1", "ConfigMap", "configmaps")
NETWORK_POLICY: Final = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
POD_MONITOR: Final = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
AUTOSCALER: Final = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGET: Final = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
SECRET: Final = Kind("", "v1", "Secret", "secrets")
POD: Final = Kind("", "v1", "Pod", "pods")
EVENT: Final = Kind("", "v1", "Event", "events")
LEASE: Final = Kind("coordination.k8s.io", "v1", "Lease", "leases")

ALWAYS: Final = (DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, CONFIG_MAP)
"""Kinds of children that every MCPProxy has."""
ON_DEMAND: Final = (NETWORK_POLICY, AUTOSCALER, DISRUPTION_BUDGET, POD_MONITOR)
"""Kinds of children that an MCPProxy has only while its spec asks for them, under its own name."""

_BY_NAME: Final = {
    kind.name: kind
    for kind in (MCP_PROXY, *ALWAYS, *ON_DEMAND, REPLICA_SET, SECRET, POD, EVENT, LEASE)
}

PLURALS: Final = frozenset(kind.plural for kind in _BY_NAME.values())
"""Of all kinds that the operator touches."""


def kind_of(manifest: Object) -> Kind:
    """The kind that a manifest names; KeyError for one that the operator never touches."""
    return _BY_NAME[manifest["kind"]]


def owner_key(found: Mapping[str, Any]) -> ProxyKey | None:
    """Return the MCPProxy that an object is or belongs to, by its kind, owner or labels."""
    metadata = found["metadata"]
    if found.get("kind") == names.KIND:
        return ProxyKey(metadata["namespace"], metadata["name"])
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["kind"] == names.KIND:
            return ProxyKey(metadata["namespace"], reference["name"])
    instance = (metadata.get("labels") or {}).get(names.LABEL_INSTANCE)
    return ProxyKey(metadata["namespace"], instance) if instance else None
