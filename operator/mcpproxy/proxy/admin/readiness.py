"""A real MCP handshake and list through our own front: what readiness means."""

from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import effective_settings
from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxySpec
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, RpcError, error_of
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.connect.negotiation import HttpConnector
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest

ANYWHERE: Final = ("0.0.0.0", "::", "")
"""Hosts to serve on that are no address to connect to."""
_NAME: Final = b"mcpproxy-readiness"


async def check_endpoint(
    host: str, port: int, path: str, principal_header: str | None = None
) -> str | None:
    """Discover and list tools at this address; None, or why that failed.

    `principal_header` is the header without which the front refuses requests.
    """
    address = f"127.0.0.1:{port}" if host in ANYWHERE else f"{host}:{port}"
    spec = BackendSpec.model_validate({"name": "self", "url": f"http://localhost:{port}{path}"})
    given = effective_settings(MCPProxySpec(backends=[spec]), spec)
    background = TaskSet()
    client = HttpClient(spec.url or "", given.deadlines.connect, None, {"localhost": address})
    named = () if principal_header is None else ((principal_header.lower().encode(), _NAME),)
    opener = HttpConnector(McpHttpClient(client, lambda: named), given, background)
    asker = ClientIdentity(LATEST_MODERN, info=b'{"name":"%b","version":"1"}' % _NAME)
    try:
        link = await opener.open(asker)
        params = add_client_meta(None, asker, link.greeting.revision, None)
        answer = await link.request(
            UpstreamRequest(Raw(b'"list"'), "tools/list", params), NullContext(asker)
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
