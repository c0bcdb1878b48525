"""Programs in the cluster: MCP servers, clients that call all the time, and probes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.background import repeating
from e2e.world import Object, World, eventually
from scripts import machine
from scripts.machine import CommandFailed

ADDONS = machine.ROOT.parent / "shared" / "kind-addons" / "up"
PROGRAMS = Path(__file__).parent / "programs"
IMAGE = "mcpproxy/demo:0.1.0"
PORT = 8080
PROBE = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
NOBODY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
POWERLESS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

long = pytest.mark.long


def add_on(world: World, name: str) -> None:
    """Install an add-on of kind; skips the test where there are none."""
    if not ADDONS.exists():
        pytest.skip(f"{ADDONS} is not there: it installs {name} without a registry")
    machine.run([str(ADDONS), name, world.cluster.name], world.cluster.env, timeout=1500)


def install(world: World) -> None:
    """Bring the programs into a namespace."""
    result = {path.name: path.read_text("utf-8") for path in PROGRAMS.glob("*.py")}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}}
    world.apply({**config, "data": result})


def spec(program: str, *arguments: str) -> Object:
    """The spec of a pod that runs a program."""
    container = {
        "name": "program",
        "image": IMAGE,
        "command": ["python", f"/programs/{program}.py", *arguments],
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
        "securityContext": POWERLESS,
    }
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 3,
        "securityContext": NOBODY,
        "containers": [container],
        "volumes": [{"name": "programs", "configMap": {"name": "programs"}}],
    }


def tellers(
    world: World,
    *names: str,
    program: str = "teller",
    node: str | None = None,
    port: int = PORT,
) -> None:
    """Servers of one tool `tell`, each behind a Service of its name, on any node or on `node`;
    returns once they serve."""
    install(world)
    for name in names:
        labels = {"app": name}
        pod = spec(program)
        if node is not None:
            pod["nodeSelector"] = {"kubernetes.io/hostname": node}
        pod["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        template = {"metadata": {"labels": labels}, "spec": pod}
        deployment = {"selector": {"matchLabels": labels}, "template": template}
        service = {"selector": labels, "ports": [{"port": port}]}
        world.apply(manifest("apps/v1", "Deployment", name, deployment))
        world.apply(manifest("v1", "Service", name, service))
    for name in names:
        world.kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s", timeout=200)


def idler(world: World, name: str, **labels: str) -> None:
    """A pod that does nothing, to reach others from."""
    pod = spec("none")
    pod["containers"][0]["command"] = ["python", "-c", "import signal; signal.pause()"]
    pod["volumes"] = pod["containers"][0]["volumeMounts"] = []
    result = manifest("v1", "Pod", name, pod)
    result["metadata"]["labels"] = labels
    world.apply(result)
    world.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def reaches(world: World, source: str, host: str, port: int) -> bool:
    """Return True if `source`, such as pod/agent, can connect to an address.

    What a policy forbids is dropped, never refused.
    """
    try:
        world.kubectl("exec", source, "--", "python", "-c", PROBE, host, str(port))
    except CommandFailed as failed:
        if "TimeoutError" in failed.output:
            return False
        raise
    return True


def proxy(name: str, *backends: str, **fields: Any) -> Object:
    """An MCPProxy in front of tellers."""
    services = [
        {"name": backend, "service": {"name": backend, "port": PORT}} for backend in backends
    ]
    fields = {"image": IMAGE, "backends": services, **fields}
    return manifest("mcpproxy.dev/v1alpha1", "MCPProxy", name, fields)


def pods_of(world: World, name: str) -> list[Object]:
    """The pods of an MCPProxy that are not on their way out."""
    selector = f"app.kubernetes.io/instance={name}"
    items = json.loads(world.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: Object) -> bool:
    """Return True if a pod is Ready."""
    conditions = pod["status"].get("conditions", [])
    return any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def ready_pods(world: World, name: str) -> int:
    """Return the number of Ready pods of an MCPProxy."""
    return sum(map(is_ready, pods_of(world, name)))


@dataclass(frozen=True)
class Caller:
    """A pod that calls a tool all the time."""

    world: World
    name: str

    def tally(self) -> Object:
        """`calls`, `failed`, `error` and `seen` up to now; all empty before the first line."""
        line = self.world.kubectl("logs", self.name, "--tail=1").strip()
        document: Object = json.loads(line or '{"calls": 0, "failed": 0, "error": "", "seen": {}}')
        return document

    def wait_calls(self, more: int) -> None:
        """Wait until so many calls more are done."""
        wanted = self.tally()["calls"] + more
        eventually(f"{wanted} calls", lambda: self.tally()["calls"] >= wanted, 120)

    def check(self) -> int:
        """Return the number of calls; fails the test if one of them failed."""
        tally = self.tally()
        assert tally["failed"] == 0, tally
        calls: int = tally["calls"]
        return calls


@contextmanager
def calling(
    world: World,
    proxy: str,
    tool: str,
    clients: int = 2,
    pause: float = 0.05,
    name: str = "caller",
    mode: str = "2026-07-28",
) -> Iterator[Caller]:
    """A Caller of a tool of an MCPProxy, by way of its Service, within."""
    arguments = (url_of(world, proxy), tool, str(clients), str(pause), mode)
    with running(world, "caller", f"{name}-of-{proxy}", *arguments) as caller:
        yield caller


def url_of(world: World, proxy: str) -> str:
    """The endpoint of an MCPProxy, for pods."""
    return f"http://{proxy}.{world.namespace}.svc/mcp"


@contextmanager
def running(
    world: World, program: str, name: str, *arguments: str, **labels: str
) -> Iterator[Caller]:
    """A pod of this name and these labels that runs a program that calls, within."""
    install(world)
    caller = Caller(world, name)
    pod = manifest("v1", "Pod", name, {**spec(program, *arguments), "restartPolicy": "Never"})
    pod["metadata"]["labels"] = labels
    world.apply(pod)
    try:
        world.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        caller.wait_calls(10)
        yield caller
    finally:
        world.kubectl("delete", "pod", name, "--wait=true")


def manifest(version: str, kind: str, name: str, spec: Object) -> Object:
    """An object with a name and a spec."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


@contextmanager
def watched(world: World, name: str) -> Iterator[list[tuple[int, int]]]:
    """Numbers of Ready pods and of all pods over time."""
    seen: list[tuple[int, int]] = []

    def look() -> None:
        pods = pods_of(world, name)
        seen.append((sum(map(is_ready, pods)), len(pods)))

    with repeating(look):
        yield seen
