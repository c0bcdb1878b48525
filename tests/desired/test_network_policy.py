"""Peers that may connect to the pods, and to which the pods may connect."""

from collections.abc import Mapping
from typing import Any

import pytest

from mcpproxy import desired
from mcpproxy.api import constants
from mcpproxy.desired import BuildOptions, ServiceName, ServiceTarget, network_policy
from scripts.yaml_files import parse_documents
from tests.packaging.test_manifests import INSTALL
from tests.support.builders import OWNER, a_backend, an_mcpproxy

IN_CLUSTER = BuildOptions(image="runtime:1", version="1", operator_namespace="mcpproxy-system")
OWN = {"podSelector": {"matchLabels": constants.selector_labels("tools")}}
SAME: dict[str, Any] = {"podSelector": {}}
CALENDAR = {"service": {"name": "calendar", "port": 80}}
OFFICE = {"service": {"name": "calendar", "namespace": "office", "port": 80}}
IN_OFFICE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "office"}}}


def policy(
    *backends: dict[str, Any],
    services: Mapping[ServiceName, ServiceTarget] | None = None,
    options: BuildOptions = IN_CLUSTER,
    **network: Any,
) -> dict[str, Any]:
    """The spec of the NetworkPolicy of a proxy with these backends."""
    value = [a_backend(f"b{number}", **fields) for number, fields in enumerate(backends)]
    value = value or [a_backend(stdio={"command": "x"})]
    proxy = an_mcpproxy(networkPolicy=network, backends=value)
    children = desired.build(proxy, options, OWNER, services or {})
    (result,) = [child["spec"] for child in children if child["kind"] == "NetworkPolicy"]
    assert isinstance(result, dict)
    return result


ALONE = policy()["egress"]
"""Egress rules of a proxy without a backend on the network."""


def egress(*backends: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Return the egress rules for these backends."""
    result = policy(*backends, **fields)["egress"]
    assert all(rule in result for rule in ALONE)
    return [rule for rule in result if rule not in ALONE]


def are(result: list[Any], *expected: dict[str, Any]) -> bool:
    """Return True if these are the entries, in any order."""
    return len(result) == len(expected) and all(item in result for item in expected)


def tcp(port: int | str) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"}]


def test_both_directions_are_closed_for_the_pods_of_the_proxy() -> None:
    result = policy()
    assert result["podSelector"] == OWN["podSelector"]
    assert sorted(result["policyTypes"]) == ["Egress", "Ingress"]


def test_the_pods_may_connect_only_to_dns_and_to_each_other() -> None:
    dns, own = sorted(ALONE, key=lambda rule: OWN in rule["to"])
    assert own == {"to": [OWN], "ports": tcp(constants.PORT_HTTP)}
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "TCP"), (53, "UDP")}
    kube_system = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    assert {"namespaceSelector": kube_system} in dns["to"]


def test_clients_are_the_pods_of_the_namespace_unless_others_are_named() -> None:
    (mcp, _) = policy()["ingress"]
    assert mcp["ports"] == tcp(constants.PORT_HTTP)
    assert are(mcp["from"], OWN, SAME)
    named = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    (mcp, _) = policy(clients=[named])["ingress"]
    assert are(mcp["from"], OWN, named)


def test_the_admin_port_is_for_the_operator_and_for_scrapers() -> None:
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mcpproxy-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "mcpproxy-operator"}},
    }
    (_, admin) = policy()["ingress"]
    assert admin == {"from": [operator], "ports": tcp(constants.PORT_ADMIN)}
    prometheus = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    (_, admin) = policy(scrapers=[prometheus])["ingress"]
    assert are(admin["from"], operator, prometheus)


def test_the_operators_pods_are_called_as_the_policy_expects() -> None:
    objects = parse_documents(INSTALL.read_text(encoding="utf-8"))
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels[constants.LABEL_NAME] == constants.OPERATOR


def test_an_operator_outside_of_the_cluster_may_come_from_anywhere() -> None:
    outside = BuildOptions(image="runtime:1", version="1")
    (_, admin) = policy(options=outside)["ingress"]
    assert admin == {"ports": tcp(constants.PORT_ADMIN)}


@pytest.mark.parametrize(
    ("backend", "place"),
    [
        (CALENDAR, {}),
        (OFFICE, IN_OFFICE),
        ({**OFFICE, "tls": {}}, IN_OFFICE),
        ({"url": "http://calendar/mcp"}, {}),
        ({"url": "http://calendar.office.svc/mcp"}, IN_OFFICE),
        ({"url": "http://calendar.office.svc.cluster.local:80/mcp"}, IN_OFFICE),
    ],
)
def test_behind_a_service_its_pods_are_let_through_on_their_own_port(
    backend: dict[str, Any], place: dict[str, Any]
) -> None:
    known = ServiceTarget({"app": "calendar"}, {80: 8080, 81: "other"})
    name = ("office" if place else "team", "calendar")
    pods = {"podSelector": {"matchLabels": {"app": "calendar"}}, **place}
    assert egress(backend, services={name: known}) == [{"to": [pods], "ports": tcp(8080)}]


def test_a_named_port_is_allowed_by_its_name() -> None:
    services = {("team", "calendar"): ServiceTarget({"app": "calendar"}, {80: "http"})}
    (rule,) = egress(CALENDAR, services=services)
    assert rule["ports"] == tcp("http")


def test_behind_a_service_that_cannot_be_read_is_its_whole_namespace() -> None:
    assert egress(CALENDAR) == [{"to": [SAME]}]
    assert egress(OFFICE) == [{"to": [{**SAME, **IN_OFFICE}]}]


def test_a_missing_service_has_no_pods() -> None:
    assert egress(CALENDAR, services={("team", "calendar"): ServiceTarget()}) == []


def test_a_service_without_a_selector_allows_any_address_on_its_port() -> None:
    for ports, port in (({}, 80), ({80: 8443, 81: 1}, 8443), ({80: "http"}, 80)):
        services = {("team", "calendar"): ServiceTarget(None, ports, anywhere=True)}
        assert egress(CALENDAR, services=services) == [{"ports": tcp(port)}]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://weather.example.com/mcp", 443),
        ("http://weather.example.com/mcp", 80),
        ("https://weather.example.com:8443/mcp", 8443),
        ("http://localhost:9000/mcp", 9000),
    ],
)
def test_egress_is_allowed_to_the_port_of_a_backend_with_a_url(url: str, port: int) -> None:
    assert egress({"url": url}) == [{"ports": tcp(port)}]


def test_addresses_of_urls_can_be_limited_and_one_in_the_url_itself_is_enough() -> None:
    blocks = [{"cidr": "203.0.113.0/24"}]
    assert egress({"url": "https://a.example.com/mcp"}, urlAddresses=blocks) == [
        {"to": [{"ipBlock": blocks[0]}], "ports": tcp(443)}
    ]
    for url, cidr in (
        ("http://192.0.2.7/mcp", "192.0.2.7/32"),
        ("http://[::1]/mcp", "::1/128"),
        ("http://[fe80::1%25eth0]/mcp", "fe80::1/128"),
    ):
        expected = [{"to": [{"ipBlock": {"cidr": cidr}}], "ports": tcp(80)}]
        assert egress({"url": url}, urlAddresses=blocks) == expected


def test_other_names_are_forwarded_unchanged() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 5432}]}
    assert egress(egress=[rule]) == [{**rule, "ports": tcp(5432)}]


def test_two_backends_at_one_place_make_one_rule() -> None:
    assert len(egress({"url": "https://a.com/x"}, {"url": "https://b.com/y"})) == 1


def test_services_are_read_only_if_a_policy_needs_them() -> None:
    backends = [a_backend("a", **OFFICE), a_backend("b", url="http://c/mcp"), a_backend("d")]
    assert network_policy.referenced_services(an_mcpproxy(backends=backends)) == set()
    closed = an_mcpproxy(backends=backends, networkPolicy={})
    assert network_policy.referenced_services(closed) == {("office", "calendar"), ("team", "c")}


def test_the_pods_may_read_the_keys_of_issuers() -> None:
    jwt = [
        {"issuer": "https://login.example.com:8443/realms/a"},
        {"issuer": "http://keycloak.sso.svc:8080", "insecureHttp": True},
        {"issuer": "https://a.example", "jwksUrl": "https://192.0.2.7/keys"},
    ]
    proxy = an_mcpproxy(
        networkPolicy={},
        publicUrl="https://mcp.example.com",
        authentication={"jwt": jwt},
        backends=[a_backend(stdio={"command": "x"})],
    )
    assert network_policy.referenced_services(proxy) == {("sso", "keycloak")}
    target = ServiceTarget({"app": "keycloak"}, {8080: "http"})
    children = desired.build(proxy, IN_CLUSTER, OWNER, {("sso", "keycloak"): target})
    (result,) = [child["spec"]["egress"] for child in children if child["kind"] == "NetworkPolicy"]
    sso = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "sso"}}}
    assert are(
        [rule for rule in result if rule not in ALONE],
        {"ports": tcp(8443)},
        {
            "to": [{"podSelector": {"matchLabels": {"app": "keycloak"}}, **sso}],
            "ports": tcp("http"),
        },
        {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": tcp(443)},
    )


@pytest.mark.parametrize(
    "host", [".tenant.svc", "x..svc", "..svc", "x.-y.svc", "X_.y.svc", "a%2fb.y.svc"]
)
def test_a_host_that_names_no_service_leads_to_none(host: str) -> None:
    proxy = an_mcpproxy(networkPolicy={}, backends=[{"name": "a", "url": f"http://{host}/mcp"}])
    assert network_policy.referenced_services(proxy) == set()
