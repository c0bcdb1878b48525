"""A counter for each session: legacy protocol only, stateful, over Streamable HTTP.

    python samples/servers/counter.py --host 127.0.0.1 --port 3002

Every result contains the count of the session, so that a proxy that lets two clients share a
session is noticed immediately.
"""

import json

from mcp.server.mcpserver import Context, MCPServer
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import arguments, security, serve

SESSION_HEADER = "mcp-session-id"

server = MCPServer(
    "counter",
    version="1.0.0",
    instructions="Counts for each session on its own.",
    log_level="WARNING",
)
counts: dict[str, int] = {}


def session_of(ctx: Context[None]) -> str:
    return (ctx.headers or {})[SESSION_HEADER]


@server.tool()
def increment(ctx: Context[None], by: int = 1) -> dict[str, int]:
    """Add to this session's count. Returns the count and the number of open sessions."""
    session = session_of(ctx)
    counts[session] += by
    return {"count": counts[session], "sessions": len(counts)}


@server.tool()
def read(ctx: Context[None]) -> dict[str, int]:
    """Return this session's count and the number of open sessions."""
    return {"count": counts[session_of(ctx)], "sessions": len(counts)}


@server.tool()
def reset(ctx: Context[None]) -> dict[str, int]:
    """Set this session's count to 0."""
    counts[session_of(ctx)] = 0
    return {"count": 0, "sessions": len(counts)}


@server.resource("counter://sessions", mime_type="application/json")
def sessions() -> str:
    """Number of open sessions."""
    return json.dumps({"sessions": len(counts)})


class LegacySessions:
    """Middleware that rejects revisions without sessions, as servers before 2026-07-28 do, and
    removes the counts of closed sessions."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        revision = headers.get("mcp-protocol-version")
        if revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS:
            refusal = PlainTextResponse("Bad Request: Unsupported protocol version", 400)
            await refusal(scope, receive, send)
            return

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                session = Headers(raw=message["headers"]).get(SESSION_HEADER)
                if scope["method"] == "DELETE":
                    counts.pop(headers.get(SESSION_HEADER, ""), None)
                elif session is not None:
                    counts.setdefault(session, 0)
            await send(message)

        await self.app(scope, receive, send_and_count)


if __name__ == "__main__":
    args = arguments(default_port=3002)
    serve(LegacySessions(server.streamable_http_app(transport_security=security("counter"))), args)
