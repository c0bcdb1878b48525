"""A kind cluster with the images of this tree and manifests/install.yaml; the demo at work in it.

KEEP=1 keeps the cluster, and takes the one that an earlier run has kept. E2E_CLUSTER gives it
another name, so that two runs don't meet.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e import clients
from e2e.audit import AuditLog
from e2e.world import OPERATOR, PROXIES, SYSTEM, World
from scripts import images, machine
from scripts.cluster import Cluster

NAME = os.environ.get("E2E_CLUSTER", "mcpproxy-e2e")
WORK = machine.ROOT / ".e2e"
STORY_SECONDS = 400
KEEP = bool(os.environ.get("KEEP"))
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stories wait for pods, and the first of them for the cluster; long ones for E2E_LONG."""
    if not os.environ.get("E2E_LONG"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = [item.nodeid for item in left_out]
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        ours = item.path.is_relative_to(Path(__file__).parent)
        if ours and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(STORY_SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was not run, so that nobody takes it for passed."""
    for name in terminalreporter.config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(f"LEFT OUT, runs with E2E_LONG=1: {name}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster, with the images loaded and the operator installed."""
    with ThreadPoolExecutor() as pool:
        npm = pool.submit(clients.npm_install)
        actual = _installed(NAME, "e2e/kind.yaml")
        npm.result()
    yield actual
    if request.session.testsfailed:
        _describe(actual)
    if not KEEP:
        actual.delete()


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[Cluster]:
    """A cluster of its own, of three nodes."""
    result = _installed(f"{NAME}-three", "e2e/kind-three.yaml")
    yield result
    if not KEEP:
        result.delete()


@pytest.fixture(scope="session")
def spare() -> Iterator[Cluster]:
    """A cluster of its own, from which everything may be taken away."""
    result = _installed(f"{NAME}-spare", "e2e/kind.yaml")
    yield result
    if not KEEP:
        result.delete()


def _installed(name: str, config: str) -> Cluster:
    """A cluster with the images loaded and the operator installed."""
    WORK.mkdir(exist_ok=True)
    env = machine.environment()
    assert machine.docker_runs(env), "Docker has to run: the stories need a kind cluster"
    machine.raise_inotify_limit()
    actual = Cluster(name, env, WORK / f"kubeconfig-{name}")
    with ThreadPoolExecutor() as pool:
        build = pool.submit(images.build, env)
        taken = _ready(actual, config)
        actual.load(build.result())
    actual.kubectl("apply", "--server-side", "-f", "manifests/install.yaml")
    if taken:
        actual.kubectl("-n", SYSTEM, "rollout", "restart", OPERATOR)
    actual.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=120s")
    return actual


def _ready(cluster: Cluster, config: str) -> bool:
    """Ready the cluster; whether it is one that an earlier run has kept."""
    if cluster.exists():
        if KEEP:
            cluster.join()
            return True
        cluster.delete()
    cluster.create(Path(config))
    return False


def _describe(cluster: Cluster) -> None:
    """Print what helps to find out why a story failed."""
    for what in (
        ("-n", SYSTEM, "logs", OPERATOR, "--tail=60"),
        ("get", "pods,deployments,services,configmaps", "-A", "-o", "wide"),
        ("get", PROXIES, "-A", "-o", "yaml"),
    ):
        print(f"--- kubectl {' '.join(what)}\n{cluster.kubectl(*what)}")


@pytest.fixture(scope="session")
def audit(cluster: Cluster) -> AuditLog:
    """Return the writes to the API server."""
    return AuditLog(cluster)


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def new_world(cluster: Cluster) -> Callable[[str], World]:
    """Makes a namespace of its own for a story."""

    def make(purpose: str) -> World:
        namespace = f"{purpose}-{os.getpid()}-{next(_numbers)}"
        cluster.kubectl("create", "namespace", namespace)
        return World(cluster, namespace)

    return make


@pytest.fixture(scope="session")
def demo(new_world: Callable[[str], World]) -> World:
    """A namespace in which samples/demo.yaml is Ready. Who changes it puts it back."""
    world = new_world("demo")
    world.kubectl("apply", "-f", "samples/demo-backends.yaml", "-f", "samples/demo.yaml")
    world.wait_ready("demo")
    return world


@pytest.fixture
def demo_url(demo: World) -> Iterator[str]:
    """The demo's endpoint, as reached from this machine through its Service."""
    with demo.forwarded("service/demo") as port:
        yield f"http://127.0.0.1:{port}/mcp"
