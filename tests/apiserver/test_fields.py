"""Every field that the operator heeds: changing it changes what runs, at a real API server."""

import json
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from mcpproxy.api.constants import CONFIG_FILE
from mcpproxy.cluster.resources import HTTP_ROUTE, ResourceKind
from scripts.yaml_files import parse_documents
from tests.apiserver.changes import CHANGES, HPA, NETWORK, ROUTE
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Object, Stage
from tests.fields.schema import leaves
from tests.samples.test_samples import SAMPLES, used
from tests.support.builders import a_backend
from tests.support.on_demand import ASKED

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
        operating(apiserver.kubeconfig, log=log) as result,
    ):
        yield result
        assert '"level": "error"' not in log.read_text()


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str, operator: OperatorProcess) -> Stage:
    """A namespace that the operator serves."""
    return Stage(apiserver, namespace)


def test_every_change_has_a_unique_name() -> None:
    names = [name for name, *_ in CHANGES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("before", "after", "child", "path", "value"),
    [pytest.param(*change, id=name) for name, *change in CHANGES],
)
def test_a_changed_field_changes_the_pods(
    stage: Stage,
    operator: OperatorProcess,
    before: dict[str, Any],
    after: dict[str, Any],
    child: str,
    path: str,
    value: str,
    request: pytest.FixtureRequest,
) -> None:
    if child == ROUTE:
        request.getfixturevalue("gateway_api")
    result = ("get", f"{child}/tools", "--ignore-not-found", "-o", f"jsonpath={path}")
    stage.apply(**before)
    stage.wait("deployment/tools", "create")
    assert stage.kubectl(*result) != value
    stage.apply(**after)
    operator.until(lambda: stage.kubectl(*result) == value, f"{path} is {value!r}")


def sample(name: str) -> Any:
    """The spec of a sample."""
    text = (SAMPLES / f"{name}.yaml").read_text("utf-8")
    return next(document for document in parse_documents(text) if document["kind"] == "MCPProxy")[
        "spec"
    ]


def lacks(live: Any, value: Any, path: str = "") -> list[str]:
    """Return the parts of a manifest that are absent from `live`; the order of lists is ignored."""
    if isinstance(value, dict):
        if not isinstance(live, dict):
            return [path]
        return [
            m for key, item in value.items() for m in lacks(live.get(key), item, f"{path}.{key}")
        ]
    if isinstance(value, list):
        result = live or []
        return [f"{path}[]" for entry in value if all(lacks(each, entry) for each in result)]
    return [] if live == value else [path]


def below(top: str, spec: Object) -> set[str]:
    """The fields below one that a spec does not use."""
    return {path for path in leaves() if path.startswith(f"{top}.")} - set(used(spec))


def test_every_field_that_places_pods_is_theirs_as_it_is(stage: Stage) -> None:
    spec = sample("placement")
    assert below(".podTemplate", spec) == set()
    pod_template = dict(spec["podTemplate"])
    stage.apply(podTemplate=pod_template)
    stage.wait("deployment/tools", "create")
    live = stage.get("deployment/tools")["spec"]["template"]
    metadata = {name: pod_template.pop(name) for name in ("labels", "annotations")}
    assert lacks(live, {"metadata": metadata, "spec": pod_template}) == []


def test_every_field_of_the_doors_is_in_the_policy_as_it_is(stage: Stage) -> None:
    spec = sample("network-policy")
    assert below(".networkPolicy", spec) == set()
    network_policy = spec["networkPolicy"]
    stage.apply(networkPolicy=network_policy)
    stage.wait(f"{NETWORK}/tools", "create")
    live = stage.get(f"{NETWORK}/tools")["spec"]
    to_urls = {"to": [{"ipBlock": block} for block in network_policy["urlAddresses"]]}
    for wanted in (
        {"ingress": [{"from": network_policy["clients"]}, {"from": network_policy["scrapers"]}]},
        {"egress": [*network_policy["egress"], to_urls]},
    ):
        assert lacks(live, wanted) == []


def configuration(stage: Stage) -> str:
    """Return the configuration that the pods mount."""
    return str(stage.get(f"configmap/{stage.config_map()}")["data"][CONFIG_FILE])


def test_an_optional_backend_that_fails_leaves_a_proxy_ready(
    stage: Stage, operator: OperatorProcess
) -> None:
    with stage.pod() as pod:
        for optional in (False, True):
            stage.apply(backends=[a_backend(), a_backend("other", optional=optional)])
            stage.wait("deployment/tools", "create")
            mounted = json.dumps({"optional": optional}).strip("{}")
            operator.until(lambda text=mounted: text in configuration(stage), mounted)  # type: ignore[misc]
            pod.say(stage.report(weather="Healthy", other="Unhealthy"))
            stage.roll_out(f"tools-{optional}".lower(), pod.address)
            stage.wait("mcpproxy/tools", f"condition=Ready={optional}")


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.name)
def test_an_optional_child_is_restored_and_is_deleted_with_its_field(
    stage: Stage, kind: ResourceKind, request: pytest.FixtureRequest
) -> None:
    if kind == HTTP_ROUTE:
        request.getfixturevalue("gateway_api")
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
    assert "replicas and autoscaling are mutually exclusive" in answer.stderr


def test_the_state_of_the_autoscaler_is_reported(stage: Stage, operator: OperatorProcess) -> None:
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


def test_a_suspended_proxy_is_left_unchanged_until_it_continues(
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


def test_weaker_authentication_is_accepted_only_if_a_field_states_it(stage: Stage) -> None:
    issuer = {"issuer": "http://keycloak.sso.svc"}
    weak: dict[str, Any] = {
        "publicUrl": "https://mcp.example.com",
        "authentication": {"jwt": [{**issuer, "insecureHttp": True}]},
        "backends": [a_backend(forwardHeaders=["Authorization"], auth={"passthrough": True})],
    }
    stage.apply(**weak)
    silent: dict[str, dict[str, Any]] = {
        "insecureHttp": {**weak, "authentication": {"jwt": [issuer]}},
        "passthrough": {**weak, "backends": [a_backend(forwardHeaders=["Authorization"])]},
    }
    for field, spec in silent.items():
        with pytest.raises(AssertionError, match=field):
            stage.apply(**spec)
