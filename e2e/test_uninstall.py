"""Everything is taken away, in any order: nothing hangs, and nothing is left."""

import itertools
import json
from collections.abc import Iterator

import pytest

from e2e import pods, releases
from e2e.operators import Operators
from e2e.world import CHILDREN, PROXIES, SYSTEM, World, eventually, notes_proxy, steadily
from scripts.cluster import Cluster
from scripts.machine import CommandFailed

pytestmark = pods.long

INSTALL = "manifests/install.yaml"
NAMES = ("first", "second")
GONE = "--timeout=60s"
# The garbage collector may take half a minute to notice that a kind has gone.
COLLECTION_SECONDS = 90


@pytest.fixture
def agents(spare: Cluster) -> Iterator[World]:
    """A namespace with two proxies, both Ready, in a cluster where all is installed."""
    releases.current().install(spare)
    spare.kubectl("create", "namespace", "agents")
    world = World(spare, "agents")
    _the_collector_knows_the_kind(world)
    _bring(world)
    yield world
    if world.cluster.kubectl("get", "namespace", "agents", "--ignore-not-found"):
        world.cluster.kubectl("delete", "namespace", "agents", GONE)


def test_the_crd_first_takes_all_proxies_along_and_the_operator_waits_for_it_to_come_back(
    agents: World,
) -> None:
    operators = Operators(agents.cluster)
    before = _restarts(operators)
    agents.cluster.kubectl("delete", "crd", PROXIES, GONE)
    eventually("the children are gone", lambda: not _left(agents), COLLECTION_SECONDS)
    releases.current().install(agents.cluster)
    _bring(agents)
    operators.wait()
    after = _restarts(operators)
    # Without their kind they end in order and start anew, once, and then wait for it.
    assert after.keys() == before.keys()
    assert all(after[name] <= before[name] + 1 for name in before)


def test_the_proxies_first_and_then_all_that_was_installed(agents: World) -> None:
    agents.kubectl("delete", PROXIES, "--all", GONE)
    eventually("the children are gone", lambda: not _left(agents), COLLECTION_SECONDS)
    agents.cluster.kubectl("delete", "-f", INSTALL, GONE)
    _nothing_is_left(agents.cluster)


def test_the_operator_first_and_its_proxies_go_without_it(agents: World) -> None:
    agents.cluster.kubectl("delete", "namespace", SYSTEM, GONE)
    assert _left(agents)
    agents.kubectl("delete", PROXIES, NAMES[0], GONE)
    eventually("its children are gone", lambda: not _left(agents, NAMES[0]), COLLECTION_SECONDS)
    agents.cluster.kubectl("delete", "crd", PROXIES, GONE)
    eventually("all children are gone", lambda: not _left(agents), COLLECTION_SECONDS)
    agents.cluster.kubectl("delete", "-f", INSTALL, "--ignore-not-found", GONE)
    _nothing_is_left(agents.cluster)


def test_uninstalling_everything_at_once_deletes_live_proxies(agents: World) -> None:
    agents.cluster.kubectl("delete", "-f", INSTALL, GONE)
    _nothing_is_left(agents.cluster)
    eventually("the children are gone", lambda: not _left(agents), COLLECTION_SECONDS)


def test_a_namespace_with_proxies_goes_to_its_end_and_no_child_comes_back(
    agents: World,
) -> None:
    operators = Operators(agents.cluster)
    before = _restarts(operators)
    agents.cluster.kubectl("delete", "namespace", agents.namespace, GONE)
    assert not agents.cluster.kubectl("get", "namespace", agents.namespace, "--ignore-not-found")
    steadily("the operators run on", lambda: _restarts(operators) == before, seconds=5)
    agents.cluster.kubectl("create", "namespace", agents.namespace)
    _bring(agents)


def _the_collector_knows_the_kind(world: World) -> None:
    """Kubernetes' garbage collector looks for new kinds every 30 seconds. What it has never known
    is not followed when it goes: the children of such a kind would stay for long."""
    numbers = itertools.count()

    def collected() -> bool:
        # One that is in vain once is tried ever more seldom: each time it is another one.
        name = f"orphan-{next(numbers)}"
        owner = {"apiVersion": "mcpproxy.dev/v1alpha1", "kind": "MCPProxy", "name": "nobody"}
        metadata = {"name": name, "ownerReferences": [{**owner, "uid": name}]}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        world.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        try:
            world.kubectl("wait", f"configmap/{name}", "--for=delete", "--timeout=2s")
        except CommandFailed:
            world.kubectl("delete", "configmap", name, "--ignore-not-found")
            return False
        return True

    eventually("the garbage collector knows MCPProxies", collected, COLLECTION_SECONDS)


def _bring(world: World) -> None:
    for name in NAMES:
        world.apply(notes_proxy(name))
    for name in NAMES:
        world.wait_ready(name)


def _left(world: World, name: str | None = None) -> list[str]:
    """Children that are left, of one proxy or of all."""
    results = [item["metadata"] for item in world.all(CHILDREN)]
    return [
        metadata["name"]
        for metadata in results
        for owner in metadata.get("ownerReferences", [])
        if owner["kind"] == "MCPProxy" and name in (None, owner["name"])
    ]


def _nothing_is_left(cluster: Cluster) -> None:
    for kind, name in (("namespace", SYSTEM), ("crd", PROXIES)):
        assert not cluster.kubectl("get", kind, name, "--ignore-not-found")


def _restarts(operators: Operators) -> dict[str, int]:
    """Return the restarts of the container of each operator."""
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in operators.world.all("pods")
    }
