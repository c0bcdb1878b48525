"""The HTTPRoute that attaches the Service to Gateways."""

from collections.abc import Iterable
from typing import Final

from mcpproxy.api import defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.exposure.public_paths import public_paths
from mcpproxy.desired.types import Manifest, OwnerRef, canonical_order, metadata

_NO_TIMEOUT: Final = "0s"
# Defaults of the API, which are stored as if they had been applied: these lists are atomic.
_GATEWAY: Final = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
_SERVICE: Final[Manifest] = {"group": "", "kind": "Service", "weight": 1}


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the HTTPRoute; None unless the spec requests one."""
    refs = proxy.spec.expose.parent_refs if proxy.spec.expose else None
    if refs is None:
        return None
    public = public_paths(proxy.spec)
    # A stream stays open for as long as the client wants, and timeouts.request bounds calls.
    endpoint = {**_rule(proxy, public.endpoint), "timeouts": {"request": _NO_TIMEOUT}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(proxy, owner, proxy.metadata.name),
        "spec": {
            "parentRefs": canonical_order([{**_GATEWAY, **ref.to_manifest()} for ref in refs]),
            "hostnames": [public.host],
            "rules": [endpoint, _rule(proxy, public.metadata)],
        },
    }


def _rule(proxy: MCPProxy, paths: Iterable[str]) -> Manifest:
    service = {
        **_SERVICE,
        "name": proxy.metadata.name,
        "port": defaults.service_port(proxy.spec),
    }
    return {
        "matches": [{"path": {"type": "Exact", "value": path}} for path in paths],
        "backendRefs": [service],
    }
