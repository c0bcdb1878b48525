"""Routes at a real API server, with the kinds of the Gateway API; controllers are played."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import constants
from tests.apiserver.conftest import install_gateway_api
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Object, Stage
from tests.support.builders import a_manifest

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.usefixtures("gateway_api"),
    pytest.mark.timeout(180),
]

URL = "https://mcp.example.com/tools"
GATEWAY = {"name": "public", "namespace": "gateways", "sectionName": "https"}
ROUTE: dict[str, Any] = {"publicUrl": URL, "expose": {"parentRefs": [GATEWAY]}}
INGRESS: dict[str, Any] = {"publicUrl": URL, "expose": {"ingress": {"className": "nginx"}}}
CRD = "crd/httproutes.gateway.networking.k8s.io"
READY = 'jsonpath={..conditions[?(@.type=="Ready")].message}'
EXPOSED = 'jsonpath={..conditions[?(@.type=="Exposed")].message}'


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, gateway_api: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with operating(apiserver.kubeconfig, log=log) as result:
        yield result


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str, operator: OperatorProcess) -> Stage:
    """A namespace that the operator serves."""
    return Stage(apiserver, namespace)


def answer(stage: Stage, accepted: str = "True", resolved: str = "True", **more: Any) -> None:
    """Write what the controller of a Gateway says of the route in its current generation."""
    generation = stage.get("httproute/tools")["metadata"]["generation"]
    conditions = [
        {
            "type": type_,
            "status": status,
            "reason": "Fine" if status == "True" else "NotAllowedByListeners",
            "message": "the listener allows routes of other namespaces",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": generation,
            **more,
        }
        for type_, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    parent = {"parentRef": GATEWAY, "controllerName": "example.com/gateways"}
    stage.patch_status("httproute/tools", parents=[{**parent, "conditions": conditions}])


def message(stage: Stage) -> str:
    """The message of Exposed."""
    return stage.kubectl("get", "mcpproxy/tools", "-o", EXPOSED)


def test_exposed_follows_the_verdict_on_the_newest_route(
    stage: Stage, operator: OperatorProcess
) -> None:
    stage.apply(**ROUTE)
    stage.wait_for("Exposed", "RoutePending")
    assert "Gateway gateways/public, listener https" in message(stage)
    answer(stage, accepted="False")
    stage.wait_for("Exposed", "RouteNotAccepted")
    assert "NotAllowedByListeners" in message(stage)
    answer(stage, resolved="False")
    stage.wait_for("Exposed", "RouteRefsNotResolved")
    answer(stage)
    stage.wait_for("Exposed", "RouteAccepted")
    assert "without spec.authentication" in message(stage)
    # The verdict is on an older generation now.
    stage.apply(**{**ROUTE, "publicUrl": "https://mcp.example.com/other"})
    stage.wait_for("Exposed", "RoutePending")
    answer(stage)
    stage.wait_for("Exposed", "RouteAccepted")
    assert "https://mcp.example.com/other" in message(stage)
    stage.apply()
    stage.wait("httproute/tools", "delete")
    operator.until(lambda: message(stage) == "", "the condition is gone")


def test_exposed_follows_the_address_of_an_ingress(stage: Stage) -> None:
    stage.apply(**INGRESS)
    stage.wait_for("Exposed", "AddressPending")
    stage.patch_status("ingress/tools", loadBalancer={"ingress": [{"ip": "203.0.113.7"}]})
    stage.wait_for("Exposed", "AddressAssigned")
    assert "203.0.113.7" in message(stage)
    stage.apply(**ROUTE)
    stage.wait("ingress/tools", "delete")
    stage.wait_for("Exposed", "RoutePending")


@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com",
        "http://localhost:8080/",
        "https://MCP.Example.com:8443/~team/a..b/v1.2_x-y/",
        f"https://mcp.example.com/{'x' * 253}/{'y' * 253}/{'z' * 253}/{'w' * 114}",
        f"https://{'a.' * 123}example/{'x' * 253}",
    ],
)
@pytest.mark.parametrize("kind", ["httproute", "ingress"])
def test_routes_for_every_permitted_url_are_valid(stage: Stage, kind: str, url: str) -> None:
    spec = ROUTE if kind == "httproute" else INGRESS
    stage.apply(**{**spec, "publicUrl": url})
    stage.wait(f"{kind}/tools", "create")


def test_a_gateway_is_named_as_often_as_it_has_listeners(stage: Stage) -> None:
    refs = [
        {"name": "public", "sectionName": "https"},
        {"name": "public", "sectionName": "internal", "port": 8443},
        {"name": "public", "namespace": "gateways"},
        *({"name": f"gateway-{number}"} for number in range(5)),
    ]
    stage.apply(publicUrl=URL, expose={"parentRefs": refs})
    stage.wait("httproute/tools", "create")
    assert len(stage.get("httproute/tools")["spec"]["parentRefs"]) == len(refs)


def test_an_older_route_for_the_same_url_is_named(stage: Stage, operator: OperatorProcess) -> None:
    manifest = a_manifest("first", stage.namespace, **ROUTE)
    stage.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest))
    stage.wait("httproute/first", "create")
    # Creation times have whole seconds; with the same, the first name counts.
    stage.apply(**ROUTE)
    stage.wait_for("Exposed", "PublicUrlTaken")
    assert "HTTPRoute first" in message(stage)
    first = stage.get("mcpproxy/first")["status"]["conditions"]
    assert "PublicUrlTaken" not in {condition["reason"] for condition in first}


def stranger(stage: Stage, **metadata: Any) -> Object:
    """A route of the name that ours would have, applied by another manager."""
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "tools", **metadata},
        "spec": {"parentRefs": [{"name": "theirs"}], "hostnames": ["theirs.example.com"]},
    }
    stage.kubectl(
        "apply", "--server-side", "--field-manager=them", "-f", "-", input=json.dumps(route)
    )
    return stage.get("httproute/tools")


@pytest.mark.parametrize("labels", [{}, constants.child_labels("tools")], ids=["plain", "labelled"])
def test_a_route_of_a_stranger_is_neither_changed_nor_deleted(
    stage: Stage, labels: dict[str, str], operator: OperatorProcess
) -> None:
    theirs = stranger(stage, labels=labels)
    stage.apply(**ROUTE)
    stage.wait_for_report("NotOwned")
    assert "HTTPRoute tools already exists" in stage.kubectl("get", "mcpproxy/tools", "-o", READY)
    stage.wait_for("Exposed", "RoutePending")
    stage.apply()
    stage.wait("deployment/tools", "create")
    stage.passes_settle(operator)
    assert stage.get("httproute/tools") == theirs


def test_a_route_that_an_earlier_mcpproxy_left_behind_is_adopted(stage: Stage) -> None:
    stage.apply(**ROUTE)
    stage.wait("httproute/tools", "create")
    uid = stage.get("httproute/tools")["metadata"]["uid"]
    # As kubectl delete --cascade=orphan leaves it.
    orphan = json.dumps({"metadata": {"ownerReferences": None}})
    stage.kubectl("patch", "httproute/tools", "--type=merge", "-p", orphan)
    parent = stage.get("mcpproxy/tools")["metadata"]["uid"]
    stage.wait("httproute/tools", f"jsonpath={{.metadata.ownerReferences[0].uid}}={parent}")
    assert stage.get("httproute/tools")["metadata"]["uid"] == uid


def test_an_edited_route_is_reverted(stage: Stage) -> None:
    stage.apply(**ROUTE)
    stage.wait("httproute/tools", "create")
    patch = json.dumps({"spec": {"hostnames": ["attacker.example.com"]}})
    stage.kubectl("patch", "httproute/tools", "--type=merge", "-p", patch)
    stage.wait("httproute/tools", "jsonpath={.spec.hostnames[0]}=mcp.example.com")


def test_the_gateway_api_may_be_removed_and_installed_while_it_is_in_use(
    stage: Stage, apiserver: ApiServer, operator: OperatorProcess
) -> None:
    stage.apply(**ROUTE)
    stage.wait("httproute/tools", "create")
    answer(stage)
    stage.wait_for("Exposed", "RouteAccepted")
    try:
        stage.kubectl("delete", CRD, "--wait=true")
        stage.wait_for("Exposed", "KindNotInstalled")
        assert "install the Gateway API" in message(stage)
        stage.wait("deployment/tools", "create")
    finally:
        install_gateway_api(apiserver)
    stage.kubectl("label", "mcpproxy/tools", "again=1")
    operator.until(lambda: stage.find("httproute/tools") is not None, "the route is there again")
    answer(stage)
    operator.until(lambda: "serves" in message(stage), "the watch delivers the verdict", 5)
    answer(stage, accepted="False")
    stage.wait_for("Exposed", "RouteNotAccepted")


def test_a_gateway_api_that_is_installed_later_is_watched_at_once(
    apiserver: ApiServer, namespace: str, gateway_api: None, tmp_path: Path
) -> None:
    stage, log = Stage(apiserver, namespace), tmp_path / "log"
    stage.kubectl("delete", CRD, "--wait=true")
    try:
        with operating(apiserver.kubeconfig, "--resync-interval=2s", log=log) as operator:
            stage.apply(**ROUTE)
            stage.wait_for("Exposed", "KindNotInstalled")
            install_gateway_api(apiserver)
            operator.until(lambda: "starting again" in log.read_text(), "the kind is noticed")
            operator.until(lambda: stage.find("httproute/tools") is not None, "a route", 2)
            answer(stage)
            stage.wait_for("Exposed", "RouteAccepted")
    finally:
        install_gateway_api(apiserver)
