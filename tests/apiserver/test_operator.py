"""The operator as a process, against a real API server."""

import json
from collections.abc import Iterator

import pytest

from mcpproxy.api import constants
from tests.apiserver.operator_process import IMAGE, OperatorProcess, StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import CHILDREN, Stage
from tests.support.builders import a_backend

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with operating(apiserver.kubeconfig, log=log) as result:
        yield result
        assert '"level": "error"' not in log.read_text()


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str, operator: OperatorProcess) -> Stage:
    """A namespace that the operator serves."""
    return Stage(apiserver, namespace)


@pytest.fixture
def pod(stage: Stage) -> Iterator[StatusServer]:
    """The admin port of a pod."""
    with stage.pod() as result:
        yield result


def test_an_mcpproxy_gets_its_children_and_stays_unmarked(stage: Stage, pod: StatusServer) -> None:
    stage.become_ready(pod)
    parent = stage.get("mcpproxy/tools")
    assert "finalizers" not in parent["metadata"]
    assert "annotations" not in parent["metadata"]
    children = [child for child in stage.list(CHILDREN) if child["kind"] != "Pod"]
    ours = [actual for actual in children if actual["metadata"].get("ownerReferences")]
    assert sorted(our["kind"] for our in ours) == [
        "ConfigMap",
        "Deployment",
        "Service",
        "ServiceAccount",
    ]
    sealing = constants.sealing_secret_name("tools", parent["metadata"]["uid"])
    for result in [*ours, stage.get(f"secret/{sealing}")]:
        (reference,) = result["metadata"]["ownerReferences"]
        assert reference["uid"] == parent["metadata"]["uid"]
    assert parent["status"]["url"] == f"http://tools.{stage.namespace}.svc/mcp"
    assert parent["status"]["components"] == {"tools": 2, "prompts": 0}
    row = stage.kubectl("get", "mcpproxies", "--no-headers").split()
    assert row[:6] == ["tools", "True", "Serving", "1/1", "2", "1/1"]


@pytest.mark.parametrize("kind", ["deployment", "service", "serviceaccount", "configmap"])
def test_a_deleted_child_comes_back(stage: Stage, pod: StatusServer, kind: str) -> None:
    stage.become_ready(pod)
    name = stage.config_map() if kind == "configmap" else "tools"
    before = stage.get(f"{kind}/{name}")
    stage.kubectl("delete", kind, name, "--wait=false")
    stage.wait(f"{kind}/{name}", "create")
    after = stage.get(f"{kind}/{name}")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after.get("data") == before.get("data")
    assert after["metadata"]["labels"] == before["metadata"]["labels"]


@pytest.mark.parametrize(
    ("what", "edit", "path", "value"),
    [
        (
            "deployment",
            {"spec": {"template": {"spec": {"containers": [{"name": "mcpproxy", "image": "x"}]}}}},
            "{.spec.template.spec.containers[0].image}",
            IMAGE,
        ),
        ("service", {"spec": {"selector": {"evil": "yes"}}}, "{.spec.selector.evil}", ""),
        (
            "serviceaccount",
            {"automountServiceAccountToken": True},
            "{.automountServiceAccountToken}",
            "false",
        ),
        (
            "deployment",
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
            "{.metadata.labels.app\\.kubernetes\\.io/managed-by}",
            "mcpproxy-operator",
        ),
    ],
)
def test_a_child_edited_by_hand_is_reverted(
    stage: Stage,
    pod: StatusServer,
    operator: OperatorProcess,
    what: str,
    edit: object,
    path: str,
    value: str,
) -> None:
    stage.become_ready(pod)
    stage.kubectl("patch", f"{what}/tools", "--type=strategic", "-p", json.dumps(edit))
    result = ("get", f"{what}/tools", "-o", f"jsonpath={path}")
    operator.until(lambda: stage.kubectl(*result) == value, f"{path} is {value!r} again")


def test_a_label_of_the_proxy_changes_nothing_but_itself(
    stage: Stage, pod: StatusServer, operator: OperatorProcess
) -> None:
    stage.become_ready(pod)
    stage.passes_settle(operator)
    before = stage.versions()
    stage.passes_settle(operator)
    after = stage.versions()
    assert after.pop("MCPProxy/tools") != before.pop("MCPProxy/tools")
    assert after == before


def test_another_ttl_rolls_out_once_and_the_old_config_map_goes_with_its_replica_set(
    stage: Stage, pod: StatusServer, operator: OperatorProcess
) -> None:
    stage.become_ready(pod)
    old = stage.config_map()
    stage.apply(cache={"ttl": "7s"})
    stage.wait_for("Reconciling", "RollingOut")
    new = stage.config_map()
    assert new != old
    stage.passes_settle(operator)
    assert stage.get(f"configmap/{old}")["immutable"] is True
    pod.say(stage.report(weather="Healthy"))
    stage.roll_out("tools-2", pod.address, history=True)
    stage.wait("mcpproxy/tools", "condition=Ready")
    stage.passes_settle(operator)
    # A rollout that is undone would need it.
    assert stage.get(f"configmap/{old}")
    stage.apply(cache={"ttl": "8s"})
    stage.wait_for("Reconciling", "RollingOut")
    pod.say(stage.report(weather="Healthy"))
    stage.roll_out("tools-3", pod.address)
    stage.wait(f"configmap/{old}", "delete")
    stage.wait("mcpproxy/tools", "condition=Ready")
    result = stage.get("mcpproxy/tools")
    assert result["status"]["observedGeneration"] == result["metadata"]["generation"] == 3
    assert stage.get("deployment/tools")["metadata"]["generation"] == 3


def test_a_backend_that_fails_loses_its_counts_and_is_reported_once(
    stage: Stage, pod: StatusServer
) -> None:
    stage.become_ready(pod)
    pod.say(stage.report(weather="Unhealthy"))
    stage.wait_for_report("BackendsUnhealthy")
    status = stage.get("mcpproxy/tools")["status"]
    assert "components" not in status
    assert status["backendsHealthy"] == "0/1"
    pod.say(stage.report(weather="Healthy"))
    stage.wait("mcpproxy/tools", "condition=Ready")
    events = stage.list("events")
    assert {event["involvedObject"]["name"] for event in events} == {"tools"}
    told = [result["reason"] for result in events]
    assert len(told) == len(set(told))
    assert told.count("BackendUnhealthy") == told.count("BackendHealthy") == 1


def test_a_deleted_pod_leaves_no_counts_behind(stage: Stage, pod: StatusServer) -> None:
    stage.become_ready(pod)
    stage.kubectl("delete", "pod", "tools-1", "--force", "--grace-period=0")
    stage.wait("mcpproxy/tools", "condition=Ready=False")
    status = stage.get("mcpproxy/tools")["status"]
    assert "components" not in status
    assert status["backends"][0]["state"] == "Unknown"
    assert status["url"]


def test_an_invalid_stored_spec_is_named_and_the_deployment_continues(
    stage: Stage, pod: StatusServer
) -> None:
    stage.become_ready(pod)
    before = stage.versions()["Deployment/tools"]
    stage.apply(backends=[a_backend(url="http://weather.example.com:99999/mcp")])
    stage.wait("mcpproxy/tools", "condition=Accepted=False")
    (accepted,) = [
        condition
        for condition in stage.get("mcpproxy/tools")["status"]["conditions"]
        if condition["type"] == "Accepted"
    ]
    assert accepted["reason"] == "InvalidSpec"
    assert "spec.backends[0]" in accepted["message"]
    assert stage.versions()["Deployment/tools"] == before
    stage.apply()
    stage.wait("mcpproxy/tools", "condition=Ready")
    assert stage.versions()["Deployment/tools"] == before


def test_a_deployment_of_another_owner_is_named_and_untouched(stage: Stage) -> None:
    container = {"name": "theirs", "image": "theirs:1"}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tools"},
        "spec": {
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [container]},
            },
        },
    }
    stage.kubectl("create", "-f", "-", input=json.dumps(theirs))
    before = stage.versions()
    stage.apply()
    stage.wait_for_report("NotOwned")
    assert stage.versions()["Deployment/tools"] == before["Deployment/tools"]
    assert not [
        service for service in stage.list("services") if service["metadata"]["name"] == "tools"
    ]


def test_zero_replicas_are_reported_as_desired(stage: Stage) -> None:
    stage.apply(replicas=0)
    stage.wait_for("Available", "ScaledToZero")
    result = stage.get("mcpproxy/tools")
    ready = next(
        condition for condition in result["status"]["conditions"] if condition["type"] == "Ready"
    )
    assert (ready["status"], ready["reason"]) == ("True", "ScaledToZero")
