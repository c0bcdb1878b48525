"""The part of a pod that `spec.podTemplate` decides: metadata and placement."""

from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.v1alpha1.pods.pod_template import PodTemplate, TopologySpreadConstraint
from mcpproxy.desired.types import Manifest, canonical_order

GRACE_SECONDS: Final = 60
DRAIN_SECONDS: Final = 5
"""Seconds for which a pod still serves while it is removed from endpoints."""
_LAST_SECONDS: Final = 5
"""Seconds for the shutdown after the last call."""
_DEFAULT_SPREAD: Final = tuple(
    TopologySpreadConstraint(max_skew=1, topology_key=topology, when_unsatisfiable="ScheduleAnyway")
    for topology in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
)
_TAKEN_AS_THEY_ARE: Final = (
    *("affinity", "nodeSelector", "priorityClassName", "runtimeClassName", "schedulerName"),
    "tolerations",
)


def pod_metadata(proxy: MCPProxy) -> Manifest:
    """Return the labels and annotations of the pods."""
    template = _given(proxy)
    meta: Manifest = {
        "labels": {
            **canonical_order(template.labels or {}),
            **constants.child_labels(proxy.metadata.name),
        }
    }
    if template.annotations:
        meta["annotations"] = canonical_order(template.annotations)
    return meta


def pod_fields(proxy: MCPProxy) -> Manifest:
    """Return the fields of the pod's spec that place it."""
    template = _given(proxy)
    overlay = template.to_manifest()
    security = canonical_order(overlay.get("securityContext", {}))
    fields: Manifest = {
        "serviceAccountName": template.service_account_name or proxy.metadata.name,
        "terminationGracePeriodSeconds": template.termination_grace_period_seconds or GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **security,
        },
        "topologySpreadConstraints": _spread(proxy, template),
    }
    if "affinity" in overlay:
        # An empty one has no effect; the API server would keep it only if it is the first.
        overlay["affinity"] = {
            kind: affinity for kind, affinity in overlay["affinity"].items() if affinity
        }
    for field in _TAKEN_AS_THEY_ARE:
        if overlay.get(field):
            fields[field] = canonical_order(overlay[field])
    return fields


def drain_arguments(proxy: MCPProxy) -> list[str]:
    """Return the runtime's grace period for calls, if the spec sets that of its pods."""
    grace = _given(proxy).termination_grace_period_seconds
    return [] if grace is None else ["--drain", str(grace - DRAIN_SECONDS - _LAST_SECONDS)]


def _given(proxy: MCPProxy) -> PodTemplate:
    return proxy.spec.pod_template or PodTemplate()


def _spread(proxy: MCPProxy, template: PodTemplate) -> list[Manifest]:
    chosen = template.topology_spread_constraints
    labels = constants.selector_labels(proxy.metadata.name)
    return [
        {
            **constraint.to_manifest(),
            "labelSelector": {"matchLabels": labels},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for constraint in (
            _DEFAULT_SPREAD
            if chosen is None
            else sorted(chosen, key=lambda entry: (entry.topology_key, entry.when_unsatisfiable))
        )
    ]
