"""The routes that lead from publicUrl to the Service."""

from typing import Any

import pytest

from mcpproxy import desired
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy

GATEWAY = [{"name": "public", "namespace": "gateways", "sectionName": "https", "port": 443}]
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def child(kind: str, url: str, expose: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The child of this kind of a proxy that is exposed."""
    proxy = an_mcpproxy(publicUrl=url, expose=expose, **spec)
    (result,) = [item for item in desired.build(proxy, OPTIONS, OWNER) if item["kind"] == kind]
    return result


def route(url: str, **spec: Any) -> dict[str, Any]:
    """The spec of the HTTPRoute."""
    result: dict[str, Any] = child("HTTPRoute", url, {"parentRefs": GATEWAY}, **spec)["spec"]
    return result


def ingress(url: str = "https://mcp.example.com/tools", **fields: Any) -> dict[str, Any]:
    """The Ingress."""
    return child("Ingress", url, {"ingress": fields})


def routed(result: dict[str, Any]) -> list[list[str]]:
    """The paths of each rule of an HTTPRoute, which must all be exact."""
    matches = [[match["path"] for match in rule["matches"]] for rule in result["rules"]]
    assert {path["type"] for paths in matches for path in paths} == {"Exact"}
    return [[path["value"] for path in paths] for paths in matches]


def test_a_route_has_the_host_the_endpoint_and_the_metadata_of_the_public_url() -> None:
    result = route("https://MCP.Example.com:8443/team/tools/")
    assert result["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", **GATEWAY[0]}
    ]
    assert result["hostnames"] == ["mcp.example.com"]
    assert routed(result) == [
        ["/team/tools", "/team/tools/"],
        [f"{WELL_KNOWN}/team/tools", f"/team/tools{WELL_KNOWN}"],
    ]


@pytest.mark.parametrize("url", ["https://mcp.example.com", "https://mcp.example.com/"])
def test_a_route_without_a_path_leads_to_the_root(url: str) -> None:
    assert routed(route(url)) == [["/"], [WELL_KNOWN]]


def test_a_stream_has_no_timeout_and_requests_reach_the_port_of_the_service() -> None:
    endpoint, metadata = route("https://mcp.example.com/tools", service={"port": 8080})["rules"]
    assert endpoint["timeouts"] == {"request": "0s"}
    assert "timeouts" not in metadata
    for rule in (endpoint, metadata):
        service = {"group": "", "kind": "Service", "name": "tools", "port": 8080, "weight": 1}
        assert rule["backendRefs"] == [service]


def test_an_ingress_has_the_same_paths_and_the_certificate() -> None:
    spec = ingress(className="nginx", tlsSecretName="mcp-tls")["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["mcp.example.com"], "secretName": "mcp-tls"}]
    (rule,) = spec["rules"]
    assert rule["host"] == "mcp.example.com"
    paths = rule["http"]["paths"]
    assert {path["pathType"] for path in paths} == {"Exact"}
    assert [path["path"] for path in paths] == [
        path for rule in routed(route("https://mcp.example.com/tools")) for path in rule
    ]
    services = [path["backend"]["service"] for path in paths]
    assert all(service == {"name": "tools", "port": {"number": 80}} for service in services)


def test_an_ingress_without_fields_is_of_the_default_class() -> None:
    assert ingress()["spec"].keys() == {"rules"}


def test_annotations_of_the_spec_replace_those_for_ingress_nginx() -> None:
    timeout = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    assert ingress()["metadata"]["annotations"][timeout] == "3600"
    result = ingress(annotations={timeout: "60", "a": "b"})["metadata"]["annotations"]
    assert result[timeout] == "60"
    assert result["a"] == "b"
    assert result["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


def test_a_public_url_alone_creates_no_route() -> None:
    children = desired.build(an_mcpproxy(publicUrl="https://mcp.example.com"), OPTIONS, OWNER)
    assert {"HTTPRoute", "Ingress"}.isdisjoint(item["kind"] for item in children)
