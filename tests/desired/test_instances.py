"""Pods that work together find each other by a headless Service of their own."""

from typing import Any

import pytest

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.desired import Manifest
from tests.support.builders import OPTIONS, OWNER, a_manifest

CALLS = [{"name": "each", "calls": 600, "window": "1m"}]
VALKEY = {"valkey": {"address": "valkey.limits.svc:6379"}}


def _children(name: str = "tools", **spec: Any) -> dict[tuple[str, str], Manifest]:
    proxy = manifest.parse(a_manifest(name, **spec))
    built = desired.build(proxy, OPTIONS, OWNER)
    return {(child["kind"], child["metadata"]["name"]): child for child in built}


def _arguments(children: dict[tuple[str, str], Manifest], name: str = "tools") -> list[str]:
    (container,) = children["Deployment", name]["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def test_pods_that_count_together_have_a_service_with_all_their_addresses() -> None:
    for shared in ({}, {"shared": {"mode": "Owner"}}):
        children = _children(limits={"rules": CALLS, **shared})
        service = children["Service", "tools-instances"]["spec"]
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"] is True
        assert service["selector"] == constants.selector_labels("tools")
        arguments = _arguments(children)
        where = arguments.index("--instances")
        assert arguments[where + 1] == "tools-instances.team.svc:8080"


def test_other_pods_have_no_such_service() -> None:
    specs: list[dict[str, Any]] = [
        {},
        {"limits": {"rules": [{"name": "each", "inFlight": 5}]}},
        {"limits": {"rules": CALLS, "shared": {"mode": "None"}}},
        {"limits": {"rules": CALLS, "shared": VALKEY}},
    ]
    for spec in specs:
        children = _children(**spec)
        assert [name for kind, name in children if kind == "Service"] == ["tools"]
        assert "--instances" not in _arguments(children)


@pytest.mark.parametrize(
    ("spec", "has_service"),
    [
        ({"replicas": 3}, False),
        ({"replicas": 4}, True),
        ({"autoscaling": {"maxReplicas": 3}}, False),
        ({"autoscaling": {"maxReplicas": 4}}, True),
        ({"replicas": 4, "backends": [{"name": "p", "stdio": {"command": "x"}}]}, False),
    ],
)
def test_more_than_three_pods_find_each_other_without_a_change_of_the_pods(
    spec: dict[str, Any], has_service: bool
) -> None:
    children = _children(**spec)
    assert (("Service", "tools-instances") in children) is has_service
    assert "--instances" not in _arguments(children)


def test_the_name_of_the_service_fits_whatever_the_name_of_the_proxy() -> None:
    names = {constants.instances_service_name("a" * length) for length in (5, 53, 54, 62, 63)}
    assert len(names) == 5
    assert all(constants.is_dns_label(name) for name in names)


def test_a_network_policy_admits_the_store() -> None:
    children = _children(networkPolicy={}, limits={"rules": CALLS, "shared": VALKEY})
    egress = children["NetworkPolicy", "tools"]["spec"]["egress"]
    assert any("limits" in str(rule) for rule in egress)


def test_the_password_of_the_store_is_mounted() -> None:
    source = {"secretKeyRef": {"name": "valkey", "key": "password"}}
    valkey = {**VALKEY["valkey"], "passwordFrom": source}
    children = _children(limits={"rules": CALLS, "shared": {"valkey": valkey}})
    volumes = children["Deployment", "tools"]["spec"]["template"]["spec"]["volumes"]
    (values,) = (volume for volume in volumes if volume["name"] == "values")
    (projected,) = values["projected"]["sources"]
    assert projected["secret"]["name"] == "valkey"
