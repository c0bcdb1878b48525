"""Conversion of live objects to the plain values that the status is computed from. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.pods.status_stream import PodAddress
from mcpproxy.desired import ServiceTarget
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason, DeploymentView
from mcpproxy.status.rejections import explain_rejection

_POD_NAME: Final = re.compile(r'pods "[^"]*" is forbidden')
"""Part of a message that differs for each attempt to create a pod."""


def deployment_view(live: Object) -> DeploymentView:
    """Return the desired and the current state of a Deployment."""
    status, spec, metadata = live.get("status") or {}, live["spec"], live["metadata"]
    return DeploymentView(
        settled=status.get("observedGeneration", 0) >= metadata["generation"],
        desired=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        paused=spec.get("paused", False),
        failure=_failure(status.get("conditions") or []),
        was_available=any(
            condition.get("reason") == "NewReplicaSetAvailable"
            for condition in status.get("conditions") or []
            if condition["type"] == "Progressing"
        ),
    )


def _failure(conditions: Iterable[Object]) -> ConditionReason | None:
    by_type = {condition["type"]: condition for condition in conditions}
    failing = by_type.get("ReplicaFailure")
    if failing is not None and failing["status"] == "True":
        why = _POD_NAME.sub("pods are forbidden", failing.get("message", ""))
        return ConditionReason(reasons.REPLICA_FAILURE, explain_rejection(why))
    progress = by_type.get("Progressing")
    if progress is not None and progress.get("reason") == reasons.DEADLINE_EXCEEDED:
        return ConditionReason(reasons.DEADLINE_EXCEEDED, progress.get("message", ""))
    return None


def autoscaler_view(live: Object) -> ConditionReason | None:
    """Return the reason for which an autoscaler can't work; None if it can.

    The reason is empty until the autoscaler has tried.
    """
    by_type = {
        condition["type"]: condition
        for condition in (live.get("status") or {}).get("conditions") or []
    }
    for type_ in ("AbleToScale", "ScalingActive"):
        if by_type.get(type_, {}).get("status") == "False":
            reason = by_type[type_].get("reason") or reasons.SCALING_UNKNOWN
            return ConditionReason(reason, by_type[type_].get("message", ""))
    if "ScalingActive" not in by_type:
        return ConditionReason("", "the HorizontalPodAutoscaler has not read the metrics yet")
    return None


def service_target(service: Object | None) -> ServiceTarget:
    """Return the target of a Service; an empty one if the Service does not exist."""
    if service is None:
        return ServiceTarget()
    spec = service["spec"]
    selector = spec.get("selector")
    if spec.get("type") == "ExternalName":
        return ServiceTarget(anywhere=True)
    # The name of a headless Service resolves to pods, so that only their ports count.
    headless = spec.get("clusterIP") == "None"
    return ServiceTarget(
        selector=selector or None,
        anywhere=not selector,
        ports={
            port["port"]: port["port"] if headless else port.get("targetPort", port["port"])
            for port in spec.get("ports") or []
        },
    )


def consents(service: Object | None, namespace: str) -> bool:
    """Return True if a Service allows proxies of another namespace to show its target."""
    annotations = service["metadata"].get("annotations") or {} if service is not None else {}
    allowed = annotations.get(constants.ANNOTATION_ALLOW_FROM, "")
    return not {"*", namespace}.isdisjoint(name.strip() for name in allowed.split(","))


def mounted_config_map(pod_spec: Object, proxy: str) -> str | None:
    """Return the name of the proxy's ConfigMap that a pod mounts as its configuration."""
    for volume in pod_spec.get("volumes") or []:
        name = (volume.get("configMap") or {}).get("name", "")
        if re.fullmatch(rf"{re.escape(proxy)}-[0-9a-f]{{10}}", name):
            return str(name)
    return None


def mounts_secret(pod_spec: Object, name: str) -> bool:
    """Return True if a pod mounts a Secret as a volume."""
    volumes = pod_spec.get("volumes") or []
    return any((volume.get("secret") or {}).get("secretName") == name for volume in volumes)


def pod_address(pod: Object) -> PodAddress | None:
    """Return the address of a running pod; None if it has none or is being deleted."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    if status.get("phase") != "Running" or not status.get("podIP"):
        return None
    if "deletionTimestamp" in metadata:
        return None
    # The template never sets it, and the address of such a pod is that of its node.
    if (pod.get("spec") or {}).get("hostNetwork"):
        return None
    return PodAddress(metadata["namespace"], metadata["name"], metadata["uid"], status["podIP"])
