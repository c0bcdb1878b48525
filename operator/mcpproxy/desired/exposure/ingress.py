"""The Ingress that leads to the Service."""

from typing import Final

from mcpproxy.api import defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.exposure.public_paths import public_paths
from mcpproxy.desired.types import Manifest, OwnerRef, canonical_order, metadata

NGINX: Final = {
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
    "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
}
"""Annotations without which ingress-nginx ends calls after a minute. The name of a class does not
tell its controller; other controllers ignore them."""


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the Ingress; None unless the spec requests one."""
    ingress = proxy.spec.expose.ingress if proxy.spec.expose else None
    if ingress is None:
        return None
    public = public_paths(proxy.spec)
    meta = metadata(proxy, owner, proxy.metadata.name)
    meta["annotations"] = canonical_order({**NGINX, **(ingress.annotations or {})})
    port = {"number": defaults.service_port(proxy.spec)}
    backend = {"service": {"name": proxy.metadata.name, "port": port}}
    paths = [
        {"path": path, "pathType": "Exact", "backend": backend}
        for path in (*public.endpoint, *public.metadata)
    ]
    spec: Manifest = {"rules": [{"host": public.host, "http": {"paths": paths}}]}
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [public.host], "secretName": ingress.tls_secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta,
        "spec": spec,
    }
