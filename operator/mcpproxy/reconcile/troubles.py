"""Pure: why a pod is not ready, in words that don't change from one attempt to the next."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from mcpproxy.cluster.kinds import Object
from mcpproxy.reconcile.views import is_ready
from mcpproxy.status import reasons
from mcpproxy.status.observed import Finding

MOUNTS_WITHIN: Final = 60.0
"""Seconds after which a pod that still waits for its volumes is in trouble."""
STARTS_WITHIN: Final = 600.0
"""Seconds after which a pod that is not ready no longer starts: a rollout has as many."""

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CRASH = frozenset({"CrashLoopBackOff", "RunContainerError", "StartError"})
_STARTS = frozenset({"ContainerCreating", "PodInitializing"})


def problem_of(pod: Object, now: datetime) -> Finding | None:
    """Why a pod is not ready, where its status says so."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return None
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            why = condition.get("message", "no reason given")
            return Finding(reasons.UNSCHEDULABLE, f"can't be scheduled: {why}")
    for container in status.get("containerStatuses") or []:
        found = _container_problem(container)
        if found is not None:
            return found
    if _waits_for_volumes(status) and _age(pod, now) >= MOUNTS_WITHIN:
        secrets = ", ".join(sorted(_secrets(pod)))
        message = f"waits for its volumes or its network; it can't start without Secret {secrets}"
        return Finding(reasons.NOT_MOUNTED, message)
    return None


def is_starting(pod: Object, now: datetime) -> bool:
    """Whether a pod is on its way to be ready."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return False
    return problem_of(pod, now) is None and _age(pod, now) < STARTS_WITHIN


def look_again(pod: Object, now: datetime) -> float | None:
    """Seconds after which a starting pod is judged otherwise though its status has not changed."""
    if not is_starting(pod, now):
        return None
    limits = (MOUNTS_WITHIN, STARTS_WITHIN)
    return min(limit - _age(pod, now) for limit in limits if limit > _age(pod, now))


def _age(pod: Object, now: datetime) -> float:
    created = pod["metadata"].get("creationTimestamp")
    return (now - datetime.fromisoformat(created)).total_seconds() if created else 0.0


def _waits_for_volumes(status: Object) -> bool:
    """Images are pulled later, when the volumes are there and the network is."""
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return conditions.get("PodReadyToStartContainers") == "False"


def _secrets(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or []:
        secret = volume.get("secret") or {}
        if secret and not secret.get("optional"):
            yield str(secret["secretName"])


def _container_problem(container: Object) -> Finding | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, name = waiting.get("reason", ""), container["name"]
    if reason in _PULL:
        return Finding(
            reasons.IMAGE_PULL, f"the image {container.get('image', '')} can't be pulled"
        )
    ended = (container.get("lastState") or {}).get("terminated") or {}
    crashed = bool(ended) and ended.get("exitCode", 0) != 0
    if reason in _CRASH or (crashed and container.get("restartCount", 0) > 1):
        message = f"container {name} keeps crashing; its log says why"
        return Finding(reasons.CRASH_LOOP, message)
    if reason and reason not in _STARTS:
        return Finding(
            reasons.PODS_NOT_READY, f"{reason}: {waiting.get('message', '')}".rstrip(": ")
        )
    if crashed:
        return Finding(reasons.CRASHED, f"container {name} has crashed and is started again")
    return None
