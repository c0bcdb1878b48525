"""Every field that makes or shapes a child: changing it changes what runs, at a real API server."""

import json
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from mcpproxy.cluster.kinds import Kind
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Object, Stage
from tests.on_demand import ASKED

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with (
        # As in its own pod: the NetworkPolicy of a proxy names its namespace.
        mock.patch.dict(os.environ, {"POD_NAMESPACE": "mcpproxy-system"}),
        operating(apiserver.kubeconfig, log=log) as found,
    ):
        yield found
        assert '"level": "error"' not in log.read_text()


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str, operator: OperatorProcess) -> Stage:
    """A namespace that the operator serves."""
    return Stage(apiserver, namespace)


HPA = "horizontalpodautoscaler"
PDB = "poddisruptionbudget"
CPU = "targetCPUUtilizationPercentage"
MEMORY = "targetMemoryUtilizationPercentage"

NETWORK = "networkpolicy"


def door(path: str, value: str, /, **fields: Any) -> tuple[Object, Object, str, str, str]:
    """A change of the networkPolicy, from an empty one."""
    return ({"networkPolicy": {}}, {"networkPolicy": fields}, NETWORK, path, value)


RANGE = {"ipBlock": {"cidr": "10.0.0.0/8"}}
DOORS = [
    door("{.spec.ingress[0].from[*].ipBlock.cidr}", "10.0.0.0/8", clients=[RANGE]),
    door("{.spec.ingress[*].from[*].ipBlock.cidr}", "10.0.0.0/8", scrapers=[RANGE]),
    door(
        "{.spec.egress[*].ports[?(@.port==1)].protocol}",
        "UDP",
        egress=[{"ports": [{"port": 1, "protocol": "UDP"}]}],
    ),
    door(
        "{.spec.egress[?(@.ports[0].port==80)].to[*].ipBlock.cidr}",
        "192.0.2.0/24",
        urlAddresses=[{"cidr": "192.0.2.0/24"}],
    ),
]


def scraped(path: str, value: str, /, **fields: Any) -> tuple[Object, Object, str, str, str]:
    """A change of the PodMonitor, from an empty one."""
    before, after = ({"monitoring": {"podMonitor": given}} for given in ({}, fields))
    return (before, after, "podmonitor", path, value)


ENDPOINT = "{.spec.podMetricsEndpoints[0]"
MONITORS = [
    scraped("{.metadata.labels.release}", "x", labels={"release": "x"}),
    scraped(f"{ENDPOINT}.interval}}", "15s", interval="15s"),
    scraped(f"{ENDPOINT}.scrapeTimeout}}", "5s", scrapeTimeout="5s"),
]

POD = "{.spec.template.spec"
TEMPLATE = "{.spec.template"


def template(path: str, value: str, /, **fields: Any) -> tuple[Object, Object, str, str, str]:
    """A change of the pods' overlay, from none, that shows in the Deployment."""
    return ({}, {"podTemplate": fields}, "deployment", path, value)


PODS = [
    template(f"{TEMPLATE}.metadata.labels.team}}", "blue", labels={"team": "blue"}),
    template(f"{TEMPLATE}.metadata.annotations.owner}}", "me", annotations={"owner": "me"}),
    template(f"{POD}.nodeSelector.disk}}", "fast", nodeSelector={"disk": "fast"}),
    template(f"{POD}.tolerations[0].key}}", "a", tolerations=[{"key": "a"}]),
    template(
        f"{POD}.affinity.podAntiAffinity.*[0].topologyKey}}",
        "zone",
        affinity={
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]
            }
        },
    ),
    template(
        f"{POD}.topologySpreadConstraints[*].topologyKey}}",
        "rack",
        topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    ),
    template(f"{POD}.priorityClassName}}", "high", priorityClassName="high"),
    template(f"{POD}.runtimeClassName}}", "gvisor", runtimeClassName="gvisor"),
    template(f"{POD}.schedulerName}}", "mine", schedulerName="mine"),
    template(f"{POD}.serviceAccountName}}", "agents", serviceAccountName="agents"),
    template(f"{POD}.securityContext.runAsUser}}", "7", securityContext={"runAsUser": 7}),
    template(
        f"{POD}.terminationGracePeriodSeconds}} {POD}.containers[0].args[-2:]}}",
        "300 --drain 290",
        terminationGracePeriodSeconds=300,
    ),
]

CHANGES: list[tuple[Object, Object, str, str, str]] = [
    ({"replicas": 2}, {"replicas": 3}, "deployment", "{.spec.replicas}", "3"),
    (
        {"replicas": 2},
        {"autoscaling": {"maxReplicas": 4}},
        HPA,
        "{.spec.scaleTargetRef.name}",
        "tools",
    ),
    (
        {"autoscaling": {"maxReplicas": 4}},
        {"autoscaling": {"maxReplicas": 5}},
        HPA,
        "{.spec.maxReplicas}",
        "5",
    ),
    (
        {"autoscaling": {"maxReplicas": 4}},
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 4}},
        HPA,
        "{.spec.minReplicas}",
        "3",
    ),
    (
        {"autoscaling": {"maxReplicas": 4}},
        {"autoscaling": {"maxReplicas": 4, CPU: 55}},
        HPA,
        "{.spec.metrics[0].containerResource.target.averageUtilization}",
        "55",
    ),
    (
        {"autoscaling": {"maxReplicas": 4}},
        {"autoscaling": {"maxReplicas": 4, MEMORY: 65}},
        HPA,
        "{.spec.metrics[*].containerResource.name}",
        "memory",
    ),
    (
        {"autoscaling": {"maxReplicas": 4}},
        {"autoscaling": {"maxReplicas": 4, "scaleDownAfter": "1m"}},
        HPA,
        "{.spec.behavior.scaleDown.stabilizationWindowSeconds}",
        "60",
    ),
    (
        {"disruptionBudget": {"maxUnavailable": 1}},
        {"disruptionBudget": {"minAvailable": "50%"}},
        PDB,
        "{.spec.minAvailable}/{.spec.maxUnavailable}",
        "50%/",
    ),
    *PODS,
    *DOORS,
    *MONITORS,
]


@pytest.mark.parametrize(
    ("before", "after", "child", "path", "value"),
    CHANGES,
    ids=[f"{child} {path}" for _, _, child, path, _ in CHANGES],
)
def test_a_change_of_a_field_changes_what_runs(
    stage: Stage,
    operator: OperatorProcess,
    before: dict[str, Any],
    after: dict[str, Any],
    child: str,
    path: str,
    value: str,
) -> None:
    found = ("get", f"{child}/tools", "--ignore-not-found", "-o", f"jsonpath={path}")
    stage.apply(**before)
    stage.wait("deployment/tools", "create")
    assert stage.kubectl(*found) != value
    stage.apply(**after)
    operator.until(lambda: stage.kubectl(*found) == value, f"{path} is {value!r}")


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.name)
def test_a_child_on_demand_comes_back_and_goes_with_the_field(stage: Stage, kind: Kind) -> None:
    what = f"{kind.plural}/tools"
    stage.apply(**ASKED[kind])
    stage.wait(what, "create")
    before = stage.get(what)
    stage.kubectl("delete", what)
    stage.wait(what, "create")
    assert stage.get(what)["spec"] == before["spec"]
    stage.apply()
    stage.wait(what, "delete")


def test_kubectl_scale_is_refused_where_an_autoscaler_sets_the_replicas(stage: Stage) -> None:
    stage.apply(autoscaling={"maxReplicas": 4})
    answer = stage.apiserver.kubectl("-n", stage.namespace, "scale", "mcpp/tools", "--replicas=3")
    assert answer.returncode != 0
    assert "replicas and autoscaling exclude each other" in answer.stderr


def test_the_autoscalers_own_state_is_told(stage: Stage, operator: OperatorProcess) -> None:
    stage.apply(autoscaling={"maxReplicas": 4})
    stage.wait(f"{HPA}/tools", "create")
    condition = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetContainerResourceMetric",
        "message": "no metrics",
    }
    status = {"currentReplicas": 0, "desiredReplicas": 0, "conditions": [condition]}
    patch = json.dumps({"status": status})
    stage.kubectl("patch", f"{HPA}/tools", "--subresource=status", "--type=merge", "-p", patch)
    stage.wait("mcpproxy/tools", "condition=Autoscaled=False")


def test_an_approved_catalog_has_a_condition_and_withholding_one_reaches_the_pods(
    stage: Stage, operator: OperatorProcess
) -> None:
    condition = (
        "get",
        "mcpproxy/tools",
        "-o",
        'jsonpath={..conditions[?(@.type=="CatalogDrift")]}',
    )
    mounted = 'jsonpath={.spec.template.spec.volumes[?(@.name=="config")].configMap.name}'
    stage.apply()
    stage.wait("deployment/tools", "create")
    before = stage.kubectl("get", "deployment/tools", "-o", mounted)
    assert stage.kubectl(*condition) == ""
    stage.apply(catalog={"approvedHash": "a" * 64})
    stage.wait("mcpproxy/tools", "condition=CatalogDrift=Unknown")
    assert stage.kubectl("get", "deployment/tools", "-o", mounted) == before, "no pod restarts"
    stage.apply(catalog={"approved": {"tools": {"weather_now": "a" * 64}}, "onDrift": "Withhold"})
    operator.until(
        lambda: stage.kubectl("get", "deployment/tools", "-o", mounted) != before,
        "the approved components are mounted",
    )
    stage.apply()
    operator.until(lambda: stage.kubectl(*condition) == "", "the condition is gone")


def test_a_suspended_proxy_is_left_as_it_is_until_it_goes_on(
    stage: Stage, operator: OperatorProcess
) -> None:
    stage.apply(replicas=1)
    stage.wait("deployment/tools", "create")
    stage.passes_settle(operator)
    before = stage.versions()
    stage.apply(replicas=2, suspend=True)
    stage.wait("mcpproxy/tools", "condition=Suspended")
    stage.kubectl("delete", "service", "tools")
    stage.passes_settle(operator)
    after = stage.versions()
    assert before.pop("Service/tools") is not None
    children = {what for what in before if not what.startswith(("MCPProxy/", "Event/"))}
    assert {what: after[what] for what in children} == {what: before[what] for what in children}
    assert "Service/tools" not in after
    stage.apply(replicas=2)
    stage.wait("service/tools", "create")
    stage.wait("deployment/tools", "jsonpath={.spec.replicas}=2")
