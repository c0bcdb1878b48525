"""A proxy of three pods that don't see the same, at a running operator."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.apiserver.operator_process import OperatorProcess, StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.support.builders import a_backend

pytestmark = pytest.mark.apiserver

Pods = list[StatusServer]
DENIED = "the backend responded with HTTP 401"


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with operating(apiserver.kubeconfig, log=log) as result:
        yield result


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str, operator: OperatorProcess) -> Stage:
    """A namespace that the operator serves."""
    return Stage(apiserver, namespace)


@pytest.fixture
def pods(stage: Stage) -> Iterator[Pods]:
    """Three pods of `tools` that are ready, and see a Healthy backend."""
    with ExitStack() as stack:
        results = [stack.enter_context(stage.pod()) for _ in range(3)]
        stage.apply(replicas=3)
        stage.wait("deployment/tools", "create")
        for pod in results:
            pod.say(stage.report(weather="Healthy"))
        stage.roll_out("tools-1", *(pod.address for pod in results))
        stage.wait_for("BackendsHealthy", "AllHealthy")
        yield results


def conditions(stage: Stage) -> dict[str, Any]:
    """Return the conditions of `tools`, by type."""
    result = stage.get("mcpproxy/tools")["status"]["conditions"]
    return {item["type"]: item for item in result}


def test_one_of_three_pods_that_is_refused_is_degraded_and_two_take_ready_away(
    stage: Stage, pods: Pods
) -> None:
    pods[0].say(stage.report(why=DENIED, weather="Unauthorized"))
    stage.wait_for("BackendsHealthy", "BackendsDegraded")
    ready = conditions(stage)["Ready"]
    assert ready["status"] == "True"
    assert ready["message"].endswith(f"weather is Degraded: 1 of 3 pods: {DENIED}")
    pods[1].say(stage.report(why=DENIED, weather="Unauthorized"))
    stage.wait_for("Ready", "BackendsUnhealthy")
    result = conditions(stage)["Ready"]
    assert result["status"] == "False"
    assert result["message"] == f"weather is Unauthorized: 2 of 3 pods: {DENIED}"
    assert "components" not in stage.get("mcpproxy/tools")["status"]


def test_a_rate_limit_that_all_pods_meet_leaves_ready_and_the_counts(
    stage: Stage, pods: Pods
) -> None:
    for pod in pods:
        pod.say(stage.report(why="the backend responded with HTTP 429", weather="RateLimited"))
    stage.wait_for("BackendsHealthy", "BackendsRateLimited")
    assert conditions(stage)["Ready"]["status"] == "True"
    status = stage.get("mcpproxy/tools")["status"]
    assert status["components"] == {"tools": 2, "prompts": 0}
    assert status["backends"][0]["state"] == "RateLimited"


def test_a_list_that_changes_on_one_pod_after_the_other_shows_once(
    stage: Stage, pods: Pods, operator: OperatorProcess
) -> None:
    # The rollout has been reported as complete.
    stage.wait("mcpproxy/tools", "jsonpath={.status.summary}=Serving")
    stage.passes_settle(operator)
    before = stage.get("mcpproxy/tools")["status"]
    for pod in pods[:2]:
        pod.say(stage.report(tools=3, weather="Healthy"))
        stage.passes_settle(operator)
        assert stage.get("mcpproxy/tools")["status"] == before
    pods[2].say(stage.report(tools=3, weather="Healthy"))
    stage.wait("mcpproxy/tools", "jsonpath={.status.components.tools}=3")


def test_a_lasting_disagreement_of_pods_is_reported_after_the_debounce_period(
    stage: Stage, pods: Pods, operator: OperatorProcess
) -> None:
    pods[0].say(stage.report(tools=3, weather="Healthy"))

    def told() -> bool:
        return bool(conditions(stage)["BackendsHealthy"]["reason"] == "PodsDiffer")

    operator.until(told, "the difference is told", times=3)
    (backend,) = stage.get("mcpproxy/tools")["status"]["backends"]
    assert backend["state"] == "Healthy"
    assert backend["message"] == "pods differ: tools 2 (2 of 3), 3 (1 of 3)"
    assert backend["components"] == {"prompts": 0}


def test_pods_that_crash_after_a_rollout_stall_the_proxy_for_their_own_reason(
    stage: Stage, pods: Pods
) -> None:
    assert "Reconciling" not in conditions(stage)
    for name in ("tools-1", "tools-1-1", "tools-1-2"):
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        container = {"name": "mcpproxy", "image": "x", "imageID": "", "state": state}
        stage.patch_status(
            f"pod/{name}",
            conditions=[{"type": "Ready", "status": "False"}],
            containerStatuses=[{**container, "ready": False, "restartCount": 3}],
        )
    stage.patch_status("deployment/tools", readyReplicas=0, availableReplicas=0)
    stage.wait_for("Stalled", "CrashLoopBackOff")
    stage.wait_for("Available", "CrashLoopBackOff")
    result = conditions(stage)
    assert result["Available"]["status"] == "False"
    assert "Reconciling" not in result
    assert "0 of 3 pods ready: container mcpproxy keeps crashing" in result["Ready"]["message"]


def test_an_autoscaler_that_moves_the_deployment_never_shows_as_reconciling(
    stage: Stage, operator: OperatorProcess
) -> None:
    with stage.pod() as pod:
        stage.become_ready(pod)
        stage.passes_settle(operator)
        assert "Reconciling" not in conditions(stage)
        stage.kubectl("scale", "deployment/tools", "--replicas=2")
        stage.passes_settle(operator)
        assert "Reconciling" not in conditions(stage)
        generation = stage.get("deployment/tools")["metadata"]["generation"]
        stage.patch_status("deployment/tools", observedGeneration=generation)
        stage.passes_settle(operator)
        assert "Reconciling" not in conditions(stage)
        assert conditions(stage)["Ready"]["status"] == "True"


def test_describe_shows_failures_and_uncounted_components(stage: Stage) -> None:
    with stage.pod() as pod:
        stage.apply(backends=[a_backend("absent"), a_backend("bare")])
        stage.wait("deployment/tools", "create")
        report = stage.report(why="connection refused", absent="Unhealthy", bare="Healthy")
        missing = {"not_offered": ["resources", "resourceTemplates"]}
        bare = report.backends[1].model_copy(update=missing)
        pod.say(report.model_copy(update={"backends": [report.backends[0], bare]}))
        stage.roll_out("tools-1", pod.address)
        stage.wait_for("Ready", "BackendsUnhealthy")
        told = " ".join(stage.kubectl("describe", "mcpproxy/tools").split())
    for words in (
        "Backends Counted: 1/2 Backends Healthy: 1/2",
        "Message: connection refused Name: absent Reason: Unhealthy Session Mode: Isolated",
        "Components: Prompts: 0 Tools: 2 Name: bare Not Offered: resources resourceTemplates",
        "Message: absent is Unhealthy: connection refused",
        "Reason: BackendsUnhealthy Status: False Type: Ready",
        "Warning BackendUnhealthy",
    ):
        assert words in told, (words, told)
