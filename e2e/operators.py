"""The operators of the cluster: who leads, and ways to end them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.background import repeating
from e2e.world import OPERATOR, SYSTEM, Object, World
from scripts import machine
from scripts.cluster import Cluster

LEASE = "mcpproxy-operator"


@dataclass(frozen=True)
class Operators:
    """The Deployment of the operator, and its Lease."""

    cluster: Cluster

    @property
    def world(self) -> World:
        """Their namespace."""
        return World(self.cluster, SYSTEM)

    def wait(self) -> None:
        """Wait until all are Ready and those of another kind are gone."""
        self.world.kubectl("rollout", "status", OPERATOR, "--timeout=150s")

    def leader(self) -> str | None:
        """Name of the pod that holds the Lease."""
        holder: str | None = self.world.get("lease", LEASE)["spec"].get("holderIdentity")
        return holder.partition("_")[0] if holder else None

    def pods(self) -> set[str]:
        """Names of their pods."""
        selector = ("-l", "app.kubernetes.io/name=mcpproxy-operator")
        return set(self.world.kubectl("get", "pods", *selector, "-o", "name").split())

    def container(self) -> Object:
        """Return the container of the operators."""
        result = self.world.get("deployment", OPERATOR.partition("/")[2])
        container: Object = result["spec"]["template"]["spec"]["containers"][0]
        return container

    def change(self, **fields: object) -> None:
        """Change fields of the container, and wait until all run with them."""
        containers = {"containers": [{"name": "operator", **fields}]}
        change = json.dumps({"spec": {"template": {"spec": containers}}})
        self.world.kubectl("patch", OPERATOR, "-p", change)
        self.wait()

    def killing(self, pod: str) -> list[str]:
        """The command that ends the process of a pod with SIGKILL, from its node."""
        return killing(self.world, pod)


def killing(world: World, pod: str) -> list[str]:
    """The command that ends the first container of a pod with SIGKILL, from its node."""
    manifest = world.get("pod", pod)
    node = ["docker", "exec", manifest["spec"]["nodeName"]]
    container = manifest["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    tasks = machine.run([*node, "ctr", "--namespace=k8s.io", "tasks", "ls"], world.cluster.env)
    pid = next(line.split()[1] for line in tasks.splitlines() if line.startswith(container))
    return [*node, "kill", "-9", pid]


@dataclass
class Held:
    """Holders of the Lease, and the time without one."""

    holders: list[str] = field(default_factory=list)
    longest_without: float = 0.0
    _without_since: float | None = None

    def look(self, holder: str | None) -> None:
        """Note who holds it now."""
        now = time.monotonic()
        if holder is None:
            if self._without_since is None:
                self._without_since = now
            self.longest_without = max(self.longest_without, now - self._without_since)
            return
        self._without_since = None
        if holder not in self.holders:
            self.holders.append(holder)


@contextmanager
def lease_watched(operators: Operators) -> Iterator[Held]:
    """Record the holders of the Lease within the block."""
    held = Held()
    with repeating(lambda: held.look(operators.leader())):
        yield held
