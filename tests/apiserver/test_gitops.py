"""However an MCPProxy came to be what it is, its children and its status are the same."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.apiserver.operator_process import OperatorProcess, StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import CHILDREN, Object, Stage
from tests.support.builders import a_backend, a_manifest

pytestmark = pytest.mark.apiserver

HEADERS = [{"name": "X-Team", "value": "platform"}]
SPEC: dict[str, Any] = {
    "replicas": 1,
    "cache": {"ttl": "60s"},
    "backends": [a_backend(headers=HEADERS)],
}
"""Status at which every route ends."""
OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    with operating(apiserver.kubeconfig, log=tmp_path_factory.mktemp("operator") / "log") as result:
        yield result


class Route:
    """A namespace in which a test plays a user, the controllers and the garbage collector."""

    def __init__(self, stage: Stage, operator: OperatorProcess, pod: StatusServer) -> None:
        self.stage, self._operator, self._pod = stage, operator, pod

    def send(self, verb: str, *args: str, manifest: Object | None = None, **spec: Any) -> None:
        """Run a verb of kubectl on `manifest`, or on an MCPProxy with this spec."""
        result = manifest or a_manifest("tools", self.stage.namespace, **(spec or SPEC))
        self.stage.kubectl(verb, *args, "-f", "-", input=json.dumps(result))

    def roll_out(self) -> None:
        """Let the Deployment roll out what it says, and wait until the operator knows."""
        self.stage.wait("deployment/tools", "create")
        self.stage.passes_settle(self._operator)
        self._pod.say(self.stage.report(weather="Healthy"))
        self.stage.roll_out("tools-1", self._pod.address)
        self._operator.until(self._is_current, "Ready in the current generation")
        self.stage.passes_settle(self._operator)

    def forget(self) -> None:
        """Delete the MCPProxy, and all that it owns as the garbage collector does."""
        self.stage.kubectl("delete", "mcpproxy/tools")
        self.collect()

    def collect(self) -> None:
        """Delete all children."""
        for kind in (*CHILDREN.split(","), "replicasets", "secrets"):
            names = [
                result["metadata"]["name"]
                for result in self.stage.list(kind)
                if result["metadata"].get("ownerReferences") or kind == "pods"
            ]
            if names:
                self.stage.kubectl("delete", kind, *names, "--force", "--grace-period=0")

    def outcome(self) -> str:
        """The children and the status as bytes, but for what the API server makes up."""
        results = [
            self._plain(child)
            for child in self.stage.list(CHILDREN)
            if child["metadata"].get("ownerReferences") and child["kind"] != "Pod"
        ]
        parent = self.stage.get("mcpproxy/tools")
        status = parent["status"]
        del status["observedGeneration"]
        for condition in status["conditions"]:
            del condition["lastTransitionTime"], condition["observedGeneration"]
        return json.dumps([results, status], indent=1).replace(parent["metadata"]["uid"], "UID")

    def _plain(self, child: Object) -> Object:
        for field in OF_THE_SERVER:
            child["metadata"].pop(field, None)
        # The number of rollouts is the way, and not the goal.
        child.pop("status", None)
        for cluster_ip in ("clusterIP", "clusterIPs"):
            child.get("spec", {}).pop(cluster_ip, None)
        return child

    def _is_current(self) -> bool:
        result = self.stage.get("mcpproxy/tools")
        status = result.get("status", {})
        conditions = {
            condition["type"]: condition["status"] for condition in status.get("conditions", [])
        }
        return (
            status.get("observedGeneration") == result["metadata"]["generation"]
            and conditions.get("Ready") == "True"
            and "Reconciling" not in conditions
        )


def two_managers(route: Route) -> None:
    """Each applies a part; one of them takes a field over from the other."""
    backends: dict[str, Any] = {"replicas": 1, "backends": [a_backend(headers=HEADERS)]}
    route.send("apply", "--server-side", "--field-manager=team", **backends, cache={"ttl": "5s"})
    cache = a_manifest("tools", route.stage.namespace)
    cache["spec"] = {"cache": {"ttl": "60s"}}
    by_platform = ("--server-side", "--field-manager=platform", "--force-conflicts")
    route.send("apply", *by_platform, manifest=cache)


def replaced(route: Route) -> None:
    """Something else is there, and replaced."""
    route.send("create", backends=[a_backend("other")], replicas=1)
    route.stage.wait("deployment/tools", "create")
    route.send("replace")


def restored(route: Route, *, status: bool) -> None:
    """A backup is created anew, with another uid; its status is restored, too, or is not."""
    route.send("apply")
    route.roll_out()
    backup = route.stage.get("mcpproxy/tools")
    for field in OF_THE_SERVER:
        backup["metadata"].pop(field, None)
    old = backup["status"]
    route.stage.kubectl("delete", "mcpproxy/tools")
    route.send("create", manifest=backup)
    if status:
        lie = {**old, "readyReplicas": 7, "backendsHealthy": "7/7"}
        patch = json.dumps({"status": lie})
        at_status = ("--subresource=status", "--type=merge", "-p", patch)
        route.stage.kubectl("patch", "mcpproxy/tools", *at_status)
    route.collect()


def restored_without_status(route: Route) -> None:
    """From a backup, without its status."""
    restored(route, status=False)


def restored_with_status(route: Route) -> None:
    """From a backup, with a status that is not true any more."""
    restored(route, status=True)


ROUTES: tuple[Callable[[Route], None], ...] = (
    two_managers,
    replaced,
    restored_without_status,
    restored_with_status,
)


@contextmanager
def a_route(stage: Stage, operator: OperatorProcess) -> Iterator[Route]:
    """A route with a pod."""
    with stage.pod() as pod:
        yield Route(stage, operator, pod)


@pytest.mark.parametrize("way", ROUTES, ids=lambda way: way.__name__)
def test_the_children_and_status_do_not_depend_on_the_history_of_a_spec(
    apiserver: ApiServer,
    namespace: str,
    operator: OperatorProcess,
    way: Callable[[Route], None],
) -> None:
    with a_route(Stage(apiserver, namespace), operator) as route:
        route.send("apply")
        route.roll_out()
        expected = route.outcome()
        route.forget()
        way(route)
        route.roll_out()
        assert route.outcome() == expected
