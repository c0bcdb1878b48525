"""The optional admission policy: the operator writes what belongs to an MCPProxy, and no more."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.manifests import MANIFESTS
from tests.apiserver.operator_process import operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.test_operator_life import kubeconfig_of_the_operator
from tests.support.on_demand import ASKING, AT_ONCE

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("gateway_api"),
]

POLICY = (MANIFESTS / "guard" / "policy.yaml").read_text(encoding="utf-8")
INSTALLED = "system:serviceaccount:mcpproxy-system:mcpproxy-operator"
REFUSAL = "whose controller is an MCPProxy"


@contextmanager
def guarding(stage: Stage) -> Iterator[str]:
    """The policy in force for an operator of this namespace; the name of its user."""
    user = f"system:serviceaccount:{stage.namespace}:operator"
    assert INSTALLED in POLICY
    policy = POLICY.replace(INSTALLED, user).replace("operator-guard", stage.namespace)
    stage.kubectl("create", "-f", "-", input=policy)
    try:
        yield user
    finally:
        stage.kubectl("delete", "-f", "-", input=policy)


def test_the_operator_does_all_its_work_and_changes_nothing_of_others_under_the_guard(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    kubeconfig = kubeconfig_of_the_operator(stage, tmp_path, wide=False)
    stage.kubectl("create", "configmap", "theirs", "--from-literal=a=1")
    patch = ("patch", "configmap/theirs", "--type=merge", "-p", json.dumps({"data": {"a": "2"}}))

    def tries(*request: str) -> str:
        answer = apiserver.kubectl("-n", namespace, f"--as={user}", *request)
        return answer.stderr if answer.returncode else ""

    with guarding(stage) as user, stage.pod() as pod:
        served = ("--namespace", namespace)
        with operating(kubeconfig, *served, log=tmp_path / "log") as operator:
            # The policy is in force a little later than it is there.
            operator.until(lambda: REFUSAL in tries(*patch), "the guard stands")
            stage.become_ready(pod)
            stage.apply(**ASKING)
            for kind in AT_ONCE:
                stage.wait(f"{kind.plural}/tools", "create")
            stage.apply(cache={"ttl": "7s"})
            for kind in AT_ONCE:
                stage.wait(f"{kind.plural}/tools", "delete")
            assert operator.errors == 0
        assert REFUSAL in tries("delete", "configmap/theirs")
        assert REFUSAL in tries("create", "configmap", "new")
    assert REFUSAL not in (tmp_path / "log").read_text()


def test_orphans_of_an_earlier_mcpproxy_are_adopted_under_the_guard_and_no_other_object(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    kubeconfig = kubeconfig_of_the_operator(stage, tmp_path, wide=False)
    orphan = ("patch", "--type=merge", "-p", '{"metadata": {"ownerReferences": null}}')
    unlabelled = {"ownerReferences": None, "labels": {"app.kubernetes.io/managed-by": "others"}}
    foreign = ("patch", "--type=merge", "-p", json.dumps({"metadata": unlabelled}))
    clear = ("patch", "service/tools", "--type=merge", "-p", '{"metadata": {"labels": {"a": "b"}}}')

    def owners(child: str) -> str:
        return stage.kubectl("get", child, "-o", "jsonpath={.metadata.ownerReferences[*].kind}")

    def tries(*request: str) -> str:
        answer = apiserver.kubectl("-n", namespace, f"--as={user}", *request)
        return answer.stderr if answer.returncode else ""

    with guarding(stage) as user, stage.pod() as pod:
        served = ("--namespace", namespace)
        with operating(kubeconfig, *served, log=tmp_path / "log") as operator:
            stage.become_ready(pod)
            stage.kubectl(orphan[0], "service/tools", *orphan[1:])
            operator.until(lambda: owners("service/tools") == "MCPProxy", "it is adopted")
        stage.kubectl(foreign[0], "service/tools", *foreign[1:])
        assert REFUSAL in tries(*clear)
    told = stage.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
    assert "adopted Service tools" in told
