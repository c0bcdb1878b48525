"""The spec that is in effect: what the pods serve and the other children do. Pure.

It is the requested one, unless the operator changes nothing: because the MCPProxy is suspended, its
spec is invalid, or a child can't be written. A status that showed the requested spec then would
claim that the proxy has an address, or requires credentials, although it does not.
"""

from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import RUNTIME_FIELDS
from mcpproxy.api.v1alpha1 import (
    Autoscaling,
    Expose,
    IngressSpec,
    MCPProxySpec,
    Monitoring,
    PodMonitor,
    ServiceSpec,
)
from mcpproxy.cluster.resources import (
    AUTOSCALER,
    HTTP_ROUTE,
    INGRESS,
    POD_MONITOR,
    SERVICE,
    ResourceKind,
)
from mcpproxy.reconcile.snapshot import Snapshot, last_applied_proxy, requested_kinds
from mcpproxy.status.inputs import ConditionReason

_ATTRIBUTES: Final = {
    field.alias or name: name for name, field in MCPProxySpec.model_fields.items()
}
_SERVED: Final = tuple(field for field in RUNTIME_FIELDS if field != "catalog")
"""Fields of which the runtime's configuration has everything."""


def effective_spec(snapshot: Snapshot, blocked: ConditionReason | None) -> MCPProxySpec | None:
    """Return the spec that is in effect; None if none was valid.

    Optional children that are requested and do not exist remain in it: their conditions say so.
    """
    proxy = snapshot.proxy
    if proxy is not None and not snapshot.suspended and blocked is None:
        return proxy.spec
    running = last_applied_proxy(snapshot)
    if running is None:
        return None if proxy is None or snapshot.suspended else proxy.spec
    requested = proxy.spec if proxy is not None else running.spec
    served = {_ATTRIBUTES[field]: getattr(running.spec, _ATTRIBUTES[field]) for field in _SERVED}
    return requested.model_copy(
        update={
            **served,
            "catalog": _catalog(requested, running.spec),
            "service": _service(requested, snapshot.child(SERVICE)),
            "expose": _expose(requested, snapshot),
            "monitoring": _monitoring(requested, running.spec, snapshot),
            "autoscaling": _autoscaling(requested, snapshot.child(AUTOSCALER)),
        }
    )


def route_kind(spec: MCPProxySpec | None) -> ResourceKind:
    """Return the kind of the route of a spec."""
    return INGRESS if spec is not None and INGRESS in requested_kinds(spec) else HTTP_ROUTE


def _catalog(requested: MCPProxySpec, running: MCPProxySpec) -> Any:
    # The approved hash is the operator's only: the pods do not have it.
    approves = requested.catalog is not None and requested.catalog.approved is not None
    return running.catalog if running.catalog is not None or approves else requested.catalog


def _service(requested: MCPProxySpec, live: Object | None) -> ServiceSpec | None:
    ports = (live or {}).get("spec", {}).get("ports") or []
    if not ports:
        return requested.service
    port = int(ports[0]["port"])
    return (requested.service or ServiceSpec()).model_copy(update={"port": port})


def _expose(requested: MCPProxySpec, snapshot: Snapshot) -> Expose | None:
    """Return the exposure by the route that exists, or the requested one."""
    if requested.expose is not None and snapshot.child(route_kind(requested)) is not None:
        return requested.expose
    if snapshot.child(HTTP_ROUTE) is not None:
        return Expose.model_construct(parent_refs=[], ingress=None)
    if snapshot.child(INGRESS) is not None:
        return Expose(ingress=IngressSpec())
    return requested.expose


def _monitoring(
    requested: MCPProxySpec, running: MCPProxySpec, snapshot: Snapshot
) -> Monitoring | None:
    served, wanted = running.monitoring, requested.monitoring
    monitor = wanted.pod_monitor if wanted is not None else None
    if monitor is None and snapshot.child(POD_MONITOR) is not None:
        monitor = PodMonitor()
    if served is None and monitor is None:
        return None
    return (served or Monitoring()).model_copy(update={"pod_monitor": monitor})


def _autoscaling(requested: MCPProxySpec, live: Object | None) -> Autoscaling | None:
    if live is None:
        return requested.autoscaling
    return Autoscaling.model_construct(max_replicas=live["spec"]["maxReplicas"])
