"""Thirty proxies, most of which fail, each for another cause: the status says for which."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e import causes
from e2e.causes import Place
from e2e.world import OPERATOR, PROXIES, SYSTEM, Object, World, eventually
from scripts.cluster import Cluster

ARTIFACT = Path(os.environ.get("CAUSES_ARTIFACT", ".e2e/causes.txt"))
"""Directory of kubectl's output, for a reader who does not know the project."""

# Name → the word in the column STATUS, and the words of a condition or backend that say why.
EXPECTED = {
    # The kubelet gives the reason only if the runtime does not exit in time.
    "evicted": (
        "Serving",
        (
            r"a pod was evicted: Usage of EmptyDir volume .* exceeds the limit"
            r"|a pod has ended: the node evicted it or shut down; run kubectl get events"
        ),
    ),
    "out-of-memory": ("Failing", r"\(OOMKilled\); raise resources\.limits\.memory"),
    "start-error": ("Failing", r"cannot start: .*executable file not found in \$PATH"),
    "init-crash": (
        "Degraded",
        (
            r"1 pod serves from the previous pod template until .*: init container injected-init"
            r" keeps crashing \(exit code 3\)"
        ),
    ),
    "sidecar-crash": ("Degraded", r"1 pod serves .*: container injected-sidecar keeps crashing"),
    "image-pull": ("Failing", r"cannot pull the image mcpproxy/no-such-image:0\.1\.0"),
    "unschedulable": ("Failing", "a pod cannot be scheduled: 0/3 nodes are available"),
    "paused": (
        "Paused",
        r"paused; resume it with: kubectl rollout resume -n \S+ deployment/paused",
    ),
    "teller": (
        "Stalled",
        r"Deployment teller, Service teller already exist and are not controlled by",
    ),
    "terminating": (
        "Terminating",
        r"being deleted, .* controllers of these finalizers: example\.com/held",
    ),
    "asleep": ("Suspended", r"spec\.suspend is true, so the operator changes nothing"),
    "resting": ("Scaled to 0", "no pods run because the Deployment is scaled to 0"),
    "quota-pods": ("Stalled", r"1 pod serves the previous .* ResourceQuota small of the namespace"),
    "quota-services": ("Stalled", r"ResourceQuota small of the namespace is exhausted"),
    "pod-security": ("Stalled", r"Pod Security \(restricted:latest\) forbids the pods"),
    "policy": ("Stalled", r"ValidatingAdmissionPolicy causes denied the request"),
    "webhook-down": ("Stalled", r"the API server cannot call webhook gone\.example\.com; restore"),
    "service-missing": ("Failing", r"Service no-such-service does not exist in namespace"),
    "no-endpoints": (
        "Failing",
        r"absent-pods\.\S+\.svc:8080: connection refused; Service absent-pods has no endpoints",
    ),
    "wrong-port": (
        "Failing",
        r"teller\.\S+\.svc:9: connection refused; .* no port 9; set service.port to one of 8080",
    ),
    "headless": (
        "Failing",
        r"Service shifted is headless, .* change the port of the Service to 8080",
    ),
    "wrong-host": (
        "Failing",
        r"HTTP 421 \(Invalid Host header\): the backend does not serve the host strict\.\S+\.svc",
    ),
    "wrong-path": ("Failing", r"HTTP 404 without an MCP message; correct the path"),
    "optional-down": (
        "Degraded",
        r"1 of 2 backends are being served; no-such-service \(optional\) is Unhealthy",
    ),
    **dict.fromkeys(causes.HEALTHY, ("Serving", "1 of 1 backends are being served")),
}
LOST = {"lost-node": ("Failing", r"node \S+ does not report its status; run kubectl")}

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def place(three_nodes: Cluster) -> Iterator[Place]:
    """All proxies, with what happens to them."""
    workers = json.loads(three_nodes.kubectl("get", "nodes", "-o", "json"))["items"]
    names = [worker["metadata"]["name"] for worker in workers if "taints" not in worker["spec"]]
    used = {pod["spec"].get("nodeName") for pod in _pods_of_the_system(three_nodes)}
    # The node that stops must not take the operator or the cluster's DNS with it.
    other = next((name for name in names if name not in used), names[-1])
    _keep_clear(three_nodes, other)
    node = next(name for name in names if name != other)
    result = Place(
        main=_world(three_nodes, "causes-main"),
        full=_world(three_nodes, "causes-full"),
        closed=_world(three_nodes, "causes-closed"),
        restricted=_world(three_nodes, "causes-restricted"),
        governed=_world(three_nodes, "causes-governed"),
        deaf=_world(three_nodes, "causes-deaf"),
        node=node,
        other_node=other,
        bare_image=_bare_image(three_nodes),
    )
    causes.prepare(result)
    causes.create(result)
    causes.disturb(result)
    yield result
    causes.remove(result)


def test_each_proxy_has_a_summary_and_a_message_with_the_cause(place: Place) -> None:
    with causes.node_down(place):
        expected = {**EXPECTED, **LOST}
        try:
            _all_told(place, expected)
        finally:
            _write(place)
    rows = _rows(place)
    assert len(rows) == len(expected) >= 30


def test_the_events_of_a_proxy_name_its_cause_and_are_counted_up(place: Place) -> None:
    items = json.loads(place.main.kubectl("get", "events", "-o", "json"))["items"]
    ours = [item for item in items if item["involvedObject"]["kind"] == "MCPProxy"]
    told = {(our["involvedObject"]["name"], our["reason"]) for our in ours}
    assert ("wrong-host", "BackendUnhealthy") in told
    assert len(told) == len({entry["metadata"]["name"] for entry in ours})
    assert all(element["count"] >= 1 and element["lastTimestamp"] for element in ours)


def test_waiting_for_a_proxy_of_zero_replicas_ends(place: Place) -> None:
    place.main.kubectl("wait", f"{PROXIES}/resting", "--for=condition=Ready", "--timeout=10s")


def test_rollout_undo_restores_the_earlier_configuration(place: Place) -> None:
    world, name = place.main, causes.HEALTHY[0]
    before = _config_map(world, name)
    world.patch(name, {"cache": {"ttl": "62s"}})
    world.wait_ready(name)
    assert _config_map(world, name) != before
    world.patch(name, {"suspend": True})
    eventually("it is suspended", lambda: world.status(name).get("summary") == "Suspended")
    world.kubectl("rollout", "undo", f"deployment/{name}")
    world.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    assert _config_map(world, name) == before
    world.patch(name, {"suspend": False})
    world.wait_ready(name)
    assert _config_map(world, name) != before


def test_orphaned_children_are_adopted_while_their_pods_serve(
    place: Place,
) -> None:
    world, name = place.main, causes.HEALTHY[1]
    proxy = world.get(PROXIES, name)
    uid = world.get("deployment", name)["metadata"]["uid"]
    world.kubectl("delete", PROXIES, name, "--cascade=orphan")
    assert "ownerReferences" not in world.get("deployment", name)["metadata"]
    metadata = {"name": name, "namespace": world.namespace}
    world.apply(
        {**{key: proxy[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata}
    )
    world.wait_ready(name)
    after = world.get(PROXIES, name)["metadata"]["uid"]
    deployment = world.get("deployment", name)["metadata"]
    assert deployment["uid"] == uid
    assert [owner["uid"] for owner in deployment["ownerReferences"]] == [after]
    events = world.kubectl("events", "--for", f"mcpproxy/{name}")
    assert re.search(rf"Adopted .*adopted .*Deployment {name}", events), events


def _all_told(place: Place, expected: dict[str, tuple[str, str]]) -> None:
    """Wait until every proxy says what is expected; names those that don't."""

    def missing() -> list[str]:
        result = _proxies(place)
        return [
            f"{name}: {result[name].get('summary')}: {_words(result[name])}"
            for name, (word, why) in expected.items()
            if result[name].get("summary") != word or not re.search(why, _words(result[name]))
        ]

    try:
        eventually("every proxy says why", lambda: not missing(), 150)
    except AssertionError:
        pytest.fail("\n".join(missing()))


def _proxies(place: Place) -> dict[str, Object]:
    """The statuses of all proxies by their names, which differ in all namespaces."""
    listed = json.loads(place.main.cluster.kubectl("get", PROXIES, "-A", "-o", "json"))["items"]
    ours = {world.namespace for world in place.worlds}
    return {
        item["metadata"]["name"]: item.get("status", {})
        for item in listed
        if item["metadata"]["namespace"] in ours
    }


def _words(status: Object) -> str:
    """All messages of a status."""
    parts = [*status.get("conditions", []), *status.get("backends", [])]
    return " ".join(part.get("message", "") for part in parts)


def _rows(place: Place) -> list[str]:
    listed = place.main.cluster.kubectl("get", PROXIES, "-A", "--no-headers").splitlines()
    ours = {world.namespace for world in place.worlds}
    return [row for row in listed if row.split()[0] in ours]


def _write(place: Place) -> None:
    """Write what a user sees to a file."""
    cluster = place.main.cluster

    def shown(*arguments: str) -> str:
        return f"$ kubectl {' '.join(arguments)}\n{cluster.kubectl(*arguments)}"

    commands = [("get", "mcpproxies", "-A"), ("get", "mcpproxies", "-A", "-o", "wide")]
    commands += [("-n", world.namespace, "describe", "mcpproxies") for world in place.worlds]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda command: shown(*command), commands))
    ARTIFACT.parent.mkdir(parents=True, exist_ok=True)
    ARTIFACT.write_text("\n".join(parts), "utf-8")


def _config_map(world: World, name: str) -> str:
    volumes = world.get("deployment", name)["spec"]["template"]["spec"]["volumes"]
    return next(
        str(volume["configMap"]["name"]) for volume in volumes if volume["name"] == "config"
    )


def _world(cluster: Cluster, namespace: str) -> World:
    cluster.kubectl("create", "namespace", namespace)
    return World(cluster, namespace)


def _pods_of_the_system(cluster: Cluster) -> list[Object]:
    listed = json.loads(cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    return [
        pod
        for pod in listed
        if pod["metadata"]["namespace"] == SYSTEM or "coredns" in pod["metadata"]["name"]
    ]


def _keep_clear(cluster: Cluster, node: str) -> None:
    """Let no pod of the operator or of DNS stay on a node."""
    on_it = [pod for pod in _pods_of_the_system(cluster) if pod["spec"].get("nodeName") == node]
    if not on_it:
        return
    cluster.kubectl("cordon", node)
    for pod in on_it:
        metadata = pod["metadata"]
        cluster.kubectl("-n", metadata["namespace"], "delete", "pod", metadata["name"])
    cluster.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=120s")
    cluster.kubectl("uncordon", node)


def _bare_image(cluster: Cluster) -> str:
    """An image that all nodes have and that holds one program only, which is not ours."""
    where = ("-n", "kube-system", "get", "deployment", "coredns", "-o", "json")
    spec = json.loads(cluster.kubectl(*where))["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])
