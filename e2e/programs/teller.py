"""A stateless MCP server on port 8080 that tells what it was called with. Runs in a pod."""

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("teller", version="1.0.0", log_level="WARNING")


@server.tool()
def tell(ctx: Context[None]) -> str:
    """The value of the header X-Token."""
    return dict(ctx.headers or {}).get("x-token", "")


if __name__ == "__main__":
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=unchecked)
    uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning", timeout_graceful_shutdown=2)
