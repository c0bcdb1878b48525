"""Ways to serve a server of the library: standard streams and HTTP, in a new event loop."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from mcpproxy import descriptors
from mcpproxy.api.constants import LOOPBACK_HOSTS
from mcpproxy.proxy.embed import Identity, NothingToServe, Runtime


async def serve_stdio(runtime: Runtime, identity: Identity) -> None:
    """Serve one client, who has this identity, on standard streams. Raise NothingToServe."""
    try:
        await runtime.serve_stdio(identity)
    except NothingToServe as error:
        raise NothingToServe(f'{error}. For HTTP: run(transport="http")') from None


async def serve_http(runtime: Runtime) -> None:
    """Serve HTTP; if the task is cancelled, finish the calls in flight first."""
    serving = asyncio.create_task(runtime.serve_http())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        runtime.stop()
        await serving
        raise


def own_hosts(host: str) -> tuple[str, ...]:
    """Return the names and addresses of this machine if it serves other machines."""
    if host in LOOPBACK_HOSTS:
        return ()
    if host not in ("0.0.0.0", "::", ""):
        return (f"[{host}]" if ":" in host else host,)
    own = {socket.gethostname(), socket.getfqdn()}
    try:
        addresses = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        addresses = []
    for family, _, _, _, address in addresses:
        text = str(address[0]).partition("%")[0]
        own.add(f"[{text}]" if family == socket.AF_INET6 else text)
    return tuple(sorted(own))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a new event loop, until it returns."""
    descriptors.reserve()
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
