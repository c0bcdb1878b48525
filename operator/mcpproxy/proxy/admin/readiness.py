"""Readiness check: an MCP handshake and list through the proxy's own endpoint."""

from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import default_settings
from mcpproxy.proxy.config.options import ANYWHERE
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, RpcError, error_of
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.connect.http_connector import HttpConnector
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest

_NAME: Final = b"mcpproxy-readiness"


async def check_endpoint(
    host: str, port: int, path: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> str | None:
    """Discover and list tools at this address; return the reason of a failure, or None.

    `headers` are those that the endpoint requires.
    """
    address = f"127.0.0.1:{port}" if host in ANYWHERE else f"{host}:{port}"
    settings = default_settings()
    background = TaskSet()
    url = f"http://localhost:{port}{path}"
    client = HttpClient(url, settings.deadlines.connect, None, {"localhost": address})
    connector = HttpConnector(McpHttpClient(client, lambda: headers), settings, background)
    client_identity = ClientIdentity(LATEST_MODERN, info=b'{"name":"%b","version":"1"}' % _NAME)
    try:
        session = await connector.open(client_identity)
        params = add_client_meta(None, client_identity, session.server.revision, None)
        answer = await session.request(
            UpstreamRequest(Raw(b'"list"'), "tools/list", params), NullContext(client_identity)
        )
        error = error_of(answer)
        if error is None or error.code == UNAVAILABLE:
            # If all backends failed, the list is an error with this code.
            return None
        return f"tools/list ends with error {error.code}"
    except (BackendError, RpcError) as error:
        return f"the handshake failed: {error}"
    finally:
        await connector.close()
        await background.close()
