"""MCP proxies as Kubernetes resources, and in Python programs.

In a program, create a proxy and serve it (docs/library.md):

    from mcpproxy import create_proxy

    create_proxy("https://weather.example.com/mcp").run(transport="http")

Reading order of the source: `api` (the contract), `desired` (MCPProxy → manifests),
`reconcile.reconciler` (the operator's main path), `controller` (its triggers), `proxy.runtime` (the
program in the pods), `library.create` (proxies in Python programs).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpproxy.library.access import Identity
    from mcpproxy.library.client import ProxyClient
    from mcpproxy.library.create import Proxy, create_proxy
    from mcpproxy.library.mount import mount
    from mcpproxy.library.provider import ProxyProvider
    from mcpproxy.library.server import Server

__all__ = ["Identity", "Proxy", "ProxyClient", "ProxyProvider", "Server", "create_proxy", "mount"]

_MODULES = {
    "Identity": "access",
    "Proxy": "create",
    "ProxyClient": "client",
    "ProxyProvider": "provider",
    "Server": "server",
    "create_proxy": "create",
    "mount": "mount",
}


def __getattr__(name: str) -> Any:
    """Return a name of the library. It is loaded on demand, because the operator's image lacks
    it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mcpproxy.library.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the names of the library, without loading it."""
    return __all__
