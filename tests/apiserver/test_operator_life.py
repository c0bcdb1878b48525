"""Operators that start, stop and are killed; namespaces and rights that they have or lack."""

import json
from pathlib import Path

import pytest
import yaml

from mcpproxy.cluster.rbac import RULES
from scripts.yaml_files import parse_yaml
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.support.on_demand import ASKING, AT_ONCE

pytestmark = pytest.mark.apiserver


@pytest.fixture
def alone(apiserver: ApiServer, namespace: str) -> Stage:
    """A namespace, and operators that come and go."""
    return Stage(apiserver, namespace)


def followed(operator: OperatorProcess) -> bool:
    """Return True if the operator has done its first passes and has a report of one pod."""
    return operator.passes >= 2 and operator.followed == 1


def test_a_restarted_operator_writes_nothing(alone: Stage, tmp_path: Path) -> None:
    log = tmp_path / "log"
    served = (alone.apiserver.kubeconfig, "--namespace", alone.namespace)
    with alone.pod() as pod:
        with operating(*served, log=log) as first:
            alone.become_ready(pod)
            alone.passes_settle(first)
        before = alone.versions()
        log.unlink()
        with operating(*served, log=log) as second:
            second.until(lambda: followed(second), "the pod reports")
            alone.passes_settle(second)
        after = alone.versions()
    assert after.pop("MCPProxy/tools") != before.pop("MCPProxy/tools")
    assert after == before
    assert "applied" not in log.read_text()


def test_the_log_is_one_line_of_json_for_each_event_and_none_while_nothing_happens(
    alone: Stage, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    served = (alone.apiserver.kubeconfig, "--namespace", alone.namespace)
    with alone.pod() as pod, operating(*served, log=log) as operator:
        alone.become_ready(pod)
        alone.passes_settle(operator)
        settled = log.read_text()
        alone.passes_settle(operator)
        assert log.read_text() == settled
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    messages = [line["message"] for line in lines]
    for kind in ("Deployment", "Service", "ServiceAccount", "ConfigMap"):
        assert sum(text.startswith(f"applied {kind} ") for text in messages) == 1
    assert messages[-1] == "stopped"


def test_an_operator_that_was_killed_is_followed_by_one_that_continues(
    alone: Stage, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    served = (alone.apiserver.kubeconfig, "--namespace", alone.namespace)
    with pytest.raises(AssertionError), operating(*served, log=log) as first:  # noqa: PT012
        alone.apply()
        alone.wait("serviceaccount/tools", "create")
        first.process.kill()
    with alone.pod() as pod, operating(*served, log=log):
        alone.become_ready(pod)


def test_a_proxy_is_deleted_while_no_operator_runs(alone: Stage, tmp_path: Path) -> None:
    served = (alone.apiserver.kubeconfig, "--namespace", alone.namespace)
    with operating(*served, log=tmp_path / "log"):
        alone.apply()
        alone.wait("deployment/tools", "create")
    alone.kubectl("delete", "mcpproxy/tools", "--timeout=5s")
    with operating(*served, log=tmp_path / "log") as second:
        second.until(lambda: second.passes >= 1, "the children were looked at")
        assert alone.list("mcpproxies") == []


def kubeconfig_of_the_operator(alone: Stage, directory: Path, *, wide: bool) -> Path:
    """A kubeconfig of a service account that has the operator's rights and no others."""
    role = "ClusterRole" if wide else "Role"
    name = f"operator-{alone.namespace}"
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": alone.namespace}
    group = "rbac.authorization.k8s.io"
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
        {
            "apiVersion": f"{group}/v1",
            "kind": role,
            "metadata": {"name": name},
            "rules": list(RULES),
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{role}Binding",
            "metadata": {"name": name},
            "subjects": [subject],
            "roleRef": {"apiGroup": group, "kind": role, "name": name},
        },
    ]
    for manifest in manifests:
        alone.kubectl("create", "-f", "-", input=json.dumps(manifest))
    document = parse_yaml(alone.apiserver.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": alone.kubectl("create", "token", "operator").strip()}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("wide", [False, True], ids=["one namespace", "all namespaces"])
def test_the_rights_that_are_written_down_are_enough(
    alone: Stage, tmp_path: Path, wide: bool
) -> None:
    kubeconfig, log = kubeconfig_of_the_operator(alone, tmp_path, wide=wide), tmp_path / "log"
    args = () if wide else ("--namespace", alone.namespace)
    with alone.pod() as pod, operating(kubeconfig, *args, log=log) as operator:
        alone.become_ready(pod)
        old = alone.config_map()
        alone.apply(**ASKING)
        for kind in AT_ONCE:
            alone.wait(f"{kind.plural}/tools", "create")
        alone.apply(cache={"ttl": "7s"})
        for kind in AT_ONCE:
            alone.wait(f"{kind.plural}/tools", "delete")
        alone.wait_for("Reconciling", "RollingOut")
        pod.say(alone.report(weather="Healthy"))
        alone.roll_out("tools-2", pod.address)
        alone.wait(f"configmap/{old}", "delete")
        alone.wait("mcpproxy/tools", "condition=Ready")
        # A start without a fault makes no Event.
        alone.apply(suspend=True)
        operator.until(lambda: bool(alone.list("events")), "events are written as well")
        assert operator.errors == 0
    assert "forbidden" not in log.read_text().lower()


def test_secrets_are_neither_read_nor_watched() -> None:
    (secrets,) = [rule for rule in RULES if "secrets" in rule["resources"]]
    assert secrets["verbs"] == ["create"]
    assert all("*" not in (*rule["verbs"], *rule["resources"]) for rule in RULES)


def test_other_namespaces_are_left_alone(
    apiserver: ApiServer, alone: Stage, tmp_path: Path
) -> None:
    elsewhere = Stage(apiserver, "default")
    with operating(apiserver.kubeconfig, "--namespace", alone.namespace, log=tmp_path / "log"):
        elsewhere.apply("elsewhere")
        alone.apply()
        alone.wait("deployment/tools", "create")
        names = [deployment["metadata"]["name"] for deployment in elsewhere.list("deployments")]
    elsewhere.kubectl("delete", "mcpproxy/elsewhere")
    assert "elsewhere" not in names
