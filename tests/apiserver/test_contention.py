"""Other writers at a real API server: they are named, and not raced."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import kopf
import pytest

from mcpproxy.api import constants
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.wire import wired

pytestmark = pytest.mark.apiserver

NO_FINALIZERS = json.dumps({"metadata": {"finalizers": None}})
CONTESTED = 'mcpproxy_operator_contested_total{kind="Deployment"}'


def stalled(stage: Stage) -> str:
    """The message of the condition Stalled; empty without one."""
    conditions = stage.get("mcpproxy/tools")["status"].get("conditions", [])
    return next(
        (str(condition["message"]) for condition in conditions if condition["type"] == "Stalled"),
        "",
    )


def generation(stage: Stage) -> int:
    """Number of changes of the Deployment's spec."""
    return int(stage.get("deployment/tools")["metadata"]["generation"])


def test_a_tool_that_scales_the_deployment_again_and_again_is_named(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage, log = Stage(apiserver, namespace), tmp_path / "log"
    with operating(apiserver.kubeconfig, "--namespace", namespace, log=log) as operator:
        stage.apply(replicas=1)
        stage.wait("deployment/tools", "create")

        def scaled() -> bool:
            stage.kubectl("scale", "deployment/tools", "--replicas=3")
            return "spec.replicas of Deployment tools" in stalled(stage)

        operator.until(scaled, "the fight is told")
        assert "manager kubectl keeps changing it" in stalled(stage)
        assert operator.number(CONTESTED) >= 1
        before = generation(stage)
        for _ in range(10):
            scaled()
        # Each scaling raises the generation by one, and so does each reversal.
        assert generation(stage) - before <= 4
    assert log.read_text().count("keeps changing it") == 1


def test_two_competing_operators_slow_down_and_report_it(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage, log = Stage(apiserver, namespace), tmp_path / "log"
    with ExitStack() as stack:
        operators: list[OperatorProcess] = []
        wires = []
        for number in range(2):
            wire = stack.enter_context(wired(apiserver, tmp_path / str(number)))
            image = ("--image", f"runtime:{number}")
            parts = ("--namespace", namespace, *image)
            operators.append(stack.enter_context(operating(wire.kubeconfig, *parts, log=log)))
            wires.append(wire)
        stage.apply()
        stage.wait("deployment/tools", "create")
        operators[0].until(lambda: "another operator" in stalled(stage), "it is told", times=2)
        assert f"(field manager {constants.FIELD_MANAGER})" in stalled(stage)
        assert re.search(r"containers\[mcpproxy\]\.image of Deployment tools", stalled(stage))
        before = [len(wire.writes()) for wire in wires]
        for _ in range(20):
            operators[0].wait(0.5)
        grown = [len(wire.writes()) - count for wire, count in zip(wires, before, strict=True)]
        assert max(grown) <= 20


def test_the_finalizer_of_another_operator_of_kopf_is_left_alone(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage, log = Stage(apiserver, namespace), tmp_path / "log"
    finalizer = kopf.OperatorSettings().persistence.finalizer
    mark = json.dumps({"metadata": {"finalizers": [finalizer]}})
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path))
        parts = ("--namespace", namespace)
        operator = stack.enter_context(operating(wire.kubeconfig, *parts, log=log))
        stage.apply(replicas=1)
        stage.wait("deployment/tools", "create")
        for kind in ("mcpproxy", "service"):
            stage.kubectl("patch", kind, "tools", "--type=merge", "-p", mark)
        before = len(wire.writes())
        stage.apply(replicas=2)
        # The events of an object that Kopf cannot change would no longer be delivered.
        stage.wait("deployment/tools", "jsonpath={.spec.replicas}=2")
        stage.apply(replicas=3)
        stage.wait("deployment/tools", "jsonpath={.spec.replicas}=3")
        assert stage.get("service/tools")["metadata"]["finalizers"] == [finalizer]
        others = [write for write in wire.writes()[before:] if "/deployments/" not in write]
        assert [write for write in others if "/status" not in write] == []
        assert operator.get("/livez")[0] == 200
        for kind in ("mcpproxy", "service"):
            stage.kubectl("patch", kind, "tools", "--type=merge", "-p", NO_FINALIZERS)
