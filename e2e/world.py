"""The cluster as the stories see it: kubectl, and conditions that come true in bounded time."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from scripts.cluster import Cluster
from scripts.machine import CommandFailed

PROXIES = "mcpproxies.mcpproxy.dev"
CHILDREN = (
    "deployments,services,configmaps,secrets,serviceaccounts,"
    "horizontalpodautoscalers,poddisruptionbudgets,networkpolicies"
)
SYSTEM = "mcpproxy-system"
OPERATOR = "deployment/mcpproxy-operator"
SERVICE_ACCOUNT = f"system:serviceaccount:{SYSTEM}:mcpproxy-operator"
PAUSE_SECONDS = 0.25

Object = dict[str, Any]
T = TypeVar("T")


def eventually(what: str, result: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of `found`; fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := result()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(PAUSE_SECONDS)
    return value


def steadily(what: str, holds: Callable[[], object], seconds: float) -> None:
    """Fails the test as soon as `holds` is not true in the stdin time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert holds(), f"did not stay so for {seconds} s: {what}"
        time.sleep(PAUSE_SECONDS)


@dataclass(frozen=True)
class World:
    """One namespace of the cluster."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 180) -> str:
        """Standard output of kubectl in this namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, timeout=timeout)

    def get(self, kind: str, name: str) -> Object:
        """One object."""
        document: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return document

    def find(self, kind: str, name: str) -> Object | None:
        """One object, or None if it is not there."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def all(self, kinds: str) -> list[Object]:
        """All objects of some kinds, such as `services,configmaps`."""
        items: list[Object] = json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]
        return items

    def apply(self, manifest: Object) -> None:
        """Apply a manifest, as a user does."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def patch(self, proxy: str, spec: Object) -> None:
        """Merge a change into the spec of an MCPProxy."""
        change = json.dumps({"spec": spec})
        self.kubectl("patch", PROXIES, proxy, "--type=merge", "-p", change)

    def status(self, proxy: str) -> Object:
        """The status of an MCPProxy; empty while there is none."""
        result: Object = self.get(PROXIES, proxy).get("status", {})
        return result

    def backend(self, proxy: str, name: str) -> Object:
        """Return the entry of one backend in the status of an MCPProxy; empty if there is none."""
        return next(
            (item for item in self.status(proxy).get("backends", []) if item["name"] == name), {}
        )

    def wait_ready(self, proxy: str, seconds: int = 120) -> None:
        """Wait until an MCPProxy is Ready, and was so for its current spec."""
        name = f"{PROXIES}/{proxy}"
        wait = ("wait", "--for=condition=Ready", name, f"--timeout={seconds}s")
        self.kubectl(*wait, timeout=seconds + 20)
        eventually(f"{proxy} is Ready in its current generation", lambda: self.is_current(proxy))

    def is_current(self, proxy: str) -> bool:
        """Return True if an MCPProxy is Ready in its current generation, its rollout done."""
        result = self.get(PROXIES, proxy)
        status = result.get("status", {})
        conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
        return (
            status.get("observedGeneration") == result["metadata"]["generation"]
            and conditions.get("Ready", {}).get("status") == "True"
            and "Reconciling" not in conditions
        )

    def owned(self, uid: str) -> list[Object]:
        """The objects whose owner has this uid."""
        return [
            item
            for item in self.all(CHILDREN)
            for owner in item["metadata"].get("ownerReferences", [])
            if owner["uid"] == uid
        ]

    def remove(self) -> None:
        """Delete the namespace, its proxies first: the operator has no more to do with it then."""
        self.kubectl("delete", PROXIES, "--all", "--wait=true")
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def forwarded(self, target: str, port: int = 80) -> AbstractContextManager[int]:
        """A local port that leads to a port of `target`, such as service/demo."""
        return self.cluster.forwarded(self.namespace, target, port)

    def may(self, user: str, verb: str, resource: str, *options: str) -> bool:
        """Return True if a user is allowed to do something, by the API server's authorizer."""
        question = ("auth", "can-i", verb, resource, "--as", user, *options)
        try:
            answer = self.kubectl(*question)
        except CommandFailed as refused:
            answer = refused.output
        verdict = answer.split()[-1] if answer.split() else ""
        assert verdict in ("yes", "no"), answer
        return verdict == "yes"

    def may_everywhere(
        self, user: str, verb: str, resource: str, group: str, subresource: str = ""
    ) -> bool:
        """Return True if a user may do something in all namespaces, also with absent kinds."""
        attributes = {"verb": verb, "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user,
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {**attributes, "subresource": subresource},
            },
        }
        answer = self.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
        return bool(json.loads(answer)["status"]["allowed"])


@contextmanager
def operator_down(cluster: Cluster) -> Iterator[None]:
    """The operator for all namespaces is scaled to 0 within."""
    system = World(cluster, SYSTEM)
    replicas = system.get("deployment", OPERATOR.partition("/")[2])["spec"]["replicas"]
    system.kubectl("scale", OPERATOR, "--replicas=0")
    selector = "app.kubernetes.io/name=mcpproxy-operator"
    system.kubectl("wait", "--for=delete", "pods", "-l", selector, "--timeout=60s")
    try:
        yield
    finally:
        system.kubectl("scale", OPERATOR, f"--replicas={replicas}")
        system.kubectl("rollout", "status", OPERATOR, "--timeout=120s")


def notes_proxy(name: str) -> Object:
    """An MCPProxy whose only backend is started by the runtime itself, so it needs nothing else."""
    return {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": name},
        "spec": {
            "image": "mcpproxy/demo:0.1.0",
            "replicas": 1,
            "backends": [
                {
                    "name": "notes",
                    "stdio": {"command": "python", "args": ["samples/servers/notes.py"]},
                }
            ],
        },
    }
