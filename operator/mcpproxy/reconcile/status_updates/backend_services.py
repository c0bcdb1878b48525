"""Services of unreachable backends: errors that prevent connections.

The existing permissions suffice: the operator reads the Service and the pods that the Service
selects. EndpointSlices would add nothing for Services with a selector.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxy
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.resources import POD, SERVICE
from mcpproxy.reconcile.object_views import consents
from mcpproxy.status.pod_problems import is_ready

EXPLAINED: Final = 8
"""Limit on the backends of one MCPProxy whose Services are read in one pass."""
_EXTERNAL: Final = "ExternalName"
"""Type of Services that are names of other hosts, and have no endpoints."""
_NOT_REACHED: Final = frozenset({"Unreachable", "TimedOut"})


@dataclass(frozen=True, slots=True)
class _Route:
    """Route to a backend behind a Service."""

    namespace: str
    name: str
    port: int
    service: Object | None
    pods: Sequence[Object] | None
    """Pods that the Service selects; None if it has no selector."""

    @property
    def ports(self) -> Mapping[int, int | str]:
        """Ports of the Service → ports of its pods."""
        listed = (self.service or {"spec": {}})["spec"].get("ports") or []
        return {port["port"]: port.get("targetPort", port["port"]) for port in listed}


async def explain_services(
    cluster: Cluster, proxy: MCPProxy, reports: Iterable[PodReport]
) -> dict[str, str]:
    """Return the names of unreachable backends with the errors of their Services.

    Services of reachable backends are not read. The error of a Service in another namespace is
    shown only if its annotation permits that; Services that can't be read are left out.
    """
    failing = {
        view.name for report in reports for view in report.backends if view.reason in _NOT_REACHED
    }
    notes: dict[str, str] = {}
    behind = [
        candidate
        for candidate in proxy.spec.backends
        if candidate.name in failing and candidate.service is not None
    ]
    for backend in behind[:EXPLAINED]:
        try:
            note = await _explain(cluster, proxy.metadata.namespace or "", backend)
        except ClusterError:
            continue
        if note is not None:
            notes[backend.name] = note
    return notes


_SHOWN: Final = 200
"""Characters of a selector that a message shows."""


async def _explain(cluster: Cluster, own: str, backend: BackendSpec) -> str | None:
    assert backend.service is not None
    namespace, name = backend.service.namespace or own, backend.service.name
    service = await cluster.get(SERVICE, namespace, name)
    if namespace != own and not consents(service, own):
        return None
    selector = (service or {"spec": {}})["spec"].get("selector")
    pods = await cluster.list(POD, namespace, selector) if selector else None
    route = _Route(namespace, name, backend.service.port, service, pods)
    return next(filter(None, (check(route) for check in _CHECKS)), None)


# Checks of a route, in their order


def _missing(route: _Route) -> str | None:
    if route.service is not None:
        return None
    place = f"does not exist in namespace {route.namespace}"
    return f"Service {route.name} {place}; create it or correct service.name"


def _wrong_port(route: _Route) -> str | None:
    if not route.ports or route.port in route.ports:
        return None
    listed = ", ".join(map(str, sorted(route.ports)))
    return f"Service {route.name} has no port {route.port}; set service.port to one of {listed}"


def _headless(route: _Route) -> str | None:
    target = route.ports.get(route.port, route.port)
    if route.service is None or route.service["spec"].get("clusterIP") != "None":
        return None
    if target == route.port:
        return None
    return (
        f"Service {route.name} is headless, so connections use port {route.port} of the pods"
        f" instead of its targetPort; change the port of the Service to {target} and set"
        f" service.port to {target}"
    )


def _no_pods(route: _Route) -> str | None:
    if route.pods is None or route.pods or _of_service(route, "type") == _EXTERNAL:
        return None
    selector = (route.service or {"spec": {}})["spec"].get("selector") or {}
    labels = ", ".join(f"{key}={text}" for key, text in sorted(selector.items()))
    return (
        f"Service {route.name} has no endpoints: no pod has the labels {clean_text(labels, _SHOWN)}"
    )


def _no_ready_pod(route: _Route) -> str | None:
    if not route.pods or any(map(is_ready, route.pods)):
        return None
    if _of_service(route, "publishNotReadyAddresses") or _of_service(route, "type") == _EXTERNAL:
        return None
    return f"Service {route.name} has no endpoints: none of its {len(route.pods)} pods is ready"


def _of_service(route: _Route, field: str) -> object:
    return (route.service or {"spec": {}})["spec"].get(field)


_CHECKS: Final[tuple[Callable[[_Route], str | None], ...]] = (
    _missing,
    _wrong_port,
    _headless,
    _no_pods,
    _no_ready_pod,
)
