"""A real MCP handshake and list through our own front: what readiness means."""

from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import settings
from mcpproxy.api.v1alpha1 import Backend, MCPProxySpec
from mcpproxy.proxy.back.client import HttpClient
from mcpproxy.proxy.back.endpoint import Endpoint
from mcpproxy.proxy.back.link import Background, Outgoing
from mcpproxy.proxy.back.opener import HttpOpener
from mcpproxy.proxy.core.eras import stamped
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import Client, Discarding
from mcpproxy.proxy.wire.jsonrpc import UNAVAILABLE, RpcError, error_of
from mcpproxy.proxy.wire.revisions import LATEST_MODERN

ANYWHERE: Final = ("0.0.0.0", "::", "")
"""Hosts to serve on that are no address to connect to."""
_NAME: Final = b"mcpproxy-readiness"


async def handshake(
    host: str, port: int, path: str, principal_header: str | None = None
) -> str | None:
    """Discover and list tools at this address; None, or why that failed.

    `principal_header` is the header without which the front refuses requests.
    """
    address = f"127.0.0.1:{port}" if host in ANYWHERE else f"{host}:{port}"
    spec = Backend.model_validate({"name": "self", "url": f"http://localhost:{port}{path}"})
    given = settings(MCPProxySpec(backends=[spec]), spec)
    background = Background()
    client = HttpClient(spec.url or "", given.deadlines.connect, None, {"localhost": address})
    named = () if principal_header is None else ((principal_header.lower().encode(), _NAME),)
    opener = HttpOpener(Endpoint(client, lambda: named), given, background)
    asker = Client(LATEST_MODERN, info=b'{"name":"%b","version":"1"}' % _NAME)
    try:
        link = await opener.open(asker)
        params = stamped(None, asker, link.greeting.revision, None)
        answer = await link.request(
            Outgoing(Raw(b'"list"'), "tools/list", params), Discarding(asker)
        )
        error = error_of(answer)
        if error is None or error.code == UNAVAILABLE:
            # Where all backends have failed, the list is an error that says so.
            return None
        return f"tools/list ends with error {error.code}"
    except (BackendError, RpcError) as error:
        return f"the handshake failed: {error}"
    finally:
        await opener.close()
        await background.close()
