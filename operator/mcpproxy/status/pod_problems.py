"""Problems of pods, in messages that do not change from one attempt to the next. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

MOUNTS_WITHIN: Final = 60.0
"""Seconds after which missing volumes of a pod become a problem."""
STARTS_WITHIN: Final = 600.0
"""Seconds after which a pod that is not ready no longer starts: the deadline of a rollout."""

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CRASH = frozenset({"CrashLoopBackOff", "RunContainerError", "StartError"})
_NO_START = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
"""Reasons of containers whose command never ran, so that they have no log."""
_STARTS = frozenset({"ContainerCreating", "PodInitializing"})
_FINISHED = frozenset({"Failed", "Succeeded"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_WHERE = re.compile(r' \(pod: "[^"]*", container: [^)]*\)')
"""Part of the kubelet's text that differs for each pod of one template."""


@dataclass(frozen=True, slots=True)
class Container:
    """Container of a pod, from the status of the pod."""

    name: str
    image: str
    is_init: bool
    waiting: Object
    ended: Object
    """State of its last termination; empty if it has never terminated."""
    restarts: int

    @property
    def crashed(self) -> bool:
        """True if its last termination was an error."""
        return bool(self.ended) and self.ended.get("exitCode", 0) != 0

    @property
    def loops(self) -> bool:
        """True if it crashes repeatedly."""
        return self.waiting.get("reason") in _CRASH or (self.crashed and self.restarts > 1)

    @property
    def title(self) -> str:
        """Its role and name."""
        return f"{'init ' if self.is_init else ''}container {self.name}"


def is_ready(pod: Object) -> bool:
    """Return True if the Service sends requests to this pod."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


def pod_problem(pod: Object, now: datetime) -> ConditionReason | None:
    """Return the problem of a pod that is not ready, from the first check that applies; None
    without one."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return None
    if (pod.get("status") or {}).get("phase") in _FINISHED:
        return _end(pod, now)
    for check in _POD_CHECKS:
        problem = check(pod)
        if problem is not None:
            return problem
    for container in containers_of(pod):
        for test in _CONTAINER_CHECKS:
            problem = test(container)
            if problem is not None:
                return problem
    return _missing_volumes(pod, now)


def is_starting(pod: Object, now: datetime) -> bool:
    """Return True if a pod is starting: it is not ready yet and has no problem."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return False
    if (pod.get("status") or {}).get("phase") in _FINISHED:
        return False
    return pod_problem(pod, now) is None and _age(pod, now) < STARTS_WITHIN


def next_deadline(pod: Object, now: datetime) -> float | None:
    """Return the seconds until a pod is judged differently although its status has not changed."""
    if _end(pod, now) is not None:
        return STARTS_WITHIN - _seconds_since(_ended_at(pod), now)
    if not is_starting(pod, now):
        return None
    limits = (MOUNTS_WITHIN, STARTS_WITHIN)
    return min(limit - _age(pod, now) for limit in limits if limit > _age(pod, now))


def containers_of(pod: Object) -> Iterator[Container]:
    """Return all containers of a pod, including injected ones; init containers first."""
    status = pod.get("status") or {}
    for member in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(member) or []:
            state = container.get("state") or {}
            last = container.get("lastState") or {}
            yield Container(
                name=container["name"],
                image=container.get("image", ""),
                is_init=member == "initContainerStatuses",
                waiting=state.get("waiting") or {},
                ended=state.get("terminated") or last.get("terminated") or {},
                restarts=container.get("restartCount", 0),
            )


# Checks of pods, in their order


def _unschedulable(pod: Object) -> ConditionReason | None:
    condition = _condition(pod, "PodScheduled")
    if condition.get("status") != "False":
        return None
    why = condition.get("message", "no reason given")
    return ConditionReason(reasons.UNSCHEDULABLE, f"a pod cannot be scheduled: {why}")


def _node_silent(pod: Object) -> ConditionReason | None:
    """Apply if the node controller has marked a pod with ready containers as not ready."""
    spec, statuses = pod["spec"], (pod.get("status") or {}).get("containerStatuses") or []
    marked = _condition(pod, "Ready").get("status") == "False"
    ready = bool(statuses) and all(container.get("ready") for container in statuses)
    if not (marked and ready) or spec.get("readinessGates"):
        return None
    node = spec.get("nodeName", "")
    remedy = f"run kubectl describe node {node}"
    return ConditionReason(
        reasons.NODE_NOT_READY, f"node {node} does not report its status; {remedy}"
    )


def _missing_volumes(pod: Object, now: datetime) -> ConditionReason | None:
    if _condition(pod, "PodReadyToStartContainers").get("status") != "False":
        return None
    # Images are pulled later, once the volumes and the network are ready.
    if _age(pod, now) < MOUNTS_WITHIN:
        return None
    needed = ", ".join(sorted(_sources(pod)))
    message = f"a pod is waiting for its volumes or its network; it cannot start without {needed}"
    return ConditionReason(reasons.NOT_MOUNTED, message)


def _end(pod: Object, now: datetime) -> ConditionReason | None:
    """Apply to a pod that its node has ended, because the containers of a Deployment never end.

    For a limited time, because the pod stays until Kubernetes deletes it.
    """
    status = pod.get("status") or {}
    since = _ended_at(pod)
    if status.get("phase") not in _FINISHED or since is None:
        return None
    if _seconds_since(since, now) >= STARTS_WITHIN:
        return None
    reason, text = status.get("reason"), (status.get("message") or "").strip()
    if reason == "Evicted":
        return ConditionReason(reasons.EVICTED, f"a pod was evicted: {text}")
    # The kubelet names no reason if the containers exit without an error in time.
    why = "the node evicted it or shut down; run kubectl get events"
    if reason:
        why = _ID.sub("…", f"{reason}: {text}")
    return ConditionReason(reasons.POD_ENDED, f"a pod has ended: {why}")


# Checks of containers, in their order


def _image(container: Container) -> ConditionReason | None:
    if container.waiting.get("reason") not in _PULL:
        return None
    return ConditionReason(
        reasons.IMAGE_PULL,
        f"cannot pull the image {container.image}; correct it, or run kubectl describe pod",
    )


def _no_memory(container: Container) -> ConditionReason | None:
    if container.ended.get("reason") != reasons.OOM_KILLED:
        return None
    limit = (
        "raise resources.limits.memory"
        if not container.is_init
        else "raise the memory limit of the container"
    )
    message = f"{container.title} ran out of memory (OOMKilled); {limit}"
    return ConditionReason(reasons.OOM_KILLED, message)


def _no_start(container: Container) -> ConditionReason | None:
    if container.ended.get("reason") not in _NO_START:
        return None
    why = _ID.sub("…", container.ended.get("message", "")).strip()
    # The container runtime prefixes the error with the layers that it passed.
    why = why[why.rfind("exec: ") :] if "exec: " in why else why
    message = f"{container.title} of image {container.image} cannot start: {why}"
    return ConditionReason(reasons.CRASH_LOOP, message)


def _loop(container: Container) -> ConditionReason | None:
    if not container.loops:
        return None
    code = container.ended.get("exitCode")
    how = f" (exit code {code})" if code else ""
    return ConditionReason(
        reasons.CRASH_LOOP,
        f"{container.title} keeps crashing{how}; run kubectl logs --previous -c {container.name}",
    )


def _waiting(container: Container) -> ConditionReason | None:
    reason = container.waiting.get("reason", "")
    if not reason or reason in _STARTS:
        return None
    message = _WHERE.sub("", _ID.sub("…", container.waiting.get("message", "")))
    named = reasons.CONFIG_ERROR if reason in _CONFIG else reasons.PODS_NOT_READY
    return ConditionReason(named, f"{container.title}: {reason}: {message}".rstrip(": "))


def _crash(container: Container) -> ConditionReason | None:
    if not container.crashed:
        return None
    message = f"{container.title} crashed and is restarting"
    return ConditionReason(reasons.CRASHED, message)


_POD_CHECKS: Final[tuple[Callable[[Object], ConditionReason | None], ...]] = (
    _unschedulable,
    _node_silent,
)
_CONTAINER_CHECKS: Final[tuple[Callable[[Container], ConditionReason | None], ...]] = (
    _image,
    _no_memory,
    _no_start,
    _loop,
    _waiting,
    _crash,
)


def _condition(pod: Object, type_: str) -> Object:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == type_), {})


def _ended_at(pod: Object) -> str | None:
    """Return the time at which a pod was disrupted or became unready, or was given to its node."""
    for type_ in ("DisruptionTarget", "Ready"):
        since: str | None = _condition(pod, type_).get("lastTransitionTime")
        if since is not None:
            return since
    started: str | None = (pod.get("status") or {}).get("startTime")
    return started


def _age(pod: Object, now: datetime) -> float:
    return _seconds_since(pod["metadata"].get("creationTimestamp"), now)


def _seconds_since(time: str | None, now: datetime) -> float:
    return (now - datetime.fromisoformat(time)).total_seconds() if time else 0.0


def _sources(pod: Object) -> Iterator[str]:
    """Return the Secrets and ConfigMaps that the pod's volumes require."""
    for volume in pod["spec"].get("volumes") or []:
        secret, config_map = volume.get("secret") or {}, volume.get("configMap") or {}
        if secret and not secret.get("optional"):
            yield f"Secret {secret['secretName']}"
        if config_map and not config_map.get("optional"):
            yield f"ConfigMap {config_map['name']}"
