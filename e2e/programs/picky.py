"""An MCP server on port 8080 that tells what it was called with, if it likes it. Runs in a pod.

It takes the tokens that the file ACCEPTED lists, or any while there is none.
"""

from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ACCEPTED = Path("/tmp/accepted")
TOLD = ("x-token", "x-tenant", "mcp-session-id")

server = MCPServer("picky", version="1.0.0", log_level="WARNING")


@server.tool()
def tell(ctx: Context[None]) -> str:
    """The values of the headers X-Token, X-Tenant and Mcp-Session-Id; - where there is none."""
    return " ".join(dict(ctx.headers or {}).get(name, "-") for name in TOLD)


class Guard:
    """Answers every request with another token with HTTP 401."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ACCEPTED.exists():
            token = dict(scope["headers"]).get(b"x-token", b"").decode()
            if token not in ACCEPTED.read_text("utf-8").split():
                await PlainTextResponse("who?", 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


if __name__ == "__main__":
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = Guard(server.streamable_http_app(transport_security=unchecked))
    uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning", timeout_graceful_shutdown=2)
