"""MCP proxies as Kubernetes resources.

Reading order: `api` (the contract), `desired` (MCPProxy → manifests), `reconcile.loop` (the
operator's main path), `handlers` (what wakes it), `proxy.runtime` (what the pods run),
`proxy.library.create` (proxies in Python programs).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpproxy.proxy.library.client import ProxyClient
    from mcpproxy.proxy.library.create import Proxy, create_proxy
    from mcpproxy.proxy.library.mounting import mount
    from mcpproxy.proxy.library.provider import ProxyProvider
    from mcpproxy.proxy.library.server import Server

__all__ = ["Proxy", "ProxyClient", "ProxyProvider", "Server", "create_proxy", "mount"]

_MODULES = {
    "Proxy": "create",
    "ProxyClient": "client",
    "ProxyProvider": "provider",
    "Server": "server",
    "create_proxy": "create",
    "mount": "mounting",
}


def __getattr__(name: str) -> Any:
    """The library's names, loaded when asked for: the operator's image has none of its parts."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mcpproxy.proxy.library.{_MODULES[name]}"), name)
