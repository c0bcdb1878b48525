"""Writes to the API server, from its audit log."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from scripts import machine
from scripts.cluster import Cluster

LOG = "/var/log/kubernetes/audit.log"


@dataclass(frozen=True)
class Write:
    """One request that changed something, or tried to."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.user}: {self.verb} {self.resource} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class AuditLog:
    """The audit log of a kind cluster's API server; e2e/audit-policy.yaml says what is in it."""

    cluster: Cluster

    def position(self) -> int:
        """Return the end of the log."""
        return int(self._node("wc", "-c", LOG).split()[0])

    def writes(self, since: int, counts: Callable[[Write], bool]) -> list[Write]:
        """The writes after a position that count."""
        text = self._node("tail", "-c", f"+{since + 1}", LOG)
        result = map(_write, map(json.loads, text.splitlines()))
        return [write for write in result if counts(write)]

    def _node(self, *command: str) -> str:
        node = f"{self.cluster.name}-control-plane"
        return machine.run(["docker", "exec", node, *command], self.cluster.env)


def _write(event: dict[str, dict[str, str]]) -> Write:
    target = event.get("objectRef", {})
    subresource = target.get("subresource")
    return Write(
        user=event["user"]["username"],
        verb=str(event["verb"]),
        resource=target.get("resource", "") + (f"/{subresource}" if subresource else ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
    )
