"""Proxies that fail, each for another cause, and healthy ones among them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e import pods
from e2e.world import PROXIES, Object, World, eventually
from scripts import machine

HEALTHY = tuple(f"good-{number}" for number in range(1, 7))
TELLER = "teller"
_HOST = "kubernetes.io/hostname"
_PLACE = "/scratch"
_EXCESS = f"open('{_PLACE}/excess', 'wb').write(bytes(5 << 20))"


@dataclass(frozen=True)
class Place:
    """The namespaces of all proxies, and the nodes of their pods."""

    main: World
    full: World
    """A ResourceQuota admits one pod."""
    closed: World
    """A ResourceQuota admits no Service."""
    restricted: World
    """Pod Security admits what the standard Restricted permits."""
    governed: World
    """A ValidatingAdmissionPolicy denies Deployments."""
    deaf: World
    """A validating webhook for Deployments can't be called."""
    node: str
    other_node: str
    """A node whose kubelet can be stopped: one proxy alone has pods there."""
    bare_image: str
    """An image on all nodes that lacks the command of the runtime."""

    @property
    def worlds(self) -> tuple[World, ...]:
        """All namespaces."""
        return (
            *(self.main, self.full, self.closed),
            *(self.restricted, self.governed, self.deaf),
        )

    def proxy(self, name: str, *backends: str, **fields: object) -> Object:
        """An MCPProxy with one pod on the common node."""
        template = {"nodeSelector": {_HOST: self.node}}
        little = {"requests": {"cpu": "5m", "memory": "16Mi"}}
        fields = {"replicas": 1, "podTemplate": template, "resources": little, **fields}
        return pods.proxy(name, *(backends or (TELLER,)), **fields)


def prepare(place: Place) -> None:
    """Create backends, quotas, policies and webhooks."""
    main = place.main
    pods.tellers(main, TELLER, node=place.node)
    pods.tellers(main, "strict", program="strict", node=place.node)
    _service(main, "shifted", 80, pods.PORT, clusterIP="None")
    _service(main, "absent-pods", pods.PORT, pods.PORT, app="nothing-has-this-label")
    for world, resources in ((place.full, {"pods": "1"}), (place.closed, {"services": "0"})):
        quota = pods.manifest("v1", "ResourceQuota", "small", {"hard": resources})
        world.apply(quota)
    name = place.restricted.namespace
    level = "pod-security.kubernetes.io/enforce=restricted"
    place.restricted.kubectl("label", "namespace", name, level)
    for result in (*_policy(place.governed.namespace), _webhook(place.deaf.namespace)):
        main.apply(result)


def create(place: Place) -> None:
    """Create all proxies, and change some of their Deployments as other managers do."""
    main = place.main
    for result in (*_healthy(place), *_failing_pods(place), *_failing_backends(place)):
        main.apply(result)
    for world in (place.full, place.closed, place.restricted, place.governed, place.deaf):
        own = place.proxy(_name_in(place, world))
        own["spec"]["backends"] = _far(main)
        world.apply(own)
    _change(main, "evicted", _scratch())
    _change(main, "init-crash", {"initContainers": [_crashing("injected-init")]})
    # Without a probe the pod could be ready for the moment in which the container runs.
    sidecar = {**_crashing("injected-sidecar"), "readinessProbe": {"tcpSocket": {"port": 9}}}
    _change(main, "sidecar-crash", {"containers": [sidecar]})
    privileged = {**_crashing("root"), "securityContext": {"privileged": True}}
    _change(place.restricted, "pod-security", {"initContainers": [privileged]})


def disturb(place: Place) -> None:
    """Bring about what happens only to proxies that serve."""
    main, full = place.main, place.full
    for name in ("evicted", "paused", "terminating", "asleep"):
        main.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    main.kubectl("exec", "deployment/evicted", "--", "python", "-c", _EXCESS)
    main.kubectl("rollout", "pause", "deployment/paused")
    main.patch("paused", {"cache": {"ttl": "61s"}})
    main.patch("asleep", {"suspend": True})
    finalizer = json.dumps({"metadata": {"finalizers": ["example.com/held"]}})
    main.kubectl("patch", PROXIES, "terminating", "--type=merge", "-p", finalizer)
    main.kubectl("delete", PROXIES, "terminating", "--wait=false")
    full.wait_ready("quota-pods")
    full.patch("quota-pods", {"cache": {"ttl": "61s"}})


@contextmanager
def node_down(place: Place) -> Iterator[None]:
    """The kubelet of the other node is stopped within, once the proxy there is Ready."""
    place.main.wait_ready("lost-node")
    _kubelet(place, "stop")
    try:
        yield
    finally:
        _kubelet(place, "start")


def remove(place: Place) -> None:
    """Take everything away again."""
    release = json.dumps({"metadata": {"finalizers": None}})
    place.main.kubectl("patch", PROXIES, "terminating", "--type=merge", "-p", release)
    kinds = "validatingadmissionpolicybinding,validatingadmissionpolicy"
    place.main.kubectl("delete", kinds, "causes", "--ignore-not-found")
    place.main.kubectl("delete", "validatingwebhookconfiguration", "causes", "--ignore-not-found")
    for world in place.worlds:
        world.kubectl("delete", "namespace", world.namespace, "--wait=false")


def _name_in(place: Place, world: World) -> str:
    result = {
        place.full.namespace: "quota-pods",
        place.closed.namespace: "quota-services",
        place.restricted.namespace: "pod-security",
        place.governed.namespace: "policy",
    }
    return result.get(world.namespace, "webhook-down")


def _healthy(place: Place) -> Iterator[Object]:
    for name in HEALTHY:
        yield place.proxy(name)
    yield place.proxy("asleep")
    yield place.proxy("resting", replicas=0)


def _failing_pods(place: Place) -> Iterator[Object]:
    for name in ("evicted", "paused", "terminating", "init-crash", "sidecar-crash"):
        yield place.proxy(name)
    yield place.proxy("lost-node", podTemplate={"nodeSelector": {_HOST: place.other_node}})
    yield place.proxy("out-of-memory", resources={"limits": {"memory": "20Mi"}})
    user = {"nodeSelector": {_HOST: place.node}, "securityContext": {"runAsUser": 65532}}
    yield place.proxy("start-error", image=place.bare_image, podTemplate=user)
    yield place.proxy("image-pull", image="mcpproxy/no-such-image:0.1.0")
    yield place.proxy("unschedulable", podTemplate={"nodeSelector": {_HOST: "no-such-node"}})
    # A Service of this name exists, and somebody else has made it.
    yield place.proxy(TELLER)


def _failing_backends(place: Place) -> Iterator[Object]:
    host = f"{TELLER}.{place.main.namespace}.svc:{pods.PORT}"
    yield place.proxy("service-missing", "no-such-service")
    yield place.proxy("no-endpoints", "absent-pods")
    yield place.proxy("wrong-host", "strict")
    for name, service, port in (("wrong-port", TELLER, 9), ("headless", "shifted", 80)):
        result = place.proxy(name)
        result["spec"]["backends"] = [{"name": "b", "service": {"name": service, "port": port}}]
        yield result
    result = place.proxy("wrong-path")
    result["spec"]["backends"] = [{"name": "b", "url": f"http://{host}/nothing"}]
    yield result
    result = place.proxy("optional-down", TELLER, "no-such-service")
    result["spec"]["backends"][1]["optional"] = True
    yield result


def _far(main: World) -> list[Object]:
    url = f"http://{TELLER}.{main.namespace}.svc:{pods.PORT}/mcp"
    return [{"name": TELLER, "url": url}]


def _service(world: World, name: str, port: int, target: int, **fields: str) -> None:
    app = fields.pop("app", TELLER)
    spec = {"selector": {"app": app}, "ports": [{"port": port, "targetPort": target}], **fields}
    world.apply(pods.manifest("v1", "Service", name, spec))


def _crashing(name: str) -> Object:
    return {"name": name, "image": pods.IMAGE, "command": ["python", "-c", "exit(3)"]}


def _scratch() -> Object:
    volume = {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}
    mount = {"name": "scratch", "mountPath": _PLACE}
    return {"volumes": [volume], "containers": [{"name": "mcpproxy", "volumeMounts": [mount]}]}


def _change(world: World, deployment: str, pod: Object) -> None:
    """Merge a change into the pods of a Deployment as soon as it exists."""
    eventually(f"{deployment} is created", lambda: world.find("deployment", deployment))
    change = json.dumps({"spec": {"template": {"spec": pod}}})
    world.kubectl("patch", "deployment", deployment, "-p", change)


def _policy(namespace: str) -> tuple[Object, Object]:
    deployments = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    denial = {"expression": "false", "message": "Deployments need the label team"}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [deployments]},
        "validations": [denial],
    }
    group = "admissionregistration.k8s.io/v1"
    binding = {
        "policyName": "causes",
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": _only(namespace)},
    }
    return (
        pods.manifest(group, "ValidatingAdmissionPolicy", "causes", policy),
        pods.manifest(group, "ValidatingAdmissionPolicyBinding", "causes", binding),
    )


def _webhook(namespace: str) -> Object:
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    service = {"name": "gone", "namespace": namespace}
    webhook = {
        "name": "gone.example.com",
        "clientConfig": {"service": service},
        "rules": [rule],
        "namespaceSelector": _only(namespace),
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "causes"},
        "webhooks": [webhook],
    }


def _only(namespace: str) -> Object:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def _kubelet(place: Place, verb: str) -> None:
    command = ["docker", "exec", place.other_node, "systemctl", verb, "kubelet"]
    machine.run(command, place.main.cluster.env, timeout=60)
