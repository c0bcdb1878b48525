"""Recordings of a real cluster's Deployments of failing proxies; `record` makes them."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.status.inputs import ConditionReason
from mcpproxy.status.pod_problems import pod_problem
from tests.reconcile.record import RECORDED


@dataclass(frozen=True)
class Recording:
    """One Deployment, its ReplicaSets and pods."""

    deployment: Object
    replica_sets: list[Object]
    pods: list[Object]

    def problem(self, seconds: float = 90) -> ConditionReason | None:
        """The problem of the newest pod with one, so long after it was created."""
        newest = sorted(self.pods, key=_created, reverse=True)
        result = (pod_problem(pod, _created(pod) + timedelta(seconds=seconds)) for pod in newest)
        return next((item for item in result if item is not None), None)


def load(name: str) -> Recording:
    """The recording of this name."""
    result: dict[str, list[Object]] = {}
    for line in (RECORDED / f"{name}.jsonl").read_text("utf-8").splitlines():
        result |= json.loads(line)
    (deployment,) = result["Deployment"]
    return Recording(deployment, result["ReplicaSet"], result["Pod"])


def _created(live: Object) -> datetime:
    return datetime.fromisoformat(live["metadata"]["creationTimestamp"])
