"""The NetworkPolicy of the pods: it admits only clients, the operator and the backends."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.v1alpha1.backend import BackendSpec
from mcpproxy.api.v1alpha1.pods.network_policy import NetworkPolicySpec
from mcpproxy.desired.types import (
    BuildOptions,
    Manifest,
    OwnerRef,
    ServiceName,
    ServiceTarget,
    canonical_order,
    metadata,
)

_NAMESPACE: Final = "kubernetes.io/metadata.name"
_DNS_NAMESPACE: Final = "kube-system"
_NODE_LOCAL_DNS: Final = "169.254.20.10/32"
_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Services = Mapping[ServiceName, ServiceTarget]


def build(
    proxy: MCPProxy, options: BuildOptions, owner: OwnerRef, services: Services
) -> Manifest | None:
    """Return the policy; None unless the spec requests one.

    `services` has the targets of the backends' Services, because a policy can't name Services. If a
    Service is not in it, its whole namespace is allowed.
    """
    policy = proxy.spec.network_policy
    if policy is None:
        return None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "spec": {
            "podSelector": {"matchLabels": constants.selector_labels(proxy.metadata.name)},
            "policyTypes": ["Egress", "Ingress"],
            "ingress": _ingress(proxy, policy, options),
            "egress": _distinct(_egress(proxy, policy, services)),
        },
    }


def referenced_services(proxy: MCPProxy) -> set[ServiceName]:
    """Return the Services whose targets the policy needs; none if the spec requests no policy."""
    if proxy.spec.network_policy is None:
        return set()
    services = [_service_of(proxy, backend) for backend in proxy.spec.backends]
    services += [_service_at(proxy, url) for url in (*_helpers(proxy), *_issuers(proxy))]
    return {(namespace, name) for namespace, name, _ in filter(None, services)}


def _helpers(proxy: MCPProxy) -> list[str]:
    """Return the URLs of the collectors, of the service for decisions and of the store."""
    monitoring, authorization = proxy.spec.monitoring, proxy.spec.authorization
    urls = [monitoring.tracing.endpoint] if monitoring and monitoring.tracing else []
    if proxy.spec.audit is not None and proxy.spec.audit.otlp is not None:
        urls.append(proxy.spec.audit.otlp.endpoint)
    if authorization is not None and authorization.external is not None:
        urls.append(authorization.external.url)
    limits = proxy.spec.limits
    if limits is not None and limits.shared is not None and limits.shared.valkey is not None:
        # Only the host and the port matter here.
        urls.append(f"http://{limits.shared.valkey.address}")
    return urls


def _issuers(proxy: MCPProxy) -> list[str]:
    """Return the URLs from which the keys of tokens are read, and tokens for backends come."""
    authentication = proxy.spec.authentication
    entries = (authentication.jwt if authentication else None) or []
    auths = (backend.auth for backend in proxy.spec.backends if backend.auth)
    urls = (client.token_url or client.issuer for auth in auths for client in auth.clients)
    return [*(entry.jwks_url or entry.issuer for entry in entries), *filter(None, urls)]


def _ingress(proxy: MCPProxy, policy: NetworkPolicySpec, options: BuildOptions) -> list[Manifest]:
    clients = [peer.to_manifest() for peer in policy.clients or []] or [{"podSelector": {}}]
    # Pods forward requests to each other.
    own = {"podSelector": {"matchLabels": constants.selector_labels(proxy.metadata.name)}}
    scrapers = [peer.to_manifest() for peer in policy.scrapers or []]
    admin: Manifest = {"ports": [_port(constants.PORT_ADMIN)]}
    if options.operator_namespace is not None:
        admin["from"] = _distinct([_operator(options.operator_namespace), *scrapers])
    # Through the API server, the operator has no known source address.
    return [{"ports": [_port(constants.PORT_HTTP)], "from": _distinct([own, *clients])}, admin]


def _operator(namespace: str) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}},
        "podSelector": {"matchLabels": {constants.LABEL_NAME: constants.OPERATOR}},
    }


def _egress(proxy: MCPProxy, policy: NetworkPolicySpec, services: Services) -> Iterator[Manifest]:
    dns = {"namespaceSelector": {"matchLabels": {_NAMESPACE: _DNS_NAMESPACE}}}
    yield {
        "to": [dns, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}],
        "ports": [_port(53, "UDP"), _port(53)],
    }
    own = {"podSelector": {"matchLabels": constants.selector_labels(proxy.metadata.name)}}
    yield {"to": [own], "ports": [_port(constants.PORT_HTTP)]}
    for backend in proxy.spec.backends:
        service = _service_of(proxy, backend)
        if service is not None:
            yield from _to_service(proxy, *service, services)
        elif backend.url is not None:
            yield _to_url(backend.url, policy)
    for url in (*_helpers(proxy), *_issuers(proxy)):
        service = _service_at(proxy, url)
        yield from (
            [_to_url(url, policy)] if service is None else _to_service(proxy, *service, services)
        )
    for rule in policy.egress or []:
        yield _with_protocols(rule.to_manifest())


def _service_of(proxy: MCPProxy, backend: BackendSpec) -> tuple[str, str, int] | None:
    """Return the namespace, name and port of a backend's Service, also if a URL names it."""
    own = proxy.metadata.namespace or "default"
    if backend.service is not None:
        return backend.service.namespace or own, backend.service.name, backend.service.port
    return None if backend.url is None else _service_at(proxy, backend.url)


def _service_at(proxy: MCPProxy, address: str) -> tuple[str, str, int] | None:
    own, url = proxy.metadata.namespace or "default", urlsplit(address)
    host, port = (url.hostname or "").rstrip("."), url.port or _DEFAULT_PORTS[url.scheme.lower()]
    match host.split("."):
        case [name] if constants.is_dns_label(name) and name != "localhost":
            return own, name, port
        case [name, namespace, "svc", *_] if _are_names(name, namespace):
            return namespace, name, port
    return None


def _are_names(*names: str) -> bool:
    """Return True if all of these can be names of Services and namespaces (RFC 1123 labels)."""
    return all(re.fullmatch(_LABEL, name) is not None for name in names)


def _to_service(
    proxy: MCPProxy, namespace: str, name: str, port: int, services: Services
) -> Iterator[Manifest]:
    known = services.get((namespace, name))
    if known is None:
        yield {"to": [_pods({}, proxy, namespace)]}
    elif known.anywhere:
        # Policies apply to the port after the translation by the Service.
        target = known.ports.get(port, port)
        yield {"ports": [_port(target if isinstance(target, int) else port)]}
    elif known.selector and port in known.ports:
        yield {
            "to": [_pods(dict(known.selector), proxy, namespace)],
            "ports": [_port(known.ports[port])],
        }


def _pods(labels: dict[str, str], proxy: MCPProxy, namespace: str) -> Manifest:
    peer: Manifest = {"podSelector": {"matchLabels": labels} if labels else {}}
    if namespace != proxy.metadata.namespace:
        peer["namespaceSelector"] = {"matchLabels": {_NAMESPACE: namespace}}
    return peer


def _to_url(url: str, policy: NetworkPolicySpec) -> Manifest:
    parts = urlsplit(url)
    ports = [_port(parts.port or _DEFAULT_PORTS[parts.scheme.lower()])]
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        blocks = [{"ipBlock": block.to_manifest()} for block in policy.url_addresses or []]
        return {"to": blocks, "ports": ports} if blocks else {"ports": ports}
    # Policies accept no zones, such as %eth0.
    cidr = f"{type(address)(int(address))}/{address.max_prefixlen}"
    return {"to": [{"ipBlock": {"cidr": cidr}}], "ports": ports}


def _port(port: int | str, protocol: str = "TCP") -> Manifest:
    return {"port": port, "protocol": protocol}


def _with_protocols(rule: Manifest) -> Manifest:
    ports = [_port(**port) for port in rule.get("ports", [])]
    return {**rule, "ports": ports} if ports else rule


def _distinct(entries: Any) -> list[Manifest]:
    """Return the distinct entries in a stable order."""
    once: list[Manifest] = []
    for entry in canonical_order(list(entries)):
        if entry not in once:
            once.append(entry)
    return once
