"""An MCP server on port 8080 that serves no host but localhost, as the SDK does by default."""

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("strict", version="1.0.0", log_level="WARNING")

if __name__ == "__main__":
    local = TransportSecuritySettings(allowed_hosts=["localhost:*"], allowed_origins=[])
    app = server.streamable_http_app(transport_security=local)
    uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning", timeout_graceful_shutdown=2)
